//! `kes-agent check-host`: its words, its object, its exit codes, and what it sees where the
//! kernel lacks something.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::{Command, Output};

use integration_tests::pool::program;
use serde_json::Value;

const CHECKS: [&str; 9] = [
    "secret-memory",
    "lockable-memory",
    "descriptor-store",
    "swap",
    "hibernation",
    "core-dumps",
    "clock",
    "landlock",
    "seccomp",
];

fn object(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = if object["ok"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{object:#}");
    object
}

fn check<'a>(object: &'a Value, name: &str) -> &'a Value {
    let checks = object["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

/// What it finds on a kernel without these calls.
fn without(calls: &str) -> Value {
    let mut command = Command::new(program("without-calls"));
    command.arg(calls).arg(program("kes-agent"));
    object(&command.args(["check-host", "--json"]).output().unwrap())
}

#[test]
fn everything_is_looked_at_and_the_exit_code_says_whether_all_is_well() {
    let mut command = Command::new(program("kes-agent"));
    let found = object(&command.args(["check-host", "--json"]).output().unwrap());
    let checks = found["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| check["name"].clone()).collect();
    assert_eq!(names, CHECKS);
    let is_well = |check: &Value| check["level"] == "ok";
    assert_eq!(found["ok"], checks.iter().all(is_well));
    for check in checks {
        assert_eq!(check["next_step"].is_null(), is_well(check), "{check}");
    }
    let words = Command::new(program("kes-agent"))
        .arg("check-host")
        .output()
        .unwrap();
    let text = String::from_utf8(words.stdout).unwrap();
    for check in checks {
        assert!(text.contains(check["found"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn what_the_kernel_lacks_is_missing_with_a_remedy() {
    let found = without("memfd_secret");
    let memory = check(&found, "secret-memory");
    assert_eq!(memory["level"], "missing");
    let step = memory["next_step"].as_str().unwrap();
    assert!(
        step.contains("secretmem.enable=1") || step.contains("upgrade"),
        "{step}"
    );

    let found = without("landlock_create_ruleset");
    assert_eq!(check(&found, "landlock")["level"], "missing");
}

#[test]
fn a_clock_that_may_not_be_asked_about_is_not_called_unsynchronised() {
    let found = without("clock_adjtime");
    let clock = check(&found, "clock");
    assert_eq!(clock["level"], "warn");
    let words = clock["found"].as_str().unwrap();
    assert!(words.contains("may not be asked"), "{words}");

    // The command of the clock's timer, which then confirms nothing.
    let mut command = Command::new(program("without-calls"));
    command.arg("clock_adjtime").arg(program("kes-cli"));
    command.args(["--json", "confirm-clock", "--if-synchronised"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["changed"], false);
    assert_eq!(said["synchronised"], Value::Null);
}

#[test]
fn the_service_managers_word_is_taken() {
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(program("kes-agent"));
        command.args(["check-host", "--json"]);
        command.envs(variables.iter().copied());
        object(&command.output().unwrap())
    };
    let manager = ("NOTIFY_SOCKET", "/run/systemd/notify");
    let found = run(&[manager, ("FDSTORE", "16")]);
    assert_eq!(check(&found, "descriptor-store")["level"], "ok");
    let found = run(&[manager]);
    let store = check(&found, "descriptor-store");
    assert_eq!(store["level"], "warn");
    let step = store["next_step"].as_str().unwrap();
    assert!(step.contains("FileDescriptorStoreMax="), "{step}");
}

#[test]
fn a_small_limit_for_locked_memory_is_seen() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -l 64 && exec \"$0\" check-host --json"])
        .arg(program("kes-agent"))
        .output()
        .unwrap();
    let found = object(&output);
    let memory = check(&found, "lockable-memory");
    assert_eq!(memory["level"], "warn");
    assert!(memory["found"].as_str().unwrap().starts_with("64 KiB"));
}
