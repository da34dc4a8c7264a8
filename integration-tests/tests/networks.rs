//! Networks of two to seven agents under random restarts, cut links, wrong clocks, drops and
//! installs, from a seed that is printed. In the end, connected agents hold the same but for those that refuse each
//! other by rule; nothing that an agent has seen dropped comes back there; and a node at each agent
//! has a key that is right for the period.
//!
//! The rule by which a state replaces another is written here once more, from the deployed
//! protocol's description and not from the agent's code.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::peers_harness::{Network, wait, within_patience};
use integration_tests::watcher::{Served, Watcher};

/// The period by this machine's clock; an hour each.
const PERIOD: u64 = 5;

const MINUTE: i64 = 60 * 1_000_000;

/// How wrong a clock may be: within what a stamp may be ahead, beyond it, and by whole periods.
const WRONG: [i64; 6] = [-120, -20, -4, 4, 20, 120];

/// Certificates start before the period of the slowest clock.
const LATEST_START: u64 = PERIOD - 2;

/// Whether a state replaces another: a newer stamp (a drop also at the same one), and, where both
/// are keys, a counter that is not lower.
fn replaces(theirs: Served, ours: Served) -> bool {
    match (theirs, ours) {
        (
            Served::Key {
                stamp: theirs,
                opcert,
                ..
            },
            Served::Key {
                stamp: ours,
                opcert: our_opcert,
                ..
            },
        ) => theirs > ours && opcert.counter >= our_opcert.counter,
        (Served::Key { stamp: theirs, .. }, Served::Dropped { stamp: ours })
        | (Served::Dropped { stamp: theirs }, Served::Dropped { stamp: ours }) => theirs > ours,
        (Served::Dropped { stamp: theirs }, Served::Key { stamp: ours, .. }) => theirs >= ours,
    }
}

/// What a state is, without the evolution at which it was sent.
fn content(served: Served) -> String {
    match served {
        Served::Key { stamp, opcert, .. } => format!("key {} of {stamp}", opcert.kes_vkey),
        Served::Dropped { stamp } => format!("drop of {stamp}"),
    }
}

