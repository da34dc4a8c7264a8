//! From a node's start to its first signature, and what a hot key takes in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use integration_tests::pool::{Pool, TestNetwork};
use kes_wire::envelope;
use kes_wire::genesis::{self, ShelleyStart};
use kes_wire::hot_key::{HotKey, HotKeyOptions};
use kes_wire::opcert::OpCert;
use kes_wire::period::Evolution;
use kes_wire::sum6kes::{SIGN_KEY_BYTES, SignKey};
use kes_wire::sys::memory::LockedBytes;
use kes_wire::unix_time::UnixTime;

use super::super::measure::{Pair, median, nanoseconds};
use super::super::report::{Goal, Report, Row};
use super::{MESSAGE, Node};

const STARTS: usize = 100;
const HOT_KEYS: u32 = 50;

pub(super) fn measure(report: &mut Report) {
    memory(report);
    let missing = ["kes-agent", "kes-cli"]
        .iter()
        .any(|name| !super::super::processes::programs().join(name).exists());
    if missing {
        println!("kes-agent and kes-cli are not built (make build): node start not measured");
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let _ = pool.rotate();
    let opcert = envelope::read_file(&pool.path("opcert.cert"), envelope::read_opcert);
    let (opcert, _) = opcert.unwrap();
    let file = pool.path("kes.skey");
    let key = SignKey::generate().unwrap();
    write_key_file(&file, &key);
    let opcert = OpCert {
        kes_vkey: key.verification_key(),
        ..opcert
    };
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        times.0.push(nanoseconds(from_the_agent(&pool)));
        times.1.push(nanoseconds(from_a_file(&file, &opcert)));
    }
    let pair = Pair {
        ours: median(times.0),
        theirs: median(times.1),
    };
    report.add(Row::of(
        "node start to the first signature, the key from the agent",
        pair,
        "the key read from a file, and checked as well",
        Goal::None,
    ));
}

/// From nothing to a signature, with the real agent.
fn from_the_agent(pool: &Pool) -> Duration {
    let begin = Instant::now();
    let genesis = std::fs::read(pool.path("genesis.json")).unwrap();
    let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
    let cold_vkey = envelope::read_file(&pool.path("cold.vkey"), envelope::read_cold_vkey).unwrap();
    let options = HotKeyOptions::new(pool.path("service.socket"), network, cold_vkey);
    let (hot_key, receiving) = HotKey::new(options).unwrap();
    let receiving = receiving.on_thread().unwrap();
    hot_key.prepare_this_thread().unwrap();
    let period = hot_key.network().period_at(UnixTime::now());
    while hot_key.sign(period, &MESSAGE).is_err() {
        std::thread::yield_now();
    }
    let took = begin.elapsed();
    drop(hot_key);
    receiving.join().unwrap();
    took
}

/// From nothing to a signature, with cardano-cli's key file.
fn from_a_file(file: &Path, opcert: &OpCert) -> Duration {
    let begin = Instant::now();
    let text = std::fs::read(file).unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let cbor = envelope["cborHex"].as_str().unwrap();
    let mut secret = LockedBytes::<SIGN_KEY_BYTES>::zeroed().unwrap();
    hex::decode_to_slice(&cbor[6..], secret.expose_mut()).unwrap();
    let key = SignKey::from_bytes(secret, Evolution(0), &opcert.kes_vkey).unwrap();
    key.sign(&MESSAGE).unwrap();
    begin.elapsed()
}

/// A KES key as cardano-cli's `node key-gen-KES` writes it. A test key.
fn write_key_file(path: &Path, key: &SignKey) {
    let envelope = serde_json::json!({
        "type": "KesSigningKey_ed25519_kes_2^6",
        "description": "KES Signing Key",
        "cborHex": format!("590260{}", hex::encode(key.expose())),
    });
    std::fs::write(path, envelope.to_string()).unwrap();
}

/// What each of many hot keys, with its thread and a key, adds to the process.
fn memory(report: &mut Report) {
    // What is made once is there before.
    let first = with_a_key();
    let (resident, locked) = (kibibytes("VmRSS:"), kibibytes("VmLck:"));
    let many: Vec<_> = (0..HOT_KEYS).map(|_| with_a_key()).collect();
    for (name, field, before) in [
        ("memory of a hot key and its thread", "VmRSS:", resident),
        ("of that locked", "VmLck:", locked),
    ] {
        report.add(Row {
            name: name.to_owned(),
            value: (kibibytes(field) - before) / f64::from(HOT_KEYS),
            unit: "KiB",
            against: None,
            goal: Goal::None,
        });
    }
    drop((first, many));
}

fn with_a_key() -> Node {
    let mut node = Node::new();
    let key = node.key_at(0);
    node.receives(&key);
    node
}

/// A field of /proc/self/status.
fn kibibytes(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
