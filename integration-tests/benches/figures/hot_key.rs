//! A node's hot key: how long is forging held up?
//!
//! Beside the rows, two plots go to `target/bench/`: `hot_key_replacement.svg` (the distribution
//! of signing times while keys are replaced) and `hot_key_boundaries.svg` (what each period
//! boundary costs).

mod boundaries;
mod plots;
mod replacement;
mod scheduler;
mod start;
mod threads;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::cold::ColdSignKey;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions};
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::{EVOLUTIONS, SignKey};
use kes_wire::unix_time::UnixTime;

use super::report::Report;

/// As long as the body of a real block header of the Praos eras.
const MESSAGE: [u8; 406] = [0x5a; 406];
/// The period that measurements begin in.
const PERIOD: u64 = 1000;
const PERIOD_US: u64 = 1_000_000_000;

pub(crate) fn measure(report: &mut Report) {
    replacement::measure(report);
    boundaries::measure(report);
    threads::measure(report);
    start::measure(report);
}

/// A node and the agent that serves it, both in this process, at a time that is set.
struct Node {
    hot_key: HotKey,
    agent: PretendedAgent,
    cold: ColdSignKey,
    now: Arc<AtomicU64>,
    /// Dropped last: it has the socket.
    _folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("service.socket");
        let mut agent = PretendedAgent::new(&socket);
        let cold = ColdSignKey::generate().unwrap();
        let network = Network {
            slots_per_kes_period: PERIOD_US / 1_000_000,
            max_evolutions: EVOLUTIONS,
            shelley_start_slot: 0,
            shelley_start_time: UnixTime(0),
            ..Network::MAINNET
        };
        let now = Arc::new(AtomicU64::new(PERIOD * PERIOD_US));
        let clock = Arc::clone(&now);
        let options = HotKeyOptions::new(&socket, network, cold.verification_key())
            .clock(move || UnixTime(clock.load(Ordering::Relaxed)));
        let (hot_key, receiving) = HotKey::new(options).unwrap();
        receiving.on_thread().unwrap();
        agent.accept();
        hot_key.prepare_this_thread().unwrap();
        Self {
            hot_key,
            agent,
            cold,
            now,
            _folder: folder,
        }
    }

    /// A key that has this evolution in [`PERIOD`], with its certificate.
    fn key_at(&self, evolution: u32) -> (SignKey, OpCert) {
        let mut key = SignKey::generate().unwrap();
        key.evolve_to(Evolution(evolution)).unwrap();
        let start = KesPeriod(PERIOD - u64::from(evolution));
        let vkey = key.verification_key();
        let opcert = self.cold.issue(&vkey, 0, start).unwrap();
        (key, opcert)
    }

    fn receives(&mut self, (key, opcert): &(SignKey, OpCert)) {
        assert_eq!(self.agent.send(key, opcert), ServiceResult::Ok);
    }

    /// Lets the clock say that `period` has just begun.
    fn turn_to(&self, period: u64) {
        self.now.store(period * PERIOD_US, Ordering::Relaxed);
        self.hot_key.look_at_the_clock();
    }
}

/// `target/bench/NAME`.
fn bench_file(name: &str) -> PathBuf {
    let folder = super::processes::programs().join("../bench");
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap().join(name)
}

/// The value at this fraction of sorted values: 0.5 is the middle one, 1.0 the last.
fn percentile(sorted: &[f64], fraction: f64) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    let place = ((sorted.len() - 1) as f64 * fraction).round() as usize;
    sorted[place]
}
