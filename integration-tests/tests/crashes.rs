//! The agent is killed at every point of every change of its state, started again with the memory
//! that the service manager kept, and found as it was before the change or as it is after it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use integration_tests::kept;
use integration_tests::pool::{Agent, Pool, TestNetwork, program, until};
use integration_tests::service_manager::ServiceManager;
use kes_wire::sys::region;
use serde_json::Value;

/// More points than any change has.
const MOST_POINTS: u64 = 100;

/// A pool whose agent can be told where to die and what time it is.
struct Crashes {
    pool: Pool,
    manager: ServiceManager,
}

fn for_tests(pool: &Pool) -> Command {
    let mut command = Command::new(program("kes-agent-for-tests"));
    let usual = pool.agent_command();
    command
        .arg("run")
        .current_dir(usual.get_current_dir().unwrap());
    for (name, value) in usual.get_envs() {
        command.env(name, value.unwrap());
    }
    command
        // The test's files are out of the sandbox's reach.
        .env("KES_AGENT_SANDBOX", "off")
        .env("KES_AGENT_TEST_CLOCK", pool.path("clock"))
        .env("KES_AGENT_TEST_CRASH", pool.path("crash"));
    command
}

/// Written whole: the agent reads it at any moment.
fn put(path: &Path, text: &str) {
    let part = path.with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(part, path).unwrap();
}

impl Crashes {
    fn new() -> Self {
        let pool = Pool::new(TestNetwork::default());
        put(&pool.path("clock"), "0 0 sync");
        let manager = ServiceManager::new(for_tests(&pool));
        Self { pool, manager }
    }

    /// Turns the clock to so many periods from now.
    fn turn_clock(&self, periods: u64) {
        let network = TestNetwork::default();
        let micros = periods * network.slots_per_period * network.slot_ms * 1_000;
        put(&self.pool.path("clock"), &format!("{micros} {micros} sync"));
    }

    fn fresh(&mut self) {
        self.turn_clock(0);
        self.manager.start();
    }

    fn end(&mut self) {
        let _ = std::fs::remove_file(self.pool.path("crash"));
        self.manager.stop();
    }

    /// What counts, out of the status.
    fn held(&self) -> Value {
        let status = self.pool.status();
        let slot = |name: &str| {
            let mut slot = status[name].clone();
            let slot_fields = slot.as_object_mut().unwrap();
            // It depends on the time of day.
            slot_fields.remove("since");
            if let Some(Value::Object(opcert)) = slot_fields.get_mut("opcert") {
                opcert.remove("periods_left");
            }
            slot
        };
        serde_json::json!({ "pending": slot("pending"), "active": slot("active") })
    }

    /// How many keys a state has.
    fn keys(held: &Value) -> usize {
        let pending = held["pending"]["state"] != "empty";
        let active = held["active"]["state"] == "serving";
        usize::from(pending) + usize::from(active)
    }

    /// Kills the agent at every point of `change`, each time from the state that `prepare` makes.
    /// Gives how many points there were.
    fn at_every_point(
        &mut self,
        name: &str,
        prepare: impl Fn(&mut Self),
        change: impl Fn(&Self),
    ) -> u64 {
        self.fresh();
        prepare(self);
        let before = Self::shape(&self.held());
        change(self);
        let changed = |this: &Self| Self::shape(&this.held()) != before;
        until(name, || changed(self).then_some(()));
        let after = Self::shape(&self.held());
        self.end();
        for point in 1..=MOST_POINTS {
            self.fresh();
            prepare(self);
            let before_exactly = self.held();
            put(&self.pool.path("crash"), &point.to_string());
            change(self);
            // Either it dies at the point, or there is none of that number and it is done.
            let died = until(name, || {
                if self.manager.running().ended().is_some() {
                    return Some(true);
                }
                let is_done =
                    std::os::unix::net::UnixStream::connect(self.pool.path("control.socket"))
                        .is_ok()
                        && self.pool.cli(&["status"]).code == 0
                        && Self::shape(&self.held_or(&before_exactly)) == after;
                is_done.then_some(false)
            });
            let _ = std::fs::remove_file(self.pool.path("crash"));
            if !died {
                self.end();
                assert!(point > 1, "{name}: there are points");
                return point - 1;
            }
            let _ = self.manager.await_end();
            let clock = std::fs::read_to_string(self.pool.path("clock")).unwrap();
            // What time brings about is not to be done by the restart's own look at the clock.
            self.turn_clock(0);
            self.manager.start();
            let found = self.held();
            let shape = Self::shape(&found);
            if shape == before {
                assert_eq!(
                    found, before_exactly,
                    "{name}, point {point}: as before, to the key"
                );
            } else {
                assert_eq!(shape, after, "{name}, point {point}: as before or as after");
            }
            let memory = kept::map(&self.manager.descriptor(kept::NAME).unwrap()).unwrap();
            assert_eq!(
                kept::cells_in_use(&memory),
                Self::keys(&found),
                "{name}, point {point}: what does not count is wiped"
            );
            if signs_in(&found, 1000) {
                self.pool.cli(&["probe"]).succeeded();
            }
            put(&self.pool.path("clock"), &clock);
            self.end();
        }
        panic!("{name}: more than {MOST_POINTS} points");
    }

