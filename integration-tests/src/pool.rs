//! A stake pool in a folder: cold keys, a test network, and the real programs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// How long to wait for something that must happen. Reached only where it does not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of the project's programs, beside the tests.
///
/// # Panics
/// Where the programs are not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make test`, or cargo build --bins",
        path.display()
    );
    path
}

/// The same command on a kernel that does not have these system calls, named with commas.
///
/// # Panics
/// Where the program that takes them away is not built.
#[must_use]
pub fn without_calls(calls: &str, command: &Command) -> Command {
    let mut without = Command::new(program("without-calls"));
    without
        .arg(calls)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        without.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        without.env(name, value.expect("a value"));
    }
    without
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// Where there is none after [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A test network's parameters.
#[derive(Debug, Clone, Copy)]
pub struct TestNetwork {
    /// Slots in a KES period.
    pub slots_per_period: u64,
    /// Length of a slot in milliseconds.
    pub slot_ms: u64,
    /// Evolutions of a key.
    pub max_evolutions: u32,
    /// KES periods that have passed at the start of the test.
    pub past_periods: u64,
}

impl Default for TestNetwork {
    /// Period 1000 of a network whose periods are as long as a test run may ever last.
    fn default() -> Self {
        Self {
            slots_per_period: 36_000,
            slot_ms: 100,
            max_evolutions: 62,
            past_periods: 1000,
        }
    }
}

/// A pool: a folder with cold keys and a genesis file.
pub struct Pool {
    folder: TempDir,
}

impl Pool {
    /// A pool on a network.
    ///
    /// # Panics
    /// Where its files cannot be made.
    #[must_use]
    pub fn new(network: TestNetwork) -> Self {
        let pool = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let past = network.past_periods * network.slots_per_period * network.slot_ms;
        let start_ms = u64::try_from(since_epoch.as_millis()).expect("this age") - past;
        let start = kes_wire::unix_time::UnixTime(start_ms / 1000 * 1_000_000);
        #[allow(clippy::cast_precision_loss)]
        let slot_length = network.slot_ms as f64 / 1000.0;
        let genesis = serde_json::json!({
            "systemStart": start,
            "networkMagic": 42,
            "slotLength": slot_length,
            "slotsPerKESPeriod": network.slots_per_period,
            "maxKESEvolutions": network.max_evolutions,
        });
        fs::write(pool.path("genesis.json"), genesis.to_string()).expect("a genesis file");
        pool.cold_keys("cold");
        pool
    }

    /// A path in the pool's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes NAME.vkey, NAME.skey and NAME.counter.
    pub fn cold_keys(&self, name: &str) {
        self.cli(&[
            "cold",
            "key-gen",
            "--cold-verification-key-file",
            &self.text(&format!("{name}.vkey")),
            "--cold-signing-key-file",
            &self.text(&format!("{name}.skey")),
            "--operational-certificate-issue-counter-file",
            &self.text(&format!("{name}.counter")),
        ])
        .succeeded();
    }

    /// A path in the pool's folder as text.
    ///
    /// # Panics
    /// Where it is not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    /// A command that runs `kes-cli` against the pool's agent.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("kes-cli"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("KES_AGENT_CONTROL_PATH", self.path("control.socket"))
            .env("KES_AGENT_SERVICE_PATH", self.path("service.socket"))
            .env("KES_AGENT_GENESIS_FILE", self.path("genesis.json"))
            .env("KES_AGENT_COLD_VK", self.path("cold.vkey"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `kes-cli --json` against the pool's agent.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Outcome {
        let output = self
            .command(&[&["--json"], args].concat())
            .output()
            .expect("kes-cli runs");
        Outcome::of(args.join(" "), &output)
    }

    /// The agent's state.
    #[must_use]
    pub fn status(&self) -> Value {
        self.cli(&["status"]).succeeded()
    }

    /// The current KES period, by the agent.
    ///
    /// # Panics
    /// Where the status has none.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.status()["current_period"].as_u64().expect("a period")
    }

    /// Writes a certificate counter file with this next number.
    pub fn set_counter(&self, cold: &str, next: u64) {
        self.cli(&[
            "cold",
            "new-counter",
            "--cold-verification-key-file",
            &self.text(&format!("{cold}.vkey")),
            "--counter-value",
            &next.to_string(),
            "--operational-certificate-issue-counter-file",
            &self.text(&format!("{cold}.counter")),
            "--force",
        ])
        .succeeded();
    }

    /// Issues a certificate into `opcert.cert` for the key in `kes.vkey`.
    pub fn issue(&self, cold: &str, period: u64) {
        self.cli(&[
            "cold",
            "issue-op-cert",
            "--kes-verification-key-file",
            "kes.vkey",
            "--cold-signing-key-file",
            &format!("{cold}.skey"),
            "--operational-certificate-issue-counter-file",
            &format!("{cold}.counter"),
            "--kes-period",
            &period.to_string(),
            "--out-file",
            "opcert.cert",
            "--force",
        ])
        .succeeded();
    }

    /// Generates a key, exports it, and issues a certificate for it from `period` on.
    pub fn prepare(&self, period: u64) {
        self.cli(&["keygen"]).succeeded();
        self.cli(&["export-verkey", "--force"]).succeeded();
        self.issue("cold", period);
    }

    /// A whole rotation, from the current period on. Gives the new verification key.
    ///
    /// # Panics
    /// Where a step fails.
    #[must_use]
    pub fn rotate(&self) -> String {
        self.prepare(self.period());
        let active = self
            .cli(&["activate", "--opcert-file", "opcert.cert"])
            .succeeded();
        assert_eq!(active["result"], "active");
        active["kes_verification_key"]
            .as_str()
            .expect("a key")
            .to_owned()
    }

