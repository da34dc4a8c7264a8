//! Rotations with the real programs: every command a process of its own.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until, with_input};
use kes_wire::envelope;
use kes_wire::genesis::{self, ShelleyStart};
use kes_wire::net::ServiceClient;
use kes_wire::protocol::service::ServiceMessage;
use kes_wire::unix_time::UnixTime;
use serde_json::Value;

/// Periods that a test can wait for.
fn short() -> TestNetwork {
    TestNetwork {
        slots_per_period: 20,
        slot_ms: 100,
        max_evolutions: 62,
        past_periods: 500,
    }
}

#[test]
fn step_by_step() {
    let pool = Pool::new(TestNetwork::default());
    let agent = pool.agent();
    let status = pool.status();
    assert_eq!(
        (&status["pending"]["state"], &status["active"]["state"]),
        (&Value::from("empty"), &Value::from("empty"))
    );

    let generated = pool.cli(&["keygen"]).succeeded();
    assert_eq!(generated["changed"], true);
    assert_eq!(generated["current_period"], 1000);
    let exported = pool.cli(&["export-verkey"]).succeeded();
    assert_eq!(
        exported["kes_verification_key"],
        generated["kes_verification_key"]
    );
    assert_eq!(exported["fingerprint"], generated["fingerprint"]);
    let file = std::fs::read(pool.path("kes.vkey")).unwrap();
    let vkey = envelope::read_kes_vkey(&file).unwrap().to_string();
    assert_eq!(generated["kes_verification_key"], *vkey);

    pool.issue("cold", 1000);
    let imported = pool
        .cli(&["import-opcert", "--opcert-file", "opcert.cert"])
        .succeeded();
    assert_eq!(
        (&imported["changed"], &imported["pending"]),
        (&Value::from(true), &Value::from("certified"))
    );
    assert_eq!(
        pool.status()["active"]["state"],
        "empty",
        "nothing is active before activate"
    );
    let active = pool.cli(&["activate"]).succeeded();
    assert_eq!(
        (&active["result"], &active["evolution"]),
        (&Value::from("active"), &Value::from(0))
    );
    assert_eq!(active["kes_verification_key"], *vkey);
    let status = pool.status();
    assert_eq!(status["active"]["state"], "serving");
    assert_eq!(status["active"]["opcert"]["expiry_period"], 1062);
    assert_eq!(status["active"]["opcert"]["periods_left"], 62);
    assert_eq!(status["counter_high_water_mark"], 0);
    assert!(status["pool_id"].as_str().unwrap().starts_with("pool1"));

    let probed = pool.cli(&["probe"]).succeeded();
    assert_eq!(probed["signature_verifies"], true);
    assert_eq!(probed["certificate_verifies"], true);
    assert_eq!(probed["kes_verification_key"], *vkey);
    agent.stop("TERM");
    assert!(!pool.path("control.socket").exists() && !pool.path("service.socket").exists());
}

#[test]
fn a_connected_node_gets_the_next_key_and_a_restarted_one_the_same() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    // Connected before there is a key.
    let node = Node::start(&pool);
    let seen = node.await_event("connected", 0);
    let first = pool.rotate();
    let seen = node.await_event("key", seen);
    let seen = node.await_event("signed", seen);
    let confirmed = |count| {
        until("the nodes to confirm", || {
            let status = pool.status();
            let nodes = status["nodes"].as_array().unwrap();
            let all = nodes.iter().all(|node| node["state"] == "confirmed");
            (all && nodes.len() == count).then_some(())
        });
    };
    confirmed(1);
    let second = pool.rotate();
    assert_ne!(first, second);
    let seen = node.await_event("key", seen);
    let _ = node.await_event("signed", seen);
    assert!(
        node.events()
            .iter()
            .all(|event| event["event"] != "not-signed"),
        "no gap"
    );
    drop(node);
    let node = Node::start(&pool);
    let seen = node.await_event("key", 0);
    let _ = node.await_event("signed", seen);
    confirmed(1);
    let probed = pool.cli(&["probe"]).succeeded();
    assert_eq!(
        (&probed["kes_verification_key"], &probed["counter"]),
        (&Value::from(second), &Value::from(1))
    );

    let dropped = pool.cli(&["drop-active"]).succeeded();
    assert_eq!(dropped["changed"], true);
    let _ = node.await_event("dropped", seen);
    assert_eq!(pool.status()["active"]["state"], "dropped");
    pool.cli(&["probe"]).refused(12, "no-key");
}

