//! A node's hot key with the real agent, on a plain thread and as a tokio task.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use integration_tests::pool::{Agent, Pool, TestNetwork, program, until};
use integration_tests::pretended_agent::PretendedAgent;
use kes_summed_ed25519::PublicKey;
use kes_summed_ed25519::kes::Sum6KesSig;
use kes_summed_ed25519::traits::KesSig;
use kes_wire::cold::{ColdSignKey, ColdVerificationKey};
use kes_wire::envelope;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::hot_key::{Event, ForgingState, HotKey, HotKeyOptions, SignError, Signed};
use kes_wire::period::KesPeriod;
use kes_wire::protocol::service::{ServiceResult, v2_0};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::SignKey;
use kes_wire::unix_time::UnixTime;

/// Where the receiving side runs.
#[derive(Debug, Clone, Copy)]
enum Side {
    Thread,
    Tokio,
}

const SIDES: [Side; 2] = [Side::Thread, Side::Tokio];

/// A node: a hot key, and what it told.
struct Node {
    hot_key: HotKey,
    cold_vkey: ColdVerificationKey,
    events: Arc<Mutex<Vec<Event>>>,
    ended: mpsc::Receiver<()>,
}

fn network(pool: &Pool) -> Network {
    let genesis = std::fs::read(pool.path("genesis.json")).unwrap();
    let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
    network
}

impl Node {
    fn start(pool: &Pool, side: Side) -> Self {
        let cold_vkey = std::fs::read(pool.path("cold.vkey")).unwrap();
        let cold_vkey = envelope::read_cold_vkey(&cold_vkey).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let options = HotKeyOptions::new(pool.path("service.socket"), network(pool), cold_vkey)
            .observer(move |event| told.lock().unwrap().push(event.clone()));
        let (hot_key, receiving) = HotKey::new(options).unwrap();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            match side {
                Side::Thread => receiving.run_blocking(),
                Side::Tokio => tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(receiving.run()),
            }
            let _ = end.send(());
        });
        Self {
            hot_key,
            cold_vkey,
            events,
            ended,
        }
    }

    fn await_state(&self, state: ForgingState) {
        until(&state.to_string(), || {
            (self.hot_key.status().state == state).then_some(())
        });
    }

    fn await_counter(&self, counter: u64) {
        until("the key with that certificate number", || {
            let key = self.hot_key.status().key?;
            (key.counter == counter).then_some(())
        });
    }

    fn period(&self) -> KesPeriod {
        self.hot_key.network().period_at(UnixTime::now())
    }

    /// Signs at the current period, as the first to ask or after another did.
    fn sign(&self) -> Result<Signed, SignError> {
        let signed = sign(&self.hot_key, self.period())?;
        assert!(signed.opcert.is_signed_by(&self.cold_vkey));
        Ok(signed)
    }

    fn told(&self, name: &str) -> usize {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event.name().ends_with(name))
            .count()
    }
}

/// Signs, and has an independent implementation verify.
fn sign(hot_key: &HotKey, period: KesPeriod) -> Result<Signed, SignError> {
    let message = period.0.to_be_bytes().repeat(60);
    let signed = hot_key.sign(period, &message)?;
    let evolution = period.evolution_since(signed.opcert.start_period).unwrap();
    assert_eq!(signed.evolution, evolution);
    let root = PublicKey::from_bytes(&signed.opcert.kes_vkey.0).unwrap();
    Sum6KesSig::from_bytes(&signed.signature.0)
        .unwrap()
        .verify(evolution.0, &root, &message)
        .unwrap();
    Ok(signed)
}

#[test]
fn a_node_may_start_before_the_agent_and_outlive_it() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let node = Node::start(&pool, side);
        until("an attempt", || {
            (node.told("ServiceClientAttemptReconnect") > 0).then_some(())
        });
        assert_eq!(node.hot_key.status().state, ForgingState::NotConnectedNoKey);
        assert_eq!(node.sign(), Err(SignError::NoKey));

        let agent = pool.agent();
        node.await_state(ForgingState::ConnectedNoKey);
        let first = pool.rotate();
        node.await_state(ForgingState::ForgingConnected);
        assert_eq!(node.sign().unwrap().opcert.kes_vkey.to_string(), first);

        // The agent going away changes nothing while the key lasts.
        drop(agent);
        node.await_state(ForgingState::ForgingNotConnected);
        assert_eq!(node.sign().unwrap().opcert.kes_vkey.to_string(), first);
        let _agent = pool.agent();
        node.await_state(ForgingState::ForgingConnected);
        assert_eq!(node.sign().unwrap().opcert.kes_vkey.to_string(), first);
        let second = pool.rotate();
        node.await_counter(1);
        assert_eq!(node.sign().unwrap().opcert.kes_vkey.to_string(), second);

        // A restarted node is served the same key again.
        let restarted = Node::start(&pool, side);
        restarted.await_state(ForgingState::ForgingConnected);
        let opcert = restarted.sign().unwrap().opcert;
        assert_eq!(opcert, node.sign().unwrap().opcert);

        // When the last handle is dropped, the receiving side ends.
        let Node {
            hot_key,
            ended,
            events,
            ..
        } = node;
        drop(hot_key);
        ended.recv().unwrap();
        assert_eq!(events.lock().unwrap().last(), Some(&Event::Stopped));
    }
}

