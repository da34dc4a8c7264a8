//! **An evolution cannot be undone, so a clock that was set is not followed without a reason**:
//! with the real agent, whose clocks the tests turn.
#![allow(missing_docs, clippy::unwrap_used)]

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use integration_tests::for_tests::{self, TestClock};
use integration_tests::pool::{Agent, PATIENCE, Pool, TestNetwork, until};
use integration_tests::service_manager::ServiceManager;
use kes_wire::net::{ControlClient, ServiceClient};
use kes_wire::protocol::control::rotation::{Answer, Request};
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult};
use kes_wire::sys::region;
use kes_wire::unix_time::UnixTime;
use serde_json::Value;
use tokio::runtime::Runtime;

/// How long a node waits for what is not to come.
const MOMENT: Duration = Duration::from_millis(20);
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;
const PERIOD: i64 = 10 * DAY;
const YEAR: i64 = 365 * DAY;

/// Periods are so long that a year is no key's whole life.
fn network() -> TestNetwork {
    TestNetwork {
        slots_per_period: 864_000,
        slot_ms: 1_000,
        past_periods: 100,
        ..TestNetwork::default()
    }
}

/// A pool whose agent goes by a clock that the test turns.
struct Turned {
    pool: Pool,
    clock: TestClock,
    runtime: Runtime,
}

impl Turned {
    /// A quarter into period 100.
    fn new(is_synchronised: bool) -> Self {
        let pool = Pool::new(network());
        let clock = TestClock::new(pool.path("clock"), is_synchronised);
        clock.pass(PERIOD / 4);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            pool,
            clock,
            runtime,
        }
    }

    fn command(&self) -> Command {
        for_tests::command(&self.pool, &self.clock)
    }

    fn agent(&self) -> Agent {
        Agent::spawn(self.command(), &self.pool.path("control.socket"))
    }

    /// Activates a key from three periods ago: it is at evolution 3.
    fn activate_evolved(&self) {
        self.pool.prepare(self.pool.period() - 3);
        self.pool
            .cli(&["activate", "--opcert-file", "opcert.cert"])
            .succeeded();
        assert_eq!(self.status()["active"]["evolution"], 3);
    }

    fn status(&self) -> Value {
        self.pool.status()
    }

    fn await_evolution(&self, evolution: u32) {
        until("the evolution", || {
            (self.status()["active"]["evolution"] == evolution).then_some(())
        });
    }

    /// The sentence of this warning, once there is one.
    fn await_warning(&self, code: &str) -> String {
        until(code, || warning(&self.status(), code))
    }

    fn connect(&self) -> ServiceClient {
        let path = self.pool.path("service.socket");
        self.run(ServiceClient::connect(&path)).unwrap()
    }

    /// What a connected node is sent next.
    fn next(&self, node: &mut ServiceClient) -> ReceivedKey {
        let message = self.run(node.next()).unwrap();
        let ServiceMessage::Key(received) = message else {
            panic!("a key and no drop")
        };
        self.run(node.answer(ServiceResult::Ok)).unwrap();
        received
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let within = async { tokio::time::timeout(PATIENCE, work).await };
        self.runtime
            .block_on(within)
            .expect("an agent that answers")
    }

    /// The evolution at which a node that connects now is served.
    fn served_evolution(&self) -> u32 {
        self.next(&mut self.connect()).evolution.0
    }

    /// A node that has connected and is sent nothing.
    fn unserved_node(&self) -> ServiceClient {
        let before = self.status()["connected_nodes"].as_u64().unwrap();
        let mut node = self.connect();
        until("the node to be connected", || {
            let now = self.status()["connected_nodes"].as_u64().unwrap();
            (now > before).then_some(())
        });
        self.is_sent_nothing(&mut node);
        node
    }

    /// The agent answers a command after whatever it sends at once; the moment is for this side to
    /// notice.
    fn is_sent_nothing(&self, node: &mut ServiceClient) {
        let _ = self.status();
        let sent = self.runtime.block_on(async {
            tokio::select! {
                biased;
                message = node.next() => Some(message),
                () = tokio::time::sleep(MOMENT) => None,
            }
        });
        assert!(sent.is_none(), "a key that is not to be served");
    }
}

fn codes(status: &Value) -> Vec<String> {
    let warnings = status["warnings"].as_array().unwrap();
    let code = |warning: &Value| warning["code"].as_str().unwrap().to_owned();
    warnings.iter().map(code).collect()
}

