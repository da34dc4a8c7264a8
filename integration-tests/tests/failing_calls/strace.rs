//! strace, which makes calls fail, and tells which were made.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use integration_tests::pool::until;

/// The command under strace from its first instruction, as a child of who starts it: its number is
/// the service's main process still.
pub(crate) fn around(command: &Command, injection: Option<&str>, output: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-I", "2", "-f", "-qq", "-o"])
        .arg(output);
    if let Some(injection) = injection {
        strace.args(expressions(injection));
    }
    strace.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap());
    }
    strace
}

fn expressions(injection: &str) -> [String; 4] {
    let call = injection.split(':').next().unwrap();
    [
        "-e".to_owned(),
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={injection}"),
    ]
}

/// strace at a process that runs already.
pub(crate) struct Attached {
    child: Child,
}

impl Attached {
    /// Attaches, and returns when it has: what the process does from then on is seen.
    pub(crate) fn to(pid: u32, injection: Option<&str>, output: &Path) -> Self {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-p", &pid.to_string(), "-o"])
            .arg(output);
        if let Some(injection) = injection {
            command.args(expressions(injection));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace: {line}");
        // It says more as threads come and go.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child }
    }

    /// Lets go. What was traced goes on without it.
    pub(crate) fn detach(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It has ended already where the process has.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            // It may wait for a thread of a process that is dead, whose end nobody else hears of
            // meanwhile.
            if begun.elapsed() > Duration::from_secs(3) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Lets a process go that strace has traced from its start.
pub(crate) fn let_go(pid: u32) {
    let tracer = || -> Option<i32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("TracerPid:"))?;
        line.trim().parse().ok()
    };
    if let Some(tracer) = tracer().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(tracer, rustix::process::Signal::TERM);
    }
    until("strace to let go", || {
        (tracer().unwrap_or(0) == 0).then_some(())
    });
}

/// A trace that strace wrote.
pub(crate) struct Trace(String);

impl Trace {
    pub(crate) fn read(path: &PathBuf) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        Self(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many calls were made to fail.
    pub(crate) fn injected(&self) -> usize {
        let injected = |line: &&str| line.contains("(INJECTED)");
        self.0.lines().filter(injected).count()
    }

    /// The calls that were made, each name once, in order of their first.
    pub(crate) fn calls(&self) -> Vec<String> {
        let mut calls = Vec::new();
        for line in self.0.lines() {
            let Some(name) = name(line) else { continue };
            if !calls.contains(&name) {
                calls.push(name);
            }
        }
        calls
    }

    /// How often `call` was made before the first line with `mark`.
    pub(crate) fn before(&self, mark: &str, call: &str) -> u32 {
        let before = self.0.lines().take_while(|line| !line.contains(mark));
        let count = before
            .filter(|line| name(line).as_deref() == Some(call))
            .count();
        u32::try_from(count).unwrap()
    }
}

/// The name of the call that begins in a line: `PID name(...`.
fn name(line: &str) -> Option<String> {
    let (_pid, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}
