//! Who may be silent and who may not: a client waits for a key for any time; an agent waits 10
//! seconds for a client's part of the handshake.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use integration_tests::conformance::wire::{QUIET, Wire, id};
use integration_tests::pool::{Agent, Node, Pool, TestNetwork};
use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::envelope;
use kes_wire::genesis::{self, ShelleyStart};
use kes_wire::hot_key::{ForgingState, HotKey, HotKeyOptions};
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::SignKey;

/// Longer than any deadline or delay of a client, of which the longest is 10 seconds.
const LONG: Duration = Duration::from_millis(11_500);

/// A key of the pool, which signs now.
fn key(pool: &Pool) -> (SignKey, OpCert) {
    let key = SignKey::generate().unwrap();
    let cold = envelope::read_cold_skey_file(&pool.path("cold.skey")).unwrap();
    let vkey = key.verification_key();
    (key, cold.issue(&vkey, 0, KesPeriod(1000)).unwrap())
}

/// An agent that has settled a version, says nothing for long, and then serves a key on the same
/// connection.
#[must_use]
fn silent_agent(pool: &Pool, socket: &Path, started: impl FnOnce()) -> PretendedAgent {
    let mut agent = PretendedAgent::new(socket);
    started();
    agent.accept();
    thread::sleep(LONG);
    let (key, opcert) = key(pool);
    assert_eq!(agent.send(&key, &opcert), ServiceResult::Ok);
    agent
}

#[test]
fn clients_wait_for_a_key_for_any_time() {
    let pool = &Pool::new(TestNetwork::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut probe = None;
            let _agent = silent_agent(pool, &pool.path("probed.socket"), || {
                probe = Some(Node::start_at(pool, "probed.socket"));
            });
            let probe = probe.unwrap();
            let _ = probe.await_event("signed", 0);
            assert!(
                probe
                    .events()
                    .iter()
                    .all(|event| event["event"] != "disconnected")
            );
        });
        scope.spawn(|| {
            let socket = pool.path("hot-key.socket");
            let genesis = std::fs::read(pool.path("genesis.json")).unwrap();
            let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
            let cold = std::fs::read(pool.path("cold.vkey")).unwrap();
            let cold = envelope::read_cold_vkey(&cold).unwrap();
            let (hot_key, receiving) =
                HotKey::new(HotKeyOptions::new(socket.clone(), network, cold)).unwrap();
            let _agent = silent_agent(pool, &socket, || {
                thread::spawn(|| receiving.run_blocking());
            });
            // It answers once it has the key.
            assert_eq!(hot_key.status().state, ForgingState::ForgingConnected);
        });
        scope.spawn(|| {
            let mut follower = None;
            let _agent = silent_agent(pool, &pool.path("followed.socket"), || {
                let mut command = pool.agent_command();
                command.args(["--bootstrap-address", "followed.socket"]);
                follower = Some(Agent::launch(command));
            });
            assert_eq!(pool.status()["active"]["state"], "serving");
            drop(follower);
        });
    });
}

#[test]
fn an_agent_waits_ten_seconds_for_a_clients_part_of_the_handshake() {
    let pool = &Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let id = id("Control:3.0");
    let choice = [&[1], &id[..]].concat();
    let parts: [(&str, &[u8]); 4] = [
        ("service.socket", &[]),
        ("service.socket", &[1, b'S', b'e']),
        ("control.socket", &[]),
        // All but the repetition.
        ("control.socket", &choice),
    ];
    thread::scope(|scope| {
        for (socket, part) in parts {
            scope.spawn(move || {
                let begin = Instant::now();
                let wire = Wire::connect(&pool.path(socket)).unwrap();
                wire.read_offer().unwrap();
                wire.send(part).unwrap();
                let said = wire.until_closed(Duration::from_secs(20)).unwrap();
                let waited = begin.elapsed();
                assert_eq!(said, b"", "{socket}: nothing more is said");
                assert!(
                    waited > Duration::from_millis(9_900),
                    "{socket}: {waited:?}"
                );
            });
        }
    });
    // Who has done its part is not let go by that deadline.
    let settled = Wire::connect(&pool.path("service.socket")).unwrap();
    assert!(settled.settle_service("Service:2.0").unwrap());
    thread::sleep(LONG);
    settled.is_quiet(QUIET).unwrap();
}