fn warning(status: &Value, code: &str) -> Option<String> {
    let warnings = status["warnings"].as_array().unwrap();
    let found = warnings.iter().find(|warning| warning["code"] == code)?;
    Some(found["sentence"].as_str().unwrap().to_owned())
}

/// What lets the agent follow its clock.
#[derive(Clone, Copy, PartialEq)]
enum Reason {
    Synchronised,
    Confirmed,
}

/// Sets the clock by `step`, which is not followed; then gives a reason, which is. The key is at
/// evolution 3 before.
fn step(step: i64, reason: Reason) -> Turned {
    let turned = Turned::new(true);
    let agent = turned.agent();
    turned.activate_evolved();
    let before = turned.status();
    turned.clock.step(step);
    let sentence = turned.await_warning("clock-doubtful");
    agent.await_log("clock-doubtful");
    let way = if step > 0 { "ahead of" } else { "behind" };
    for said in [way, "kes-cli confirm-clock", "synchronised"] {
        assert!(sentence.contains(said), "{said}: {sentence}");
    }
    let meanwhile = turned.status();
    assert_eq!(meanwhile["active"]["evolution"], 3);
    assert_eq!(meanwhile["current_period"], before["current_period"]);
    assert_eq!(turned.served_evolution(), 3);
    match reason {
        Reason::Synchronised => turned.clock.synchronised(true),
        Reason::Confirmed => {
            let done = turned.pool.cli(&["confirm-clock"]).succeeded();
            assert_eq!(done["changed"], true);
        }
    }
    let periods = (PERIOD / 4 + step).div_euclid(PERIOD);
    let expected = before["current_period"].as_i64().unwrap() + periods;
    until("the period by the clock", || {
        (turned.status()["current_period"] == expected).then_some(())
    });
    let after = codes(&turned.status());
    assert!(!after.contains(&"clock-doubtful".to_owned()), "{after:?}");
    turned.clock.synchronised(false);
    // Forwards all is well; backwards see below.
    if step > 0 {
        let evolution = 3 + u32::try_from(periods).unwrap();
        turned.await_evolution(evolution);
        assert_eq!(turned.served_evolution(), evolution);
    } else {
        assert_eq!(turned.status()["active"]["evolution"], 3);
        stays_evolved(&turned, -step);
    }
    agent.stop("TERM");
    turned
}

/// The trusted time is so much before the key's: it is withheld, and served again when its time
/// has come.
fn stays_evolved(turned: &Turned, behind: i64) {
    let mut node = turned.unserved_node();
    let status = turned.status();
    let early = behind > 3 * PERIOD + PERIOD / 4;
    let code = if early {
        "before-start"
    } else {
        "ahead-of-time"
    };
    let sentence = warning(&status, code).unwrap_or_else(|| panic!("{code}: {status:#}"));
    assert!(sentence.contains("not served"), "{sentence}");
    turned.clock.pass(behind);
    let received = turned.next(&mut node);
    assert_eq!(received.evolution.0, 3);
    assert_eq!(codes(&turned.status()), [""; 0]);
}

#[test]
fn a_period_forwards() {
    step(PERIOD, Reason::Synchronised);
    step(PERIOD, Reason::Confirmed);
}

#[test]
fn a_period_back() {
    step(-PERIOD, Reason::Synchronised);
    step(-PERIOD, Reason::Confirmed);
}

#[test]
fn a_year_forwards() {
    step(YEAR, Reason::Synchronised);
    step(YEAR, Reason::Confirmed);
}

#[test]
fn a_year_back() {
    step(-YEAR, Reason::Synchronised);
    step(-YEAR, Reason::Confirmed);
}

#[test]
fn a_second_is_no_doubt_and_no_period() {
    let turned = Turned::new(true);
    let _agent = turned.agent();
    turned.activate_evolved();
    turned.clock.pass(3 * PERIOD / 4 - 10 * MINUTE);
    for step in [SECOND, -SECOND] {
        turned.clock.step(step);
        assert_eq!(turned.served_evolution(), 3);
        assert_eq!(codes(&turned.status()), [""; 0]);
        turned.clock.synchronised(true);
        assert_eq!(turned.served_evolution(), 3);
    }
    turned.clock.pass(20 * MINUTE);
    turned.await_evolution(4);
}