#[test]
fn what_is_done_already_is_unchanged() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let changes = |args: &[&str]| {
        let done = pool.cli(args).succeeded();
        assert_eq!(done["changed"], true, "{args:?}: {done:#}");
        done
    };
    let unchanged = |args: &[&str]| {
        let done = pool.cli(args).succeeded();
        assert_eq!(done["changed"], false, "{args:?}: {done:#}");
        done
    };
    let refused = |args: &[&str], exit: i32, code: &str| pool.cli(args).refused(exit, code);
    let (keygen, if_absent) = (&["keygen"][..], &["keygen", "--if-absent"][..]);

    changes(keygen);
    refused(keygen, 6, "already-pending");
    changes(&["keygen", "--replace"]);
    changes(&["drop-pending"]);
    refused(&["drop-pending"], 5, "nothing-pending");
    let first = changes(if_absent);
    let again = unchanged(if_absent);
    assert_eq!(first["kes_verification_key"], again["kes_verification_key"]);
    changes(&["export-verkey"]);
    unchanged(&["export-verkey"]);

    let issue = |file: &str, period: &str| -> Vec<String> {
        let words = format!(
            "cold issue-op-cert --kes-verification-key-file kes.vkey --cold-signing-key-file \
             cold.skey --operational-certificate-issue-counter-file cold.counter --kes-period \
             {period} --out-file {file}"
        );
        words.split_whitespace().map(str::to_owned).collect()
    };
    let words = issue("active.cert", "1000");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    changes(&words);
    refused(&words, 11, "file");
    let import = ["import-opcert", "--opcert-file", "active.cert"];
    changes(&import);
    unchanged(&import);
    changes(&["activate"]);
    refused(&["activate"], 5, "nothing-pending");
    refused(&import, 5, "nothing-pending");
    // `upload` is another name for `activate`.
    let active = unchanged(&["upload", "--opcert-file", "active.cert"]);
    assert_eq!(active["result"], "active");

    pool.prepare(1005);
    let schedule = ["activate", "--opcert-file", "opcert.cert"];
    changes(&schedule);
    assert_eq!(unchanged(&schedule)["result"], "scheduled");
    unchanged(&["import-opcert", "--opcert-file", "opcert.cert"]);
    unchanged(if_absent);
    refused(&["activate"], 6, "scheduled");
    refused(keygen, 6, "scheduled");
    changes(&["drop-pending"]);
    changes(&["drop-active"]);
    refused(&["drop-active"], 5, "nothing-active");

    let key_gen = "cold key-gen --cold-verification-key-file new.vkey --cold-signing-key-file \
                   new.skey --operational-certificate-issue-counter-file new.counter";
    let key_gen: Vec<&str> = key_gen.split_whitespace().collect();
    changes(&key_gen);
    refused(&key_gen, 11, "file");
    let new_counter = "cold new-counter --cold-verification-key-file new.vkey --counter-value 7 \
                       --operational-certificate-issue-counter-file seven.counter";
    let new_counter: Vec<&str> = new_counter.split_whitespace().collect();
    changes(&new_counter);
    unchanged(&new_counter);
}

#[test]
fn a_certificate_that_is_given_again_is_told_of_and_no_other() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let active = pool.rotate();
    std::fs::rename(pool.path("opcert.cert"), pool.path("active.cert")).unwrap();
    pool.prepare(1005);
    let schedule = ["activate", "--opcert-file", "opcert.cert"];
    let scheduled = pool.cli(&schedule).succeeded()["kes_verification_key"].clone();
    for (file, result, vkey) in [
        ("active.cert", "active", Value::from(active)),
        ("opcert.cert", "scheduled", scheduled),
    ] {
        let again = pool.cli(&["activate", "--opcert-file", file]).succeeded();
        assert_eq!(again["changed"], false, "{again:#}");
        assert_eq!(again["result"], result, "{again:#}");
        assert_eq!(again["kes_verification_key"], vkey, "{again:#}");
    }
}

#[test]
fn standard_streams_carry_files() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.cli(&["keygen"]).succeeded();
    let export = ["export-verkey", "--kes-verification-key-file", "-"];
    let output = pool.command(&export).output().unwrap();
    assert!(output.status.success());
    let vkey = envelope::read_kes_vkey(&output.stdout).expect("nothing else on standard output");
    std::fs::write(pool.path("kes.vkey"), envelope::kes_vkey(&vkey)).unwrap();
    pool.issue("cold", 1000);
    let certificate = std::fs::read(pool.path("opcert.cert")).unwrap();
    let activate = pool.command(&["activate", "--opcert-file", "-", "--json"]);
    let output = with_input(activate, &certificate);
    assert!(output.status.success(), "{output:?}");
    let active: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(active["kes_verification_key"], vkey.to_string());
}

#[test]
fn a_key_evolves_when_the_period_turns_and_expires_in_the_end() {
    let pool = Pool::new(TestNetwork {
        max_evolutions: 3,
        ..short()
    });
    let _agent = pool.agent();
    let node = Node::start(&pool);
    let _ = pool.rotate();
    // Which turns it sees depends on when it starts; the last evolution it must reach.
    until("a signature at the last evolution", || {
        let at_the_last = |event: &Value| {
            event["event"] == "signed"
                && event["sentence"]
                    .as_str()
                    .is_some_and(|line| line.contains("evolution 2:"))
        };
        node.events().iter().any(at_the_last).then_some(())
    });
    let expired = until("the key to expire", || {
        let status = pool.status();
        (status["active"]["state"] == "expired").then_some(status)
    });
    assert_eq!(expired["active"]["opcert"]["periods_left"], 0);
    assert_eq!(expired["warnings"][0]["code"], "expired");
    pool.cli(&["probe", "--wait", "0"]).refused(12, "no-key");
    // The counter is remembered: the next certificate may not go below it.
    assert_eq!(expired["counter_high_water_mark"], 0);
    let _ = pool.rotate();
    assert_eq!(pool.status()["counter_high_water_mark"], 1);
}

