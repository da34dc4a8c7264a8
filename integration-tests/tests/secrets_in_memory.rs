//! **Secrets are in protected memory and nowhere else, and those of the past are nowhere**: every
//! secret that a key ever has is looked for in everything that a process has in memory.
//!
//! Protected memory is that of memfd_secret, which `/proc/PID/mem` does not read, and mappings
//! that are locked and left out of dumps. What the processor's registers hold is not seen.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};

use integration_tests::for_tests::{self, TestClock};
use integration_tests::kept;
use integration_tests::key_secrets::{KeySecrets, of_ed25519};
use integration_tests::memory_scan::{Scanner, Secret, Seen, Sighting, may_look};
use integration_tests::pool::{Node, Pool, TestNetwork, program, until, without_calls};
use integration_tests::service_manager::ServiceManager;
use kes_wire::net::ServiceClient;
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::sys::region::{self, RegionKind};
use kes_wire::sys::sodium;

/// Microseconds of a KES period.
fn period() -> i64 {
    let network = TestNetwork::default();
    i64::try_from(network.slots_per_period * network.slot_ms * 1_000).unwrap()
}

/// An agent, and keys whose every secret is looked for in it.
struct Life {
    pool: Pool,
    clock: TestClock,
    manager: ServiceManager,
    keys: Vec<([u8; 32], KeySecrets)>,
    scanner: Scanner,
    /// Finds what is public, to show that the search sees what the agent has in heap.
    control: Scanner,
    kind: RegionKind,
}

impl Life {
    /// An agent that runs, with its keys in memory of this kind.
    fn begin(kind: RegionKind) -> Self {
        Self::begin_with(kind, |_| ())
    }

    fn begin_with(kind: RegionKind, set: impl FnOnce(&mut Command)) -> Self {
        let pool = Pool::new(TestNetwork::default());
        let clock = TestClock::new(pool.path("clock"), true);
        let mut command = for_tests::command(&pool, &clock);
        set(&mut command);
        let command = match kind {
            RegionKind::Secret => command,
            RegionKind::Guarded => without_calls("memfd_secret", &command),
        };
        let mut manager = ServiceManager::new(command);
        manager.start();
        let names = ["first", "second", "third"];
        let keys = names.map(|name| {
            let mut seed = [0; 32];
            sodium::fill_random(&mut seed);
            (seed, KeySecrets::of(name, &seed))
        });
        let vkey = std::fs::read_to_string(pool.path("cold.vkey")).unwrap();
        let vkey = kes_wire::envelope::read_cold_vkey(vkey.as_bytes()).unwrap();
        Self {
            scanner: Scanner::new(keys.iter().flat_map(|(_, key)| key.all())),
            control: Scanner::new([Secret::new("cold.vkey".to_owned(), &vkey.0)]),
            keys: keys.into(),
            pool,
            clock,
            manager,
            kind,
        }
    }

    /// Generates key number `n` into the pending slot.
    fn generate(&self, n: usize) {
        for_tests::hand_seed(&self.pool, &self.keys[n].0);
        self.pool.cli(&["keygen"]).succeeded();
        assert!(!self.pool.path("seed").exists(), "the seed was taken");
    }

    fn certify(&self) {
        self.pool.cli(&["export-verkey", "--force"]).succeeded();
        self.pool.issue("cold", self.pool.period());
        self.pool
            .cli(&["import-opcert", "--opcert-file", "opcert.cert"])
            .succeeded();
    }

    fn activate(&self) {
        self.pool.cli(&["activate"]).succeeded();
    }

    /// The names of the secrets that these keys have at these evolutions.
    fn secrets(&self, held: &[(usize, usize)]) -> BTreeSet<String> {
        held.iter()
            .flat_map(|(n, evolution)| self.keys[*n].1.held_at(*evolution))
            .collect()
    }

    fn look(&mut self) -> Seen {
        self.scanner.look_into(self.manager.running().pid())
    }

    /// What is in the memory that the service manager keeps.
    fn kept(&self) -> BTreeSet<String> {
        let memory = self.manager.descriptor(kept::NAME).unwrap();
        let memory = kept::map(&memory).unwrap();
        let mut bytes = memory.head.expose().to_vec();
        for cell in &memory.cells {
            bytes.extend_from_slice(cell.expose());
        }
        self.scanner.names_in(&bytes)
    }