#[test]
fn a_synchronised_clock_is_followed_at_once_and_one_that_is_no_longer_goes_on() {
    let turned = Turned::new(true);
    let _agent = turned.agent();
    // Before anybody's word.
    assert_eq!(turned.status()["clock"]["source"], "synchronised");
    turned.activate_evolved();
    assert_eq!(turned.status()["clock"]["source"], "synchronised");
    turned.clock.synchronised(false);
    assert_eq!(turned.served_evolution(), 3);
    assert_eq!(codes(&turned.status()), [""; 0]);
    turned.clock.pass(PERIOD);
    turned.await_evolution(4);
    assert_eq!(turned.served_evolution(), 4);
    assert_eq!(codes(&turned.status()), [""; 0]);
}

#[test]
fn sleep_is_followed_at_once_whatever_the_wall_clock_says() {
    let turned = Turned::new(true);
    let _agent = turned.agent();
    turned.activate_evolved();
    turned.clock.step(-YEAR);
    let _ = turned.await_warning("clock-doubtful");
    // Both clocks count the sleep.
    turned.clock.pass(5 * PERIOD);
    turned.await_evolution(8);
    assert_eq!(turned.served_evolution(), 8);
}

/// A pool whose agent has no time to trust and has a key from another agent of the pool.
struct Followed {
    turned: Turned,
    agent: Agent,
    first_pool: Pool,
    _first: Agent,
}

impl Followed {
    fn new(mode: &str) -> Self {
        let turned = Turned::new(false);
        // The other agent has the same clocks, and somebody synchronises them there.
        let first_pool = Pool::new(network());
        let clock = TestClock::new(first_pool.path("clock"), true);
        clock.pass(PERIOD / 4);
        let mut first = for_tests::command(&first_pool, &clock);
        first.env("KES_AGENT_GENESIS_FILE", turned.pool.path("genesis.json"));
        let first = Agent::spawn(first, &first_pool.path("control.socket"));
        let _ = first_pool.rotate();
        let mut second = turned.command();
        second
            .env("KES_AGENT_CLOCK", mode)
            .env("KES_AGENT_COLD_VK", first_pool.path("cold.vkey"))
            .args(["--bootstrap-address", &first_pool.text("service.socket")]);
        let agent = Agent::spawn(second, &turned.pool.path("control.socket"));
        let followed = Self {
            turned,
            agent,
            first_pool,
            _first: first,
        };
        let sentence = followed.turned.await_warning("clock-not-trusted");
        assert!(sentence.contains("kes-cli confirm-clock"), "{sentence}");
        assert_eq!(sentence.contains("five minutes"), mode == "guard");
        followed.agent.await_log("clock-not-trusted");
        followed
    }

    /// A node is served the other agent's key, which it was not before.
    fn serves(&self, node: &mut ServiceClient) {
        let received = self.turned.next(node);
        let expected = self.first_pool.status()["active"]["vkey"].clone();
        assert_eq!(expected, received.opcert.kes_vkey.to_string());
    }
}

#[test]
fn a_peers_key_waits_until_the_clock_is_synchronised() {
    for mode in ["guard", "strict"] {
        let followed = Followed::new(mode);
        let mut node = followed.turned.unserved_node();
        followed.turned.clock.synchronised(true);
        followed.serves(&mut node);
        assert_eq!(codes(&followed.turned.status()), [""; 0]);
    }
}

#[test]
fn a_peers_key_waits_until_the_clock_is_confirmed() {
    for mode in ["guard", "strict"] {
        let followed = Followed::new(mode);
        let mut node = followed.turned.unserved_node();
        followed.turned.pool.cli(&["confirm-clock"]).succeeded();
        followed.serves(&mut node);
        assert_eq!(codes(&followed.turned.status()), [""; 0]);
    }
}

/// What the clock's timer does, whose process asks the kernel: the agent cannot.
#[test]
fn a_peers_key_waits_until_the_timer_has_heard_from_the_kernel() {
    let followed = Followed::new("strict");
    let turned = &followed.turned;
    let mut node = turned.unserved_node();
    let confirm = || {
        turned.run(async {
            let path = turned.pool.path("control.socket");
            let mut control = ControlClient::connect(&path).await.unwrap();
            let request = Request::ConfirmClock { synchronised: true };
            match control.call(&request).await.unwrap() {
                Answer::Done { changed, .. } => changed,
                Answer::Refused { refusal } => panic!("{refusal:?}"),
            }
        })
    };
    assert!(confirm());
    followed.serves(&mut node);
    assert_eq!(turned.status()["clock"]["source"], "synchronised");
    assert_eq!(codes(&turned.status()), [""; 0]);
    // A minute later it comes again.
    assert!(!confirm());
    turned.is_sent_nothing(&mut node);
}

