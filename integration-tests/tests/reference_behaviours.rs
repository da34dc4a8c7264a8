//! The behaviours that the reference agent's own tests name, as whole-system tests with our
//! programs. [`WHERE`] says where each one is tested; those that no other file has are here.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, program, until};
use kes_wire::genesis::{self, ShelleyStart};
use kes_wire::net::ServiceClient;
use kes_wire::protocol::service::ServiceMessage;
use kes_wire::unix_time::UnixTime;
use serde_json::Value;

/// Each behaviour, and the file and the test that show it.
const WHERE: &[(&str, &str, &str)] = &[
    (
        "install a valid key",
        "rotation.rs",
        "a_connected_node_gets_the_next_key_and_a_restarted_one_the_same",
    ),
    (
        "install with an invalid certificate",
        "reference_behaviours.rs",
        "an_invalid_certificate_reaches_no_node_and_costs_no_key",
    ),
    (
        "install with no key",
        "reference_behaviours.rs",
        "where_there_is_no_key_none_is_installed_or_sent",
    ),
    (
        "install after the key was dropped",
        "reference_behaviours.rs",
        "where_there_is_no_key_none_is_installed_or_sent",
    ),
    (
        "several nodes, and an update of several nodes",
        "hostile.rs",
        "ten_nodes_at_once_are_all_served_and_all_confirm",
    ),
    (
        "a drop of the installed key reaches the node",
        "rotation.rs",
        "a_connected_node_gets_the_next_key_and_a_restarted_one_the_same",
    ),
    (
        "a key survives a reload onto other sockets",
        "reference_behaviours.rs",
        "a_key_survives_a_reload_onto_other_sockets",
    ),
    (
        "key and update reach another agent",
        "peers.rs",
        "a_key_its_update_and_its_drop_reach_the_other_agent_and_go_no_further",
    ),
    (
        "key, update and drop reach a node behind another agent",
        "reference_behaviours.rs",
        "key_update_and_drop_reach_a_node_behind_another_agent",
    ),
    (
        "self-healing when either of two agents goes down",
        "peers.rs",
        "either_agent_heals_from_the_other",
    ),
    (
        "a key evolves forward at install",
        "pushes.rs",
        "a_pushed_key_that_must_evolve_first_arrives_evolved_each_time",
    ),
    (
        "a key evolves forward when the period turns",
        "rotation.rs",
        "a_served_key_is_at_the_periods_evolution_whenever_a_node_connects",
    ),
    (
        "a peer agent's key evolves forward when the period turns",
        "reference_behaviours.rs",
        "a_peer_and_the_node_behind_it_follow_the_turn_of_a_period",
    ),
    (
        "every environment variable of the agent",
        "reference_behaviours.rs",
        "every_environment_variable_of_the_agent",
    ),
    (
        "an empty control address is none",
        "reference_behaviours.rs",
        "an_empty_path_is_no_socket_wherever_it_is_said",
    ),
    (
        "the environment of the log",
        "reference_behaviours.rs",
        "the_environment_says_what_is_logged_and_where",
    ),
    (
        "user and group by the environment",
        "reference_behaviours.rs",
        "the_environment_says_who_to_become",
    ),
    (
        "every environment variable of the control client",
        "reference_behaviours.rs",
        "every_environment_variable_of_the_control_client",
    ),
];

#[test]
fn each_behaviour_has_its_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (behaviour, file, test) in WHERE {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let function = format!("#[test]\nfn {test}() {{");
        assert!(
            text.contains(&function),
            "{behaviour}: {file} has no {test}"
        );
    }
}

const INSTALL: [&str; 3] = ["activate", "--opcert-file", "opcert.cert"];

/// How many events of this kind a node has told.
fn count(node: &Node, kind: &str) -> usize {
    let events = node.events();
    events.iter().filter(|event| event["event"] == kind).count()
}

#[test]
fn an_invalid_certificate_reaches_no_node_and_costs_no_key() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let node = Node::start(&pool);
    let first = pool.rotate();
    let seen = node.await_event("signed", 0);
    pool.prepare(1000);
    let staged = pool.status()["pending"]["vkey"].clone();
    pool.cold_keys("other");
    pool.issue("other", 1000);
    let refused = pool.cli(&INSTALL);
    assert_ne!(refused.code, 0);
    let status = pool.status();
    assert_eq!(
        (&status["active"]["vkey"], &status["pending"]["vkey"]),
        (&Value::from(first), &staged)
    );
    // The same key with the right certificate: the next thing that the node hears of.
    pool.issue("cold", 1000);
    pool.cli(&INSTALL).succeeded();
    let _ = node.await_event("key", seen);
    assert_eq!(count(&node, "key"), 2);
}

