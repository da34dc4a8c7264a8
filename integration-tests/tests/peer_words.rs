//! What a peer agent may say, over a real socket: a scripted peer sends our running agent keys that
//! are damaged, foreign, expired, early or dated ahead. Each is declined with its code and a line
//! in the log, and what was held stays; what only came too early is asked for again, and taken.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::pool::{Agent, Pool, TestNetwork, until};
use integration_tests::scripted_peer::{ScriptedPeer, drop_message, key_message, offer};
use kes_wire::cold::ColdSignKey;
use kes_wire::envelope;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::net::{ServiceClient, ServiceClientError};
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::SERVICE_1_0;
use kes_wire::sum6kes::SignKey;
use kes_wire::unix_time::UnixTime;

/// Codes of the deployed protocol.
const OK: u32 = 0;
const OUTDATED: u32 = 1;
const INVALID: u32 = 2;

const MINUTE: u64 = 60 * 1_000_000;

/// A pool whose agent follows a scripted peer.
struct Scene {
    pool: Pool,
    agent: Agent,
    peer: ScriptedPeer,
    cold: ColdSignKey,
    network: Network,
}

impl Scene {
    fn new(network: TestNetwork) -> Self {
        let pool = Pool::new(network);
        let peer = ScriptedPeer::listen(&pool.path("peer.socket"));
        let agent = Agent::start(&pool, &["--bootstrap-address", &pool.text("peer.socket")]);
        let genesis = std::fs::read(pool.path("genesis.json")).unwrap();
        let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
        let cold = envelope::read_cold_skey_file(&pool.path("cold.skey")).unwrap();
        Self {
            pool,
            agent,
            peer,
            cold,
            network,
        }
    }

    /// The period by this test's own clock.
    fn period(&self) -> u64 {
        self.network.period_at(UnixTime::now()).0
    }
}

/// A key at an evolution, with a certificate by this cold key.
fn certified(cold: &ColdSignKey, counter: u64, start: u64, at: u32) -> (SignKey, OpCert) {
    let mut key = SignKey::generate().unwrap();
    let opcert = cold
        .issue(&key.verification_key(), counter, KesPeriod(start))
        .unwrap();
    key.evolve_to(Evolution(at)).unwrap();
    (key, opcert)
}

#[test]
fn what_is_wrong_is_declined_and_what_is_held_stays() {
    let scene = Scene::new(TestNetwork::default());
    let (cold, foreign) = (&scene.cold, ColdSignKey::generate().unwrap());
    let mut peer = scene.peer.accept();
    // Held: counter 5, from this period on, and a node that is served.
    let before = UnixTime::now().0;
    let (held, opcert) = certified(cold, 5, 1000, 0);
    peer.send(&key_message(before, &held, &opcert));
    assert_eq!(peer.answer(), OK);
    let held = scene.pool.status()["active"].clone();
    assert_eq!(held["state"], "serving");

    let now = UnixTime::now().0;
    let message = |cold: &ColdSignKey, stamp: u64, counter: u64, start: u64, at: u32| {
        let (key, opcert) = certified(cold, counter, start, at);
        key_message(stamp, &key, &opcert)
    };
    let good = message(cold, now, 6, 1000, 0);
    // Tag and stamp, the key, and the evolution's last byte behind it.
    let changed = |at: usize, xor: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= xor;
        bytes
    };
    let (spare, _) = certified(cold, 6, 1000, 0);
    let (_, opcert) = certified(cold, 6, 1000, 0);
    let cases = [
        ("damaged", INVALID, changed(9, 1)),
        ("damaged", INVALID, changed(9 + 607, 0x80)),
        ("damaged", INVALID, changed(9 + 608 + 3, 1)),
        ("damaged", INVALID, changed(9 + 608 + 3, 64)),
        ("damaged", INVALID, key_message(now, &spare, &opcert)),
        // A bit of the certificate's signature; another pool's.
        ("foreign", INVALID, changed(732, 1)),
        ("foreign", INVALID, message(&foreign, now, 6, 1000, 0)),
        ("expired", INVALID, message(cold, now, 6, 1000 - 62, 61)),
        ("early", INVALID, message(cold, now, 6, 1001, 0)),
        ("ahead", INVALID, message(cold, now, 6, 999, 2)),
        (
            "future-stamp",
            OUTDATED,
            message(cold, now + 6 * MINUTE, 6, 1000, 0),
        ),
        ("older", OUTDATED, message(cold, before - 1, 5, 1000, 0)),
        ("each-refuses", OUTDATED, message(cold, now, 4, 1000, 0)),
        (
            "each-refuses",
            OUTDATED,
            message(cold, before - 1, 6, 1000, 0),
        ),
    ];
    let lines = |name: &str| {
        let log = scene.agent.log();
        let declined = format!("answer=\"{name}\"");
        log.lines()
            .filter(|line| line.contains("declined") && line.contains(&declined))
            .filter(|line| line.contains("WARN") && line.contains("peer.socket"))
            .count()
    };
    for (at, (name, code, message)) in cases.iter().enumerate() {
        let said = cases[..at].iter().filter(|case| case.0 == *name).count();
        peer.send(message);
        assert_eq!(peer.answer(), *code, "{name}");
        until(name, || (lines(name) == said + 1).then_some(()));
        let status = scene.pool.status();
        assert_eq!(status["active"], held, "{name}");
        assert_eq!(status["peers"][0]["last_answer"]["code"], *name);
        // The sentence says more than the code does.
        let sentence = status["peers"][0]["last_answer"]["sentence"].to_string();
        assert!(sentence.len() > 30, "{sentence}");
    }
    // The connection has stood all the time, and a node gets what was held.
    let probed = scene.pool.cli(&["probe"]).succeeded();
    assert_eq!(probed["kes_verification_key"], held["vkey"]);
    peer.send(&good);
    assert_eq!(peer.answer(), OK);
    let probed = scene.pool.cli(&["probe"]).succeeded();
    assert_eq!(probed["counter"], 6);
}

