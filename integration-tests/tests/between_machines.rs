//! The protocol has no authentication and no encryption, so it does not leave the machine: the
//! programs make no socket but Unix ones, and the tunnel that we ship is OpenSSH, which
//! authenticates both ends.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until};
use integration_tests::shared::skipped;
use integration_tests::tools::succeed;

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> BTreeSet<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    folder
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?.strip_prefix("socket:[")?.to_owned();
            Some(target.strip_suffix(']')?.to_owned())
        })
        .collect()
}

/// The inodes of every Unix socket in a process's network.
fn unix_sockets(pid: u32) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
    let rows = table.lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().nth(6).map(str::to_owned))
        .collect()
}

/// A process has sockets, and all of them are Unix sockets.
fn has_unix_sockets_alone(pid: u32, at_least: usize) {
    // In this order: a socket that is made between the two is in the second.
    let sockets = sockets(pid);
    let unix = unix_sockets(pid);
    assert!(sockets.len() >= at_least, "{sockets:?}");
    let others: Vec<_> = sockets.difference(&unix).collect();
    assert!(
        others.is_empty(),
        "sockets that are no Unix sockets: {others:?}"
    );
}

#[test]
fn the_programs_have_no_sockets_but_unix_ones() {
    let pool = Pool::new(TestNetwork::default());
    let first = pool.agent();
    let mut second = pool.agent_command();
    second
        .env("KES_AGENT_CONTROL_PATH", pool.path("other.socket"))
        .env("KES_AGENT_SERVICE_PATH", pool.path("other-service.socket"))
        .args(["--bootstrap-address", "service.socket"])
        // What looks like another machine's address is the name of a socket here.
        .args(["--bootstrap-address", "127.0.0.1:22"]);
    let second = Agent::spawn(second, &pool.path("other.socket"));
    let node = Node::start(&pool);
    let _ = pool.rotate();
    let _ = node.await_event("signed", 0);
    until("the second agent to follow the first", || {
        let status = pool
            .cli(&["status", "--control-address", "other.socket"])
            .succeeded();
        let peers = status["peers"].as_array()?.clone();
        assert_eq!(peers.len(), 2);
        let state = |address: &str| {
            let peer = peers.iter().find(|peer| peer["address"] == address)?;
            peer["state"]["state"].as_str().map(str::to_owned)
        };
        assert_ne!(state("127.0.0.1:22").as_deref(), Some("up"));
        (state("service.socket")? == "up" && status["active"]["state"] == "serving").then_some(())
    });
    // Each has its two listening sockets and a connection.
    has_unix_sockets_alone(first.pid(), 3);
    has_unix_sockets_alone(second.pid(), 3);
    has_unix_sockets_alone(node.pid(), 1);
}

#[test]
fn another_socket_would_be_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let me = std::process::id();
    assert!(!sockets(me).is_subset(&unix_sockets(me)));
    drop(listener);
}

fn units() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    project.join("deploy/systemd")
}

#[test]
fn the_tunnel_that_is_shipped_authenticates_both_ends() {
    // It knows no --version.
    let version = Command::new("ssh").arg("-V").output();
    if !version.is_ok_and(|output| output.status.success()) {
        skipped("ssh is not installed (Debian's package openssh-client)");
        return;
    }
    let unit = fs::read_to_string(units().join("kes-agent-peer@.service")).unwrap();
    let joined = unit.replace("\\\n", " ");
    let start = joined
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ssh_config");
    fs::write(&config, "Host far\n    HostName far.example\n").unwrap();
    let start = start
        .replace("/etc/kes-agent/ssh_config", config.to_str().unwrap())
        .replace("%i", "far")
        .replace("${REMOTE_SOCKET}", "/run/kes-agent/service.socket");
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/ssh"));
    // -G prints what ssh would do, and does nothing.
    let settings = succeed(Command::new("ssh").arg("-G").args(words)).to_lowercase();
    for setting in [
        "hostname far.example",
        // Only a host whose key is known, and nobody is asked.
        "stricthostkeychecking true",
        "batchmode yes",
        "exitonforwardfailure yes",
        "forwardagent no",
        "permitlocalcommand no",
        "localforward /run/kes-agent-peer/far/service.socket /run/kes-agent/service.socket",
    ] {
        let has = settings.lines().any(|line| line == setting);
        assert!(has, "{setting}: {settings}");
    }
    assert!(
        !settings
            .lines()
            .any(|line| line.starts_with("ciphers none"))
    );
    // The other side: one user, by a key alone, to one socket.
    let guest = fs::read_to_string(units().join("kes-agent-peers.sshd.conf")).unwrap();
    for setting in [
        "Match User kes-agent-guest",
        "AuthenticationMethods publickey",
        "PermitOpen [/run/kes-agent/service.socket]:*",
        "ForceCommand /usr/sbin/nologin",
    ] {
        let has = guest.lines().any(|line| line.trim() == setting);
        assert!(has, "{setting}: {guest}");
    }
}