#[test]
fn where_there_is_no_key_none_is_installed_or_sent() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let node = Node::start(&pool);
    let seen = node.await_event("connected", 0);
    // A certificate whose key was dropped before it came.
    pool.prepare(1000);
    pool.cli(&["drop-pending"]).succeeded();
    pool.cli(&INSTALL).refused(5, "nothing-pending");
    assert_eq!(pool.status()["active"]["state"], "empty");
    // Installed, then dropped: the node hears of both, and the same certificate does not bring the
    // key back.
    pool.prepare(1000);
    pool.cli(&INSTALL).succeeded();
    let seen = node.await_event("key", seen);
    pool.cli(&["drop-active"]).succeeded();
    let seen = node.await_event("dropped", seen);
    pool.cli(&INSTALL).refused(5, "nothing-pending");
    let _ = pool.rotate();
    let _ = node.await_event("key", seen);
    assert_eq!((count(&node, "key"), count(&node, "dropped")), (2, 1));
}

#[test]
fn a_key_survives_a_reload_onto_other_sockets() {
    let pool = Pool::new(TestNetwork::default());
    let write = |service: &str, control: &str| {
        let text = format!(
            "service-path = \"{}\"\ncontrol-path = \"{}\"\n",
            pool.text(service),
            pool.text(control)
        );
        std::fs::write(pool.path("agent.toml"), text).unwrap();
    };
    write("service.socket", "control.socket");
    let mut command = pool.agent_command();
    command
        .env_remove("KES_AGENT_CONTROL_PATH")
        .env_remove("KES_AGENT_SERVICE_PATH")
        .args(["-F", "agent.toml"]);
    let agent = Agent::spawn(command, &pool.path("control.socket"));
    let vkey = pool.rotate();
    let connected_before = Node::start(&pool);
    let seen = connected_before.await_event("signed", 0);

    write("service.moved", "control.moved");
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    for (old, new) in [
        ("service.socket", "service.moved"),
        ("control.socket", "control.moved"),
    ] {
        assert!(!pool.path(old).exists() && pool.path(new).exists());
    }
    let probed = pool.cli(&["probe", "--service-address", "service.moved"]);
    assert_eq!(probed.succeeded()["kes_verification_key"], *vkey);
    // A node that was connected through the old socket is still: it hears of the drop.
    let dropped = pool.cli(&["drop-active", "--control-address", "control.moved"]);
    dropped.succeeded();
    let _ = connected_before.await_event("dropped", seen);
    assert_eq!(count(&connected_before, "disconnected"), 0);
    agent.stop("TERM");
    assert!(!pool.path("service.moved").exists() && !pool.path("control.moved").exists());
}

/// A second agent of the pool, that follows the first one.
fn second_agent(pool: &Pool) -> Agent {
    let mut command = pool.agent_command();
    command
        .env("KES_AGENT_SERVICE_PATH", pool.path("second.service"))
        .env("KES_AGENT_CONTROL_PATH", pool.path("second.control"))
        .env("KES_AGENT_BOOTSTRAP_PATHS", pool.path("service.socket"));
    Agent::spawn(command, &pool.path("second.control"))
}

#[test]
fn key_update_and_drop_reach_a_node_behind_another_agent() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let _second = second_agent(&pool);
    let node = Node::start_at(&pool, "second.service");
    let mut seen = node.await_event("connected", 0);
    for _ in 0..2 {
        let vkey = pool.rotate();
        seen = node.await_event("key", seen);
        seen = node.await_event("signed", seen);
        let probed = pool.cli(&["probe", "--service-address", "second.service"]);
        assert_eq!(probed.succeeded()["kes_verification_key"], *vkey);
    }
    pool.cli(&["drop-active"]).succeeded();
    let _ = node.await_event("dropped", seen);
    assert_eq!(count(&node, "key"), 2);
}

