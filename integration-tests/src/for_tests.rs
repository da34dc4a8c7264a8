//! The agent that only tests have (`kes-agent-for-tests`): its clock, its seeds, a planted leak.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pool::{Pool, program};

/// The command that runs the pool's agent as the program for tests, by `clock` and with the seeds
/// that [`hand_seed`] hands in. Its clock is guarded, as it is unless settings say otherwise.
#[must_use]
pub fn command(pool: &Pool, clock: &TestClock) -> Command {
    let usual = pool.agent_command();
    let mut command = Command::new(program("kes-agent-for-tests"));
    command.args(usual.get_args()).current_dir(pool.path("."));
    for (name, value) in usual.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
        .env("KES_AGENT_CLOCK", "guard")
        // The test's files are out of the sandbox's reach.
        .env("KES_AGENT_SANDBOX", "off")
        .env("KES_AGENT_TEST_CLOCK", &clock.path)
        .env("KES_AGENT_TEST_SEED", pool.path("seed"))
        .stdin(std::process::Stdio::null());
    command
}

/// Hands in the seed of the key that is generated next.
pub fn hand_seed(pool: &Pool, seed: &[u8; 32]) {
    put(&pool.path("seed"), seed);
}

/// An agent's clocks, apart from this machine's.
#[derive(Debug)]
pub struct TestClock {
    path: PathBuf,
    wall: Cell<i64>,
    boot: Cell<i64>,
    is_synchronised: Cell<bool>,
}

impl TestClock {
    /// This machine's clocks, which the kernel calls synchronised or not.
    #[must_use]
    pub fn new(path: PathBuf, is_synchronised: bool) -> Self {
        let clock = Self {
            path,
            wall: Cell::new(0),
            boot: Cell::new(0),
            is_synchronised: Cell::new(is_synchronised),
        };
        clock.write();
        clock
    }

    /// Somebody sets the wall clock, by so many microseconds; the kernel calls it unsynchronised
    /// from then on.
    pub fn step(&self, by: i64) {
        self.wall.set(self.wall.get() + by);
        self.is_synchronised.set(false);
        self.write();
    }

    /// So many microseconds pass, or are slept through: both clocks go on.
    pub fn pass(&self, micros: i64) {
        self.wall.set(self.wall.get() + micros);
        self.boot.set(self.boot.get() + micros);
        self.write();
    }

    /// The kernel calls the clock synchronised, or does not.
    pub fn synchronised(&self, is: bool) {
        self.is_synchronised.set(is);
        self.write();
    }

    fn write(&self) {
        let word = if self.is_synchronised.get() {
            "sync"
        } else {
            "unsync"
        };
        let line = format!("{} {} {word}", self.wall.get(), self.boot.get());
        put(&self.path, line.as_bytes());
    }
}

/// Writes a file whole: the agent reads it at any moment.
fn put(path: &Path, content: &[u8]) {
    let part = path.with_extension("part");
    std::fs::write(&part, content).expect("a file in the test's folder");
    std::fs::rename(part, path).expect("a name in the test's folder");
}
