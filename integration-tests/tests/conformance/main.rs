//! The conformance kit: our agent and our node pass, and for every check there is a peer that is
//! wrong in one thing and does not.
#![allow(missing_docs, clippy::unwrap_used)]

mod control;
mod faults;
mod recorded;
mod settings;
mod wrong_agent;
mod wrong_client;
mod wrong_follower;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use integration_tests::conformance::pool::{Periods, cold_key};
use integration_tests::conformance::report::Report;
use integration_tests::conformance::{agent, client, requirements};
use integration_tests::pool::{Agent, Pool, TestNetwork, program};
use wrong_client::{Client, Fault};

#[test]
fn the_kit_knows_every_requirement_of_the_specification() {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("spec");
    let table = std::fs::read_to_string(spec.join("requirements.md")).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let ids: BTreeSet<&str> = rows
        .filter_map(|row| row.split(' ').next())
        .filter(|id| id.contains('-') && !id.starts_with("--"))
        .collect();
    assert!(ids.len() > 100, "{ids:?}");
    assert_eq!(ids, requirements::known().into_iter().collect());
}

/// What is broken, by a report: advice that is not followed, too, and marked.
fn broken(report: &Report) -> Vec<String> {
    let rows = report.rows.iter().filter_map(|row| match row.verdict() {
        "DOES NOT HOLD" => Some(row.id.to_owned()),
        "not followed" => Some(format!("{} not followed", row.id)),
        _ => None,
    });
    let mut ids: Vec<_> = rows.collect();
    ids.sort_unstable();
    ids
}

/// The kit's report on a client with this fault.
fn client_report(fault: Fault, only: &[&str]) -> Report {
    let pool = Pool::new(TestNetwork::default());
    let cold = cold_key(&pool.path("cold.skey")).unwrap();
    let periods = Periods::read(&pool.path("genesis.json")).unwrap();
    let stand_in = Client {
        socket: pool.path("kit.socket"),
        cold: cold.verifying_key(),
        periods,
        fault,
    };
    let running = thread::spawn(move || stand_in.run());
    // The client is a thread of this test, which runs already.
    let mut command = Command::new("sleep");
    command.arg("1000");
    let report = client::run(client::Options {
        listen: pool.path("kit.socket"),
        cold,
        periods,
        command: Some(command),
        only: only.iter().map(|id| (*id).to_owned()).collect(),
    });
    drop(pool);
    let _ = running.join();
    report.unwrap()
}

#[test]
fn a_right_client_passes_and_each_wrong_one_is_found_by_its_check_alone() {
    let right = client_report(Fault::None, &[]);
    assert!(broken(&right).is_empty(), "{}", right.table());
    assert_eq!(right.with("holds").len(), client::checks().len());
    thread::scope(|scope| {
        for (fault, expected) in wrong_client::FAULTS {
            scope.spawn(move || {
                // Who never comes fails every check, each after a while.
                let only: &[&str] = if *fault == Fault::GivesUp {
                    expected
                } else {
                    &[]
                };
                let report = client_report(*fault, only);
                assert_eq!(broken(&report), *expected, "{fault:?}\n{}", report.table());
            });
        }
    });
    let found: BTreeSet<_> = wrong_client::FAULTS
        .iter()
        .flat_map(|fault| fault.1)
        .map(|id| id.trim_end_matches(" not followed"))
        .collect();
    for check in client::checks() {
        assert!(found.contains(&check.id), "no fault shows {}", check.id);
    }
}

/// The kit's report on our agent, behind a liar unless there is no fault.
fn agent_report(network: TestNetwork, fault: wrong_agent::Fault, only: &[&str]) -> Report {
    let is_right = matches!(fault, wrong_agent::Fault::None);
    let pool = Pool::new(network);
    let _agent = Agent::start(&pool, &["--bootstrap-address", &pool.text("peer.socket")]);
    let last = wrong_agent::LastCertificate::default();
    let socket = |name: &str| {
        if is_right {
            return Some(pool.path(name));
        }
        let path = pool.path(&format!("kit-{name}"));
        wrong_agent::listen(&path, &pool.path(name), fault, &last);
        Some(path)
    };
    let peer = if is_right {
        pool.path("peer.socket")
    } else {
        let path = pool.path("kit-peer.socket");
        wrong_follower::listen(&pool.path("peer.socket"), &path, fault);
        path
    };
    let options = agent::Options {
        service: socket("service.socket"),
        control: socket("control.socket"),
        periods: Some(Periods::read(&pool.path("genesis.json")).unwrap()),
        cold: Some(cold_key(&pool.path("cold.skey")).unwrap()),
        peer: Some(peer),
        patience: Duration::from_secs(30),
        slow: network.max_evolutions == SLOW.max_evolutions,
        only: only.iter().map(|id| (*id).to_owned()).collect(),
    };
    agent::run(options).unwrap()
}

