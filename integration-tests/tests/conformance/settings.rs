//! Our agent with other settings than the usual ones, and without what is ours alone.

use std::time::Duration;

use integration_tests::conformance::agent::{self, Options};
use integration_tests::conformance::pool::{Periods, cold_key};
use integration_tests::conformance::report::Report;
use integration_tests::conformance::wire::id;
use integration_tests::pool::{Agent, Pool, TestNetwork, until};

use crate::wrong_agent::Fault;
use crate::{agent_report, broken, faults};

/// The requirements that do not apply for this reason.
fn not_tried(report: &Report, reason: &str) -> Vec<&'static str> {
    let rows = report.rows.iter();
    let why = |row: &integration_tests::conformance::report::Row| format!("{:?}", row.finding);
    rows.filter(|row| why(row).contains("DoesNotApply") && why(row).contains(reason))
        .map(|row| row.id)
        .collect()
}

/// As the agents that are deployed: what can be seen through Control:3.0 is tried, and holds.
#[test]
fn our_agent_passes_without_our_control_version() {
    let deployed = Fault::Offer(|ids| ids.retain(|offered| *offered != id("Control:Rotation:1.0")));
    let report = agent_report(TestNetwork::default(), deployed, &[]);
    // Who stands in between, and takes what the node does not, is seen.
    assert_eq!(broken(&report), ["SVC-7"], "{}", report.table());
    let rotation = not_tried(&report, "Control:Rotation:1.0 is not offered");
    let ours = [
        "TR-4", "ROT-1", "ROT-2", "ROT-3", "ROT-4", "ROT-5", "ROT-6", "ROT-7", "ROT-8", "VER-1",
        "ST-1", "ST-2", "ST-3", "ST-4", "ST-5", "ST-7", "SCH-1", "CNT-1", "CNT-2", "CNT-3",
        "TIME-8",
    ];
    assert_eq!(rotation, ours);
    let later = faults::later_ids().len();
    let tried = report.with("holds").len() + 1;
    assert_eq!(
        tried + ours.len() + later,
        agent::checks().len(),
        "{}",
        report.table()
    );
}

fn options(pool: &Pool) -> Options {
    Options {
        service: Some(pool.path("service.socket")),
        control: Some(pool.path("control.socket")),
        periods: Some(Periods::read(&pool.path("genesis.json")).unwrap()),
        cold: Some(cold_key(&pool.path("cold.skey")).unwrap()),
        patience: Duration::ZERO,
        ..Options::default()
    }
}

#[test]
fn our_agent_passes_where_staged_keys_may_be_replaced() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = Agent::start(&pool, &["--replace-staged"]);
    let report = agent::run(options(&pool)).unwrap();
    assert!(broken(&report).is_empty(), "{}", report.table());
    assert!(report.with("holds").contains(&"DEP-9"));
}

/// Without keys that may be changed nothing is, and what is served is looked at all the same.
#[test]
fn an_agent_that_may_not_be_changed_is_left_as_it_is() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let looked_at = || {
        let looks = Options {
            cold: None,
            ..options(&pool)
        };
        agent::run(looks).unwrap()
    };
    let empty = looked_at();
    assert!(broken(&empty).is_empty(), "{}", empty.table());
    let unserved = not_tried(&empty, "the agent serves no key at present");
    assert!(unserved.contains(&"KEY-1"), "{}", empty.table());

    let vkey = pool.rotate();
    let _waits = pool.cli(&["keygen"]).succeeded();
    let before = pool.status();
    assert_eq!(before["active"]["vkey"], vkey);
    let served = looked_at();
    assert!(broken(&served).is_empty(), "{}", served.table());
    for id in ["KEY-1", "KEY-7", "SVC-1", "SVC-9", "ROT-4", "DEP-11"] {
        assert!(served.with("holds").contains(&id), "{}", served.table());
    }
    // The clock alone goes on.
    let slots = |status: &serde_json::Value| {
        let marks = status["high_water_mark"].clone();
        (status["pending"].clone(), status["active"].clone(), marks)
    };
    assert_eq!(slots(&pool.status()), slots(&before));
}

/// One socket alone.
#[test]
fn an_agent_with_one_socket_is_tried_on_that() {
    for (kept, closed) in [
        ("service", "--control-address"),
        ("control", "--service-address"),
    ] {
        let pool = Pool::new(TestNetwork::default());
        let mut command = pool.agent_command();
        command.args([closed, ""]);
        let _agent = Agent::launch(command);
        let socket = pool.path(&format!("{kept}.socket"));
        until("a socket", || socket.exists().then_some(()));
        let all = options(&pool);
        let report = agent::run(Options {
            service: all.service.filter(|path| *path == socket),
            control: all.control.filter(|path| *path == socket),
            cold: None,
            ..Options::default()
        });
        let report = report.unwrap();
        assert!(broken(&report).is_empty(), "{kept}\n{}", report.table());
        for id in ["HS-2", "HS-6", "DEP-1", "TR-5", "SEC-5"] {
            let holds = report.with("holds");
            assert!(holds.contains(&id), "{kept}\n{}", report.table());
        }
    }
}