    /// Checks that the agent holds the secrets of these keys at these evolutions where they are
    /// protected, and no secret anywhere else.
    fn holds(&mut self, when: &str, held: &[(usize, usize)]) {
        let pid = self.manager.running().pid();
        let control = self.control.look_into(pid);
        assert!(!control.sightings.is_empty(), "{when}: {control:?}");
        let expected = self.secrets(held);
        let seen = self.look();
        let found = seen.only_protected(when);
        match self.kind {
            RegionKind::Secret => {
                // Not in what is protected otherwise either: that is for secrets on their way.
                assert_eq!(found, BTreeSet::new(), "{when}");
                assert_eq!(seen.unreadable, ["rw-s /secretmem (deleted)"], "{when}");
                assert_eq!(self.kept(), expected, "{when}");
            }
            RegionKind::Guarded => {
                assert_eq!(seen.unreadable, [""; 0], "{when}");
                assert_eq!(found, expected, "{when}");
            }
        }
    }

    /// A whole life of keys, up to the agent's restart.
    fn live(&mut self) {
        self.holds("at the start", &[]);
        self.generate(0);
        self.holds("generated", &[(0, 0)]);
        self.certify();
        self.holds("certified", &[(0, 0)]);
        self.activate();
        self.holds("activated", &[(0, 0)]);
        let node = Node::start(&self.pool);
        let seen = node.await_event("signed", 0);
        self.take_the_key(0);
        self.holds("served", &[(0, 0)]);
        for evolution in 1..=20 {
            self.clock.pass(period());
            self.await_evolution(evolution);
            self.holds("evolved", &[(0, evolution)]);
        }
        self.generate(1);
        self.holds("a successor generated", &[(0, 20), (1, 0)]);
        self.certify();
        self.activate();
        let _ = node.await_event("key", seen);
        self.holds("replaced", &[(1, 0)]);
        self.generate(2);
        self.holds("a third generated", &[(1, 0), (2, 0)]);
        self.pool.cli(&["drop-pending"]).succeeded();
        self.holds("the third dropped", &[(1, 0)]);
    }

    fn await_evolution(&self, evolution: usize) {
        until("the evolution", || {
            (self.pool.status()["active"]["evolution"] == evolution).then_some(())
        });
    }

    /// Takes the active key as a node does: what is looked for is what is in it.
    fn take_the_key(&self, evolution: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let received = runtime.block_on(async {
            let path = self.pool.path("service.socket");
            let mut client = ServiceClient::connect(&path).await.unwrap();
            let ServiceMessage::Key(received) = client.next().await.unwrap() else {
                panic!("a key")
            };
            client.answer(ServiceResult::Ok).await.unwrap();
            received
        });
        let found = self.scanner.names_in(received.secret.expose());
        assert_eq!(found, self.secrets(&[(0, evolution)]));
    }
}

/// Whether this kernel has memory of memfd_secret.
fn kernel_has_it() -> bool {
    let has = region::probe().is_ok();
    if !has {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
    }
    has
}

#[test]
fn in_memory_that_outlives_the_agent() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let mut life = Life::begin(RegionKind::Secret);
    life.live();
    life.manager.restart();
    life.holds("restarted", &[(1, 0)]);
    life.clock.pass(2 * period());
    life.await_evolution(2);
    life.manager.kill_and_restart();
    life.holds("evolved and crashed", &[(1, 2)]);
    // Time passes while nobody evolves the key.
    life.manager.kill();
    life.clock.pass(3 * period());
    assert_eq!(life.kept(), life.secrets(&[(1, 2)]));
    life.manager.start();
    life.holds("evolved at the start", &[(1, 5)]);
    life.pool.cli(&["drop-active"]).succeeded();
    life.holds("dropped", &[]);
    life.manager.restart();
    life.holds("restarted without a key", &[]);
}

#[test]
fn in_guarded_memory() {
    if !may_look() {
        return;
    }
    let mut life = Life::begin(RegionKind::Guarded);
    life.live();
    life.pool.cli(&["drop-active"]).succeeded();
    life.holds("dropped", &[]);
    life.generate(2);
    life.manager.restart();
    life.holds("restarted", &[]);
}

#[test]
fn in_an_agent_that_follows_another() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let first = Life::begin(RegionKind::Secret);
    let service = first.pool.text("service.socket");
    let cold_vkey = first.pool.path("cold.vkey");
    let genesis = first.pool.path("genesis.json");
    let clock = first.pool.path("clock");
    let mut second = Life::begin_with(RegionKind::Secret, |command| {
        command
            .env("KES_AGENT_COLD_VK", cold_vkey)
            .env("KES_AGENT_GENESIS_FILE", genesis)
            .env("KES_AGENT_TEST_CLOCK", clock)
            .args(["--bootstrap-address", &service]);
    });
    first.generate(0);
    first.certify();
    first.activate();
    second.await_evolution(0);
    // The same keys are looked for in both.
    second.control = Scanner::new([first.pool.path("cold.vkey")].map(|path| {
        let vkey = std::fs::read(path).unwrap();
        let vkey = kes_wire::envelope::read_cold_vkey(&vkey).unwrap();
        Secret::new("cold.vkey".to_owned(), &vkey.0)
    }));
    second.scanner = Scanner::new(first.keys.iter().flat_map(|(_, key)| key.all()));
    second.keys = first.keys;
    second.holds("received", &[(0, 0)]);
    first.clock.pass(period());
    second.await_evolution(1);
    second.holds("received and evolved", &[(0, 1)]);
}

