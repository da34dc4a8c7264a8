//! Signing throughput on one and two threads, against raw Ed25519.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use kes_wire::period::KesPeriod;
use kes_wire::sys::sodium;

use super::super::measure::{Pair, median, nanoseconds};
use super::super::report::{Goal, Report, Row};
use super::{MESSAGE, Node, PERIOD};

const SLICES: usize = 80;
const SLICE: Duration = Duration::from_millis(30);

pub(super) fn measure(report: &mut Report) {
    let mut node = Node::new();
    let key = node.key_at(0);
    node.receives(&key);
    let (mut secret, mut public) = ([0; 64], [0; 32]);
    sodium::ed25519_keypair(&[7; 32], &mut secret, &mut public);
    let ours = || {
        black_box(node.hot_key.sign(KesPeriod(PERIOD), black_box(&MESSAGE))).unwrap();
    };
    let theirs = || {
        let mut signature = [0; 64];
        sodium::ed25519_sign(black_box(&secret), black_box(&MESSAGE), &mut signature);
        black_box(signature);
    };
    for threads in [1, 2] {
        let mut times = (Vec::new(), Vec::new());
        for slice in 0..SLICES {
            // Each goes first half the time.
            if slice % 2 == 0 {
                times.0.push(per_signature(threads, &ours));
            }
            times.1.push(per_signature(threads, &theirs));
            if slice % 2 == 1 {
                times.0.push(per_signature(threads, &ours));
            }
        }
        let pair = Pair {
            ours: median(times.0),
            theirs: median(times.1),
        };
        let plural = if threads == 1 { "" } else { "s" };
        report.add(Row::of(
            format!("throughput of {threads} thread{plural}, for each signature"),
            pair,
            "raw Ed25519 on as many threads",
            Goal::AtMostTimes(1.10),
        ));
    }
}

/// Nanoseconds of the wall clock for each signature that all threads together make.
fn per_signature(threads: usize, sign: &(impl Fn() + Sync)) -> f64 {
    let barrier = Barrier::new(threads);
    let counts: Vec<u32> = thread::scope(|scope| {
        let run = || {
            // The first locks the thread's secret stack.
            sign();
            barrier.wait();
            let end = Instant::now() + SLICE;
            let mut count = 0;
            while Instant::now() < end {
                sign();
                count += 1;
            }
            count
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    });
    nanoseconds(SLICE) / f64::from(counts.iter().sum::<u32>())
}