    fn held_or(&self, before: &Value) -> Value {
        let status = self.pool.cli(&["status"]);
        if status.code == 0 {
            self.held()
        } else {
            before.clone()
        }
    }

    /// A state without what differs from run to run: which keys they are.
    fn shape(held: &Value) -> Value {
        let mut shape = held.clone();
        for slot in ["pending", "active"] {
            shape[slot].as_object_mut().unwrap().remove("vkey");
        }
        // Whether the two differ from what was before is told by state, evolution and counter.
        shape
    }

    /// A command that may not live to be answered.
    fn command(&self, arguments: &[&str]) {
        let _ = self.pool.cli(arguments);
    }

    fn rotated(&mut self, counter: u64) {
        self.certified(counter, 0);
        self.pool.cli(&["activate"]).succeeded();
    }

    /// A key with its certificate, which starts so many periods ago.
    fn certified(&mut self, counter: u64, ago: u64) {
        self.issued(counter, self.pool.period() - ago);
        self.pool
            .cli(&["import-opcert", "--opcert-file", "opcert.cert"])
            .succeeded();
    }

    fn issued(&mut self, counter: u64, start: u64) {
        self.pool.set_counter("cold", counter);
        self.pool.prepare(start);
    }
}

/// Whether the active key is at the evolution of this period.
fn signs_in(held: &Value, period: u64) -> bool {
    let start = held["active"]["opcert"]["start_period"].as_u64();
    let evolution = held["active"]["evolution"].as_u64();
    start
        .zip(evolution)
        .is_some_and(|(start, evolution)| start + evolution == period)
}

fn kernel_keeps() -> bool {
    let keeps = region::probe().is_ok();
    if !keeps {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
    }
    keeps
}

#[test]
fn commands_are_done_or_not_done_wherever_the_agent_dies() {
    if !kernel_keeps() {
        return;
    }
    let mut crashes = Crashes::new();
    let nothing = |_: &mut Crashes| {};
    let mut points = Vec::new();
    let mut count = |name: &'static str, n: u64| points.push((name, n));
    count(
        "keygen",
        crashes.at_every_point("keygen", nothing, |c| c.command(&["keygen"])),
    );
    let import = |c: &Crashes| c.command(&["import-opcert", "--opcert-file", "opcert.cert"]);
    count(
        "import",
        crashes.at_every_point("import", |c| c.issued(5, 1000), import),
    );
    let activate = |c: &Crashes| c.command(&["activate"]);
    count(
        "activate",
        crashes.at_every_point("activate", |c| c.certified(5, 0), activate),
    );
    count(
        "activate, evolved",
        crashes.at_every_point("activate, evolved", |c| c.certified(5, 40), activate),
    );
    let over_another = |c: &mut Crashes| {
        c.rotated(5);
        c.certified(6, 2);
    };
    count(
        "activate over another",
        crashes.at_every_point("activate over another", over_another, activate),
    );
    let later = |c: &mut Crashes| {
        c.rotated(5);
        c.issued(6, 1003);
    };
    count(
        "schedule",
        crashes.at_every_point("schedule", later, |c| {
            c.command(&["activate", "--opcert-file", "opcert.cert"]);
        }),
    );
    let certified_over_active = |c: &mut Crashes| {
        c.rotated(5);
        c.certified(6, 0);
    };
    count(
        "keygen --replace",
        crashes.at_every_point("keygen --replace", certified_over_active, |c| {
            c.command(&["keygen", "--replace"]);
        }),
    );
    count(
        "drop-pending",
        crashes.at_every_point("drop-pending", certified_over_active, |c| {
            c.command(&["drop-pending"]);
        }),
    );
    count(
        "drop-active",
        crashes.at_every_point("drop-active", certified_over_active, |c| {
            c.command(&["drop-active"]);
        }),
    );
    println!("{points:?}");
    assert!(points.iter().all(|(_, n)| *n >= 8), "{points:?}");
}