#[test]
fn a_leak_is_found() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let mut life = Life::begin_with(RegionKind::Secret, |command| {
        command.env("KES_AGENT_TEST_LEAK", "1");
    });
    life.generate(0);
    let seen = life.look();
    let in_heap = |seen: &&Sighting| !seen.is_protected && seen.mapping.ends_with("[heap]");
    let leaked = seen.sightings.iter().filter(in_heap);
    let found: BTreeSet<_> = leaked.map(|seen| seen.secret.as_str()).collect();
    assert!(found.contains("first: seed of node 1"), "{seen:?}");
    // And so is a secret of the past in the memory that is kept.
    let descriptor = life.manager.descriptor(kept::NAME).unwrap();
    let mut memory = kept::map(&descriptor).unwrap();
    let free = memory
        .cells
        .iter_mut()
        .find(|cell| cell.expose().iter().all(|byte| *byte == 0));
    free.unwrap().expose_mut()[7..15].copy_from_slice(&life.keys[1].1.leaf(9)[8..16]);
    assert!(life.kept().contains("second: seed of leaf 9"));
}

#[test]
fn in_a_command_that_holds_a_key() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let life = Life::begin(RegionKind::Secret);
    life.generate(0);
    life.certify();
    life.activate();
    let node = Node::start(&life.pool);
    let seen = node.await_event("signed", 0);
    let held = life.scanner.look_into(node.pid());
    let found = held.only_protected("kes-cli probe --follow");
    assert_eq!(found, life.secrets(&[(0, 0)]));
    // Another one that starts three periods ago: the command evolves it before it signs.
    life.generate(1);
    life.pool.cli(&["export-verkey", "--force"]).succeeded();
    life.pool.issue("cold", life.pool.period() - 3);
    life.pool
        .cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    let seen = node.await_event("key", seen);
    let seen = node.await_event("signed", seen);
    let found = life
        .scanner
        .look_into(node.pid())
        .only_protected("replaced");
    assert_eq!(found, life.secrets(&[(1, 3)]));
    life.pool.cli(&["drop-active"]).succeeded();
    let _ = node.await_event("dropped", seen);
    let found = life.scanner.look_into(node.pid()).only_protected("dropped");
    assert_eq!(found, BTreeSet::new());
}

#[test]
fn in_the_librarys_client() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let life = Life::begin(RegionKind::Secret);
    life.generate(0);
    life.certify();
    life.activate();
    let mut command = Command::new(program("holds_a_key"));
    command.arg(life.pool.path("service.socket"));
    let mut node = Talks::with(command);
    node.await_line("held");
    for evolution in [0, 1, 2, 5, 31, 32, 63] {
        node.ask(&format!("evolve {evolution}"));
        let found = life.scanner.look_into(node.child.id());
        let found = found.only_protected("the library's client");
        assert_eq!(found, life.secrets(&[(0, evolution)]));
    }
    node.ask("drop");
    let found = life.scanner.look_into(node.child.id());
    assert_eq!(found.only_protected("dropped"), BTreeSet::new());
}

/// A program that is talked to line by line. Killed when dropped.
struct Talks {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Talks {
    fn with(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    fn await_line(&mut self, wanted: &str) {
        let line = self.lines.next().expect("it answers").unwrap();
        assert_eq!(line, wanted);
    }

    fn ask(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
        self.await_line("done");
    }
}

impl Drop for Talks {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A command that is held up where it writes to its standard output, a pipe with no room. Ended
/// when dropped.
struct HeldUp {
    child: Child,
    reader: File,
}

impl HeldUp {
    fn new(mut command: Command) -> Self {
        let (reader, writer) = full_pipe();
        let child = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut held_up = Self {
            child,
            reader: File::from(reader),
        };
        let writes_to_stdout = format!("{} 0x1 ", libc::SYS_write);
        held_up.await_call(&writes_to_stdout);
        held_up
    }

    /// Waits until the command is in a system call that stands so in `/proc/PID/syscall`.
    fn await_call(&mut self, call: &str) {
        await_call(&mut self.child, call);
    }

