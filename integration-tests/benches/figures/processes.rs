//! Whole programs, beside one that only starts and exits.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::measure::{Pair, median, nanoseconds};
use super::report::{Goal, Report, Row};

const NOTHING: &str = env!("CARGO_BIN_EXE_nothing");
const AGAINST: &str = "a program that only starts and exits";
const STARTS: usize = 150;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn measure(report: &mut Report) {
    let missing = ["kes-agent", "kes-cli"].map(|name| programs().join(name).exists());
    if missing.contains(&false) {
        println!("kes-agent and kes-cli are not built (make build): not measured");
        return;
    }
    let hot = Hot::new();
    let ready = starts(|| {
        let (agent, took) = hot.start();
        drop(agent);
        took
    });
    report.add(milliseconds("agent ready", ready));

    let (agent, _) = hot.start();
    hot.activate_a_key();
    let status = starts(|| hot.cli_time("status"));
    report.add(milliseconds("kes-cli status", status));
    hot.cli(&["probe"]);
    report.add(Row {
        name: "agent resident, with a key, after a rotation and a node".to_owned(),
        value: agent.resident_megabytes(),
        unit: "MB",
        against: None,
        goal: Goal::AtMost(6.0),
    });
}

/// The folder of the programs under measurement.
pub(crate) fn programs() -> &'static Path {
    Path::new(NOTHING).parent().unwrap()
}

fn milliseconds(name: &str, pair: Pair) -> Row {
    Row {
        name: name.to_owned(),
        value: pair.ours / 1e6,
        unit: "ms",
        against: Some((AGAINST, pair.theirs / 1e6)),
        goal: Goal::AtMostMore(2.0),
    }
}

/// Measures `ours` and the program that does nothing in turns.
fn starts(mut ours: impl FnMut() -> Duration) -> Pair {
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        times.0.push(nanoseconds(ours()));
        times
            .1
            .push(nanoseconds(run_time(&mut Command::new(NOTHING))));
    }
    Pair {
        ours: median(times.0),
        theirs: median(times.1),
    }
}

/// From the start of a program to its end.
fn run_time(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begin = Instant::now();
    let status = command.status().unwrap();
    let took = begin.elapsed();
    assert!(status.success(), "{command:?}");
    took
}

/// A hot machine: a folder with a cold key's public half and room for the sockets.
struct Hot {
    folder: tempfile::TempDir,
    readiness: UnixDatagram,
}

impl Hot {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let readiness = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        readiness.set_read_timeout(Some(PATIENCE)).unwrap();
        let hot = Self { folder, readiness };
        hot.cli(&[
            "cold",
            "key-gen",
            "--cold-verification-key-file=cold.vkey",
            "--cold-signing-key-file=cold.skey",
            "--operational-certificate-issue-counter-file=cold.counter",
        ]);
        hot
    }

    fn command(&self, program: &str) -> Command {
        let path: PathBuf = programs().join(program);
        let mut command = Command::new(path);
        // A clean environment: nothing of this machine's settings, folders or service manager.
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("KES_AGENT_CONTROL_PATH", "control")
            .env("KES_AGENT_SERVICE_PATH", "service")
            .env("KES_AGENT_COLD_VK", "cold.vkey")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts the agent; how long it took to tell the service manager that it is ready, which it
    /// does when both sockets are listened on.
    fn start(&self) -> (Agent, Duration) {
        let mut command = self.command("kes-agent");
        command
            .arg("run")
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        let mut message = [0; 256];
        self.forget_messages();
        let begin = Instant::now();
        let agent = Agent(command.spawn().unwrap());
        loop {
            let length = self.readiness.recv(&mut message).unwrap();
            if message[..length].starts_with(b"READY=1") {
                return (agent, begin.elapsed());
            }
        }
    }

    /// What an agent before this one has told.
    fn forget_messages(&self) {
        self.readiness.set_nonblocking(true).unwrap();
        while self.readiness.recv(&mut [0; 256]).is_ok() {}
        self.readiness.set_nonblocking(false).unwrap();
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = self
            .command("kes-cli")
            .args(arguments)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn cli_time(&self, argument: &str) -> Duration {
        run_time(self.command("kes-cli").arg(argument))
    }

    fn activate_a_key(&self) {
        self.cli(&["keygen", "--kes-verification-key-file=kes.vkey"]);
        let status: serde_json::Value =
            serde_json::from_str(&self.cli(&["status", "--json"])).unwrap();
        let period = status["current_period"].as_u64().unwrap();
        self.cli(&[
            "cold",
            "issue-op-cert",
            "--kes-verification-key-file=kes.vkey",
            "--cold-signing-key-file=cold.skey",
            "--operational-certificate-issue-counter-file=cold.counter",
            &format!("--kes-period={period}"),
            "--out-file=opcert.cert",
        ]);
        self.cli(&["activate", "--opcert-file=opcert.cert"]);
    }
}

/// A running agent; it is ended when dropped.
struct Agent(Child);

impl Agent {
    /// Memory of the agent's own and shared pages in RAM, in millions of bytes.
    fn resident_megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024.0 / 1e6
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // An ended agent's sockets stay and are taken over by the next one.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