/// Sends what is too early for a while, and again when the agent comes back for it by itself.
fn is_taken_later(
    name: &str,
    code: u32,
    message: impl FnOnce(&ColdSignKey, u64) -> (u64, SignKey, OpCert),
) {
    let scene = Scene::new(TestNetwork {
        slots_per_period: 20,
        past_periods: 500,
        ..TestNetwork::default()
    });
    let (stamp, key, opcert) = message(&scene.cold, scene.period());
    let message = key_message(stamp, &key, &opcert);
    let mut peer = scene.peer.accept();
    peer.send(&message);
    assert_eq!(peer.answer(), code, "{name}");
    scene.agent.await_log(&format!("answer=\"{name}\""));
    assert_eq!(scene.pool.status()["active"]["state"], "empty");
    // It hangs up, comes back, and this time it takes the key: no sooner, as the state's rules see.
    peer.until_closed();
    let mut peer = scene.peer.accept();
    peer.send(&message);
    assert_eq!(peer.answer(), OK, "{name}");
    let first = opcert.start_period.0 + u64::from(key.evolution().0);
    assert!(scene.period() >= first);
    // What it gives a node signs in this period.
    let probed = scene.pool.cli(&["probe"]).succeeded();
    assert_eq!(probed["kes_verification_key"], *opcert.kes_vkey.to_string());
    assert_eq!(probed["signature_verifies"], true);
}

#[test]
fn an_early_key_is_taken_when_its_period_begins() {
    is_taken_later("early", INVALID, |cold, period| {
        let (key, opcert) = certified(cold, 0, period + 2, 0);
        (UnixTime::now().0, key, opcert)
    });
}

#[test]
fn a_key_evolved_ahead_is_taken_when_its_period_begins() {
    is_taken_later("ahead", INVALID, |cold, period| {
        let (key, opcert) = certified(cold, 0, period, 2);
        (UnixTime::now().0, key, opcert)
    });
}

#[test]
fn a_key_dated_ahead_is_taken_when_its_stamp_is_near() {
    is_taken_later("future-stamp", OUTDATED, |cold, period| {
        let (key, opcert) = certified(cold, 0, period, 0);
        (UnixTime::now().0 + 5 * MINUTE + 2_000_000, key, opcert)
    });
}

/// The deployed node takes nothing that has the stamp of what it took, over a connection.
#[test]
fn a_drop_that_wins_a_tie_reaches_a_node_on_its_next_connection() {
    let scene = Scene::new(TestNetwork::default());
    let mut peer = scene.peer.accept();
    let (key, opcert) = certified(&scene.cold, 0, 1000, 0);
    let stamp = UnixTime::now().0;
    peer.send(&key_message(stamp, &key, &opcert));
    assert_eq!(peer.answer(), OK);
    let service = scene.pool.path("service.socket");
    run(async {
        let mut node = ServiceClient::connect(&service).await.unwrap();
        let message = node.next().await.unwrap();
        assert!(matches!(message, ServiceMessage::Key(_)));
        node.answer(ServiceResult::Ok).await.unwrap();
        peer.send(&drop_message(stamp));
        assert_eq!(peer.answer(), OK);
        let ended = node.next().await;
        assert!(matches!(ended, Err(ServiceClientError::Closed)));
        let mut node = ServiceClient::connect(&service).await.unwrap();
        let ServiceMessage::Dropped { stamp: told } = node.next().await.unwrap() else {
            panic!("a key, where it was dropped");
        };
        assert_eq!(told, Stamp(stamp));
    });
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

#[test]
fn a_key_without_a_stamp_is_taken_where_there_is_none_and_sent_on_stamped_0() {
    let scene = Scene::new(TestNetwork::default());
    let mut peer = scene
        .peer
        .accept_in_pieces(&offer(&[SERVICE_1_0]), usize::MAX);
    // The message of the older versions is that of 2.0 without its head.
    let message = |(key, opcert): &(SignKey, OpCert)| key_message(0, key, opcert)[9..].to_vec();
    let first = certified(&scene.cold, 3, 1000, 0);
    peer.send(&message(&first));
    assert_eq!(peer.answer(), OK);
    for (what, again) in [
        ("the same", message(&first)),
        ("a later one", message(&certified(&scene.cold, 4, 1000, 0))),
    ] {
        peer.send(&again);
        assert_eq!(peer.answer(), OUTDATED, "{what}");
    }
    let service = scene.pool.path("service.socket");
    run(async {
        let mut node = ServiceClient::connect(&service).await.unwrap();
        let ServiceMessage::Key(key) = node.next().await.unwrap() else {
            panic!("a drop, where a key was taken");
        };
        assert_eq!((key.stamp, key.opcert), (Some(Stamp(0)), first.1));
    });
    // Nor where a drop is known: the later one was refused for what is gone now, and is come back for.
    scene.pool.cli(&["drop-active"]).succeeded();
    peer.until_closed();
    let mut peer = scene
        .peer
        .accept_in_pieces(&offer(&[SERVICE_1_0]), usize::MAX);
    peer.send(&message(&certified(&scene.cold, 5, 1000, 0)));
    assert_eq!(peer.answer(), OUTDATED);
}