#[test]
fn the_agent_hears_that_its_key_was_taken() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let _agent = pool.agent();
        let node = Node::start(&pool, side);
        let _ = pool.rotate();
        until("the confirmation", || {
            let status = pool.status();
            (status["nodes"][0]["state"] == "confirmed").then_some(())
        });
        assert!(node.sign().is_ok());
    }
}

#[test]
fn a_past_key_is_brought_forward() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let _agent = pool.agent();
        let node = Node::start(&pool, side);
        pool.prepare(pool.period() - 40);
        let activate = ["activate", "--opcert-file", "opcert.cert"];
        pool.cli(&activate).succeeded();
        node.await_state(ForgingState::ForgingConnected);
        let signed = node.sign().unwrap();
        assert_eq!(signed.evolution.0, 40);
        let before = KesPeriod(node.period().0 - 1);
        assert!(matches!(
            sign(&node.hot_key, before),
            Err(SignError::LetGo { .. })
        ));
    }
}

/// Signs without a pause until told to stop; gives the signatures that changed the certificate or
/// the evolution, and the refusals.
fn sign_all_the_time(node: &Node, stop: &Arc<AtomicBool>) -> thread::JoinHandle<SignedLog> {
    let (hot_key, stop) = (node.hot_key.clone(), Arc::clone(stop));
    thread::spawn(move || {
        let mut log = SignedLog::default();
        while !stop.load(Ordering::Relaxed) {
            let period = hot_key.network().period_at(UnixTime::now());
            match sign(&hot_key, period) {
                Ok(signed) => {
                    log.signatures += 1;
                    let (opcert, evolution) = (signed.opcert, signed.evolution.0);
                    let next = (opcert.counter, evolution, opcert.kes_vkey.to_string());
                    if log.changes.last() != Some(&next) {
                        log.changes.push(next);
                    }
                }
                Err(error) => {
                    if log.refusals.last() != Some(&error) {
                        log.refusals.push(error);
                    }
                }
            }
        }
        log
    })
}

#[derive(Default)]
struct SignedLog {
    signatures: u64,
    /// Certificate number, evolution, verification key.
    changes: Vec<(u64, u32, String)>,
    refusals: Vec<SignError>,
}

#[test]
fn keys_are_replaced_under_forging_threads_without_a_gap() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let _agent = pool.agent();
        let node = Node::start(&pool, side);
        let mut keys = vec![pool.rotate()];
        node.await_state(ForgingState::ForgingConnected);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [
            sign_all_the_time(&node, &stop),
            sign_all_the_time(&node, &stop),
        ];
        for counter in 1..8 {
            keys.push(pool.rotate());
            node.await_counter(counter);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let log = thread.join().unwrap();
            assert_eq!(log.refusals, [], "no gap");
            for (counter, _, vkey) in &log.changes {
                assert_eq!(keys[usize::try_from(*counter).unwrap()], *vkey);
            }
            assert!(log.changes.is_sorted(), "each key once: {:?}", log.changes);
            assert!(log.signatures > 0);
        }
    }
}

#[test]
fn a_drop_under_forging_threads_ends_signing() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let _agent = pool.agent();
        let node = Node::start(&pool, side);
        let _ = pool.rotate();
        node.await_state(ForgingState::ForgingConnected);
        let stop = Arc::new(AtomicBool::new(false));
        let forging = sign_all_the_time(&node, &stop);
        pool.cli(&["drop-active"]).succeeded();
        node.await_state(ForgingState::ConnectedNoKey);
        assert_eq!(node.sign(), Err(SignError::Dropped));
        let _ = pool.rotate();
        node.await_state(ForgingState::ForgingConnected);
        assert!(node.sign().is_ok());
        stop.store(true, Ordering::Relaxed);
        let log = forging.join().unwrap();
        assert!(
            matches!(log.refusals[..], [] | [SignError::Dropped]),
            "{:?}",
            log.refusals
        );
    }
}

