//! Which kind of memory the keys are in where the kernel, a limit or a setting leaves no choice:
//! the strong kind, guarded memory that is said to be less, or no agent.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::Command;

use integration_tests::for_tests::{self, TestClock};
use integration_tests::key_secrets::KeySecrets;
use integration_tests::memory_scan::{Scanner, may_look};
use integration_tests::nobody;
use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until, without_calls};
use integration_tests::service_manager::ServiceManager;
use kes_wire::sys::region::{self, RegionKind};
use kes_wire::sys::sodium;
use serde_json::Value;

/// Enough for all, in KiB, and as the agent asks for.
const AMPLE: u32 = 1024;

fn without_memfd_secret(pool: &Pool, args: &[&str]) -> Command {
    let mut agent = pool.agent_command();
    agent.args(args);
    without_calls("memfd_secret", &agent)
}

/// Checks that the status and the log say that the keys are in guarded memory, why, and what to do.
fn says_that_it_fell_back(status: &Value, log: &str) {
    let kind = status["memory"]["kind"].as_str().unwrap();
    assert!(kind.starts_with("memsec"), "{kind}");
    let protection = |name: &str| {
        let all = status["memory"]["protections"].as_array().unwrap();
        let found = all.iter().find(|p| p["name"] == name).unwrap();
        let meaning = found["meaning"].as_str().unwrap().to_owned();
        (found["in_force"].as_bool().unwrap(), meaning)
    };
    assert!(protection("locked").0 && protection("not-dumped").0);
    for name in ["out-of-reach", "survives-restart"] {
        let (in_force, meaning) = protection(name);
        assert!(!in_force, "{name}: {meaning}");
        assert!(meaning.contains("secretmem.enable=1"), "{name}: {meaning}");
        let line = log.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("WARN") && line.contains(&meaning), "{line}");
    }
}

#[test]
fn refused_by_the_kernel_the_agent_of_another_user_falls_back_and_says_so() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let command = nobody::by_limited(&pool, AMPLE, &without_memfd_secret(&pool, &[]));
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    agent.await_log("survives-restart");
    says_that_it_fell_back(&pool.status(), &agent.log());
    let _ = pool.rotate();
    let node = Node::start(&pool);
    let _ = node.await_event("signed", 0);
}

#[test]
fn guarded_memory_is_not_handed_over_and_ends_with_the_agent() {
    let pool = Pool::new(TestNetwork::default());
    let mut manager = ServiceManager::new(without_memfd_secret(&pool, &[]));
    manager.start();
    says_that_it_fell_back(&pool.status(), &manager.log());
    let _ = pool.rotate();
    assert_eq!(manager.stored(), [""; 0]);
    manager.kill_and_restart();
    assert_eq!(pool.status()["active"]["state"], "empty");
    assert_eq!(manager.complaints(), [""; 0]);
}

/// What an agent says that does not start.
fn does_not_start(pool: &Pool, mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for socket in ["control.socket", "service.socket"] {
        assert!(!pool.path(socket).exists(), "{socket}");
    }
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn where_the_strong_kind_is_required_and_refused_nothing_is_started() {
    let pool = Pool::new(TestNetwork::default());
    let by_argument = without_memfd_secret(&pool, &["--memory", "secret"]);
    std::fs::write(pool.path("agent.toml"), "memory = \"secret\"").unwrap();
    let by_file = without_memfd_secret(&pool, &["--config-file", "agent.toml"]);
    for command in [by_argument, by_file] {
        let said = does_not_start(&pool, command);
        for part in [
            "memory = \"secret\"",
            "Function not implemented",
            "secretmem.enable=1",
            "kes-agent check-host",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn where_the_strong_kind_is_required_and_no_limit_has_room_for_it_that_is_said() {
    if !nobody::may_become() || region::probe().is_err() {
        return;
    }
    let pool = nobody::pool();
    let mut agent = pool.agent_command();
    agent.args(["--memory", "secret"]);
    // The secret stack is in, and nothing else.
    let said = does_not_start(&pool, nobody::by_limited(&pool, 20, &agent));
    assert!(said.contains("memory = \"secret\""), "{said}");
    assert!(said.contains("LimitMEMLOCK="), "{said}");
    let _agent = Agent::spawn(
        nobody::by_limited(&pool, AMPLE, &agent),
        &pool.path("control.socket"),
    );
    let kind = pool.status()["memory"]["kind"].clone();
    assert!(kind.as_str().unwrap().starts_with("memfd_secret"), "{kind}");
}

/// How an agent fares that may lock so much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fares {
    DoesNotStart,
    RefusesKeys,
    HoldsKey,
}

#[test]
fn with_any_limit_a_secret_is_locked_or_there_is_none() {
    if !nobody::may_become() || !may_look() {
        return;
    }
    for kind in [RegionKind::Secret, RegionKind::Guarded] {
        let limits = (8..=64).step_by(4);
        let fared: Vec<_> = limits.map(|limit| fare(kind, limit)).collect();
        assert!(fared.is_sorted(), "more memory, more success: {fared:?}");
        let kinds: BTreeSet<_> = fared.iter().copied().collect();
        let all = [Fares::DoesNotStart, Fares::RefusesKeys, Fares::HoldsKey];
        assert_eq!(kinds, all.into(), "{fared:?}");
    }
}

fn fare(kind: RegionKind, limit: u32) -> Fares {
    let pool = nobody::pool();
    let clock = TestClock::new(pool.path("clock"), true);
    let mut seed = [0; 32];
    sodium::fill_random(&mut seed);
    let key = KeySecrets::of("key", &seed);
    let mut command = for_tests::command(&pool, &clock);
    if kind == RegionKind::Guarded {
        command = without_calls("memfd_secret", &command);
    }
    let mut agent = Agent::launch(nobody::by_limited(&pool, limit, &command));
    let status = until("the agent to be ready or to end", || {
        let connected = std::os::unix::net::UnixStream::connect(pool.path("control.socket"));
        agent
            .ended()
            .map(Some)
            .or_else(|| connected.ok().map(|_| None))
    });
    if let Some(status) = status {
        assert_eq!(status.code(), Some(1), "{limit} KiB");
        let said = agent.stderr();
        assert!(said.contains("RLIMIT_MEMLOCK"), "{limit} KiB: {said}");
        assert!(said.contains("raise it to 1M"), "{limit} KiB: {said}");
        return Fares::DoesNotStart;
    }
    for_tests::hand_seed(&pool, &seed);
    let generated = pool.cli(&["keygen"]);
    let fares = if generated.code == 0 {
        pool.cli(&["export-verkey", "--force"]).succeeded();
        pool.issue("cold", pool.period());
        pool.cli(&["activate", "--opcert-file", "opcert.cert"])
            .succeeded();
        Fares::HoldsKey
    } else {
        generated.refused(1, "no-locked-memory");
        assert_eq!(pool.status()["pending"]["state"], "empty");
        Fares::RefusesKeys
    };
    let seen = Scanner::new(key.all()).look_into(agent.pid());
    let found = seen.only_protected(&format!("{limit} KiB"));
    let readable = fares == Fares::HoldsKey && kind == RegionKind::Guarded;
    let expected = if readable {
        key.held_at(0)
    } else {
        BTreeSet::new()
    };
    assert_eq!(found, expected, "{limit} KiB");
    fares
}