#[test]
fn what_time_brings_about_is_done_or_not_done_wherever_the_agent_dies() {
    if !kernel_keeps() {
        return;
    }
    let mut crashes = Crashes::new();
    let evolve = |c: &Crashes| c.turn_clock(1);
    let evolution = crashes.at_every_point("evolve", |c| c.rotated(5), evolve);
    let worst = |c: &Crashes| c.turn_clock(32);
    let half = crashes.at_every_point("evolve by half the tree", |c| c.rotated(5), worst);
    let scheduled = |c: &mut Crashes| {
        c.rotated(5);
        c.issued(6, 1003);
        c.pool
            .cli(&["activate", "--opcert-file", "opcert.cert"])
            .succeeded();
    };
    let begin = crashes.at_every_point("begin", scheduled, |c| c.turn_clock(3));
    let begin_late = crashes.at_every_point("begin late", scheduled, |c| c.turn_clock(5));
    let expire = crashes.at_every_point("expire", |c| c.rotated(5), |c| c.turn_clock(62));
    let points = [evolution, half, begin, begin_late, expire];
    println!("{points:?}");
    assert!(points.iter().all(|n| *n >= 8), "{points:?}");
}

#[test]
fn what_a_peer_sends_is_taken_or_not_wherever_the_agent_dies() {
    if !kernel_keeps() {
        return;
    }
    let mut crashes = Crashes::new();
    let (service, control) = (
        crashes.pool.text("peer.service"),
        crashes.pool.text("peer.control"),
    );
    let mut command = crashes.pool.agent_command();
    command
        .args(["--service-address", &service, "--control-address", &control])
        .env("KES_AGENT_CLOCK", "trust");
    let peer = Agent::spawn(command, Path::new(&control));
    let on_peer = |crashes: &Crashes, arguments: &[&str]| {
        let mut command = crashes.pool.command(arguments);
        let output = command
            .env("KES_AGENT_CONTROL_PATH", &control)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    on_peer(&crashes, &["keygen"]);
    on_peer(&crashes, &["export-verkey", "--force"]);
    // Behind its period here: it has to evolve when it comes.
    crashes.pool.issue("cold", 1000);
    on_peer(&crashes, &["activate", "--opcert-file", "opcert.cert"]);
    let mut command = for_tests(&crashes.pool);
    command.args(["--bootstrap-address", &service]);
    crashes.manager.replace_command(command);

    let is = |crashes: &Crashes, state: &str| {
        let status = crashes.pool.cli(&["status"]);
        status.code == 0 && status.json["active"]["state"] == state
    };
    let crash = crashes.pool.path("crash");
    let keys = |crashes: &Crashes| {
        let descriptor = crashes.manager.descriptor(kept::NAME).unwrap();
        kept::cells_in_use(&kept::map(&descriptor).unwrap())
    };
    let mut key_points = 0;
    for point in 1..=MOST_POINTS {
        crashes.turn_clock(1);
        put(&crash, &point.to_string());
        crashes.manager.launch();
        let died = until("the peer's key", || {
            if crashes.manager.running().ended().is_some() {
                return Some(true);
            }
            is(&crashes, "serving").then_some(false)
        });
        std::fs::remove_file(&crash).unwrap();
        if died {
            let _ = crashes.manager.await_end();
            crashes.manager.start();
        }
        until("the peer's key after a crash", || {
            is(&crashes, "serving").then_some(())
        });
        assert_eq!(crashes.held()["active"]["evolution"], 1, "point {point}");
        assert_eq!(keys(&crashes), 1, "point {point}");
        crashes.end();
        if !died {
            key_points = point - 1;
            break;
        }
    }
    assert!(key_points >= 12, "time and key: {key_points}");

    crashes.manager.start();
    until("the peer's key", || is(&crashes, "serving").then_some(()));
    put(&crash, "5");
    on_peer(&crashes, &["drop-active"]);
    until("the end", || crashes.manager.running().ended());
    let _ = crashes.manager.await_end();
    std::fs::remove_file(&crash).unwrap();
    crashes.manager.start();
    until("the peer's drop", || is(&crashes, "dropped").then_some(()));
    assert_eq!(keys(&crashes), 0);
    crashes.end();
    drop(peer);
}