/// Periods of 4 seconds.
const SHORT: TestNetwork = TestNetwork {
    slots_per_period: 40,
    slot_ms: 100,
    max_evolutions: 62,
    past_periods: 1000,
};

/// Where deadlines are waited for.
const SLOW: TestNetwork = TestNetwork {
    slots_per_period: 36_000,
    slot_ms: 100,
    max_evolutions: 61,
    past_periods: 1000,
};

/// How many agents are tried at a time: they wait more than they work.
const AT_ONCE: usize = 8;

/// Each fault is found by its check; the others are not tried, since one fault of an agent may
/// break what many checks begin with.
fn are_found(network: TestNetwork, faults: &[(&'static str, wrong_agent::Fault)]) {
    let (missed, left) = (Mutex::new(Vec::new()), Mutex::new(faults.iter()));
    let next = || left.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((id, fault)) = next() {
                    let report = agent_report(network, *fault, &[id]);
                    if broken(&report) != [*id] {
                        let row = report.rows.into_iter().find(|row| row.id == *id);
                        missed.lock().unwrap().push((*id, row));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "lies that were not found: {missed:#?}");
}

#[test]
fn our_agent_passes_and_each_lie_about_it_is_found() {
    let network = TestNetwork::default();
    let right = agent_report(network, wrong_agent::Fault::None, &[]);
    assert!(broken(&right).is_empty(), "{}", right.table());
    let holds = right.with("holds").len();
    let tried = holds + faults::later_ids().len();
    assert_eq!(tried, agent::checks().len(), "{}", right.table());
    are_found(network, faults::FAULTS);
}

#[test]
fn our_agent_passes_when_periods_begin_and_each_lie_is_found() {
    let ids = [
        "SVC-4", "EVO-1", "EVO-2", "EVO-3", "SCH-2", "SCH-3", "PEER-7", "TIME-8",
    ];
    let right = agent_report(SHORT, wrong_agent::Fault::None, &ids);
    assert_eq!(right.with("holds").len(), ids.len(), "{}", right.table());
    are_found(SHORT, faults::AT_A_TURN);
}

#[test]
fn our_agent_keeps_its_deadlines_and_one_that_does_not_is_found() {
    let ids = ["HS-7", "SVC-8", "ROT-9"];
    thread::scope(|scope| {
        scope.spawn(|| {
            let right = agent_report(SLOW, wrong_agent::Fault::None, &ids);
            assert_eq!(right.with("holds").len(), ids.len(), "{}", right.table());
        });
        scope.spawn(|| are_found(SLOW, faults::SLOW));
    });
}

#[test]
fn a_check_that_no_fault_shows_is_found() {
    let shown = [faults::FAULTS, faults::AT_A_TURN, faults::SLOW].concat();
    let shown: BTreeSet<&str> = shown.iter().map(|(id, _)| *id).collect();
    for check in agent::checks() {
        assert!(shown.contains(check.id), "no fault shows {}", check.id);
    }
}

fn kit(pool: &Pool, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("conformance"));
    command.args(arguments).current_dir(pool.path("."));
    command.output().unwrap()
}

/// The kit's report on a client that is started so, in a pool's folder. Every check holds.
fn passes(pool: &Pool, client: &[&str]) {
    let mut arguments = vec!["client", "--listen", "kit.socket", "--format", "json"];
    arguments.extend(["--genesis-file", "genesis.json"]);
    arguments.extend(["--cold-signing-key", "cold.skey", "--"]);
    arguments.extend(client);
    arguments.extend(["--service-address", "kit.socket"]);
    arguments.extend(["--genesis-file", "genesis.json"]);
    arguments.extend(["--cold-verification-key", "cold.vkey"]);
    let output = kit(pool, &arguments);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = json["requirements"].as_array().unwrap();
    let holds = rows.iter().filter(|row| row["verdict"] == "holds").count();
    assert_eq!(holds, client::checks().len(), "{json:#}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn our_node_passes() {
    let node = program("examples/forging_node");
    passes(
        &Pool::new(TestNetwork::default()),
        &[node.to_str().unwrap()],
    );
}

#[test]
fn our_probe_passes() {
    let kes_cli = program("kes-cli");
    passes(
        &Pool::new(TestNetwork::default()),
        &[kes_cli.to_str().unwrap(), "probe", "--follow"],
    );
}

#[test]
fn what_cannot_run_says_so() {
    let pool = Pool::new(TestNetwork::default());
    for arguments in [&["agent"][..], &["agent", "--may-change"], &["client"]] {
        let output = kit(&pool, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}