#[test]
fn a_key_for_a_later_period_takes_over_without_a_gap() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork {
            slots_per_period: 20,
            slot_ms: 100,
            max_evolutions: 62,
            past_periods: 500,
        });
        let _agent = pool.agent();
        let node = Node::start(&pool, side);
        let old = pool.rotate();
        node.await_state(ForgingState::ForgingConnected);
        let stop = Arc::new(AtomicBool::new(false));
        let forging = sign_all_the_time(&node, &stop);
        let start = pool.period() + 2;
        pool.prepare(start);
        let activate = ["activate", "--opcert-file", "opcert.cert"];
        let scheduled = pool.cli(&activate).succeeded();
        assert_eq!(scheduled["result"], "scheduled");
        node.await_counter(1);
        assert_eq!(node.hot_key.status().key.unwrap().start_period.0, start);
        stop.store(true, Ordering::Relaxed);
        let log = forging.join().unwrap();
        assert_eq!(log.refusals, [], "no gap");
        let before = log.changes.iter().filter(|change| change.0 == 0);
        assert!(before.clone().count() >= 2, "the old key evolved meanwhile");
        assert!(before.into_iter().all(|change| change.2 == old));
    }
}

#[test]
fn periods_turn_under_forging_threads_until_the_key_is_spent() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork {
            slots_per_period: 10,
            slot_ms: 100,
            max_evolutions: 5,
            past_periods: 500,
        });
        let _agent: Agent = pool.agent();
        let node = Node::start(&pool, side);
        let _ = pool.rotate();
        node.await_state(ForgingState::ForgingConnected);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [
            sign_all_the_time(&node, &stop),
            sign_all_the_time(&node, &stop),
        ];
        until("the key to be spent", || {
            matches!(node.sign(), Err(SignError::Spent { .. })).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let log = thread.join().unwrap();
            let evolutions: Vec<u32> = log.changes.iter().map(|change| change.1).collect();
            assert!(evolutions.is_sorted(), "{evolutions:?}");
            assert_eq!(evolutions.last(), Some(&4), "up to the last");
            // Two threads look at the clock one after the other: the slower one may ask for a
            // period that the faster one's request has let go. Nothing else is refused.
            let gap = log
                .refusals
                .iter()
                .find(|error| !matches!(error, SignError::LetGo { .. } | SignError::Spent { .. }));
            assert_eq!(gap, None);
        }
    }
}

#[test]
fn whatever_an_agent_says_the_key_stays_and_the_node_comes_back() {
    for side in SIDES {
        let pool = Pool::new(TestNetwork::default());
        let mut agent = PretendedAgent::new(&pool.path("service.socket"));
        let node = Node::start(&pool, side);
        agent.accept();
        let cold = envelope::read_cold_skey_file(&pool.path("cold.skey")).unwrap();
        let key = SignKey::generate().unwrap();
        let vkey = key.verification_key();
        let opcert = cold.issue(&vkey, 0, node.period()).unwrap();
        assert_eq!(agent.send(&key, &opcert), ServiceResult::Ok);
        let holds = || assert_eq!(node.sign().unwrap().opcert, opcert);

        // Half a message, and the end.
        let message = v2_0::key_message(Stamp(9), &key, &opcert).pieces().concat();
        agent.node().write_all(&message[..300]).unwrap();
        agent.hang_up();
        until("the end to be told", || {
            (node.told("ServiceClientSocketClosed") == 1).then_some(())
        });
        holds();
        // A message that is none.
        agent.accept();
        agent.node().write_all(&[7]).unwrap();
        until("the end to be told", || {
            (node.told("ServiceClientSocketClosed") == 2).then_some(())
        });
        holds();
        // No handshake: closed at once, an offer of nothing known, garbage.
        drop(agent.accept_raw());
        let mut stranger = agent.accept_raw();
        stranger.write_all(&[0, 0, 0, 1]).unwrap();
        stranger.write_all(&[b'x'; 32]).unwrap();
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [0], "none of them");
        let mut stranger = agent.accept_raw();
        stranger.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        until("the failures to be told", || {
            (node.told("ServiceClientVersionHandshakeFailed") == 3).then_some(())
        });
        holds();
        // A key of a stranger, and a drop that is not newer.
        agent.accept();
        let foreign = ColdSignKey::generate().unwrap();
        let foreign = foreign.issue(&vkey, 5, node.period()).unwrap();
        assert_eq!(agent.send(&key, &foreign), ServiceResult::InvalidOpCert);
        let stale = v2_0::dropped(Stamp(0));
        agent.node().write_all(&stale).unwrap();
        let mut answer = [0; 4];
        agent.node().read_exact(&mut answer).unwrap();
        assert_eq!(u32::from_be_bytes(answer), 1, "outdated");
        holds();
        assert_eq!(node.told("ServiceClientDeclinedKey"), 2);
        assert_eq!(agent.send_drop(), ServiceResult::Ok);
        assert_eq!(node.sign(), Err(SignError::Dropped));
    }
}

