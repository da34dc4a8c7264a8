//! Every refusal: its exit code, its name, and that pending and active are as they were.
#![allow(missing_docs, clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use integration_tests::nobody;
use integration_tests::pool::{Agent, Outcome, Pool, TestNetwork, program, until};
use kes_wire::envelope;
use serde_json::{Value, json};

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// What a refused command must leave as it was.
fn slots(pool: &Pool) -> Value {
    let status = pool.status();
    json!([
        status["pending"],
        status["active"],
        status["counter_high_water_mark"]
    ])
}

/// Runs a command that must be refused, and checks that nothing changed.
fn refused(pool: &Pool, args: &[&str], exit: i32, code: &str) -> Value {
    let before = slots(pool);
    let json = pool.cli(args).refused(exit, code);
    assert_eq!(slots(pool), before, "{args:?}");
    json
}

const IMPORT: [&str; 3] = ["import-opcert", "--opcert-file", "opcert.cert"];
const ACTIVATE: [&str; 3] = ["activate", "--opcert-file", "opcert.cert"];

#[test]
fn nothing_there() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    refused(&pool, &["export-verkey"], 5, "nothing-pending");
    refused(&pool, &["activate"], 5, "nothing-pending");
    refused(&pool, &["drop-pending"], 5, "nothing-pending");
    refused(&pool, &["drop-active"], 5, "nothing-active");
    let _ = pool.rotate();
    // A certificate for a key that is active already, with nothing pending.
    pool.cli(&["keygen"]).succeeded();
    refused(&pool, &["activate"], 5, "nothing-imported");
    pool.cli(&["drop-pending"]).succeeded();
    refused(&pool, &IMPORT, 5, "nothing-pending");
    pool.cli(&["drop-active"]).succeeded();
    refused(&pool, &["drop-active"], 5, "nothing-active");
}

#[test]
fn nothing_pending_is_replaced_unasked() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.prepare(1000);
    refused(&pool, &["keygen"], 6, "already-pending");
    pool.cli(&IMPORT).succeeded();
    refused(&pool, &["keygen"], 6, "already-pending");
    // Another certificate for the same key.
    pool.issue("cold", 1000);
    refused(&pool, &IMPORT, 6, "already-imported");
    refused(&pool, &ACTIVATE, 6, "already-imported");
    let replaced = pool
        .cli(&[&IMPORT[..], &["--replace"]].concat())
        .succeeded();
    assert_eq!(replaced["changed"], true);
    // Scheduled: what is decided is not undone by the way.
    pool.cli(&["activate"]).succeeded();
    pool.prepare(1005);
    pool.cli(&ACTIVATE).succeeded();
    assert_eq!(pool.status()["pending"]["state"], "scheduled");
    refused(&pool, &["keygen", "--replace"], 6, "scheduled");
    refused(&pool, &["activate"], 6, "scheduled");
    pool.issue("cold", 1000);
    refused(
        &pool,
        &[&IMPORT[..], &["--replace"]].concat(),
        6,
        "scheduled",
    );
    pool.cli(&["drop-pending"]).succeeded();
    assert_eq!(pool.status()["active"]["state"], "serving");
}

#[test]
fn a_certificate_must_be_for_this_key_and_by_this_pool() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let _ = pool.rotate();
    pool.prepare(1000);
    let good = std::fs::read(pool.path("opcert.cert")).unwrap();
    let (opcert, cold) = envelope::read_opcert(&good).unwrap();
    let place = |text: String| std::fs::write(pool.path("opcert.cert"), text).unwrap();

    pool.cold_keys("other");
    pool.issue("other", 1000);
    refused(&pool, &IMPORT, 7, "other-cold-key");
    refused(&pool, &ACTIVATE, 7, "other-cold-key");

    let mut damaged = opcert;
    damaged.cold_signature.0[10] ^= 1;
    place(envelope::opcert(&damaged, &cold));
    refused(&pool, &IMPORT, 7, "bad-signature");
    refused(&pool, &ACTIVATE, 7, "bad-signature");

    let mut foreign = opcert;
    foreign.kes_vkey.0[0] ^= 1;
    place(envelope::opcert(&foreign, &cold));
    refused(&pool, &IMPORT, 7, "other-kes-key");

    let mut bad_counter = opcert;
    bad_counter.counter += 1;
    place(envelope::opcert(&bad_counter, &cold));
    refused(&pool, &IMPORT, 7, "bad-signature");

    std::fs::write(pool.path("opcert.cert"), good).unwrap();
    pool.cli(&ACTIVATE).succeeded();
}

