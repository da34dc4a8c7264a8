//! `kes-agent-control`: the words and exit codes of the reference's control client, with our
//! agent, as scripts and test networks call it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use integration_tests::conformance::wire::{PATIENCE, Wire};
use integration_tests::pool::{Agent, Pool, TestNetwork, program};

struct Control {
    pool: Pool,
}

impl Control {
    fn new() -> Self {
        let pool = Pool::new(TestNetwork::default());
        symlink(program("kes-cli"), pool.path("kes-agent-control")).unwrap();
        Self { pool }
    }

    fn output(&self, args: &[&str]) -> Output {
        Command::new(self.pool.path("kes-agent-control"))
            .args(args)
            .current_dir(self.pool.path("."))
            .env("KES_AGENT_CONTROL_PATH", self.pool.path("control.socket"))
            .output()
            .unwrap()
    }

    /// What it prints where all is well: on standard output alone.
    fn prints(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says where it fails.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const INSTALL: [&str; 3] = ["install-key", "--opcert-file", "opcert.cert"];

#[test]
fn a_rotation_in_the_references_words() {
    let control = Control::new();
    let _agent = control.pool.agent();
    assert_eq!(
        control.fails(&["export-staged-vkey"], 3),
        "Error: No key available.\n"
    );
    assert_eq!(
        control.prints(&["drop-staged-key"]),
        "Staged key dropped.\n"
    );
    assert_eq!(control.prints(&["drop-key"]), "KES key dropped.\n");
    assert_eq!(
        control.prints(&["gen-staged-key", "--kes-verification-key-file", "kes.vkey"]),
        "Asking agent to generate a key...\nKES SignKey generated.\nKES VerKey written to kes.vkey\n"
    );
    // It replaces what is there.
    let vkey = control.pool.path("kes.vkey");
    let written = std::fs::read(&vkey).unwrap();
    std::fs::write(&vkey, "old").unwrap();
    assert_eq!(
        control.prints(&["export-staged-vkey"]),
        "KES VerKey written to kes.vkey\n"
    );
    assert_eq!(std::fs::read(&vkey).unwrap(), written);
    control.pool.issue("cold", 1000);
    assert_eq!(control.prints(&INSTALL), "KES key installed.\n");
    // As the test-network launcher calls it: options behind the command.
    let socket = control.pool.text("control.socket");
    let info = control.prints(&["info", "--control-address", &socket]);
    let status = control.pool.status();
    let vkey = status["active"]["vkey"].as_str().unwrap();
    for line in [
        "--- Agent ---",
        "Connected via: Control:3.0",
        "Current KES period: 1000",
        "--- Installed KES SignKey ---",
        &format!("VerKey: {vkey}"),
        "Valid from period: 1000",
        "Current evolution: 0 / 64",
        "OpCert number: 0",
        "--- Bootstrap Peers ---",
    ] {
        assert!(
            info.lines().any(|printed| printed == line),
            "{line} in {info}"
        );
    }
    assert_eq!(control.prints(&["drop-key"]), "KES key dropped.\n");
    assert_eq!(control.pool.status()["active"]["state"], "dropped");
}

#[test]
fn what_loses_keys_elsewhere_does_not_here() {
    let control = Control::new();
    let _agent = control.pool.agent();
    let pool = &control.pool;
    // 2 is for a certificate that is refused.
    assert!(control.fails(&INSTALL[..1], 1).contains("Usage: "));
    assert!(control.prints(&["--help"]).contains("Usage: "));
    control.prints(&["gen-staged-key"]);
    let staged = pool.status()["pending"]["vkey"].clone();
    let kept = || assert_eq!(pool.status()["pending"]["vkey"], staged);
    // Generating again does not replace the staged key.
    assert!(
        control
            .fails(&["gen-staged-key"], 1)
            .contains("one is staged already")
    );
    kept();
    // A wrong cold key, an expired and a low certificate: the key stays.
    pool.cold_keys("other");
    pool.issue("other", 1000);
    assert_eq!(
        control.fails(&INSTALL, 2),
        "Error: OpCert validation failed\n"
    );
    kept();
    pool.issue("cold", 1000 - 62);
    assert_eq!(
        control.fails(&INSTALL, 2),
        "Error: OpCert validation failed\n"
    );
    kept();
    pool.set_counter("cold", 5);
    pool.issue("cold", 1000);
    assert_eq!(control.prints(&INSTALL), "KES key installed.\n");
    // The same again is done already; another one needs a staged key.
    assert_eq!(control.prints(&INSTALL), "KES key installed.\n");
    pool.issue("cold", 1000);
    assert_eq!(control.fails(&INSTALL, 3), "Error: No KES key found\n");
    control.prints(&["gen-staged-key"]);
    pool.set_counter("cold", 4);
    pool.issue("cold", 1000);
    assert_eq!(control.fails(&INSTALL, 1), "Error: KES key outdated\n");
    assert_eq!(pool.status()["pending"]["state"], "key");
    assert_eq!(pool.status()["active"]["opcert"]["counter"], 5);
}

#[test]
fn it_tries_again_as_often_as_it_is_told() {
    let control = Control::new();
    let retry = ["info", "--retry-attempts", "2", "--retry-interval", "1"];
    assert!(control.fails(&retry, 1).contains("there is no socket"));
    // Started while it waits: the agent is found.
    std::thread::scope(|scope| {
        let patient = scope
            .spawn(|| control.prints(&["info", "--retry-attempts", "10000", "--retry-delay", "5"]));
        let agent = control.pool.agent();
        assert!(patient.join().unwrap().contains("Current KES period: 1000"));
        drop(agent);
    });
}

#[test]
fn a_staged_key_is_replaced_where_the_settings_let_it() {
    let control = Control::new();
    let pool = &control.pool;
    let setting = "KES_AGENT_REPLACE_STAGED";
    let write = |line: &str| std::fs::write(pool.path("agent.toml"), line).unwrap();
    // The flag, the environment and the file, each on its own and each against the next.
    let with = |flag: &[&str], env: Option<&str>, file: &str| {
        write(file);
        let mut command = pool.agent_command();
        command.args(["-F", "agent.toml"]).args(flag);
        if let Some(value) = env {
            command.env(setting, value);
        }
        let agent = Agent::spawn(command, &pool.path("control.socket"));
        control.prints(&["gen-staged-key"]);
        let staged = pool.status()["pending"]["vkey"].clone();
        let again = control.output(&["gen-staged-key"]);
        let is_replaced = pool.status()["pending"]["vkey"] != staged;
        assert_eq!(again.status.success(), is_replaced, "{again:?}");
        // Our own command asks before it replaces, whatever this setting says.
        pool.cli(&["keygen"]).refused(6, "already-pending");
        agent.stop("TERM");
        is_replaced
    };
    let (on, off) = ("replace-staged = true", "replace-staged = false");
    assert!(!with(&[], None, ""), "off by default");
    assert!(with(&["--replace-staged"], None, ""));
    assert!(with(&[], Some("true"), ""));
    assert!(with(&[], None, on));
    assert!(!with(&["--replace-staged=false"], Some("true"), on));
    assert!(with(&["--replace-staged"], Some("false"), off));
    assert!(!with(&[], Some("false"), on));

    // A reload takes it over.
    write(off);
    let agent = Agent::start(pool, &["-F", "agent.toml"]);
    control.prints(&["gen-staged-key"]);
    control.fails(&["gen-staged-key"], 1);
    write(on);
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    control.prints(&["gen-staged-key"]);
}

#[test]
fn a_command_that_a_version_does_not_have_closes_the_connection_without_an_answer() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let active = pool.rotate();
    let settled = |version: &str| {
        let wire = Wire::connect(&pool.path("control.socket")).unwrap();
        assert!(wire.settle_control(version).unwrap(), "{version}");
        wire
    };
    const DROP_KEY: u16 = 5;
    for (version, unknown) in [
        ("Control:3.0", &[6, 7, 0x0100, u16::MAX][..]),
        ("Control:2.0", &[6, u16::MAX]),
        ("Control:1.0", &[DROP_KEY, 6]),
        ("Control:StandardCrypto:0.5", &[DROP_KEY, 6]),
    ] {
        for number in unknown {
            let wire = settled(version);
            // What follows it is not taken for another command.
            let query = [0, 1];
            wire.send(&[&number.to_be_bytes()[..], &query].concat())
                .unwrap();
            let said = wire.until_closed(PATIENCE).unwrap();
            assert_eq!(said, b"", "{version}: {number}");
        }
        // A command that it has is answered: nothing is staged.
        let wire = settled(version);
        wire.send(&[0, 1]).unwrap();
        assert_eq!(wire.read(1).unwrap(), [0], "{version}");
    }
    assert_eq!(pool.status()["active"]["vkey"], active);
}