#[test]
fn a_served_key_is_at_the_periods_evolution_whenever_a_node_connects() {
    let pool = Pool::new(short());
    let _agent = pool.agent();
    let _ = pool.rotate();
    let start = pool.status()["active"]["opcert"]["start_period"]
        .as_u64()
        .unwrap();
    // The period by this test's own clock and the genesis file, not by the agent's word.
    let genesis = std::fs::read(pool.path("genesis.json")).unwrap();
    let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
    let period = || network.period_at(UnixTime::now()).0;
    let path = pool.path("service.socket");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut evolutions = std::collections::BTreeSet::new();
    let mut connections = 0;
    // Connects without a pause over several turns.
    while evolutions.len() < 4 {
        let before = period();
        let served = runtime.block_on(async {
            let mut client = ServiceClient::connect(&path).await.unwrap();
            match client.next().await.unwrap() {
                ServiceMessage::Key(key) => u64::from(key.evolution.0),
                ServiceMessage::Dropped { .. } => panic!("a key"),
            }
        });
        let after = period();
        assert!(
            (before..=after).contains(&(start + served)),
            "{before} {served} {after}"
        );
        evolutions.insert(served);
        connections += 1;
    }
    assert!(connections > 100, "{connections}");
}

#[test]
fn a_certificate_for_a_later_period_waits_and_takes_over_by_itself() {
    let pool = Pool::new(short());
    let _agent = pool.agent();
    let node = Node::start(&pool);
    let first = pool.rotate();
    let seen = node.await_event("signed", 0);
    let start = pool.period() + 2;
    pool.prepare(start);
    let scheduled = pool
        .cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    assert_eq!(scheduled["result"], "scheduled");
    let notes: Vec<_> = scheduled["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| &note["code"])
        .collect();
    assert!(notes.contains(&&Value::from("no-gap")), "{notes:?}");
    let status = pool.status();
    assert_eq!(status["pending"]["state"], "scheduled");
    assert_eq!(status["active"]["vkey"], *first, "the old key goes on");
    pool.cli(&["keygen", "--replace"]).refused(6, "scheduled");

    let seen = node.await_event("key", seen);
    let _ = node.await_event("signed", seen);
    let status = pool.status();
    assert_eq!(status["pending"]["state"], "empty");
    assert_eq!(status["active"]["opcert"]["start_period"], start);
    assert!(
        status["current_period"].as_u64().unwrap() >= start,
        "not before its period"
    );
    assert!(
        node.events()
            .iter()
            .all(|event| event["event"] != "not-signed"),
        "no gap"
    );
}

#[test]
fn no_secret_is_ever_printed() {
    let pool = Pool::new(TestNetwork::default());
    let agent = Agent::start(&pool, &["--log-level", "debug"]);
    let mut printed = String::new();
    let output = std::cell::RefCell::new(String::new());
    let run = |args: &[&str]| {
        let said = pool.command(args).output().unwrap();
        let mut output = output.borrow_mut();
        output.push_str(&String::from_utf8_lossy(&said.stdout));
        output.push_str(&String::from_utf8_lossy(&said.stderr));
    };
    run(&["keygen", "--kes-verification-key-file", "kes.vkey"]);
    run(&["keygen"]);
    pool.issue("cold", 1000);
    run(&["export-verkey", "--force"]);
    run(&["import-opcert", "--opcert-file", "opcert.cert"]);
    run(&["activate", "--opcert-file", "opcert.cert", "--json"]);
    run(&["status"]);
    run(&["probe"]);
    run(&["probe", "--json"]);
    let node = Node::start(&pool);
    let _ = node.await_event("signed", 0);
    let secret = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let secret = secret.block_on(async {
        let path = pool.path("service.socket");
        let mut client = ServiceClient::connect(&path).await.unwrap();
        match client.next().await.unwrap() {
            ServiceMessage::Key(key) => *key.secret.expose(),
            ServiceMessage::Dropped { .. } => panic!("a key"),
        }
    });
    let events: Vec<String> = node.events().iter().map(Value::to_string).collect();
    printed.push_str(&events.concat());
    run(&["drop-active"]);
    printed.push_str(&output.borrow());
    printed.push_str(&agent.log());
    assert!(printed.contains("command carried out"));
    // Seeds stand in the first 32 bytes and, for each level, in the first 32 of 96.
    let mut seeds = vec![hex::encode(&secret[..32])];
    seeds.extend((0..6).map(|level| hex::encode(&secret[32 + level * 96..64 + level * 96])));
    for seed in seeds {
        assert!(!printed.contains(&seed[..16]));
    }
}