#[test]
fn a_certificate_must_be_of_this_time() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.prepare(1000 - 62);
    let expired = refused(&pool, &IMPORT, 9, "expired");
    assert!(expired["error"]["numbers"].is_object(), "{expired}");
    refused(&pool, &ACTIVATE, 9, "expired");
    // The last period of 62 is still one, and worth a word.
    pool.issue("cold", 1000 - 61);
    let last = pool.cli(&ACTIVATE).succeeded();
    assert_eq!(last["evolution"], 61);
    assert!(!last["notes"].as_array().unwrap().is_empty(), "{last}");
    assert_eq!(pool.status()["warnings"][0]["code"], "expires-soon");
    assert_eq!(pool.cli(&["probe"]).succeeded()["served_evolution"], 61);
}

#[test]
fn a_lower_counter_is_the_operators_explicit_word() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.set_counter("cold", 5);
    let _ = pool.rotate();
    assert_eq!(pool.status()["counter_high_water_mark"], 5);
    pool.set_counter("cold", 4);
    pool.prepare(1000);
    let low = refused(&pool, &IMPORT, 8, "counter-too-low");
    assert_eq!(low["error"]["numbers"]["counter"], 4);
    assert_eq!(low["error"]["numbers"]["high_water_mark"], 5);
    let insist = [&ACTIVATE[..], &["--allow-lower-counter"]].concat();
    refused(&pool, &insist, 8, "counter-too-low");
    pool.cli(&["drop-active"]).succeeded();
    refused(&pool, &ACTIVATE, 8, "counter-too-low");
    pool.cli(&insist).succeeded();
    assert_eq!(pool.status()["counter_high_water_mark"], 4);
    // Equal is accepted; a jump is, with a warning.
    pool.set_counter("cold", 4);
    let _ = pool.rotate();
    pool.set_counter("cold", 9);
    pool.prepare(1000);
    let jumped = pool.cli(&ACTIVATE).succeeded();
    let codes: Vec<_> = jumped["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| &note["code"])
        .collect();
    assert!(codes.contains(&&Value::from("counter-jump")), "{codes:?}");
}

#[test]
fn files_that_are_something_else() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.prepare(1000);
    let long = "x".repeat(1_000_000);
    for content in ["", "\n", "{}", "null", "not json", "\0\u{1}\u{2}", &long] {
        std::fs::write(pool.path("opcert.cert"), content).unwrap();
        let code = if content.len() > 4096 {
            "file"
        } else {
            "file-content"
        };
        refused(&pool, &IMPORT, 11, code);
    }
    for other in [
        "kes.vkey",
        "cold.vkey",
        "cold.skey",
        "cold.counter",
        "genesis.json",
        "missing",
    ] {
        let outcome = pool.cli(&["import-opcert", "--opcert-file", other]);
        assert_eq!(outcome.code, 11, "{outcome:?}");
    }
    let skey = std::fs::read_to_string(pool.path("cold.skey")).unwrap();
    let digits: String = skey
        .split("5820")
        .nth(1)
        .unwrap()
        .chars()
        .take(16)
        .collect();
    let outcome = pool
        .command(&["import-opcert", "--opcert-file", "cold.skey"])
        .output()
        .unwrap();
    assert!(
        !String::from_utf8_lossy(&outcome.stderr).contains(&digits),
        "no secret in an error"
    );
    // A truncated certificate, at every length.
    pool.issue("cold", 1000);
    let whole = std::fs::read(pool.path("opcert.cert")).unwrap();
    for length in (0..whole.len() - 2).step_by(13) {
        std::fs::write(pool.path("cut.cert"), &whole[..length]).unwrap();
        let outcome = pool.cli(&["import-opcert", "--opcert-file", "cut.cert"]);
        assert_eq!(outcome.code, 11, "{outcome:?}");
    }
    assert_eq!(slots(&pool)[0]["state"], "key");
}

