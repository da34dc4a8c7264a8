//! A pool for as long as one likes: two agents that follow each other, nodes that sign and are
//! verified with an independent Sum6KES at every period, an operator who does what a seed says,
//! restarts with kept memory, crashes, and periods of two seconds. Memory and descriptors stay flat.
//!
//! `KES_SOAK_SECONDS` says how long (15; `make soak`: an hour), `KES_SOAK_SEED` repeats a run. The
//! table and a plot go to `target/soak/`.
#![allow(missing_docs, clippy::unwrap_used)]

mod nodes;
mod pool;
mod samples;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nodes::Forger;
use pool::{Site, Which};
use samples::Samples;

/// Steps of the operator come so far apart.
const PACE: Duration = Duration::from_millis(400);

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |n| n.parse().expect("a number"))
}

/// A generator of numbers that a seed determines (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn a_pool_runs_on_and_on() {
    if kes_wire::sys::region::probe().is_err() {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
        return;
    }
    let seconds = number("KES_SOAK_SECONDS", 15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("KES_SOAK_SEED", u64::from(now.subsec_nanos()) | 1);
    println!("KES_SOAK_SEED={seed} KES_SOAK_SECONDS={seconds}");
    let mut chance = Chance(seed.max(1));

    let mut site = Site::new();
    let nodes = [
        Forger::start(&site, Which::First),
        Forger::start(&site, Which::First),
        Forger::start(&site, Which::Steady),
    ];
    site.rotate(Which::First);
    let begun = Instant::now();
    let lasts = Duration::from_secs(seconds);
    let mut samples = Samples::new(lasts);
    while begun.elapsed() < lasts {
        step(&mut site, &mut chance);
        let wanted = site.active_vkey();
        for node in &nodes {
            node.await_key(wanted);
        }
        let signatures = nodes.iter().map(Forger::signatures).sum();
        samples.take(begun.elapsed(), &mut site, signatures);
        std::thread::sleep(PACE);
    }
    let verified: Vec<_> = nodes.into_iter().map(Forger::end).collect();
    let report = samples.report(seed, &site.counts, &verified);
    println!("{report}");
    println!("Written to {}", samples.write(&report).display());
    for (node, periods) in verified.iter().enumerate() {
        assert_eq!(
            periods.missed, 0,
            "node {node} had no signature in some periods: {:?}",
            periods.why
        );
        assert!(periods.signed > 0);
    }
    let grown = samples.grown();
    assert!(grown.is_empty(), "{grown:?}");
}

/// Something that an operator, a machine or a fault does.
fn step(site: &mut Site, chance: &mut Chance) {
    let which = if chance.below(2) == 0 {
        Which::First
    } else {
        Which::Steady
    };
    // No key outlives its evolutions.
    if site.periods_since_rotation() > 40 {
        return site.rotate(which);
    }
    match chance.below(20) {
        0..=4 => site.rotate(which),
        5 => site.schedule(which),
        6 => site.keygen_and_drop(which),
        7 => site.drop_and_rotate(which),
        8..=9 => site.restart_first(),
        10..=11 => site.kill_first(),
        12 => site.reload(which),
        13..=15 => site.probe(which),
        _ => site.status(which),
    }
}