#[test]
fn a_peer_and_the_node_behind_it_follow_the_turn_of_a_period() {
    let pool = Pool::new(TestNetwork {
        slots_per_period: 20,
        past_periods: 500,
        ..TestNetwork::default()
    });
    let _agent = pool.agent();
    let _second = second_agent(&pool);
    let node = Node::start_at(&pool, "second.service");
    let _ = pool.rotate();
    let start = pool.status()["active"]["opcert"]["start_period"]
        .as_u64()
        .unwrap();
    // The period by this test's own clock and the genesis file, not by the agents' word.
    let text = std::fs::read(pool.path("genesis.json")).unwrap();
    let (network, _) = genesis::network(&text, ShelleyStart::default()).unwrap();
    let period = || network.period_at(UnixTime::now()).0;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let served = |socket: &str| {
        runtime.block_on(async {
            let mut client = ServiceClient::connect(&pool.path(socket)).await.unwrap();
            match client.next().await.unwrap() {
                ServiceMessage::Key(key) => u64::from(key.evolution.0),
                ServiceMessage::Dropped { .. } => panic!("a key"),
            }
        })
    };
    let _ = node.await_event("key", 0);
    // Through two turns, each agent serves the evolution of the moment.
    let mut evolutions = BTreeSet::new();
    while evolutions.len() < 3 {
        for socket in ["service.socket", "second.service"] {
            let before = period();
            let evolution = served(socket);
            let after = period();
            assert!(
                (before..=after).contains(&(start + evolution)),
                "{socket}: {before} {evolution} {after}"
            );
            evolutions.insert(evolution);
        }
    }
    // The node has the key of before the turns, and signs at the evolution that has come.
    let last = evolutions.pop_last().unwrap();
    until("the node to sign at the last evolution", || {
        let events = node.events();
        events
            .iter()
            .filter(|event| event["event"] == "signed")
            .filter_map(|event| event["sentence"].as_str())
            .any(|line| line.contains(&format!("evolution {last}:")))
            .then_some(())
    });
    assert_eq!((count(&node, "key"), count(&node, "not-signed")), (1, 0));
}

/// An agent that is told nothing but by these variables.
fn by_environment(pool: &Pool, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program("kes-agent"));
    command
        .arg("run")
        .current_dir(pool.path("."))
        .env_clear()
        .env("HOME", pool.path("."))
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command
}

const PATHS: [(&str, &str); 4] = [
    ("KES_AGENT_SERVICE_PATH", "named.service"),
    ("KES_AGENT_CONTROL_PATH", "named.control"),
    ("KES_AGENT_COLD_VK", "cold.vkey"),
    ("KES_AGENT_GENESIS_FILE", "genesis.json"),
];

