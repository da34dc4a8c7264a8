//! A signing thread while the agent replaces the key 1,000 times a second.
//!
//! It stands against the same thread while another node in this process is served the same keys at
//! the same rate: the load on the machine is the same, but nothing is replaced under the thread.
//!
//! Where there are two processors, the signing thread has one and the agent and the receiving side
//! the other. Signatures in which the scheduler gave the processor to somebody else are set aside,
//! on both sides, and told; those in which the thread waited by itself, as for a lock, are not.
//! The two are measured in pairs of short slices, one just after the other, each first half the
//! time. What stands in the table is the median of all slices' percentiles without replacement, and
//! that plus the median of the pairs' differences: a machine that is slower for a while is so for
//! both of a pair, and a burst of somebody else's work weighs as one pair. The worst is that of all.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kes_wire::hot_key::HotKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::sum6kes::SignKey;

use super::super::measure::median;
use super::super::report::{Goal, Report, Row};
use super::scheduler::{Stopwatch, roam, stay_on};
use super::{MESSAGE, Node, PERIOD, percentile, plots};

/// Replacements are this far apart.
const PAUSE: Duration = Duration::from_millis(1);
/// Each of the two is measured so often for so long.
const PAIRS: usize = 240;
const SLICE: Duration = Duration::from_millis(100);
/// The evolution of the keys: a check of one then takes 7 leaves' Ed25519 keys, about 200 us.
const EVOLUTION: u32 = 56;

const UNDER: &str = "sign while the key is replaced 1,000 times a second";
const AGAINST: &str = "the same while another node's key is replaced";

pub(super) fn measure(report: &mut Report) {
    stay_on(1);
    let mut signing = Node::new();
    let mut other = Node::new();
    let (mut plain, mut replaced, mut around) = (Vec::new(), Vec::new(), Vec::new());
    let (ours, theirs) = (keys(&signing), keys(&other));
    signing.receives(&ours[0]);
    let (mut replacements, mut set_aside) = (0, 0);
    for slice in 0..PAIRS * 2 {
        let hot_key = signing.hot_key.clone();
        // Plain first, replaced first, and so on.
        let is_plain = matches!(slice % 4, 0 | 3);
        let (node, keys) = if is_plain {
            (&mut other, &theirs)
        } else {
            (&mut signing, &ours)
        };
        let stop = AtomicBool::new(false);
        let sent = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| replace(node, keys, &stop, &sent));
            let signing = scope.spawn(|| sign_for_a_slice(&hot_key));
            let slice = signing.join().unwrap();
            set_aside += slice.set_aside;
            if !slice.around.is_empty() {
                // Beside the same slice's: where the machine is slow, replacements are many and
                // signatures few.
                around.push(percentile(&slice.around, 0.5) - percentile(&slice.all, 0.5));
            }
            let slices = if is_plain { &mut plain } else { &mut replaced };
            slices.push(slice.all);
            stop.store(true, Ordering::Relaxed);
        });
        if !is_plain {
            replacements += sent.load(Ordering::Relaxed);
        }
    }
    roam();
    let all: usize = plain.iter().chain(&replaced).map(Vec::len).sum();
    println!("set aside, as the scheduler interrupted them: {set_aside} signatures beside {all}");
    let plain_median = usual(&plain, 0.5);
    report.add(Row {
        name: "sign just before and after the key is replaced, median".to_owned(),
        value: plain_median + median(around),
        unit: "us",
        against: Some(("a plain signature, median", plain_median)),
        goal: Goal::AtMostMore(1.0),
    });
    add_rows(report, &plain, &replaced, replacements);
    plots::replacement(&together(plain), &together(replaced));
}

/// Times of one slice in microseconds, sorted.
#[derive(Default)]
struct Slice {
    all: Vec<f64>,
    /// Of those the ones around a replacement: the first signature with the new key, and the one
    /// before it, under which the replacement happened.
    around: Vec<f64>,
    set_aside: u32,
}

fn sign_for_a_slice(hot_key: &HotKey) -> Slice {
    stay_on(0);
    hot_key.prepare_this_thread().unwrap();
    let sign = || black_box(hot_key.sign(KesPeriod(PERIOD), black_box(&MESSAGE))).unwrap();
    // Whatever takes half as long again as the usual is suspicious.
    let mut any = Stopwatch::new(f64::MAX);
    let usual = (0..99).filter_map(|_| any.time(|| _ = sign()));
    let mut watch = Stopwatch::new(median(usual.collect()) * 1.5);
    let mut slice = Slice::default();
    let (mut key, mut before) = (sign().opcert.kes_vkey, None);
    let end = Instant::now() + SLICE;
    while Instant::now() < end {
        let mut signed = None;
        let took = watch.time(|| signed = Some(sign()));
        let signer = signed.expect("it was timed").opcert.kes_vkey;
        if signer != key {
            slice.around.extend(before.into_iter().chain(took));
            key = signer;
        }
        slice.all.extend(took);
        before = took;
    }
    slice.all.sort_by(f64::total_cmp);
    slice.around.sort_by(f64::total_cmp);
    slice.set_aside = watch.set_aside;
    slice
}

/// Two keys of a node, which take turns.
fn keys(node: &Node) -> [(SignKey, OpCert); 2] {
    [node.key_at(EVOLUTION), node.key_at(EVOLUTION)]
}

fn replace(node: &mut Node, keys: &[(SignKey, OpCert); 2], stop: &AtomicBool, sent: &AtomicU64) {
    let begin = Instant::now();
    for number in 1..=u32::MAX {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        node.receives(&keys[number as usize % 2]);
        sent.fetch_add(1, Ordering::Relaxed);
        // By the clock: after a late one, the next come sooner.
        thread::sleep((PAUSE * number).saturating_sub(begin.elapsed()));
    }
}

/// All slices' times, sorted.
fn together(slices: Vec<Vec<f64>>) -> Vec<f64> {
    let mut times = slices.concat();
    times.sort_by(f64::total_cmp);
    times
}

/// The median of the slices' percentiles.
fn usual(slices: &[Vec<f64>], fraction: f64) -> f64 {
    median(
        slices
            .iter()
            .map(|times| percentile(times, fraction))
            .collect(),
    )
}

/// The longest time of all.
fn worst(slices: &[Vec<f64>]) -> f64 {
    slices.iter().flatten().copied().fold(0.0, f64::max)
}

fn add_rows(report: &mut Report, plain: &[Vec<f64>], replaced: &[Vec<f64>], replacements: u64) {
    let mut add = |name: &str, replaced: f64, plain: f64, goal: Goal| {
        report.add(Row {
            name: format!("{UNDER}, {name}"),
            value: replaced,
            unit: "us",
            against: Some((AGAINST, plain)),
            goal,
        });
    };
    for (name, fraction, goal) in [
        ("median", 0.5, Goal::None),
        ("p99", 0.99, Goal::None),
        ("p99.9", 0.999, Goal::AtMostMore(1.0)),
    ] {
        let more = plain
            .iter()
            .zip(replaced)
            .map(|(plain, replaced)| percentile(replaced, fraction) - percentile(plain, fraction));
        let plain = usual(plain, fraction);
        add(name, plain + median(more.collect()), plain, goal);
    }
    add("worst", worst(replaced), worst(plain), Goal::None);
    #[allow(clippy::cast_precision_loss)]
    report.add(Row {
        name: "replacements that were made a second".to_owned(),
        value: replacements as f64 / (SLICE.as_secs_f64() * PAIRS as f64),
        unit: "/s",
        against: None,
        goal: Goal::None,
    });
}
