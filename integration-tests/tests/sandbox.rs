//! The agent's process is closed to others and sandboxed, says so, and says what is missing where
//! a part of it is.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use integration_tests::nobody;
use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until, without_calls};
use integration_tests::shared::skipped;
use serde_json::Value;

const PROTECTIONS: [&str; 5] = [
    "closed-to-others",
    "no-new-privileges",
    "closed-on-exec",
    "system-calls-filtered",
    "files-restricted",
];

fn pool() -> Pool {
    Pool::new(TestNetwork::default())
}

/// What the status says of a protection.
fn protection(status: &Value, name: &str) -> (bool, String) {
    let all = status["memory"]["protections"].as_array().unwrap();
    let found = all.iter().find(|p| p["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} is listed: {all:#?}"));
    (
        found["in_force"].as_bool().unwrap(),
        found["meaning"].as_str().unwrap().to_owned(),
    )
}

/// The agent's command on a kernel without these calls.
fn without(calls: &str, pool: &Pool) -> Command {
    without_calls(calls, &pool.agent_command())
}

/// Whether this kernel can do all of the sandbox, seen by another program than the agent.
fn kernel_has_everything() -> bool {
    let has = kes_wire::sys::host::landlock_version().is_ok()
        && Path::new("/proc/sys/kernel/seccomp/actions_avail").exists();
    if !has {
        skipped("this kernel lacks Landlock or seccomp, so the whole sandbox cannot be tested");
    }
    has
}

fn lines_of(pid: u32, file: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.lines().map(|line| line.replace('\t', " ")).collect()
}

#[test]
fn the_kernel_confirms_what_the_status_says() {
    if !kernel_has_everything() {
        return;
    }
    let pool = pool();
    let agent = pool.agent();
    let status = pool.status();
    for name in PROTECTIONS {
        let (in_force, meaning) = protection(&status, name);
        assert!(in_force, "{name}: {meaning}");
    }
    let _ = pool.rotate();
    // Every thread is bound, that of the log too.
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let threads: Vec<_> = threads.map(|thread| thread.unwrap().file_name()).collect();
    assert!(threads.len() >= 2, "{threads:?}");
    for thread in threads {
        let file = format!("task/{}/status", thread.to_str().unwrap());
        let lines = lines_of(agent.pid(), &file);
        for line in ["Seccomp: 2", "NoNewPrivs: 1"] {
            assert!(lines.iter().any(|l| l == line), "{line}: {lines:#?}");
        }
    }
    let limits = lines_of(agent.pid(), "limits");
    let core = limits.iter().find(|l| l.starts_with("Max core")).unwrap();
    let words: Vec<_> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
    let log = agent.log();
    for line in log.lines().filter(|line| line.contains("not in force")) {
        assert!(
            !PROTECTIONS.iter().any(|name| line.contains(name)),
            "{line}"
        );
    }
}

#[test]
fn a_rotation_and_a_reload_work_inside() {
    let pool = pool();
    fs::write(pool.path("agent.toml"), "log-level = \"info\"").unwrap();
    let agent = Agent::start(&pool, &["--config-file", "agent.toml"]);
    let first = pool.rotate();
    let node = Node::start(&pool);
    let seen = node.await_event("signed", 0);
    let second = pool.rotate();
    assert_ne!(first, second);
    let _ = node.await_event("signed", seen);

    // As an editor or a playbook does: a new file in the place of the old one.
    fs::write(pool.path("agent.toml.new"), "log-level = \"debug\"").unwrap();
    fs::rename(pool.path("agent.toml.new"), pool.path("agent.toml")).unwrap();
    agent.signal("HUP");
    agent.await_log("configuration reloaded");

    assert_eq!(pool.status()["active"]["vkey"], second);
    agent.stop("TERM");
    assert!(!pool.path("service.socket").exists());
}

#[test]
fn a_file_in_another_folder_is_out_of_reach_after_the_start() {
    if !kernel_has_everything() {
        return;
    }
    let pool = pool();
    fs::write(pool.path("agent.toml"), "").unwrap();
    let mut command = pool.agent_command();
    command.args(["--config-file", "agent.toml"]);
    command.env_remove("KES_AGENT_GENESIS_FILE");
    let genesis = format!("genesis-file = {:?}", pool.path("genesis.json"));
    fs::write(pool.path("agent.toml"), &genesis).unwrap();
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("genesis.json");
    fs::copy(pool.path("genesis.json"), &copy).unwrap();
    fs::write(pool.path("agent.toml"), format!("genesis-file = {copy:?}")).unwrap();
    agent.signal("HUP");
    agent.await_log("the configuration is not reloaded");
    assert!(
        agent.log().contains("only after a restart"),
        "{}",
        agent.log()
    );
    let _ = pool.rotate();
}

