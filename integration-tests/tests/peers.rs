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
        assert!(network.log(n).contains("each holds what the other refuses"));
    }
    assert_ne!(network.held(0), network.held(1));
    network.install(1, 7, PERIOD);
    wait("agreement", || network.held(0) == network.held(1));
    for n in [0, 1] {
        let hint = network.status(n).unwrap()["peers"][0]["hint"].clone();
        assert!(hint.is_null(), "{hint}");
    }
}

/// A small generator, so that a run is repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

/// `KES_PEERS_SEED` repeats a run, `KES_PEERS_STEPS` makes it longer.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

fn converges(shape: &str, follows: Vec<Vec<usize>>) {
    let seed = number("KES_PEERS_SEED").unwrap_or_else(|| u64::from(std::process::id()) | 1 << 40);
    let steps = number("KES_PEERS_STEPS").unwrap_or(12);
    println!("{shape}: KES_PEERS_SEED={seed} KES_PEERS_STEPS={steps}");
    let mut random = Random(seed);
    let mut network = Network::new(follows);
    let all = network.len();
    for n in 0..all {
        network.start(n);
    }
    let mut counter = 0;
    for step in 0..steps {
        let n = random.below(all);
        let running = (0..all).filter(|n| network.runs(*n)).count();
        let what = random.below(6);
        println!("{shape}: step {step}, agent {n}, {what}");
        match what {
            0 | 1 if !network.runs(n) => network.start(n),
            // The last one that runs stays: with it the key would go.
            0 | 1 if running > 1 => network.stop(n),
            2 if network.runs(n) => {
                let _ = network.command(n, &["drop-active"]);
            }
            // A cut and a return at once: its peers lose it and it loses them.
            3 if network.runs(n) => {
                network.stop(n);
                network.start(n);
            }
            // Counters only rise, so that no two states refuse each other by rule.
            4 | 5 if network.runs(n) => {
                network.install(n, counter, PERIOD - (counter % 3));
                counter += 1;
            }
            _ => {}
        }
    }
    for n in 0..all {
        if !network.runs(n) {
            network.start(n);
        }
    }
    network.install(random.below(all), counter, PERIOD);
    wait("agreement on the newest", || {
        let held = network.held(0);
        held.starts_with("key") && (1..all).all(|n| network.held(n) == held)
    });
    // Quiet: nobody is told anything anew once all agree.
    let lines = |network: &Network| -> usize {
        (0..all)
            .map(|n| count(&network.log(n), "taken from the peer agent"))
            .sum()
    };
    let before = lines(&network);
    let _ = network.agreement();
    assert_eq!(lines(&network), before);
}

fn line(n: usize) -> Vec<Vec<usize>> {
    (0..n)
        .map(|i| (0..n).filter(|j| i.abs_diff(*j) == 1).collect())
        .collect()
}

#[test]
fn a_line_of_four_converges() {
    converges("line", line(4));
}

#[test]
fn a_ring_of_five_converges() {
    converges("ring", (0..5).map(|i| vec![(i + 1) % 5]).collect());
}

fn full(n: usize) -> Vec<Vec<usize>> {
    let others = |i| (0..n).filter(move |j| *j != i).collect();
    (0..n).map(others).collect()
}

#[test]
fn a_full_network_of_three_converges() {
    converges("full", full(3));
}

#[test]
fn two_that_follow_each_other_converge() {
    converges("two", full(2));
}

#[test]
fn a_line_of_seven_converges() {
    converges("line", line(7));
}

#[test]
fn a_full_network_of_six_converges() {
    converges("full", full(6));
}