#[test]
fn every_environment_variable_of_the_agent() {
    let pool = Pool::new(TestNetwork::default());
    // Another era's length before Shelley: 7 periods, as by the genesis file's slots.
    let begin = UnixTime(UnixTime::now().0 / 1_000_000 * 1_000_000 - 60_000_000);
    let begin = serde_json::to_value(begin).unwrap();
    let variables = [
        &PATHS[..],
        &[
            ("KES_AGENT_BOOTSTRAP_PATHS", "one.service:two.service"),
            ("KES_AGENT_SHELLEY_START_SLOT", "252000"),
            ("KES_AGENT_SHELLEY_START_TIME", begin.as_str().unwrap()),
        ],
    ]
    .concat();
    let agent = Agent::spawn(
        by_environment(&pool, &variables),
        &pool.path("named.control"),
    );
    let status = pool
        .cli(&["status", "--control-address", "named.control"])
        .succeeded();
    let vkey = envelope_vkey(&pool.path("cold.vkey"));
    assert_eq!(status["cold_vkey"], *vkey);
    assert_eq!(status["network"]["slots_per_kes_period"], 36_000);
    assert_eq!(status["current_period"], 7);
    let peers: Vec<_> = status["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| &peer["address"])
        .collect();
    assert_eq!(peers, ["one.service", "two.service"]);
    pool.cli(&["probe", "--wait", "0", "--service-address", "named.service"])
        .refused(12, "no-key");
    agent.stop("TERM");
}

#[test]
fn an_empty_path_is_no_socket_wherever_it_is_said() {
    let pool = Pool::new(TestNetwork::default());
    std::fs::write(pool.path("agent.toml"), "control-path = \"\"\n").unwrap();
    let ways: [(&[&str], Option<&str>); 4] = [
        (&["-c", ""], Some("control.socket")),
        (&["--control-address="], Some("control.socket")),
        (&[], Some("")),
        (&["-F", "agent.toml"], None),
    ];
    for (arguments, variable) in ways {
        let mut command = pool.agent_command();
        command.args(arguments).env_remove("KES_AGENT_CONTROL_PATH");
        if let Some(value) = variable {
            command.env("KES_AGENT_CONTROL_PATH", value);
        }
        let agent = Agent::spawn(command, &pool.path("service.socket"));
        agent.await_log("control=\"none\"");
        assert!(!pool.path("control.socket").exists());
        agent.stop("TERM");
    }
}

fn envelope_vkey(path: &Path) -> String {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cbor = file["cborHex"].as_str().unwrap();
    cbor.strip_prefix("5820").unwrap().to_owned()
}

#[test]
fn the_environment_says_what_is_logged_and_where() {
    let pool = Pool::new(TestNetwork::default());
    // Runs an agent, asks it for its status, stops it, and gives what it wrote.
    let logged = |more: &[(&str, &str)]| {
        let mut command = by_environment(&pool, &[&PATHS[..], more].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the agent to answer", || {
            let status = pool.cli(&["status", "--control-address", "named.control"]);
            (status.code == 0).then_some(())
        });
        let pid = child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(child.wait().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (stdout, stderr) = logged(&[]);
    assert!(stdout.contains("agent ready") && stderr.is_empty());
    assert!(!stdout.contains("DEBUG"));
    let (stdout, _) = logged(&[("KES_AGENT_LOG_LEVEL", "debug")]);
    assert!(stdout.contains("DEBUG"), "{stdout}");
    for level in ["error", "critical", "emergency"] {
        assert_eq!(logged(&[("KES_AGENT_LOG_LEVEL", level)]).0, "");
    }
    let (stdout, stderr) = logged(&[("KES_AGENT_LOG_TARGET", "stderr")]);
    assert!(stdout.is_empty() && stderr.contains("agent ready"));
    let (stdout, stderr) = logged(&[("KES_AGENT_LOG_TARGET", "null")]);
    assert!(stdout.is_empty() && stderr.is_empty());
    let (stdout, _) = logged(&[("KES_AGENT_LOG_FORMAT", "json")]);
    for line in stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string(), "{line}");
    }
}

#[test]
fn the_environment_says_who_to_become() {
    let pool = Pool::new(TestNetwork::default());
    let (user, group) = (65_534, 65_533);
    let folder = pool.path(".");
    if std::os::unix::fs::chown(&folder, Some(user), Some(group)).is_err() {
        integration_tests::shared::skipped("only root can become another user");
        return;
    }
    let numbers = [user, group].map(|number| number.to_string());
    let identity = [
        ("KES_AGENT_USER", &numbers[0][..]),
        ("KES_AGENT_GROUP", &numbers[1][..]),
    ];
    let command = by_environment(&pool, &[&PATHS[..], &identity].concat());
    let agent = Agent::spawn(command, &pool.path("named.control"));
    let process = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    for (field, number) in [("Uid:", user), ("Gid:", group)] {
        let line = process
            .lines()
            .find(|line| line.starts_with(field))
            .unwrap();
        let numbers: Vec<u32> = line
            .split_whitespace()
            .skip(1)
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(numbers, [number; 4], "{line}");
    }
}

#[test]
fn every_environment_variable_of_the_control_client() {
    let pool = Pool::new(TestNetwork::default());
    symlink(program("kes-cli"), pool.path("kes-agent-control")).unwrap();
    let info = |attempts: &str| {
        Command::new(pool.path("kes-agent-control"))
            .arg("info")
            .env_clear()
            .env("KES_AGENT_CONTROL_PATH", pool.path("control.socket"))
            .env("KES_AGENT_CONTROL_RETRY_INTERVAL", "5")
            .env("KES_AGENT_CONTROL_RETRY_ATTEMPTS", attempts)
            .output()
            .unwrap()
    };
    let failed = info("2");
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("control.socket"));
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| info("10000"));
        let agent = pool.agent();
        let output = patient.join().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Current KES period: 1000"));
        drop(agent);
    });
}