#[test]
fn a_peers_key_waits_five_minutes_of_the_boot_clock_at_the_most() {
    let followed = Followed::new("guard");
    let turned = &followed.turned;
    let mut node = turned.unserved_node();
    // The wall clock does not count.
    turned.clock.step(DAY);
    turned.is_sent_nothing(&mut node);
    turned.clock.step(-DAY);
    turned.clock.pass(4 * MINUTE);
    turned.is_sent_nothing(&mut node);
    turned.clock.pass(MINUTE);
    followed.serves(&mut node);
    let sentence = turned.await_warning("clock-unconfirmed");
    assert!(sentence.contains("check it"), "{sentence}");
    followed.agent.await_log("clock-unconfirmed");
}

#[test]
fn a_strict_agent_waits_longer_than_five_minutes() {
    let followed = Followed::new("strict");
    let turned = &followed.turned;
    let mut node = turned.unserved_node();
    turned.clock.pass(2 * DAY);
    turned.is_sent_nothing(&mut node);
    let _ = turned.await_warning("clock-not-trusted");
    turned.pool.cli(&["confirm-clock"]).succeeded();
    followed.serves(&mut node);
}

#[test]
fn trusted_time_outlives_restarts() {
    if region::probe().is_err() {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
        return;
    }
    for step in [3 * PERIOD, -3 * PERIOD, YEAR, -YEAR] {
        let turned = Turned::new(true);
        let mut manager = ServiceManager::new(turned.command());
        manager.start();
        turned.activate_evolved();
        turned.clock.step(step);
        let _ = turned.await_warning("clock-doubtful");
        for restart in [ServiceManager::restart, ServiceManager::kill_and_restart] {
            restart(&mut manager);
            let _ = turned.await_warning("clock-doubtful");
            assert_eq!(turned.served_evolution(), 3);
        }
        // Set while the agent is down, which lasts a period.
        manager.kill();
        turned.clock.step(-step);
        turned.clock.step(step / 3);
        turned.clock.pass(PERIOD);
        manager.start();
        let _ = turned.await_warning("clock-doubtful");
        turned.await_evolution(4);
        assert_eq!(turned.served_evolution(), 4);
        assert_eq!(manager.complaints(), [""; 0]);
    }
}

#[test]
fn an_install_after_the_clock_was_set_back_reaches_connected_nodes() {
    let turned = Turned::new(true);
    let _agent = turned.agent();
    let _ = turned.pool.rotate();
    let mut node = turned.connect();
    let first = turned.next(&mut node);
    turned.clock.step(-DAY);
    turned.pool.cli(&["confirm-clock"]).succeeded();
    let vkey = turned.pool.rotate();
    let second = turned.next(&mut node);
    assert_eq!(second.opcert.kes_vkey.to_string(), vkey);
    // A node discards what is not newer.
    assert!(second.stamp > first.stamp, "{:?}", second.stamp);
    let day = u64::try_from(DAY / 2).unwrap();
    let now = UnixTime::parse(turned.status()["now"].as_str().unwrap()).unwrap();
    assert!(now.0 + day < second.stamp.unwrap().0, "the clock is back");
}

#[test]
fn an_activation_vouches_for_the_clock_where_nothing_else_does() {
    let turned = Turned::new(false);
    let _agent = turned.agent();
    turned.activate_evolved();
    assert_eq!(turned.served_evolution(), 3);
    assert_eq!(turned.status()["clock"]["source"], "activation");
    turned.clock.step(PERIOD);
    let _ = turned.await_warning("clock-doubtful");
    // A second one does not bring a clock into force that was set meanwhile.
    turned.activate_evolved();
    let _ = turned.await_warning("clock-doubtful");
    assert_eq!(turned.served_evolution(), 3);
}

#[test]
fn the_period_to_use_is_doubted_while_nothing_vouches_for_the_clock() {
    let turned = Turned::new(false);
    let _agent = turned.agent();
    let doubts = |command: &str| {
        let more = ["--kes-verification-key-file", "kes.vkey", "--force"];
        let done = turned.pool.cli(&[&[command], &more[..]].concat());
        let notes = done.succeeded()["notes"].as_array().unwrap().clone();
        notes
            .iter()
            .any(|note| note["code"] == "period-unconfirmed")
    };
    assert!(doubts("keygen"));
    assert!(doubts("export-verkey"));
    turned.pool.cli(&["confirm-clock"]).succeeded();
    assert!(!doubts("export-verkey"));
}

