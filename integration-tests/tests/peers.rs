//! Agents that keep one another's key alive, as real programs.

#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::peers_harness::{Network, wait};

const PERIOD: u64 = 5;

/// Two agents that follow each other, both running.
fn two() -> Network {
    let mut network = Network::new(vec![vec![1], vec![0]]);
    network.start(0);
    network.start(1);
    for n in [0, 1] {
        wait("they follow each other", || {
            network.status(n).unwrap()["peers"][0]["state"]["state"] == "up"
        });
    }
    network
}

fn count(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn a_key_its_update_and_its_drop_reach_the_other_agent_and_go_no_further() {
    let network = two();
    network.install(0, 0, PERIOD);
    wait("the key", || network.held(1).starts_with("key"));
    let first = network.agreement();
    // Evolved at install, and so it arrives.
    network.install(1, 1, PERIOD - 3);
    wait("the update", || network.held(0) != first);
    let second = network.agreement();
    assert!(second.contains("at 3 "), "{second}");
    assert!(network.command(0, &["drop-active"]).status.success());
    wait("the drop", || network.held(1).starts_with("dropped"));
    assert!(network.agreement().starts_with("dropped"));
    // Each change was taken once, by the other one, and came back to be called equal.
    wait("every change comes back", || {
        count(&network.log(0), "holds the same") + count(&network.log(1), "holds the same") >= 3
    });
    let logs = [network.log(0), network.log(1)];
    assert_eq!(
        count(&logs[0], "taken from the peer agent"),
        1,
        "{}",
        logs[0]
    );
    assert_eq!(
        count(&logs[1], "taken from the peer agent"),
        2,
        "{}",
        logs[1]
    );
    assert_eq!(count(&logs[0], "holds the same"), 2, "{}", logs[0]);
    assert_eq!(count(&logs[1], "holds the same"), 1, "{}", logs[1]);
    for log in logs {
        assert_eq!(count(&log, "declined"), 0, "{log}");
        assert_eq!(count(&log, "connected to the peer agent"), 1, "{log}");
    }
}

#[test]
fn either_agent_heals_from_the_other() {
    let mut network = two();
    network.install(0, 0, PERIOD);
    wait("the key", || network.held(1).starts_with("key"));
    let held = network.agreement();
    for n in [0, 1, 0] {
        network.stop(n);
        assert_eq!(network.held(1 - n), held);
        network.start(n);
        wait("the key again", || network.held(n) == held);
    }
    // A drop is sent on connect like a key, and never undone.
    network.stop(0);
    assert!(network.command(1, &["drop-active"]).status.success());
    network.start(0);
    wait("the drop", || network.held(0).starts_with("dropped"));
}

#[test]
fn status_tells_of_a_peer_that_is_away() {
    let mut network = two();
    network.install(0, 0, PERIOD);
    wait("the key", || network.held(1).starts_with("key"));
    let peer = |network: &Network| network.status(0).unwrap()["peers"][0].clone();
    wait("the connection", || {
        peer(&network)["state"]["state"] == "up"
    });
    network.stop(1);
    wait("the loss is seen", || {
        peer(&network)["state"]["state"] == "down"
    });
    assert_eq!(peer(&network)["hint"]["code"], "needed-only-to-heal");
    network.start(1);
    wait("the peer is up", || {
        peer(&network)["state"]["state"] == "up"
    });
    wait("the healed peer", || {
        peer(&network)["last_answer"]["code"] == "equal"
    });
}

#[test]
fn an_older_key_does_not_undo_a_drop() {
    let mut network = Network::new(vec![vec![1, 2], vec![], vec![1]]);
    network.start(0);
    network.start(1);
    network.install(1, 0, PERIOD);
    wait("the key", || network.held(0).starts_with("key"));
    assert!(network.command(0, &["drop-active"]).status.success());
    let dropped = network.held(0);
    // Agent 2 has the key from agent 1, which has not heard of the drop, and offers it.
    network.start(2);
    wait("the key is offered", || {
        count(&network.log(0), "answer=\"dropped-since\"") == 1
    });
    assert_eq!(network.held(0), dropped);
    assert!(network.held(2).starts_with("key"));
}

#[test]
fn each_holding_what_the_other_refuses_is_told_with_the_way_out() {
    let mut network = Network::new(vec![vec![1], vec![0]]);
    network.start(0);
    network.install(0, 7, PERIOD);
    // Agent 1 cannot see agent 0 for a while, which has nothing to be healed from agent 1.
    let socket = network.path().join("0.service");
    let away = network.path().join("0.away");
    std::fs::rename(&socket, &away).unwrap();
    network.start(1);
    network.install(1, 6, PERIOD);
    std::fs::rename(&away, &socket).unwrap();
    for n in [0, 1] {
        let peer = || network.status(n).unwrap()["peers"][0].clone();
        wait("each refuses", || {
            peer()["last_answer"]["code"] == "each-refuses"
        });
        let hint = peer()["hint"].clone();
        assert_eq!(hint["code"], "each-refuses");
        assert!(hint["sentence"].to_string().contains("drop-active"));
        wait("the log, which a thread of its own writes", || {
            network.log(n).contains("each holds what the other refuses")
        });
    }
    assert_ne!(network.held(0), network.held(1));
    network.install(1, 7, PERIOD);
    wait("agreement", || network.held(0) == network.held(1));
    for n in [0, 1] {
        let hint = network.status(n).unwrap()["peers"][0]["hint"].clone();
        assert!(hint.is_null(), "{hint}");
    }
}

#[test]
fn a_drop_on_one_side_of_a_split_reaches_the_other_and_is_not_undone() {
    let mut network = Network::linked(vec![vec![1], vec![0]]);
    network.start(0);
    network.start(1);
    network.install(0, 0, PERIOD);
    wait("the key", || network.held(1).starts_with("key"));
    for link in network.links().values() {
        link.cut();
    }
    let peer = |n: usize| network.status(n).unwrap()["peers"][0]["state"]["state"].clone();
    wait("the split is seen", || {
        peer(0) == "down" && peer(1) == "down"
    });
    assert!(network.command(0, &["drop-active"]).status.success());
    assert!(network.held(1).starts_with("key"), "nothing passes");
    for link in network.links().values() {
        link.mend();
    }
    // The reference would have the key back from the other side.
    wait("the drop", || network.held(1).starts_with("dropped"));
    assert!(network.agreement().starts_with("dropped"));
    assert_eq!(count(&network.log(0), "taken from the peer agent"), 0);
}