    /// Lets it go on, and checks that it ends well.
    fn let_go(mut self) {
        std::io::copy(&mut self.reader, &mut std::io::sink()).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn await_call(child: &mut Child, call: &str) {
    let path = format!("/proc/{}/syscall", child.id());
    until("the command to be held up", || {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            let stderr = child.stderr.as_mut();
            stderr.unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended with {status}: {said}");
        }
        let now = std::fs::read_to_string(&path).ok()?;
        now.starts_with(call).then_some(())
    });
}

/// A pipe into which nothing more goes, and whose writers wait.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::{PipeFlags, pipe_with};
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
    while rustix::io::write(&writer, &[0]).is_ok() {}
    for end in [&reader, &writer] {
        fcntl_setfl(end, OFlags::empty()).unwrap();
    }
    (reader, writer)
}

#[test]
fn in_a_probe_that_has_done_its_work() {
    if !may_look() || !kernel_has_it() {
        return;
    }
    let life = Life::begin(RegionKind::Secret);
    life.generate(0);
    life.certify();
    life.activate();
    let probe = HeldUp::new(life.pool.command(&["probe"]));
    let seen = life.scanner.look_into(probe.child.id());
    assert_eq!(seen.only_protected("kes-cli probe"), BTreeSet::new());
    probe.let_go();
}

/// A cold sign key in all its forms: its seed, as its file has it, and what Ed25519 makes of it.
fn cold_secrets(pool: &Pool, file: &str) -> (Scanner, BTreeSet<String>) {
    let text = std::fs::read_to_string(pool.path(file)).unwrap();
    let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hex_of_seed = envelope["cborHex"].as_str().unwrap()[4..].to_owned();
    let seed: [u8; 32] = hex::decode(&hex_of_seed).unwrap().try_into().unwrap();
    let mut secrets = of_ed25519("cold key", &seed);
    secrets.push(Secret::new(
        "cold key: hex".to_owned(),
        hex_of_seed.as_bytes(),
    ));
    let alive = ["cold key: seed", "cold key: hex"].map(str::to_owned);
    (Scanner::new(secrets), alive.into())
}

#[test]
fn in_the_commands_of_the_air_gapped_machine() {
    if !may_look() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let key_gen = |vkey_file: &str, name: &str| {
        pool.command(&[
            "cold",
            "key-gen",
            "--cold-verification-key-file",
            vkey_file,
            "--cold-signing-key-file",
            &format!("{name}.skey"),
            "--operational-certificate-issue-counter-file",
            &format!("{name}.counter"),
        ])
    };
    // In the middle of its work, when the sign key is written and the verification key is not...
    let command = HeldUp::new(key_gen("-", "one"));
    let (scanner, alive) = cold_secrets(&pool, "one.skey");
    let seen = scanner.look_into(command.child.id());
    assert_eq!(seen.only_protected("cold key-gen"), alive);
    command.let_go();
    // ...and when it is done.
    let command = HeldUp::new(key_gen("two.vkey", "two"));
    let (scanner, _) = cold_secrets(&pool, "two.skey");
    let seen = scanner.look_into(command.child.id());
    assert_eq!(seen.only_protected("after cold key-gen"), BTreeSet::new());
    command.let_go();

    let vkey = kes_wire::envelope::kes_vkey(&kes_wire::sum6kes::VerificationKey([3; 32]));
    std::fs::write(pool.path("kes.vkey"), vkey).unwrap();
    let issue = |skey: &str, out: &str| {
        pool.command(&[
            "cold",
            "issue-op-cert",
            "--kes-verification-key-file",
            "kes.vkey",
            "--cold-signing-key-file",
            skey,
            "--operational-certificate-issue-counter-file",
            "two.counter",
            "--kes-period",
            "1000",
            "--out-file",
            out,
        ])
    };
    // While it reads the sign key, of which all but the end has come...
    rustix::fs::mknodat(
        rustix::fs::CWD,
        pool.path("fifo"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let mut child = issue("fifo", "one.cert")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut fifo = File::options().write(true).open(pool.path("fifo")).unwrap();
    let skey = std::fs::read(pool.path("two.skey")).unwrap();
    fifo.write_all(&skey).unwrap();
    until("all to be read", || {
        (rustix::io::ioctl_fionread(&fifo).unwrap() == 0).then_some(())
    });
    await_call(&mut child, &format!("{} ", libc::SYS_read));
    let seen = scanner.look_into(child.id());
    let found = seen.only_protected("cold issue-op-cert");
    assert_eq!(found, BTreeSet::from(["cold key: hex".to_owned()]));
    drop(fifo);
    assert!(child.wait().unwrap().success());
    // ...and when it has signed.
    let command = HeldUp::new(issue("two.skey", "-"));
    let seen = scanner.look_into(command.child.id());
    assert_eq!(seen.only_protected("after signing"), BTreeSet::new());
    command.let_go();
}