    /// Starts the pool's agent and waits until it is ready.
    #[must_use]
    pub fn agent(&self) -> Agent {
        Agent::start(self, &[])
    }

    /// The command that runs the pool's agent.
    #[must_use]
    pub fn agent_command(&self) -> Command {
        self.command_of("kes-agent")
    }

    /// The same with another agent's program, such as the one with what only tests have.
    #[must_use]
    pub fn command_of(&self, agent: &str) -> Command {
        let mut command = Command::new(program(agent));
        command
            .arg("run")
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            // Whether this machine's clock is synchronised is no matter of these tests.
            .env("KES_AGENT_CLOCK", "trust")
            .env("KES_AGENT_CONTROL_PATH", self.path("control.socket"))
            .env("KES_AGENT_SERVICE_PATH", self.path("service.socket"))
            .env("KES_AGENT_GENESIS_FILE", self.path("genesis.json"))
            .env("KES_AGENT_COLD_VK", self.path("cold.vkey"))
            .stdin(Stdio::null());
        command
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command.
    pub command: String,
    /// Its exit code.
    pub code: i32,
    /// The object on its standard output.
    pub json: Value,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    fn of(command: String, output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let json = serde_json::from_str(&stdout).unwrap_or(Value::String(stdout));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            json,
            stderr,
        }
    }

    /// The object of a command that succeeded without a word on standard error.
    ///
    /// # Panics
    /// Where it did not.
    pub fn succeeded(self) -> Value {
        assert_eq!(self.code, 0, "{self:#?}");
        assert_eq!(self.stderr, "", "{}", self.command);
        assert!(self.json["changed"].is_boolean(), "{self:#?}");
        self.json
    }

    /// Checks that the command failed with this exit code and this error code, says why and what
    /// to do next, to a person too.
    ///
    /// # Panics
    /// Where it did not.
    pub fn refused(self, exit: i32, code: &str) -> Value {
        assert_eq!(
            (self.code, &self.json["error"]["code"]),
            (exit, &Value::from(code)),
            "{self:#?}"
        );
        assert_eq!(self.json["changed"], false);
        for part in ["sentence", "next_step"] {
            assert!(
                self.json["error"][part]
                    .as_str()
                    .is_some_and(|s| s.len() > 10),
                "{self:#?}"
            );
        }
        self.json
    }
}

/// A running agent. Killed when dropped.
pub struct Agent {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    /// Starts an agent with further arguments and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not become ready.
    #[must_use]
    pub fn start(pool: &Pool, args: &[&str]) -> Self {
        let mut command = pool.agent_command();
        command.args(args);
        Self::spawn(command, &pool.path("control.socket"))
    }

    /// Starts an agent by this command and waits until its control socket answers.
    ///
    /// # Panics
    /// Where it does not become ready.
    #[must_use]
    pub fn spawn(command: Command, control: &Path) -> Self {
        let mut agent = Self::launch(command);
        until("the agent to be ready", || {
            if let Some(status) = agent.ended() {
                panic!("the agent ended with {status}: {}", agent.stderr());
            }
            UnixStream::connect(control).ok()
        });
        agent
    }

    /// Starts an agent by this command, without waiting for anything.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn launch(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kes-agent runs");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().expect("piped");
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lines.lock().expect("no panic while logging").push(line);
            }
        });
        Self { child, log }
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// What an agent that has ended wrote on its standard error.
    pub fn stderr(&mut self) -> String {
        let stderr = self.child.stderr.take();
        stderr.map_or_else(String::new, |s| {
            std::io::read_to_string(s).unwrap_or_default()
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    ///
    /// # Panics
    /// Never, unless reading the log has.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").join("\n")
    }

    /// Waits until a line with `text` is in its log.
    pub fn await_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// Sends it a signal by name.
    ///
    /// # Panics
    /// Where that fails.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Stops it by a signal, and checks that it ends well and without a word on standard error.
    ///
    /// # Panics
    /// Where it does not.
    pub fn stop(mut self, signal: &str) {
        self.signal(signal);
        let status = until("the agent to stop", || {
            self.child.try_wait().expect("a child")
        });
        assert!(status.success(), "{status}");
        assert_eq!(self.stderr(), "");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kes-cli probe --follow`: a node. Killed when dropped.
pub struct Node {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Node {
    /// Starts a node of the pool.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn start(pool: &Pool) -> Self {
        Self::start_at(pool, "service.socket")
    }

    /// Starts a node of the pool at this service socket.
    ///
    /// # Panics
    /// Where it cannot be run.
    #[must_use]
    pub fn start_at(pool: &Pool, socket: &str) -> Self {
        let mut command = pool.command(&["probe", "--follow", "--json"]);
        command.env("KES_AGENT_SERVICE_PATH", pool.path(socket));
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("kes-cli runs");
        let stdout = child.stdout.take().expect("piped");
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                seen.lock().expect("no panic while reading").push(event);
            }
        });
        Self { child, events }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has told so far.
    ///
    /// # Panics
    /// Never, unless reading has.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().expect("no panic while reading").clone()
    }

    /// Waits for an event of this kind after the first `after` events, and gives how many there
    /// were with it.
    #[must_use]
    pub fn await_event(&self, kind: &str, after: usize) -> usize {
        until(&format!("a node's event {kind}"), || {
            let events = self.events();
            let at = events
                .iter()
                .skip(after)
                .position(|event| event["event"] == kind)?;
            Some(after + at + 1)
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command with this standard input.
///
/// # Panics
/// Where it cannot be run.
#[must_use]
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a command runs");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("input is taken");
    child.wait_with_output().expect("a command ends")
}
