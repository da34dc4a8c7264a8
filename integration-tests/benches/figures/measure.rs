//! Taking times in turns.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Medians, in nanoseconds, of two kinds of work measured in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) theirs: f64,
}

/// Measures `ours` and `theirs` in turns, `samples` times each. A sample repeats its work
/// `batch` times, so that the clock's own cost does not show.
pub(crate) fn in_turns<A, B>(
    samples: usize,
    batch: u32,
    mut ours: impl FnMut() -> A,
    mut theirs: impl FnMut() -> B,
) -> Pair {
    let mut times = (Vec::new(), Vec::new());
    for round in 0..samples + samples / 10 {
        // Each goes first half the time: what the first leaves behind (caches, frequency) is
        // shared out.
        let (a, b) = if round % 2 == 0 {
            let a = time(batch, &mut ours);
            (a, time(batch, &mut theirs))
        } else {
            let b = time(batch, &mut theirs);
            (time(batch, &mut ours), b)
        };
        // The first tenth warms up.
        if round >= samples / 10 {
            times.0.push(a);
            times.1.push(b);
        }
    }
    Pair {
        ours: median(times.0),
        theirs: median(times.1),
    }
}

fn time<R>(batch: u32, work: &mut impl FnMut() -> R) -> f64 {
    let begin = Instant::now();
    for _ in 0..batch {
        black_box(work());
    }
    nanoseconds(begin.elapsed()) / f64::from(batch)
}

/// A duration in nanoseconds.
pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The middle one; of an even number, the upper of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    at_share(&mut values, 0.5)
}

/// The value that this share of the values stands below: 0.5 gives the median, 0.95 is called p95.
pub(crate) fn at_share(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}