#[test]
fn an_evolution_is_not_told_to_nodes() {
    let turned = Turned::new(true);
    let _agent = turned.agent();
    turned.activate_evolved();
    let mut nodes = [turned.connect(), turned.connect()];
    for node in &mut nodes {
        assert_eq!(turned.next(node).evolution.0, 3);
    }
    for evolution in 4..8 {
        turned.clock.pass(PERIOD);
        turned.await_evolution(evolution);
    }
    // What the agent says next is the next key: it has said nothing of the evolutions.
    let vkey = turned.pool.rotate();
    for node in &mut nodes {
        let next = turned.next(node);
        assert_eq!(
            (next.opcert.kes_vkey.to_string(), next.evolution.0),
            (vkey.clone(), 0)
        );
    }
}

#[test]
fn without_a_trusted_time_a_peers_key_stays_as_it_came() {
    let followed = Followed::new("strict");
    let turned = &followed.turned;
    let mut node = turned.unserved_node();
    let active = |status: &Value| {
        (
            status["active"].clone(),
            status["counter_high_water_mark"].clone(),
        )
    };
    let came = active(&turned.status());
    assert_eq!(came.0["state"], "serving");
    assert_eq!(came.0["evolution"], 0);
    // By the clock it would have evolved, then expired.
    for periods in [1, 60, 10] {
        turned.clock.pass(periods * PERIOD);
        turned.clock.step(MINUTE);
        turned.is_sent_nothing(&mut node);
        let now = active(&turned.status());
        assert_eq!(now.0["evolution"], 0, "after {periods} periods more");
        assert_eq!(now.0["state"], "serving");
    }
    turned.pool.cli(&["confirm-clock"]).succeeded();
    until("the key to expire", || {
        (turned.status()["active"]["state"] == "expired").then_some(())
    });
    turned.is_sent_nothing(&mut node);
}

#[test]
fn a_schedule_waits_for_a_trusted_time_and_says_so() {
    let turned = Turned::new(false);
    let agent = turned.agent();
    turned.pool.prepare(turned.pool.period() + 1);
    let activate = ["activate", "--opcert-file", "opcert.cert"];
    let scheduled = turned.pool.cli(&activate).succeeded();
    assert_eq!(scheduled["result"], "scheduled");
    let sentence = turned.await_warning("clock-not-trusted");
    assert!(sentence.contains("does not begin"), "{sentence}");
    agent.await_log("clock-not-trusted");
    turned.clock.pass(2 * PERIOD);
    // Begun by the clock, which nothing vouches for.
    assert_eq!(turned.status()["pending"]["state"], "scheduled");
    turned.pool.cli(&["confirm-clock"]).succeeded();
    assert_eq!(turned.served_evolution(), 1);
    assert_eq!(codes(&turned.status()), [""; 0]);
}

#[test]
fn a_certificate_that_a_doubtful_clock_calls_expired_is_refused_with_a_caution() {
    let turned = Turned::new(false);
    let _agent = turned.agent();
    turned.pool.prepare(turned.pool.period());
    turned.clock.step(10 * YEAR);
    let import = ["import-opcert", "--opcert-file", "opcert.cert"];
    for command in [&import[..], &["activate", "--opcert-file", "opcert.cert"]] {
        let refused = turned.pool.cli(command).refused(9, "expired");
        let next = refused["error"]["next_step"].as_str().unwrap();
        assert!(next.contains("compare this machine's clock"), "{next}");
    }
    turned.pool.cli(&["confirm-clock"]).succeeded();
    let refused = turned.pool.cli(&import).refused(9, "expired");
    let next = refused["error"]["next_step"].as_str().unwrap();
    assert!(next.starts_with("issue a certificate"), "{next}");
}

#[test]
fn a_stamp_from_a_clock_that_was_ahead_is_told_where_there_are_peers() {
    for (peers, codes_after) in [
        (vec![], vec![]),
        (vec!["--bootstrap-address", "/no/peer"], vec!["stamp-ahead"]),
    ] {
        let turned = Turned::new(true);
        turned.clock.step(30 * DAY);
        turned.clock.synchronised(true);
        let mut command = turned.command();
        command.args(peers);
        let _agent = Agent::spawn(command, &turned.pool.path("control.socket"));
        let _ = turned.pool.rotate();
        turned.pool.cli(&["drop-active"]).succeeded();
        assert_eq!(codes(&turned.status()), [""; 0]);
        turned.clock.step(-30 * DAY);
        turned.clock.synchronised(true);
        until("the time to be followed", || {
            (codes(&turned.status()) == codes_after).then_some(())
        });
    }
}