#[test]
fn files_are_not_overwritten_unasked() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    std::fs::write(pool.path("kes.vkey"), "precious").unwrap();
    let keygen = ["keygen", "--kes-verification-key-file", "kes.vkey"];
    refused(&pool, &keygen, 11, "file");
    assert_eq!(
        slots(&pool)[0]["state"],
        "empty",
        "found out before the key was generated"
    );
    pool.cli(&["keygen"]).succeeded();
    refused(&pool, &["export-verkey"], 11, "file");
    assert_eq!(std::fs::read(pool.path("kes.vkey")).unwrap(), b"precious");
    pool.cli(&["export-verkey", "--force"]).succeeded();
    let outcome = pool.cli(&[
        "export-verkey",
        "--kes-verification-key-file",
        "no/folder/kes.vkey",
    ]);
    outcome.refused(11, "file");
    // A key that was generated is not lost with the file that could not be written.
    pool.cli(&["drop-pending"]).succeeded();
    std::fs::create_dir(pool.path("folder")).unwrap();
    let keygen = ["keygen", "--force", "--kes-verification-key-file", "folder"];
    let failed = pool.cli(&keygen).refused(11, "file");
    let sentence = failed["error"]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("was generated and is pending"),
        "{sentence}"
    );
    assert_eq!(slots(&pool)[0]["state"], "key");
    pool.cli(&["export-verkey", "--force"]).succeeded();
    // What a timer writes again and again.
    std::fs::write(pool.path("status.json"), "old").unwrap();
    let status = ["status", "--format", "json", "--out-file", "status.json"];
    let output = pool.command(&status).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let written = std::fs::read(pool.path("status.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["pending"]["state"], "key");
    // The air-gapped machine's part: nothing is half done, and no secret on standard output.
    pool.cli(&[
        "cold",
        "key-gen",
        "--cold-verification-key-file",
        "new.vkey",
        "--cold-signing-key-file",
        "-",
        "--operational-certificate-issue-counter-file",
        "new.counter",
    ])
    .refused(11, "file");
    assert!(!pool.path("new.vkey").exists());
    pool.cli(&[
        "cold",
        "key-gen",
        "--cold-verification-key-file",
        "new.vkey",
        "--cold-signing-key-file",
        "cold.skey",
        "--operational-certificate-issue-counter-file",
        "new.counter",
    ])
    .refused(11, "file");
    assert!(!pool.path("new.vkey").exists() && !pool.path("new.counter").exists());
    pool.cold_keys("other");
    let counter = std::fs::read(pool.path("other.counter")).unwrap();
    pool.cli(&[
        "cold",
        "issue-op-cert",
        "--kes-verification-key-file",
        "kes.vkey",
        "--cold-signing-key-file",
        "cold.skey",
        "--operational-certificate-issue-counter-file",
        "other.counter",
        "--kes-period",
        "1000",
        "--out-file",
        "opcert.cert",
    ])
    .refused(7, "counter-of-other-cold-key");
    assert!(!pool.path("opcert.cert").exists());
    assert_eq!(std::fs::read(pool.path("other.counter")).unwrap(), counter);
    assert_eq!(
        pool.path("cold.skey")
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn the_agent_is_not_there_or_not_for_this_user() {
    let pool = Pool::new(TestNetwork::default());
    pool.cli(&["status"]).refused(3, "not-reachable");
    pool.cli(&["probe"]).refused(3, "not-reachable");
    // A socket that nobody listens on any more.
    drop(UnixListener::bind(pool.path("control.socket")).unwrap());
    pool.cli(&["status"]).refused(3, "not-reachable");
    let usage = pool.cli(&["keygen", "--no-such-option"]);
    assert_eq!((usage.code, usage.json), (2, Value::from("")));
    assert_eq!(pool.cli(&["keygen", "--replace", "--if-absent"]).code, 2);

    let _agent = pool.agent();
    for name in ["control.socket", "service.socket"] {
        let mode = pool.path(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660, "{name}");
    }
    if !is_root() {
        integration_tests::shared::skipped("only root can try as another user");
        return;
    }
    let folder = pool.path(".");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    let reachable = tempfile::tempdir().unwrap();
    std::fs::set_permissions(reachable.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = reachable.path().join("kes-cli");
    std::fs::copy(program("kes-cli"), &copy).unwrap();
    for (command, option, socket) in [
        ("status", "--control-address", "control.socket"),
        ("probe", "--service-address", "service.socket"),
    ] {
        let output = Command::new(&copy)
            .args([command, "--json", option])
            .arg(pool.path(socket))
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["error"]["code"], "not-permitted");
    }
}

/// Runs an agent that must not start.
fn does_not_start(mut command: Command, code: i32, sentence: &str) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("kes-agent cannot start: "), "{stderr}");
    assert!(stderr.contains(sentence), "{stderr}");
    output
}

#[test]
fn an_agent_that_cannot_run_says_why() {
    let pool = Pool::new(TestNetwork::default());
    let with = |change: &dyn Fn(&mut Command)| {
        let mut command = pool.agent_command();
        change(&mut command);
        command
    };
    let cold = "KES_AGENT_COLD_VK";
    let genesis = "KES_AGENT_GENESIS_FILE";
    does_not_start(
        with(&|c| {
            c.env_remove(cold);
        }),
        2,
        "no cold verification key",
    );
    does_not_start(
        with(&|c| {
            c.env(cold, "missing");
        }),
        2,
        "missing",
    );
    does_not_start(
        with(&|c| {
            c.env(cold, "cold.counter");
        }),
        2,
        "a certificate counter",
    );
    does_not_start(
        with(&|c| {
            c.env(genesis, "cold.vkey");
        }),
        2,
        "not a Shelley genesis file",
    );
    does_not_start(
        with(&|c| {
            c.args(["-F", "missing.toml"]);
        }),
        2,
        "missing.toml",
    );
    std::fs::write(pool.path("bad.toml"), "no-such-key = 1").unwrap();
    does_not_start(
        with(&|c| {
            c.args(["-F", "bad.toml"]);
        }),
        2,
        "no-such-key",
    );
    let socket = |path: &'static str| {
        with(&move |c| {
            c.args(["-s", path]);
        })
    };
    does_not_start(socket("no/such/folder/socket"), 1, "folder does not exist");
    std::fs::write(pool.path("precious"), "precious").unwrap();
    does_not_start(socket("precious"), 1, "not a socket");
    let control = |path: &'static str| {
        with(&move |c| {
            c.args(["-c", path]);
        })
    };
    does_not_start(control("no/such/folder/socket"), 1, "folder does not exist");
    does_not_start(control("precious"), 1, "not a socket");
    assert!(
        !pool.path("service.socket").exists(),
        "what was bound first is removed again"
    );
    assert_eq!(std::fs::read(pool.path("precious")).unwrap(), b"precious");

    // A second agent leaves the first alone.
    let agent = pool.agent();
    let _ = pool.rotate();
    does_not_start(pool.agent_command(), 1, "another agent is listening");
    pool.cli(&["probe"]).succeeded();
    agent.stop("INT");

    // A killed agent's sockets are replaced.
    let agent = pool.agent();
    drop(agent);
    assert!(pool.path("control.socket").exists());
    pool.agent().stop("TERM");
    assert!(!pool.path("control.socket").exists());
}