fn evolution(served: Served) -> u32 {
    match served {
        Served::Key { evolution, .. } => evolution.0,
        Served::Dropped { .. } => 0,
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

/// One run: the agents, and a node at each that runs.
struct Run {
    network: Network,
    nodes: Vec<Option<Watcher>>,
    random: Random,
    /// The highest counter that was ever certified.
    counter: u64,
    /// The newest drop that each agent has seen, in all its lives.
    dropped: Vec<u64>,
    /// The same, when its present life began.
    dropped_before_this_life: Vec<u64>,
}

impl Run {
    fn new(network: Network, seed: u64) -> Self {
        let all = network.len();
        let nodes = (0..all).map(|_| None).collect();
        let mut run = Self {
            network,
            nodes,
            random: Random(seed),
            counter: 5,
            dropped: vec![0; all],
            dropped_before_this_life: vec![0; all],
        };
        for n in 0..all {
            run.start(n);
        }
        run
    }

    fn start(&mut self, n: usize) {
        self.dropped_before_this_life[n] = self.dropped[n];
        self.network.start(n);
        self.nodes[n] = Some(Watcher::start(&self.network.service_path(n)));
    }

    fn stop(&mut self, n: usize) {
        self.check(n);
        self.nodes[n] = None;
        self.network.stop(n);
    }

    fn running(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// Something happens.
    fn step(&mut self) -> String {
        let n = self.random.below(self.nodes.len());
        let links: Vec<(usize, usize)> = self.network.links().keys().copied().collect();
        match self.random.below(12) {
            0 if !self.network.runs(n) => {
                self.start(n);
                format!("agent {n} starts")
            }
            // The last one that runs stays: with it the key would go.
            0 if self.running() > 1 => {
                self.stop(n);
                format!("agent {n} stops")
            }
            1 if self.network.runs(n) => {
                self.stop(n);
                self.start(n);
                format!("agent {n} restarts")
            }
            2 | 3 => {
                let (from, to) = links[self.random.below(links.len())];
                let link = &self.network.links()[&(from, to)];
                if link.is_cut() {
                    link.mend();
                    format!("link {from}-{to} is mended")
                } else {
                    link.cut();
                    format!("link {from}-{to} is cut")
                }
            }
            4 => {
                self.cut_off(n);
                let m = self.random.below(self.nodes.len());
                if m == n || !self.network.runs(n) || !self.network.runs(m) {
                    return format!("agent {n} is cut off");
                }
                // Two operators who do not know of each other: the later one has the lower counter.
                self.cut_off(m);
                self.counter += 1;
                let first = self.network.try_install(n, self.counter, LATEST_START);
                let second = self.network.try_install(m, self.counter - 1, LATEST_START);
                let (first, second) = (first.status, second.status);
                format!("agents {n} and {m} are cut off, and install: {first}, {second}")
            }
            5 => {
                self.mend_all();
                "all links are mended".to_owned()
            }
            6 if self.network.runs(n) => {
                let output = self.network.command(n, &["drop-active"]);
                format!("drop at agent {n}: {}", output.status)
            }
            7..=9 if self.network.runs(n) => {
                // Lower, equal or higher than what may be anywhere: some are refused, and some are
                // what another agent then refuses.
                let counter = self.counter - 1 + self.random.below(3) as u64;
                self.counter = self.counter.max(counter);
                let start = LATEST_START - self.random.below(3) as u64;
                let output = self.network.try_install(n, counter, start);
                format!("counter {counter} at agent {n}: {}", output.status)
            }
            10 => {
                let minutes = WRONG[self.random.below(WRONG.len())];
                self.network.set_clock(n, minutes * MINUTE);
                format!("the clock of agent {n} is {minutes} minutes off")
            }
            11 => {
                self.network.set_clock(n, 0);
                format!("the clock of agent {n} is right")
            }
            _ => "nothing".to_owned(),
        }
    }

    fn cut_off(&self, n: usize) {
        for ((from, to), link) in self.network.links() {
            if *from == n || *to == n {
                link.cut();
            }
        }
    }

    fn mend_all(&self) {
        for link in self.network.links().values() {
            link.mend();
        }
    }

    /// What the node at agent `n` was sent in the agent's present life only ever went forward by
    /// the rule: no drop was undone, no counter fell but over a drop, and no key was sent at an
    /// evolution of before. A drop is not undone in a later life either.
    fn check(&mut self, n: usize) {
        let Some(node) = &self.nodes[n] else { return };
        let seen = node.seen().concat();
        for two in seen.windows(2) {
            let (before, after) = (two[0], two[1]);
            let is_same =
                content(before) == content(after) && evolution(before) <= evolution(after);
            assert!(
                is_same || replaces(after, before),
                "agent {n} went back: {seen:#?}"
            );
        }
        for served in &seen {
            match served {
                Served::Dropped { stamp } => self.dropped[n] = self.dropped[n].max(*stamp),
                Served::Key { stamp, .. } => {
                    // Within a life the order was looked at above; a newer drop may have followed.
                    let earlier = self.dropped_before_this_life[n];
                    assert!(
                        *stamp > earlier,
                        "agent {n} undid a drop of {earlier}: {seen:#?}"
                    );
                }
            }
        }
    }

    fn newest(&self) -> Vec<Option<Served>> {
        let newest = |node: &Option<Watcher>| node.as_ref().and_then(Watcher::newest);
        self.nodes.iter().map(newest).collect()
    }

    /// Whether nobody follows an agent whose state would replace its own.
    fn is_settled(&self) -> bool {
        let before = self.newest();
        let settled = self.network.links().keys().all(|(follower, followed)| {
            match (before[*followed], before[*follower]) {
                (Some(theirs), Some(ours)) => !replaces(theirs, ours),
                (Some(theirs), None) => self.remembers_better(*follower, *followed, theirs),
                (None, _) => true,
            }
        });
        // Nothing was under way while this was looked at.
        std::thread::sleep(std::time::Duration::from_millis(20));
        settled && self.newest() == before
    }

    /// Whether an agent that lost its key declines this state by what it remembers: a drop, or a
    /// later key of a higher counter.
    fn remembers_better(&self, n: usize, peer: usize, theirs: Served) -> bool {
        let Some(status) = self.network.status(n) else {
            return false;
        };
        let link = format!("{n}-{peer}.link");
        let peers = status["peers"].as_array().unwrap();
        let entry = peers.iter().find(|entry| entry["address"] == *link);
        let answer = entry.and_then(|entry| entry["last_answer"]["code"].as_str());
        let mark = status["counter_high_water_mark"].as_u64();
        match (answer, theirs) {
            (Some("below-mark"), Served::Key { opcert, .. }) => Some(opcert.counter) < mark,
            (Some("dropped-since"), Served::Key { stamp, .. }) => stamp <= self.dropped[n],
            (Some("older"), Served::Dropped { .. }) => mark.is_some(),
            _ => false,
        }
    }

    /// What each agent says and each node has, for a person to look at.
    fn shown(&self) -> Vec<String> {
        let all = self.newest().into_iter().enumerate();
        all.map(|(n, newest)| {
            let peers = self.network.status(n).map(|status| status["peers"].clone());
            let (held, dropped) = (self.network.held(n), self.dropped[n]);
            format!("agent {n}: {held}, knows a drop of {dropped}; node: {newest:?}; {peers:?}")
        })
        .collect()
    }

    /// Those that differ refuse each other by rule, and their operators are told so.
    fn refusals_are_told(&self) -> usize {
        let newest = self.newest();
        let mut told = 0;
        for (follower, followed) in self.network.links().keys() {
            let (Some(theirs), Some(ours)) = (newest[*followed], newest[*follower]) else {
                continue;
            };
            let is_same = content(theirs) == content(ours);
            if is_same || replaces(theirs, ours) || replaces(ours, theirs) {
                continue;
            }
            wait("the operator is told", || {
                let status = self.network.status(*follower).unwrap();
                let peers = status["peers"].as_array().unwrap();
                let link = format!("{follower}-{followed}.link");
                peers
                    .iter()
                    .any(|peer| peer["address"] == *link && peer["hint"]["code"] == "each-refuses")
            });
            told += 1;
        }
        told
    }

    /// All hold this agent's newest key, and hand it to their nodes as it is right for the period.
    fn all_have_the_key_of(&self, n: usize, now: u64) {
        wait("agreement on the newest", || {
            let newest = self.newest();
            let Some(wanted @ Served::Key { opcert, .. }) = newest[n] else {
                return false;
            };
            // Before the node has heard of the install, all may agree on the key before it.
            if opcert.counter != self.counter {
                return false;
            }
            newest
                .iter()
                .all(|held| held.is_some_and(|held| content(held) == content(wanted)))
        });
        for (n, held) in self.newest().into_iter().enumerate() {
            let Some(Served::Key {
                opcert, evolution, ..
            }) = held
            else {
                panic!("agent {n}: {held:?}")
            };
            let period = opcert.start_period.0 + u64::from(evolution.0);
            assert_eq!(period, now, "agent {n}");
        }
    }
}

fn converges(shape: &str, follows: Vec<Vec<usize>>) {
    let seed = number("KES_PEERS_SEED").unwrap_or_else(|| {
        let time = kes_wire::unix_time::UnixTime::now().0;
        time << 8 | u64::from(std::process::id() & 0xff) | 1
    });
    let steps = number("KES_PEERS_STEPS").unwrap_or(25);
    println!("{shape}: KES_PEERS_SEED={seed} KES_PEERS_STEPS={steps}");
    let mut run = Run::new(Network::with_clocks(follows), seed);
    let all = run.nodes.len();
    for step in 0..steps {
        let what = run.step();
        println!("{shape}: step {step}: {what}");
        for n in 0..all {
            run.check(n);
        }
    }
    run.mend_all();
    for n in 0..all {
        if !run.network.runs(n) {
            run.start(n);
        }
    }
    // Time goes on: three hours later, all clocks are right, and no stamp lies ahead of any.
    for n in 0..all {
        run.network.set_clock(n, 180 * MINUTE);
    }
    let is_settled = within_patience(|| run.is_settled());
    assert!(
        is_settled,
        "somebody has what another would take: {:#?}",
        run.shown()
    );
    let told = run.refusals_are_told();
    println!("{shape}: {told} links between two that refuse each other");
    // An operator settles it: the highest counter, and the newest stamp.
    let n = run.random.below(all);
    run.counter += 1;
    run.network.install(n, run.counter, LATEST_START);
    run.all_have_the_key_of(n, PERIOD + 3);
    for n in 0..all {
        run.check(n);
    }
}

fn line(n: usize) -> Vec<Vec<usize>> {
    (0..n)
        .map(|i| (0..n).filter(|j| i.abs_diff(*j) == 1).collect())
        .collect()
}

fn ring(n: usize) -> Vec<Vec<usize>> {
    (0..n).map(|i| vec![(i + 1) % n]).collect()
}

fn full(n: usize) -> Vec<Vec<usize>> {
    let others = |i| (0..n).filter(move |j| *j != i).collect();
    (0..n).map(others).collect()
}

#[test]
fn two_that_follow_each_other() {
    converges("two", full(2));
}

#[test]
fn a_full_network_of_three() {
    converges("full of three", full(3));
}

#[test]
fn a_line_of_four() {
    converges("line of four", line(4));
}

#[test]
fn a_ring_of_five() {
    converges("ring of five", ring(5));
}

#[test]
fn a_full_network_of_six() {
    converges("full of six", full(6));
}

#[test]
fn a_line_of_seven() {
    converges("line of seven", line(7));
}

#[test]
fn a_ring_of_seven() {
    converges("ring of seven", ring(7));
}
