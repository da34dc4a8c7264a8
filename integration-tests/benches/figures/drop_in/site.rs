//! One agent under measurement: its programs, its folder with a cold key, and its process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kes_wire::cold::ColdSignKey;
use kes_wire::envelope;
use kes_wire::opcert::OpCert;
use kes_wire::sum6kes::VerificationKey;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::super::processes::programs;
use super::operator::Operator;

/// How long anything may take before the measurement is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The folder, in a site's, for what outlives an agent.
const STATE: &str = "state";

/// An agent's two programs, which take the reference's command line.
pub(crate) struct Programs {
    pub(crate) agent: PathBuf,
    pub(crate) control: PathBuf,
}

/// One agent under measurement.
pub(crate) struct Site {
    programs: Programs,
    folder: tempfile::TempDir,
    cold: ColdSignKey,
    next_counter: u64,
    agent: Option<Child>,
}

impl Site {
    /// A folder with a cold key. No agent runs yet.
    pub(crate) fn new(programs: Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A program may look at the name by which it is called.
        let control = folder.path().join("kes-agent-control");
        std::os::unix::fs::symlink(fs::canonicalize(&programs.control).unwrap(), &control).unwrap();
        let programs = Programs {
            agent: fs::canonicalize(&programs.agent).unwrap(),
            control,
        };
        fs::create_dir(folder.path().join(STATE)).unwrap();
        run(kes_cli(folder.path()).args([
            "cold",
            "key-gen",
            "--cold-verification-key-file=cold.vkey",
            "--cold-signing-key-file=cold.skey",
            "--operational-certificate-issue-counter-file=cold.counter",
        ]));
        let cold = envelope::read_cold_skey_file(&folder.path().join("cold.skey")).unwrap();
        Self {
            programs,
            folder,
            cold,
            next_counter: 0,
            agent: None,
        }
    }

    pub(crate) fn service(&self) -> PathBuf {
        self.folder.path().join("service.socket")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control.socket")
    }

    /// Starts the agent anew, without keys; how long it took until its service socket sent the
    /// first byte.
    pub(crate) fn restart(&mut self) -> Duration {
        self.stop();
        let log = File::create(self.log()).unwrap();
        let mut command = command(&self.programs.agent, self.folder.path());
        command
            .args(["run", "-s", "service.socket", "-c", "control.socket"])
            .args(["--cold-verification-key", "cold.vkey"])
            // Ours keeps what outlives it here.
            .env("KES_AGENT_STATE_DIR", STATE)
            .stdout(log);
        let begin = Instant::now();
        self.agent = Some(command.spawn().unwrap());
        let mut stream = connect(&self.service());
        stream.read_exact(&mut [0]).unwrap();
        let took = begin.elapsed();
        connect(&self.control());
        took
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
        // What a killed agent leaves behind is not the next one's business here.
        for socket in [self.service(), self.control()] {
            match fs::remove_file(socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// A rotation by commands, as operators and test networks do it.
    pub(crate) fn rotate_by_commands(&mut self) {
        let period = Operator::connect(&self.control()).info().period;
        run(self
            .control_command("gen-staged-key")
            .args(["--kes-verification-key-file", "kes.vkey"]));
        // Later than what was issued without the file; an agent may remember that.
        run(kes_cli(self.folder.path())
            .args([
                "cold",
                "new-counter",
                "--cold-verification-key-file=cold.vkey",
                "--operational-certificate-issue-counter-file=cold.counter",
                "--force",
            ])
            .arg(format!("--counter-value={}", self.next_counter)));
        run(kes_cli(self.folder.path())
            .args([
                "cold",
                "issue-op-cert",
                "--kes-verification-key-file=kes.vkey",
                "--cold-signing-key-file=cold.skey",
                "--operational-certificate-issue-counter-file=cold.counter",
                "--out-file=opcert.cert",
                "--force",
            ])
            .arg(format!("--kes-period={period}")));
        run(self
            .control_command("install-key")
            .args(["--opcert-file", "opcert.cert"]));
        self.next_counter += 1;
    }

    /// Has a key generated and certifies it from the current period on; all but the install.
    pub(crate) fn prepare(&mut self, operator: &mut Operator) -> (VerificationKey, OpCert) {
        let vkey = operator.gen_staged_key();
        let period = operator.info().period;
        let opcert = self.cold.issue(&vkey, self.next_counter, period).unwrap();
        self.next_counter += 1;
        (vkey, opcert)
    }

    /// From the start of one `info` command to its end.
    pub(crate) fn info_command(&mut self) -> Duration {
        let mut command = self.control_command("info");
        let begin = Instant::now();
        run(&mut command);
        begin.elapsed()
    }

    fn control_command(&self, name: &str) -> Command {
        let mut command = command(&self.programs.control, self.folder.path());
        command.args([name, "--control-address", "control.socket"]);
        command
    }

    /// Memory in RAM, in bytes.
    pub(crate) fn resident(&self) -> f64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes * 1024.0
    }

    /// Processor time that was used so far, in seconds.
    pub(crate) fn processor_time(&self) -> f64 {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        // The name, in parentheses, may hold anything; after it the state is field 3. Fields 14
        // and 15 are the ticks of user and system.
        let fields = &stat[stat.rfind(')').unwrap() + 2..];
        let ticks: u32 = fields
            .split(' ')
            .skip(14 - 3)
            .take(2)
            .map(|field| field.parse::<u32>().unwrap())
            .sum();
        f64::from(ticks) / rustix::param::clock_ticks_per_second() as f64
    }

    /// Lets the agent have so many descriptors open, and no more.
    pub(crate) fn limit_descriptors(&self, most: u64) {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// Bytes that it has logged.
    pub(crate) fn logged(&self) -> f64 {
        fs::metadata(self.log()).unwrap().len() as f64
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.agent.as_ref().unwrap())
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

fn kes_cli(folder: &Path) -> Command {
    command(&programs().join("kes-cli"), folder)
}

/// A command in this folder, with nothing of this machine's settings.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", folder)
        .env("LANG", "C.UTF-8")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// Connects to a socket that is about to be made and listened on. It is tried again at once and
/// not awaited: a processor that sleeps takes a tenth of a millisecond to wake in a virtual
/// machine, which is not the agent's doing.
fn connect(path: &Path) -> UnixStream {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(_) if begin.elapsed() < PATIENCE => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}
