//! The stand-in for the service manager does what systemd does.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::pool::{Agent, Pool, TestNetwork, program, until};
use integration_tests::service_manager::ServiceManager;

fn counter() -> ServiceManager {
    ServiceManager::new(Command::new(program("counts_its_starts")))
}

/// What the service said of itself when it became ready for the `n`th time.
fn statuses(manager: &ServiceManager) -> Vec<String> {
    let lines = manager.notifications();
    lines
        .iter()
        .filter_map(|line| line.strip_prefix("STATUS="))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_a_service_keeps_outlives_it_but_not_a_stop() {
    let mut manager = counter();
    manager.start();
    assert_eq!(manager.stored(), ["starts"]);
    manager.kill_and_restart();
    manager.kill();
    manager.start();
    manager.kill();
    manager.forget();
    manager.start();
    assert_eq!(
        statuses(&manager),
        [
            "start 1 with ",
            "start 2 with starts",
            "start 3 with starts",
            "start 1 with "
        ]
    );
    assert_eq!(manager.complaints(), [""; 0]);
}

#[test]
fn a_service_that_ends_by_itself_is_started_with_what_it_kept() {
    let mut command = Command::new(program("counts_its_starts"));
    command.arg("end");
    let mut manager = ServiceManager::new(command);
    manager.launch();
    let (status, errors) = manager.await_end();
    assert!(status.success(), "{status} {errors}");
    assert_eq!(manager.stored(), ["starts"]);
    // The next program may be another one.
    manager.replace_command(Command::new(program("counts_its_starts")));
    manager.start();
    assert_eq!(statuses(&manager)[1], "start 2 with starts");
}

#[test]
fn descriptors_can_be_handed_in_read_and_changed() {
    let mut manager = counter();
    manager.hand_in("foreign", OwnedFd::from(tempfile::tempfile().unwrap()));
    manager.start();
    assert_eq!(statuses(&manager), ["start 1 with foreign"]);
    assert_eq!(manager.stored(), ["foreign", "starts"]);
    manager.kill();
    let number = File::from(manager.descriptor("starts").unwrap());
    let mut starts = [0];
    number.read_exact_at(&mut starts, 0).unwrap();
    assert_eq!(starts, [1]);
    number.write_all_at(&[41], 0).unwrap();
    manager.forget_name("foreign");
    manager.start();
    assert_eq!(statuses(&manager)[1], "start 42 with starts");
}

#[test]
fn a_store_without_room_keeps_nothing_and_the_manager_complains() {
    let mut manager = counter().with_store_max(0);
    manager.start();
    assert_eq!(manager.stored(), [""; 0]);
    let complaints = manager.complaints();
    // The counter sends twice.
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("FileDescriptorStoreMax=0"));
    manager.kill_and_restart();
    assert_eq!(statuses(&manager)[1], "start 1 with ");
}

#[test]
fn a_withheld_barrier_holds_the_service_up() {
    let mut manager = counter().withholding_barriers();
    manager.launch();
    let seen = manager.await_notification("BARRIER=1", 0);
    // What was sent before the barrier was taken in; the service waits before it is ready.
    assert_eq!(manager.stored(), ["starts"]);
    assert_eq!(manager.notifications().len(), seen);
    manager.kill();
}

#[test]
fn only_the_main_process_is_listened_to() {
    let mut manager = counter();
    manager.start();
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.connect(manager.notify_socket()).unwrap();
    stranger.send(b"STATUS=from a stranger").unwrap();
    until("a complaint", || manager.complaints().pop());
    assert_eq!(statuses(&manager).len(), 1);
}

#[test]
fn the_agent_feeds_the_watchdog() {
    let pool = Pool::new(TestNetwork::default());
    let mut manager =
        ServiceManager::of_agent(&pool, &[]).with_watchdog(Duration::from_millis(200));
    manager.start();
    let mut seen = 0;
    for _ in 0..3 {
        seen = manager.await_notification("WATCHDOG=1", seen);
    }
}

#[test]
fn the_agent_takes_its_sockets_and_those_who_connect_while_it_is_down_wait() {
    let pool = Pool::new(TestNetwork::default());
    let mut manager = ServiceManager::of_agent(&pool, &[])
        .with_socket("service", &pool.path("service.socket"))
        .with_socket("control", &pool.path("control.socket"));
    manager.start();
    manager.running().await_log("inherited");
    manager.reload();
    manager.terminate();
    // Asked while nobody answers; answered by the next agent.
    let mut early = pool
        .command(&["--json", "status"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the command to connect", || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", early.id())).ok()?;
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .find(|target| target.to_string_lossy().starts_with("socket:"))
    });
    manager.start();
    assert!(early.wait().unwrap().success());
    manager.stop();
    assert_eq!(manager.complaints(), [""; 0]);
}

/// A service manager that reads nothing any more, with its queue full.
fn that_hangs(listens: &UnixDatagram, path: &Path) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    let full = (0..10_000).find_map(|_| sender.send_to(b"X=1", path).err());
    let full = full.expect("a queue that fills").kind();
    assert_eq!(full, std::io::ErrorKind::WouldBlock);
    listens.set_nonblocking(true).unwrap();
}

#[test]
fn a_service_manager_that_hangs_holds_up_nobody() {
    let pool = Pool::new(TestNetwork::default());
    let path = pool.path("notify");
    let listens = UnixDatagram::bind(&path).unwrap();
    let mut command = pool.agent_command();
    command.env("NOTIFY_SOCKET", &path);
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    let mut heard = [0; 4096];
    until("READY=1", || {
        let bytes = listens.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..bytes])
            .contains("READY=1")
            .then_some(())
    });
    that_hangs(&listens, &path);
    // Each of these has something to tell it.
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    let vkey = pool.rotate();
    assert_eq!(pool.status()["active"]["vkey"], *vkey);
    agent.stop("TERM");
}