#[test]
fn each_missing_part_is_said_and_the_agent_runs_without() {
    for (calls, missing) in [
        ("landlock_create_ruleset", "files-restricted"),
        ("landlock_restrict_self", "files-restricted"),
        ("seccomp", "system-calls-filtered"),
        ("close_range", "closed-on-exec"),
    ] {
        let pool = pool();
        let agent = Agent::spawn(without(calls, &pool), &pool.path("control.socket"));
        let status = pool.status();
        for name in PROTECTIONS {
            let (in_force, meaning) = protection(&status, name);
            if name == missing {
                assert!(!in_force, "{name} without {calls}: {meaning}");
            }
        }
        agent.await_log(&format!("protection=\"{missing}\""));
        let _ = pool.rotate();
        pool.cli(&["probe"]).succeeded();
        agent.stop("TERM");
    }
}

#[test]
fn what_is_required_and_missing_keeps_the_agent_from_starting() {
    for (calls, missing) in [
        ("landlock_create_ruleset", "files-restricted"),
        ("landlock_restrict_self", "files-restricted"),
        ("seccomp", "system-calls-filtered"),
        ("close_range", "closed-on-exec"),
    ] {
        let pool = pool();
        let mut command = without(calls, &pool);
        let output = command.args(["--sandbox", "required"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(missing) && said.contains("sandbox = \"on\""),
            "{said}"
        );
        assert!(!pool.path("control.socket").exists());
    }
}

#[test]
fn all_that_is_required_is_had_or_nothing_is_started() {
    if !kernel_has_everything() {
        return;
    }
    let pool = pool();
    let _agent = Agent::start(&pool, &["--sandbox", "required"]);
    let _ = pool.rotate();
}

#[test]
fn switched_off_is_said() {
    let pool = pool();
    let agent = Agent::start(&pool, &["--sandbox", "off"]);
    let status = pool.status();
    for name in ["system-calls-filtered", "files-restricted"] {
        let (in_force, meaning) = protection(&status, name);
        assert!(!in_force && meaning.contains("switched off"), "{meaning}");
    }
    // What needs no sandbox stays.
    assert!(protection(&status, "closed-to-others").0);
    agent.await_log("not in force: switched off");
}

/// The agent's command as another user, who may lock so much memory.
fn agent_of_nobody(pool: &Pool, lock_kib: u32) -> Command {
    nobody::by_limited(pool, lock_kib, &pool.agent_command())
}

fn cat(path: &str) -> Output {
    let mut command = Command::new("cat");
    command.arg(path).stdin(Stdio::null());
    nobody::by(command).output().unwrap()
}

#[test]
fn its_own_user_cannot_look_into_it() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let agent = Agent::spawn(agent_of_nobody(&pool, 8192), &pool.path("control.socket"));
    let mut other = Command::new("sleep");
    other.arg("600");
    let mut other = nobody::by(other).spawn().unwrap();
    for file in ["environ", "maps", "auxv", "io"] {
        // So it is with an ordinary process...
        let path = format!("/proc/{}/{file}", other.id());
        until("the other process to run", || {
            cat(&path).status.success().then_some(())
        });
        // ...and so with the agent.
        let refused = cat(&format!("/proc/{}/{file}", agent.pid()));
        assert!(!refused.status.success(), "{file}: {refused:?}");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn commands_are_closed_to_their_own_user_too() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let _agent = Agent::spawn(agent_of_nobody(&pool, 8192), &pool.path("control.socket"));
    let _ = pool.rotate();
    // A command that holds a key for as long as it runs.
    let probe = pool.command(&["probe", "--follow", "--json"]);
    let mut command = Command::new(pool.path("kes-cli"));
    command.args(probe.get_args()).current_dir("/");
    for (name, value) in probe.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut probe = nobody::by(command).spawn().unwrap();
    let mut lines = BufReader::new(probe.stdout.take().unwrap()).lines();
    let signed = lines.find(|line| line.as_ref().is_ok_and(|l| l.contains("\"signed\"")));
    assert!(signed.is_some());
    for file in ["environ", "maps"] {
        let refused = cat(&format!("/proc/{}/{file}", probe.id()));
        assert!(!refused.status.success(), "{file}: {refused:?}");
    }
    probe.kill().unwrap();
    probe.wait().unwrap();
}

#[test]
fn unprivileged_with_little_memory_to_lock_it_works() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let _agent = Agent::spawn(agent_of_nobody(&pool, 1024), &pool.path("control.socket"));
    let _ = pool.rotate();
    let node = Node::start(&pool);
    let _ = node.await_event("signed", 0);
    let status = pool.status();
    if kernel_has_everything() {
        for name in PROTECTIONS {
            let (in_force, meaning) = protection(&status, name);
            assert!(in_force, "{name}: {meaning}");
        }
    }
}

#[test]
fn unprivileged_with_no_memory_to_lock_it_says_so_and_does_not_start() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let output = agent_of_nobody(&pool, 8).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RLIMIT_MEMLOCK"), "{said}");
}