#[test]
fn the_example_node_forges_over_restarts_rotations_and_turns() {
    let program = program("examples/forging_node");
    let pool = Pool::new(TestNetwork {
        slots_per_period: 20,
        slot_ms: 100,
        max_evolutions: 62,
        past_periods: 500,
    });
    let node = Command::new(program)
        .args(["--leads", "100", "--slots", "120"])
        .env("KES_AGENT_SERVICE_PATH", pool.path("service.socket"))
        .env("KES_AGENT_COLD_VK", pool.path("cold.vkey"))
        .env("KES_AGENT_GENESIS_FILE", pool.path("genesis.json"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let agent = pool.agent();
    let rotate = || {
        let vkey = pool.rotate();
        until("the node's confirmation", || {
            let status = pool.status();
            (status["nodes"][0]["state"] == "confirmed").then_some(())
        });
        vkey
    };
    let (first, second) = (rotate(), rotate());
    drop(agent);
    let _agent = pool.agent();
    let third = rotate();
    let output = node.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    for state in [
        "state: not connected, no key",
        "state: forging, connected",
        "ServiceClientSocketClosed",
        ", 0 signatures refused",
    ] {
        assert!(told.contains(state), "{state}: {told}");
    }
    let received = |vkey: &str| {
        told.lines()
            .any(|line| line.contains("ServiceClientReceivedKey") && line.contains(&vkey[..16]))
    };
    for vkey in [first, second, third.clone()] {
        assert!(received(&vkey), "{vkey}: {told}");
    }
    let forged = told.lines().filter(|line| line.ends_with("verifies"));
    let by_the_last = forged.filter(|line| line.contains(&third[..16]));
    let evolutions: std::collections::BTreeSet<_> = by_the_last
        .filter_map(|line| line.split("evolution ").nth(1)?.split(',').next())
        .collect();
    assert!(evolutions.len() >= 2, "{told}");
}

/// Away while the key was dropped, as far as the agent can be told of it: it has lost the key.
#[test]
fn a_lower_number_that_a_node_was_not_told_of_is_shown_and_a_restart_takes_it() {
    let pool = Pool::new(TestNetwork::default());
    let agent = pool.agent();
    pool.set_counter("cold", 5);
    let higher = pool.rotate();
    let node = Node::start(&pool, Side::Thread);
    node.await_counter(5);
    agent.stop("TERM");
    let _agent = pool.agent();
    pool.set_counter("cold", 3);
    pool.prepare(pool.period());
    let allowed = ["activate", "--opcert-file", "opcert.cert"];
    let allowed = [&allowed[..], &["--allow-lower-counter"]].concat();
    let lower = pool.cli(&allowed).succeeded();
    until("the node's refusal in the agent's status", || {
        (pool.status()["nodes"][0]["state"] == "declined").then_some(())
    });
    let checked = pool.cli(&["check"]);
    assert!(
        checked.json.to_string().contains("node-declined"),
        "{}",
        checked.json
    );
    assert_eq!(node.sign().unwrap().opcert.kes_vkey.to_string(), higher);
    let sentences: Vec<String> = {
        let events = node.events.lock().unwrap();
        let declined = events
            .iter()
            .filter(|event| event.name().ends_with("DeclinedKey"));
        declined.map(ToString::to_string).collect()
    };
    assert!(sentences[0].contains("restart this node"), "{sentences:?}");
    let refused = node.hot_key.status().refused.unwrap().to_string();
    assert!(refused.contains("restart this node"), "{refused}");

    drop(node);
    let node = Node::start(&pool, Side::Thread);
    node.await_counter(3);
    let signed = node.sign().unwrap().opcert.kes_vkey.to_string();
    assert_eq!(signed, *lower["kes_verification_key"].as_str().unwrap());
}