#[test]
fn who_cannot_lock_memory_says_so_and_does_nothing() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let limited = |command: &Command| nobody::by_limited(&pool, 0, command);
    does_not_start(limited(&pool.agent_command()), 1, "RLIMIT_MEMLOCK");
    // To read a file takes locked memory too: the file is not to blame.
    for args in [
        &["--json", "import-opcert", "--opcert-file", "cold.vkey"][..],
        &["--json", "probe"],
    ] {
        let output = limited(&pool.command(args)).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["error"]["code"], "no-locked-memory", "{object:#}");
    }
}

#[test]
fn settings_have_their_order() {
    let pool = Pool::new(TestNetwork::default());
    let config = |folder: &str, control: &str| {
        std::fs::create_dir_all(pool.path(folder)).unwrap();
        let text = format!("control-path = \"{}\"\n", pool.text(control));
        std::fs::write(pool.path(folder).join("agent.toml"), text).unwrap();
    };
    config(".kes-agent", "home.socket");
    config(".config/kes-agent", "dot-config.socket");
    config("named", "named.socket");
    let named = pool.text("named/agent.toml");
    let start = |env: bool, args: &[&str], socket: &str| {
        let mut command = pool.agent_command();
        if !env {
            command.env_remove("KES_AGENT_CONTROL_PATH");
        }
        command.args(args);
        Agent::spawn(command, &pool.path(socket)).stop("TERM");
    };
    let flag = pool.text("flag.socket");
    start(true, &["-F", &named, "-c", &flag], "flag.socket");
    start(true, &["-F", &named], "control.socket");
    start(false, &["-F", &named], "named.socket");
    start(false, &[], "home.socket");
    std::fs::remove_file(pool.path(".kes-agent/agent.toml")).unwrap();
    start(false, &[], "dot-config.socket");
}

