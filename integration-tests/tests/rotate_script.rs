//! `deploy/scripts/rotate.sh` with the real agent: whole, interrupted at every step, run twice,
//! with the wrong files, and with sticks that are full, read-only or pulled out.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use integration_tests::for_tests::{self, TestClock};
use integration_tests::pool::{Agent, Node, Pool, TestNetwork, program};
use integration_tests::shared::skipped;
use integration_tests::tools::{is_installed, succeed};
use tempfile::TempDir;

fn script() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy/scripts/rotate.sh")
}

/// A pool whose folder `stick` is the stick, or where one is mounted.
struct Rotation {
    pool: Pool,
    agent: Option<Agent>,
}

impl Rotation {
    fn new(network: TestNetwork) -> Self {
        let pool = Pool::new(network);
        fs::create_dir(pool.path("stick")).unwrap();
        let agent = Some(pool.agent());
        Self { pool, agent }
    }

    fn stick(&self, name: &str) -> PathBuf {
        self.pool.path("stick").join(name)
    }

    fn command(&self, half: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .arg(script())
            .args([half, "stick"])
            .current_dir(self.pool.path("."))
            .env("KES_CLI", program("kes-cli"))
            .env("KES_AGENT_CONTROL_PATH", self.pool.path("control.socket"))
            .env("KES_AGENT_SERVICE_PATH", self.pool.path("service.socket"))
            .env("KES_AGENT_GENESIS_FILE", self.pool.path("genesis.json"))
            .env("KES_AGENT_COLD_VK", self.pool.path("cold.vkey"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, half: &str) -> Output {
        self.command(half).output().unwrap()
    }

    /// Runs a half that must succeed without a word on standard error.
    fn succeed(&self, half: &str) -> String {
        let output = self.run(half);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && stderr.is_empty(),
            "{half}: {stdout}{stderr}"
        );
        stdout
    }

    /// Runs a half that must fail with this code, and gives what it says, which must have the next
    /// step.
    fn fail(&self, half: &str, code: i32) -> String {
        let output = self.run(half);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{half}: {stderr}");
        assert!(
            stderr.contains("Error: ") && stderr.contains("Next:  "),
            "{stderr}"
        );
        stderr
    }

    /// The air-gapped machine's part, from a period on.
    fn issue(&self, cold: &str, period: u64) {
        let counter = format!("{cold}.counter");
        self.pool
            .cli(&[
                "cold",
                "issue-op-cert",
                "--kes-verification-key-file",
                "stick/kes.vkey",
                "--cold-signing-key-file",
                &format!("{cold}.skey"),
                "--operational-certificate-issue-counter-file",
                &counter,
                "--kes-period",
                &period.to_string(),
                "--out-file",
                "stick/opcert.cert",
                "--force",
            ])
            .succeeded();
    }

    fn pending(&self) -> String {
        self.pool.status()["pending"]["vkey"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn active(&self) -> String {
        self.pool.status()["active"]["vkey"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

#[test]
fn both_halves_are_safe_to_run_twice() {
    let r = Rotation::new(TestNetwork::default());
    let _node = Node::start(&r.pool);
    let said = r.succeed("prepare");
    let vkey = r.pending();
    let fingerprint = r.pool.cli(&["export-verkey", "--force"]).succeeded()["fingerprint"].clone();
    let note = fs::read_to_string(r.stick("rotation.txt")).unwrap();
    for text in [&said, &note] {
        assert!(text.contains(fingerprint.as_str().unwrap()), "{text}");
        assert!(text.contains("--kes-period 1000 "), "{text}");
    }
    // Again, before and after the certificate was issued: the same key, and the certificate stays.
    r.succeed("prepare");
    assert_eq!(r.pending(), vkey);
    r.issue("cold", 1000);
    r.succeed("prepare");
    assert_eq!(r.pending(), vkey);
    assert!(r.stick("opcert.cert").exists());

    let said = r.succeed("finish");
    assert_eq!(r.active(), vkey);
    assert!(
        said.contains("3. Confirmed by every connected node: 1."),
        "{said}"
    );
    assert!(said.contains("its signature verifies"), "{said}");
    let before = r.pool.status()["active"].clone();
    let again = r.succeed("finish");
    assert!(again.contains("active already"), "{again}");
    assert_eq!(r.pool.status()["active"], before, "nothing was done");

    // The next rotation, with the files of this one on the stick.
    let said = r.succeed("prepare");
    assert!(said.contains("opcert.cert.old"), "{said}");
    assert!(!r.stick("opcert.cert").exists());
    assert_ne!(r.pending(), vkey);
    r.issue("cold", 1000);
    r.succeed("finish");
    assert_ne!(r.active(), vkey);
    assert_eq!(r.pool.status()["active"]["opcert"]["counter"], 1);
}

/// A kes-cli that does something else first, before the call of this number.
struct Wrapper {
    folder: TempDir,
}

impl Wrapper {
    fn new(call: u32, first: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "#!/bin/sh\n\
             here=$(dirname \"$0\")\n\
             echo >>\"$here/calls\"\n\
             [ \"$(wc -l <\"$here/calls\")\" -ne {call} ] || {first}\n\
             exec \"{real}\" \"$@\"\n",
            real = program("kes-cli").display()
        );
        let path = folder.path().join("kes-cli");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kes-cli")
    }
}

/// A kes-cli that ends its whole process group, the script with it, before or after the call of
/// this number.
struct Killer {
    wrapper: Wrapper,
}

impl Killer {
    fn new(call: u32, before: bool) -> Self {
        let kill = "kill -s KILL 0";
        let real = program("kes-cli");
        let after = format!("{{ \"{}\" \"$@\"; {kill}; }}", real.display());
        let wrapper = Wrapper::new(call, if before { kill } else { &after });
        Self { wrapper }
    }

    /// Runs a half and gives whether it came to its end, which is a success.
    fn survives(&self, r: &Rotation, half: &str) -> bool {
        let mut command = r.command(half);
        command.env("KES_CLI", self.wrapper.path()).process_group(0);
        let output = command.output().unwrap();
        match output.status.code() {
            Some(code) => {
                assert_eq!(code, 0, "{output:?}");
                true
            }
            None => false,
        }
    }
}

/// The calls of a half at which it was interrupted, each before and after.
fn interrupted(mut try_one: impl FnMut(&Killer) -> bool) -> u32 {
    for call in 1..50 {
        for before in [true, false] {
            if try_one(&Killer::new(call, before)) {
                return call - 1;
            }
        }
    }
    panic!("it never comes to its end");
}

#[test]
fn preparing_is_resumed_wherever_it_was_interrupted() {
    let r = Rotation::new(TestNetwork::default());
    let calls = interrupted(|killer| {
        let survives = killer.survives(&r, "prepare");
        let held = r.pending();
        r.succeed("prepare");
        assert!(held.is_empty() || held == r.pending(), "no second key");
        r.issue("cold", 1000);
        r.succeed("finish");
        for name in ["kes.vkey", "opcert.cert", "rotation.txt"] {
            fs::remove_file(r.stick(name)).unwrap();
        }
        survives
    });
    assert!(calls >= 4, "{calls}");
}

#[test]
fn finishing_is_resumed_wherever_it_was_interrupted() {
    let r = Rotation::new(TestNetwork::default());
    let calls = interrupted(|killer| {
        r.succeed("prepare");
        let vkey = r.pending();
        r.issue("cold", 1000);
        let survives = killer.survives(&r, "finish");
        r.succeed("finish");
        assert_eq!((r.active(), r.pending()), (vkey, String::new()));
        survives
    });
    assert!(calls >= 6, "{calls}");
}

#[test]
fn a_wrong_certificate_leaves_all_as_it_was() {
    let r = Rotation::new(TestNetwork::default());
    r.succeed("prepare");
    let vkey = r.pending();
    assert!(r.fail("finish", 23).contains("opcert.cert is not there"));
    // Of another pool.
    r.pool.cold_keys("other");
    r.issue("other", 1000);
    r.fail("finish", 7);
    // Damaged.
    fs::write(r.stick("opcert.cert"), "{}").unwrap();
    r.fail("finish", 11);
    // Of another key.
    r.pool.cli(&["keygen", "--replace"]).succeeded();
    r.issue("cold", 1000);
    r.fail("finish", 7);
    assert_ne!(r.pending(), vkey);
    let held = r.pending();
    // What is left is finished by the right one, without a second key.
    r.succeed("prepare");
    assert_eq!(r.pending(), held);
    r.issue("cold", 1000);
    r.succeed("finish");
    assert_eq!(r.active(), held);
}

#[test]
fn halves_in_the_wrong_order_are_refused() {
    let r = Rotation::new(TestNetwork::default());
    assert!(r.fail("finish", 24).contains("rotate.sh prepare"));
    r.succeed("prepare");
    r.issue("cold", 1000);
    r.pool
        .cli(&["import-opcert", "--opcert-file", "stick/opcert.cert"])
        .succeeded();
    assert!(r.fail("prepare", 24).contains("rotate.sh finish"));
    // A second certificate for the same key, which the agent does not take for the first.
    r.issue("cold", 999);
    r.fail("finish", 6);
    let usage = r.run("begin");
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_period_of_a_clock_that_nothing_vouches_for_is_doubted_on_the_stick() {
    let pool = Pool::new(TestNetwork::default());
    fs::create_dir(pool.path("stick")).unwrap();
    let clock = TestClock::new(pool.path("clock"), false);
    let command = for_tests::command(&pool, &clock);
    let agent = Some(Agent::spawn(command, &pool.path("control.socket")));
    let r = Rotation { pool, agent };
    let is_doubted = || {
        r.succeed("prepare");
        let note = fs::read_to_string(r.stick("rotation.txt")).unwrap();
        note.contains("which nothing vouches for: compare it with a watch, until")
    };
    assert!(is_doubted());
    r.pool.cli(&["confirm-clock"]).succeeded();
    assert!(!is_doubted());
}

#[test]
fn a_lost_key_and_an_agent_that_is_away_are_said() {
    let mut r = Rotation::new(TestNetwork::default());
    r.succeed("prepare");
    r.issue("cold", 1000);
    r.agent = None;
    r.fail("prepare", 3);
    r.fail("finish", 3);
    // Without a service manager the waiting key is gone with the agent.
    r.agent = Some(r.pool.agent());
    assert!(r.fail("finish", 24).contains("rotate.sh prepare"));
}

#[test]
fn a_key_for_a_later_period_is_scheduled() {
    let r = Rotation::new(TestNetwork::default());
    r.succeed("prepare");
    r.issue("cold", 1001);
    for _ in 0..2 {
        let scheduled = r.run("finish");
        let said = String::from_utf8(scheduled.stdout).unwrap();
        assert_eq!(scheduled.status.code(), Some(20), "{said}");
        assert!(said.contains("becomes active by itself at"), "{said}");
    }
    assert!(r.fail("prepare", 24).contains("drop-pending"));
}

/// A file system of its own on the rotation's stick, as on a USB stick. Unmounted when dropped.
struct Mounted<'a> {
    rotation: &'a Rotation,
}

impl<'a> Mounted<'a> {
    /// `None`, with a line that says so, where this user or machine cannot mount.
    fn new(rotation: &'a Rotation) -> Option<Self> {
        let image = rotation.pool.path("image");
        let image = image.to_str().unwrap();
        let stick = rotation.pool.path("stick");
        // A stick has FAT, where the kernel knows it.
        let is_there = ["mkfs.vfat", "mkfs.ext2"].into_iter().any(|make| {
            fs::File::create(image).unwrap().set_len(1 << 20).unwrap();
            quietly(Command::new(make).arg(image))
                && quietly(
                    Command::new("mount")
                        .args(["-o", "loop", image])
                        .arg(&stick),
                )
        });
        if !is_there {
            skipped("no file system can be made and mounted here (mkfs.ext2, root, loop devices)");
            return None;
        }
        Some(Self { rotation })
    }

    fn remount(&self, how: &str) {
        let stick = self.rotation.pool.path("stick");
        succeed(Command::new("mount").args(["-o", how]).arg(stick));
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Pulled out already is as good.
        let _ = quietly(
            Command::new("umount")
                .arg("-l")
                .arg(self.rotation.pool.path("stick")),
        );
    }
}

fn quietly(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_full_stick_is_said_and_nothing_half_written_is_left() {
    let r = Rotation::new(TestNetwork::default());
    let Some(_stick) = Mounted::new(&r) else {
        return;
    };
    // Fill it to the last byte.
    let mut filler = Command::new("dd");
    filler.args(["if=/dev/zero", "of=stick/filler", "bs=512"]);
    assert!(
        !quietly(filler.current_dir(r.pool.path("."))),
        "it has an end"
    );
    r.fail("prepare", 11);
    let left: Vec<_> = fs::read_dir(r.stick(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "filler" && name != "lost+found")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let vkey = r.pending();
    assert!(!vkey.is_empty(), "the key waits");
    // Room again: it goes on with the same key.
    fs::remove_file(r.stick("filler")).unwrap();
    r.succeed("prepare");
    assert_eq!(r.pending(), vkey);
    r.issue("cold", 1000);
    r.succeed("finish");
    assert_eq!(r.active(), vkey);
}

#[test]
fn a_read_only_stick_is_found_before_a_key_is_generated_and_is_enough_to_finish() {
    let r = Rotation::new(TestNetwork::default());
    let Some(stick) = Mounted::new(&r) else {
        return;
    };
    stick.remount("remount,ro");
    assert!(r.fail("prepare", 23).contains("cannot be written to"));
    assert_eq!(r.pending(), "");
    stick.remount("remount,rw");
    r.succeed("prepare");
    r.issue("cold", 1000);
    stick.remount("remount,ro");
    r.succeed("finish");
}

#[test]
fn a_stick_that_was_pulled_out_is_said() {
    let r = Rotation::new(TestNetwork::default());
    let Some(stick) = Mounted::new(&r) else {
        return;
    };
    r.succeed("prepare");
    r.issue("cold", 1000);
    drop(stick);
    // What is left is an empty folder.
    assert!(r.fail("finish", 23).contains("is not there"));
    fs::remove_dir(r.stick("")).unwrap();
    assert!(r.fail("prepare", 23).contains("is not a folder"));
    assert!(!r.pending().is_empty(), "the key waits");
}

#[test]
fn a_stick_that_is_pulled_out_in_the_middle_is_said() {
    let r = Rotation::new(TestNetwork::default());
    let stick = Mounted::new(&r);
    if stick.is_none() {
        return;
    }
    drop(stick);
    let mount = |image: &str| {
        let mut mount = Command::new("mount");
        succeed(mount.args(["-o", "loop", image]).arg(r.stick("")));
    };
    let image = r.pool.text("image");
    let mut vkey = String::new();
    for call in 1..=3 {
        mount(&image);
        let umount = format!("umount -l '{}'", r.stick("").display());
        let wrapper = Wrapper::new(call, &umount);
        let mut command = r.command("prepare");
        let output = command.env("KES_CLI", wrapper.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(23), "before call {call}: {said}");
        assert!(said.contains("was pulled out"), "{said}");
        // In again: it goes on with the same key, and what is on the stick is whole.
        mount(&image);
        r.succeed("prepare");
        let held = r.pending();
        assert!(vkey.is_empty() || held == vkey, "no second key");
        vkey = held;
        let _pulled = Mounted { rotation: &r };
        assert!(r.stick("kes.vkey").exists());
    }
    mount(&image);
    let _stick = Mounted { rotation: &r };
    r.issue("cold", 1000);
    r.succeed("finish");
    assert_eq!(r.active(), vkey);
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if is_installed("shellcheck", "shellcheck") {
        succeed(Command::new("shellcheck").arg(script()));
    }
}
