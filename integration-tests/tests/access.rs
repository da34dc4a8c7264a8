//! Who may connect: modes, owners, groups, and the lists of users and groups.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use integration_tests::pool::{Agent, Pool, TestNetwork, program};
use integration_tests::shared::skipped;

const OPERATOR: u32 = 61_001;
const STRANGER: u32 = 61_002;
const OPERATORS: u32 = 62_001;
const OTHERS: u32 = 62_002;

/// Whether tests can act as several users.
fn can_become_others() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skipped("only root can become other users");
    }
    is_root
}

/// A pool whose folder everybody may enter and whose `kes-cli` everybody may run.
fn pool() -> Pool {
    let pool = Pool::new(TestNetwork::default());
    fs::set_permissions(pool.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(program("kes-cli"), pool.path("kes-cli")).unwrap();
    pool
}

/// How `kes-cli` with these arguments ends for a user with these groups, the first its primary.
fn ends_with(pool: &Pool, user: u32, groups: &[u32], arguments: &[&str]) -> i32 {
    let ours = pool.command(&[]);
    let list: Vec<_> = groups[1..].iter().map(ToString::to_string).collect();
    let supplementary = if list.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={}", list.join(","))
    };
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={}", groups[0]))
        .arg(supplementary)
        .arg(pool.path("kes-cli"))
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null());
    for (name, value) in ours.get_envs() {
        command.env(name, value.unwrap());
    }
    let output = command.output().unwrap();
    output.status.code().unwrap()
}

fn status_ends_with(pool: &Pool, user: u32, groups: &[u32]) -> i32 {
    ends_with(pool, user, groups, &["status"])
}

const DONE: i32 = 0;
/// The agent closes the connection of one whom it does not let in.
const NOT_REACHABLE: i32 = 3;
/// The system lets nobody else to the socket.
const NOT_PERMITTED: i32 = 4;

fn mode_of(path: &Path) -> (u32, u32, u32) {
    let file = fs::symlink_metadata(path).unwrap();
    (file.mode() & 0o7777, file.uid(), file.gid())
}

#[test]
fn sockets_are_for_owner_and_group_unless_told_otherwise() {
    let pool = pool();
    let _agent = pool.agent();
    for name in ["service.socket", "control.socket"] {
        assert_eq!(mode_of(&pool.path(name)).0, 0o660);
    }
}

#[test]
fn mode_owner_and_group_are_as_configured() {
    if !can_become_others() {
        return;
    }
    let pool = pool();
    let settings = |group: u32| {
        let text = format!(
            "service-socket-mode = \"0640\"\nservice-socket-owner = \"{OPERATOR}\"\n\
             control-socket-group = \"{group}\"\n"
        );
        fs::write(pool.path("agent.toml"), text).unwrap();
    };
    settings(OPERATORS);
    let agent = Agent::start(&pool, &["--config-file", "agent.toml"]);
    assert_eq!(mode_of(&pool.path("service.socket")), (0o640, OPERATOR, 0));
    assert_eq!(mode_of(&pool.path("control.socket")), (0o660, 0, OPERATORS));
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OPERATORS]), DONE);
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OTHERS]), NOT_PERMITTED);
    assert_eq!(
        status_ends_with(&pool, OPERATOR, &[OTHERS, OPERATORS]),
        DONE
    );

    settings(OTHERS);
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    assert_eq!(mode_of(&pool.path("control.socket")), (0o660, 0, OTHERS));
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OTHERS]), DONE);
}

#[test]
fn an_agent_that_becomes_another_user_can_still_give_its_socket_to_a_group() {
    if !can_become_others() {
        return;
    }
    let pool = pool();
    let agent = pool.path("kes-agent");
    fs::copy(program("kes-agent"), &agent).unwrap();
    std::os::unix::fs::chown(pool.path("."), Some(STRANGER), None).unwrap();
    for name in ["genesis.json", "cold.vkey"] {
        std::os::unix::fs::chown(pool.path(name), Some(STRANGER), None).unwrap();
    }
    let _agent = Agent::start(
        &pool,
        &[
            &format!("--user={STRANGER}"),
            &format!("--group={OTHERS}"),
            &format!("--control-socket-group={OPERATORS}"),
        ],
    );
    let expected = (0o660, STRANGER, OPERATORS);
    assert_eq!(mode_of(&pool.path("control.socket")), expected);
    let expected = (0o660, STRANGER, OTHERS);
    assert_eq!(mode_of(&pool.path("service.socket")), expected);
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OPERATORS]), DONE);
}

