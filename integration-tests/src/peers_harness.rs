//! Several agents of one pool, as real programs, that follow one another.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::link::Link;

/// How long anything may take before a test gives up. Nothing depends on its length.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the built programs: beside the test's own.
///
/// # Panics
/// Where `kes-agent` is not there: build the workspace first.
#[must_use]
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps");
    assert!(
        folder.join("kes-agent").exists() && folder.join("kes-cli").exists(),
        "build the programs first: cargo build --workspace"
    );
    folder.to_owned()
}

/// A pool's cold key and genesis, and its agents.
pub struct Network {
    folder: tempfile::TempDir,
    agents: Vec<Agent>,
    /// Links between an agent and the one it follows, where they are not connected directly.
    links: BTreeMap<(usize, usize), Link>,
    /// Whether the agents have clocks that the test turns, and folders for what outlives them.
    has_clocks: bool,
}

struct Agent {
    follows: Vec<usize>,
    process: Option<Child>,
}

impl Drop for Network {
    fn drop(&mut self) {
        for n in 0..self.agents.len() {
            self.stop(n);
        }
    }
}

impl Network {
    /// Agents that follow those named for each of them; none runs yet. Periods of an hour, the
    /// present one being number 5.
    ///
    /// # Panics
    /// Where a program fails.
    #[must_use]
    pub fn new(follows: Vec<Vec<usize>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let now = kes_wire::unix_time::UnixTime::now();
        let start = kes_wire::unix_time::UnixTime(now.0 - (5 * 3600 + 60) * 1_000_000);
        let start = serde_json::to_string(&start).expect("a time");
        let genesis = format!(
            r#"{{"systemStart": {start}, "networkMagic": 42, "slotLength": 1,
                "slotsPerKESPeriod": 3600, "maxKESEvolutions": 62}}"#
        );
        fs::write(folder.path().join("genesis.json"), genesis).expect("a file");
        let network = Self {
            folder,
            agents: follows
                .into_iter()
                .map(|follows| Agent {
                    follows,
                    process: None,
                })
                .collect(),
            links: BTreeMap::new(),
            has_clocks: false,
        };
        network.cold(&[
            "key-gen",
            "--cold-verification-key-file",
            "cold.vkey",
            "--cold-signing-key-file",
            "cold.skey",
            "--operational-certificate-issue-counter-file",
            "cold.counter",
        ]);
        network
    }

    /// The same, with a [`Link`] between each agent and each that it follows.
    ///
    /// # Panics
    /// Where a program fails.
    #[must_use]
    pub fn linked(follows: Vec<Vec<usize>>) -> Self {
        let mut network = Self::new(follows);
        for (n, agent) in network.agents.iter().enumerate() {
            for peer in &agent.follows {
                let path = network.file(&link_name(n, *peer));
                let link = Link::new(&path, &network.file(&format!("{peer}.service")));
                network.links.insert((n, *peer), link);
            }
        }
        network
    }

    /// The same, with a clock for each agent that [`set_clock`](Self::set_clock) turns, and a
    /// folder for what outlives it.
    ///
    /// # Panics
    /// Where a program fails.
    #[must_use]
    pub fn with_clocks(follows: Vec<Vec<usize>>) -> Self {
        let mut network = Self::linked(follows);
        network.has_clocks = true;
        for n in 0..network.len() {
            network.set_clock(n, 0);
            fs::create_dir(network.file(&format!("{n}.state"))).expect("a folder");
        }
        network
    }

    /// Sets the clock of agent `n` to so many microseconds before or after this machine's; the
    /// system of the agent calls it synchronised.
    ///
    /// # Panics
    /// Where the file of the clock cannot be written.
    pub fn set_clock(&self, n: usize, microseconds: i64) {
        // Whole or not at all: it is read at any moment.
        let new = self.file(&format!("{n}.clock.new"));
        fs::write(&new, format!("{microseconds} 0 sync")).expect("a file");
        fs::rename(new, self.file(&format!("{n}.clock"))).expect("a file");
    }

    /// The links, each with the agent that follows and the one that is followed.
    #[must_use]
    pub fn links(&self) -> &BTreeMap<(usize, usize), Link> {
        &self.links
    }

    /// The service socket of agent `n`.
    #[must_use]
    pub fn service_path(&self, n: usize) -> PathBuf {
        self.file(&format!("{n}.service"))
    }

    /// How many agents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The log of agent `n`, of all its runs.
    ///
    /// # Panics
    /// Where it has never run.
    #[must_use]
    pub fn log(&self, n: usize) -> String {
        fs::read_to_string(self.file(&format!("{n}.log"))).expect("a log")
    }

    fn cold(&self, arguments: &[&str]) {
        let output = Command::new(programs().join("kes-cli"))
            .arg("cold")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("kes-cli");
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts agent `n` and waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    pub fn start(&mut self, n: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file(&format!("{n}.log")))
            .expect("a log");
        let program = if self.has_clocks {
            crate::pool::program("kes-agent-for-tests")
        } else {
            programs().join("kes-agent")
        };
        let mut command = Command::new(program);
        command
            .arg("run")
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            // Whether this machine's clock is synchronised is no matter of these tests.
            .env("KES_AGENT_CLOCK", "trust")
            .args(["--cold-verification-key", "cold.vkey"])
            .args(["--genesis-file", "genesis.json"])
            .args(["--service-address", &format!("{n}.service")])
            .args(["--control-address", &format!("{n}.control")])
            .stderr(log.try_clone().expect("a descriptor"))
            .stdout(log);
        if self.has_clocks {
            command
                .env("KES_AGENT_TEST_CLOCK", self.file(&format!("{n}.clock")))
                .env("KES_AGENT_CLOCK", "guard")
                .env("KES_AGENT_STATE_DIR", self.file(&format!("{n}.state")));
        }
        for peer in &self.agents[n].follows {
            let address = if self.links.contains_key(&(n, *peer)) {
                link_name(n, *peer)
            } else {
                format!("{peer}.service")
            };
            command.args(["--bootstrap-address", &address]);
        }
        self.agents[n].process = Some(command.spawn().expect("kes-agent"));
        wait("the agent answers", || self.status(n).is_some());
    }

    /// Ends agent `n`, if it runs.
    pub fn stop(&mut self, n: usize) {
        if let Some(mut process) = self.agents[n].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Whether agent `n` runs.
    #[must_use]
    pub fn runs(&self, n: usize) -> bool {
        self.agents[n].process.is_some()
    }

    /// Gives agent `n` a command.
    ///
    /// # Panics
    /// Where kes-cli cannot be run.
    #[must_use]
    pub fn command(&self, n: usize, arguments: &[&str]) -> Output {
        Command::new(programs().join("kes-cli"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("KES_AGENT_CONTROL_PATH", self.file(&format!("{n}.control")))
            .stdin(Stdio::null())
            .output()
            .expect("kes-cli")
    }

    /// What `status --json` of agent `n` says; `None` where it does not answer.
    #[must_use]
    pub fn status(&self, n: usize) -> Option<Value> {
        let output = self.command(n, &["status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout)
            .ok()
            .filter(|status| status.get("active").is_some())
    }

    /// What agent `n` holds, in a form that two agents can be compared by: a key by its
    /// verification key and evolution, or a drop, and when.
    #[must_use]
    pub fn held(&self, n: usize) -> String {
        let Some(status) = self.status(n) else {
            return "no answer".to_owned();
        };
        let active = &status["active"];
        match active["state"].as_str() {
            Some("serving") => format!(
                "key {} at {} since {}",
                active["vkey"], active["evolution"], active["since"]
            ),
            Some("dropped") => format!("dropped {}", active["since"]),
            _ => active["state"].to_string(),
        }
    }

    /// Generates, certifies with `counter` and `start`, and activates a key at agent `n`.
    ///
    /// # Panics
    /// Where one of the steps fails.
    pub fn install(&self, n: usize, counter: u64, start: u64) {
        let output = self.try_install(n, counter, start);
        assert!(output.status.success(), "{output:?}");
    }

    /// The same, where activating may be refused.
    ///
    /// # Panics
    /// Where one of the steps before it fails.
    #[must_use]
    pub fn try_install(&self, n: usize, counter: u64, start: u64) -> Output {
        let output = self.command(n, &["keygen", "--replace"]);
        assert!(output.status.success(), "{output:?}");
        let output = self.command(
            n,
            &[
                "export-verkey",
                "--kes-verification-key-file",
                "kes.vkey",
                "--force",
            ],
        );
        assert!(output.status.success(), "{output:?}");
        self.set_counter(counter);
        self.cold(&[
            "issue-op-cert",
            "--kes-verification-key-file",
            "kes.vkey",
            "--cold-signing-key-file",
            "cold.skey",
            "--operational-certificate-issue-counter-file",
            "cold.counter",
            "--kes-period",
            &start.to_string(),
            "--out-file",
            "opcert.cert",
            "--force",
        ]);
        self.command(n, &["activate", "--opcert-file", "opcert.cert"])
    }

    fn set_counter(&self, counter: u64) {
        let _ = fs::remove_file(self.file("cold.counter"));
        self.cold(&[
            "new-counter",
            "--cold-verification-key-file",
            "cold.vkey",
            "--counter-value",
            &counter.to_string(),
            "--operational-certificate-issue-counter-file",
            "cold.counter",
        ]);
    }

    /// Waits until all agents that run hold the same, and says what.
    ///
    /// # Panics
    /// Where they do not come to agree, with what each holds.
    #[must_use]
    pub fn agreement(&self) -> String {
        let all = || -> Vec<String> {
            let running = (0..self.len()).filter(|n| self.runs(*n));
            running.map(|n| self.held(n)).collect()
        };
        let mut seen = Vec::new();
        let agreed = within_patience(|| {
            seen = all();
            seen.windows(2).all(|two| two[0] == two[1])
        });
        assert!(agreed, "no agreement: {seen:#?}");
        seen.swap_remove(0)
    }

    /// A file of the network's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn link_name(follower: usize, followed: usize) -> String {
    format!("{follower}-{followed}.link")
}

/// Waits until `holds`.
///
/// # Panics
/// Where it never does.
pub fn wait(what: &str, holds: impl FnMut() -> bool) {
    assert!(within_patience(holds), "waited in vain: {what}");
}

/// Waits until `holds`, and says whether it ever did.
pub fn within_patience(mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