#[test]
fn inherited_sockets_are_used_and_left_alone() {
    let pool = Pool::new(TestNetwork::default());
    // A service manager: binds, leaves the sockets at 3 and 4, and becomes the agent.
    let manager = "import os, socket, sys\n\
        for at, name in ((3, 'service'), (4, 'control')):\n\
        \x20   s = socket.socket(socket.AF_UNIX); s.bind(name + '.socket'); s.listen(64)\n\
        \x20   os.dup2(s.fileno(), at + 10)\n\
        for at in (3, 4): os.dup2(at + 10, at, inheritable=True)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', \
        LISTEN_FDNAMES='service:control')\n\
        os.execv(sys.argv[1], [sys.argv[1], 'run'])\n";
    let original = pool.agent_command();
    let mut command = Command::new("python3");
    command
        .args(["-c", manager])
        .arg(program("kes-agent"))
        .current_dir(pool.path("."));
    for (name, value) in original.get_envs() {
        command.env(name, value.unwrap());
    }
    if Command::new("python3").arg("--version").output().is_err() {
        integration_tests::shared::skipped("there is no python3 to stand in for a service manager");
        return;
    }
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    agent.await_log("inherited");
    let _ = pool.rotate();
    pool.cli(&["probe"]).succeeded();
    agent.stop("TERM");
    assert!(pool.path("control.socket").exists() && pool.path("service.socket").exists());
}

#[test]
fn a_reload_moves_sockets_and_keeps_keys_and_connections() {
    let pool = Pool::new(TestNetwork::default());
    let write = |control: &str, level: &str| {
        let text = format!(
            "control-path = \"{}\"\nlog-level = \"{level}\"\n",
            pool.text(control)
        );
        std::fs::write(pool.path("agent.toml"), text).unwrap();
    };
    write("control.socket", "info");
    let mut command = pool.agent_command();
    command
        .env_remove("KES_AGENT_CONTROL_PATH")
        .env_remove("KES_AGENT_CLOCK")
        .args(["-F", "agent.toml"]);
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    let vkey = pool.rotate();
    let node = integration_tests::pool::Node::start(&pool);
    let seen = node.await_event("signed", 0);

    write("moved.socket", "debug");
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    assert!(!pool.path("control.socket").exists());
    let moved = |args: &[&str]| -> Outcome {
        pool.cli(&[args, &["--control-address", "moved.socket"]].concat())
    };
    let status = moved(&["status"]).succeeded();
    assert_eq!(status["active"]["vkey"], *vkey);
    assert_eq!(status["connected_nodes"], 1);
    let _ = node.await_event("signed", seen);
    assert!(
        node.events()
            .iter()
            .all(|event| event["event"] != "disconnected")
    );

    // What only a start takes over is named: nobody believes that it is in force.
    let path = pool.text("moved.socket");
    let text = format!("control-path = \"{path}\"\nclock = \"strict\"\nlog-format = \"json\"\n");
    std::fs::write(pool.path("agent.toml"), text).unwrap();
    agent.signal("HUP");
    agent.await_log("at the next start alone: clock, log-format");

    // Elsewhere, or not readable: said in the log, and everything goes on.
    std::fs::create_dir(pool.path("elsewhere")).unwrap();
    write("elsewhere/control.socket", "debug");
    agent.signal("HUP");
    agent.await_log("restart needed, the keys are kept");
    moved(&["status"]).succeeded();
    std::fs::write(pool.path("agent.toml"), "= broken").unwrap();
    agent.signal("HUP");
    agent.await_log("the configuration is not reloaded");
    until("the agent to answer", || {
        (moved(&["status"]).code == 0).then_some(())
    });
    agent.stop("TERM");
}

#[test]
fn a_reload_follows_other_peers() {
    let pool = Pool::new(TestNetwork::default());
    let write = |peers: &str| {
        std::fs::write(
            pool.path("agent.toml"),
            format!("bootstrap-paths = [{peers}]\n"),
        )
        .unwrap();
    };
    let peers = || -> Vec<String> {
        let status = pool.status();
        let peers = status["peers"].as_array().unwrap();
        peers
            .iter()
            .map(|peer| peer["address"].as_str().unwrap().to_owned())
            .collect()
    };
    write("\"one.socket\"");
    let agent = Agent::start(&pool, &["-F", "agent.toml"]);
    until("the first peer", || {
        (peers() == ["one.socket"]).then_some(())
    });
    write("\"two.socket\", \"three.socket\", \"two.socket\"");
    agent.signal("HUP");
    until("the other peers", || {
        (peers() == ["three.socket", "two.socket"]).then_some(())
    });
    agent.stop("TERM");

    // The environment, which outranks the file.
    let mut command = pool.agent_command();
    command
        .args(["-F", "agent.toml"])
        .env("KES_AGENT_BOOTSTRAP_PATHS", "a.socket:b.socket");
    let _agent = Agent::spawn(command, &pool.path("control.socket"));
    until("the peers of the environment", || {
        (peers() == ["a.socket", "b.socket"]).then_some(())
    });
}
