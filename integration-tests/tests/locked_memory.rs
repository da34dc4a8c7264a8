//! Memory that cannot be locked is refused. Root may lock without limit, so the test runs itself
//! once more as an unprivileged user with a small RLIMIT_MEMLOCK.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::cold::ColdSignKey;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions};
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::SignKey;
use kes_wire::sys::memory::LockedBytes;
use kes_wire::sys::stack;
use kes_wire::unix_time::UnixTime;

const LIMIT_KIB: usize = 64;
const CHILD: &str = "KES_TEST_UNPRIVILEGED";
const NOBODY: u32 = 65_534;

/// Whose turn it is to copy this program and start the copy.
static TURN: Mutex<()> = Mutex::new(());

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// Runs one test of this program again with a small limit, and not as root.
fn again_with_a_small_limit(test: &str) {
    // A place that another user can reach.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("test");
    // A process that another test starts meanwhile would hold the copy open, and it would be busy.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -l {LIMIT_KIB} && exec \"$0\" --exact {test} --nocapture"
        ))
        .arg(&program)
        .env(CHILD, "1")
        .current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(turn);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}\n{errors}");
}

fn locked_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_lock_that_fails_is_an_error() {
    if std::env::var_os(CHILD).is_none() {
        return again_with_a_small_limit("a_lock_that_fails_is_an_error");
    }
    let mut held = Vec::new();
    let error = loop {
        match LockedBytes::<608>::zeroed() {
            Ok(bytes) => held.push(bytes),
            Err(error) => break error,
        }
        assert!(
            held.len() <= LIMIT_KIB / 4,
            "more pages than the limit allows"
        );
        // What was given out is locked, whatever memsec says of it.
        assert!(
            locked_kib() >= held.len() * 4,
            "{} KiB locked",
            locked_kib()
        );
    };
    assert!(!held.is_empty());
    let sentence = error.to_string();
    assert!(
        sentence.contains("RLIMIT_MEMLOCK") && sentence.contains("65536 bytes"),
        "{sentence}"
    );
    // What could not be locked is not given out later as if it were.
    assert!(LockedBytes::<608>::zeroed().is_err());
    // What is given back can be locked again.
    held.clear();
    LockedBytes::<608>::zeroed().unwrap();
}

#[test]
fn a_secret_stack_that_cannot_be_locked_does_not_run_anything() {
    if std::env::var_os(CHILD).is_none() {
        return again_with_a_small_limit(
            "a_secret_stack_that_cannot_be_locked_does_not_run_anything",
        );
    }
    let held = LockedBytes::<{ 56 * 1024 }>::zeroed().unwrap();
    let mut ran = false;
    assert!(stack::run(|| ran = true).is_err());
    assert!(!ran);
    drop(held);
    stack::run(|| ran = true).unwrap();
    assert!(ran);
}

#[test]
fn a_key_that_could_not_be_locked_is_asked_for_again_and_taken() {
    if std::env::var_os(CHILD).is_none() {
        return again_with_a_small_limit(
            "a_key_that_could_not_be_locked_is_asked_for_again_and_taken",
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("service.socket");
    let mut agent = PretendedAgent::new(&socket);
    let (cold, network) = (ColdSignKey::generate().unwrap(), Network::MAINNET);
    let key = SignKey::generate().unwrap();
    let period = network.period_at(UnixTime::now());
    let opcert = cold.issue(&key.verification_key(), 0, period).unwrap();
    let options = HotKeyOptions::new(&socket, network, cold.verification_key());
    let (hot_key, receiving) = HotKey::new(options).unwrap();
    receiving.on_thread().unwrap();
    agent.accept();
    // What is left is enough for a message, and not for the stack on which a key is checked.
    let mut held: Vec<_> = std::iter::from_fn(|| LockedBytes::<608>::zeroed().ok()).collect();
    held.truncate(held.len() - 2);
    for attempt in 0..3 {
        assert_eq!(agent.send(&key, &opcert), ServiceResult::Unknown);
        // It is not sent the key again on this connection.
        let patience = Some(std::time::Duration::from_secs(30));
        agent.node().set_read_timeout(patience).unwrap();
        assert_eq!(agent.node().read(&mut [0]).unwrap(), 0, "{attempt}");
        agent.accept();
    }
    drop(held);
    assert_eq!(agent.send(&key, &opcert), ServiceResult::Ok);
    assert_eq!(hot_key.sign(period, b"message").unwrap().opcert, opcert);
    // This connection stands.
    assert_eq!(agent.send_drop(), ServiceResult::Ok);
}