#[test]
fn only_listed_users_members_of_listed_groups_and_root_are_let_in() {
    if !can_become_others() {
        return;
    }
    let pool = pool();
    let agent = Agent::start(
        &pool,
        &[
            "--control-socket-mode=0666",
            &format!("--control-allow-users={OPERATOR},{OPERATORS}"),
            &format!("--control-allow-groups={OPERATORS}"),
        ],
    );
    let status = |user, groups: &[u32]| status_ends_with(&pool, user, groups);
    assert_eq!(status(0, &[0]), DONE);
    assert_eq!(status(OPERATOR, &[OTHERS]), DONE);
    assert_eq!(status(STRANGER, &[OPERATORS]), DONE);
    assert_eq!(status(STRANGER, &[OTHERS, 5, OPERATORS]), DONE);
    // More groups than any small buffer would take.
    let many: Vec<u32> = (70_000..70_300).chain([OPERATORS]).collect();
    assert_eq!(status(STRANGER, &many), DONE);
    assert!(!agent.log().contains("refused"), "{}", agent.log());

    assert_eq!(status(STRANGER, &[OTHERS]), NOT_REACHABLE);
    agent.await_log("connection refused");
    let log = agent.log();
    let line = log.lines().find(|l| l.contains("connection refused"));
    let line = line.unwrap();
    for part in [
        "control-allow-users",
        "control-allow-groups",
        "pid=",
        &format!("uid={STRANGER}"),
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // A user's number among the users is no group's.
    assert_eq!(status(STRANGER, &[OPERATOR]), NOT_REACHABLE);
    // The other socket's list is its own: its mode refuses.
    let probe = |user, groups: &[u32]| ends_with(&pool, user, groups, &["probe"]);
    assert_eq!(probe(OPERATOR, &[OTHERS]), NOT_PERMITTED);
}

#[test]
fn a_changed_list_holds_from_the_reload_on() {
    if !can_become_others() {
        return;
    }
    let pool = pool();
    let settings = |user: u32| {
        let text = format!("control-socket-mode = \"0666\"\ncontrol-allow-users = [\"{user}\"]\n");
        fs::write(pool.path("agent.toml"), text).unwrap();
    };
    settings(OPERATOR);
    let agent = Agent::start(&pool, &["--config-file", "agent.toml"]);
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OTHERS]), DONE);
    assert_eq!(status_ends_with(&pool, STRANGER, &[OTHERS]), NOT_REACHABLE);
    settings(STRANGER);
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    assert_eq!(status_ends_with(&pool, OPERATOR, &[OTHERS]), NOT_REACHABLE);
    assert_eq!(status_ends_with(&pool, STRANGER, &[OTHERS]), DONE);
}

#[test]
fn a_mode_for_everybody_without_a_list_is_refused() {
    let pool = pool();
    for name in ["service", "control"] {
        let mut command = pool.agent_command();
        command.arg(format!("--{name}-socket-mode=0666"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{name}-allow-users")), "{said}");
    }
}

#[test]
fn a_folder_that_everybody_may_write_to_is_refused_and_a_group_is_warned_of() {
    let pool = pool();
    let folder = pool.path("run");
    fs::create_dir(&folder).unwrap();
    let mode = |bits| fs::set_permissions(&folder, fs::Permissions::from_mode(bits)).unwrap();
    let command = || {
        let mut command = pool.agent_command();
        command.env("KES_AGENT_CONTROL_PATH", folder.join("control"));
        command.env("KES_AGENT_SERVICE_PATH", folder.join("service"));
        command
    };
    mode(0o777);
    let output = command().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("chmod o-w"), "{said}");

    mode(0o1777);
    let agent = Agent::spawn(command(), &folder.join("control"));
    agent.await_log("a folder of the agent's own");
    UnixStream::connect(folder.join("service")).unwrap();
    drop(agent);

    if can_become_others() {
        std::os::unix::fs::chown(&folder, None, Some(OPERATORS)).unwrap();
        mode(0o770);
        let agent = Agent::spawn(command(), &folder.join("control"));
        agent.await_log("chmod g-w");
    }
}

#[test]
fn every_command_is_logged_with_who_gave_it() {
    let pool = pool();
    let agent = Agent::start(&pool, &["--log-level", "debug"]);
    let _ = pool.rotate();
    let _ = pool.status();
    // The reference's client, by the name that makes ours behave as it.
    std::os::unix::fs::symlink(program("kes-cli"), pool.path("kes-agent-control")).unwrap();
    let mut old = Command::new(pool.path("kes-agent-control"));
    old.args(["-c", &pool.text("control.socket"), "info"]);
    assert!(old.output().unwrap().status.success());
    pool.cli(&["drop-pending"]).refused(5, "nothing-pending");
    agent.await_log("command refused");
    let log = agent.log();
    let uid = fs::metadata("/proc/self").unwrap().uid();
    for command in ["keygen", "activate", "status", "drop-pending"] {
        let quoted = format!("command=\"{command}\"");
        let line = log.lines().find(|line| line.contains(&quoted));
        let line = line.unwrap_or_else(|| panic!("{command}: {log}"));
        assert!(line.contains(&format!("uid={uid}")), "{line}");
        assert!(line.contains("pid="), "{line}");
    }
    assert_eq!(log.matches("command=\"status\"").count(), 3, "{log}");
}
