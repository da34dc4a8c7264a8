//! Beside kes-summed-ed25519, the Sum6KES in use elsewhere in Rust.

use std::time::Instant;

use kes_summed_ed25519::kes::Sum6Kes;
use kes_summed_ed25519::traits::KesSk;
use kes_wire::period::Evolution;
use kes_wire::sum6kes::{EVOLUTIONS, SignKey};
use kes_wire::sys::memory::LockedBytes;

use super::measure::{Pair, in_turns, median, nanoseconds};
use super::report::{Goal, Report, Row};

const AGAINST: &str = "kes-summed-ed25519";
const SEED: [u8; 32] = [7; 32];
/// Lives that are measured evolution by evolution.
const LIVES: usize = 100;

pub(crate) fn measure(report: &mut Report) {
    let mut buffer = [0; Sum6Kes::SIZE + 4];
    let pair = in_turns(
        300,
        1,
        || SignKey::from_seed(seed()).unwrap(),
        || {
            let mut seed = SEED;
            Sum6Kes::keygen(&mut buffer, &mut seed).1
        },
    );
    report.add(Row::of(
        "key generation from a seed",
        pair,
        AGAINST,
        Goal::None,
    ));

    let mut seed_bytes = SEED;
    let (their_key, their_root) = Sum6Kes::keygen(&mut buffer, &mut seed_bytes);
    let key = SignKey::from_seed(seed()).unwrap();
    assert_eq!(
        key.verification_key().0,
        their_root.as_bytes()[..],
        "the same key"
    );
    // As long as the body of a real block header.
    let message = [0x5a; 556];
    let pair = in_turns(
        1000,
        8,
        || key.sign(&message).unwrap(),
        || their_key.sign(&message),
    );
    report.add(Row::of(
        "sign 556 bytes",
        pair,
        AGAINST,
        Goal::TimesFaster(2.0),
    ));

    let steps = evolutions();
    let worst = Pair {
        ours: steps.iter().map(|s| s.ours).fold(0.0, f64::max),
        theirs: steps.iter().map(|s| s.theirs).fold(0.0, f64::max),
    };
    let goal = Goal::TimesFaster(50.0);
    report.add(Row::of("worst of the 63 evolutions", worst, AGAINST, goal));
    report.add(Row::of("evolution 31 to 32", steps[31], AGAINST, goal));
    let all = Pair {
        ours: steps.iter().map(|s| s.ours).sum(),
        theirs: steps.iter().map(|s| s.theirs).sum(),
    };
    report.add(Row::of("all 63 evolutions", all, AGAINST, Goal::None));
}

fn seed() -> LockedBytes<32> {
    let mut seed = LockedBytes::zeroed().unwrap();
    *seed.expose_mut() = SEED;
    seed
}

/// The median of each evolution, from 0 to 1 up to 62 to 63.
fn evolutions() -> Vec<Pair> {
    let mut times = vec![(Vec::new(), Vec::new()); EVOLUTIONS as usize - 1];
    for _ in 0..LIVES {
        let mut key = SignKey::from_seed(seed()).unwrap();
        let mut buffer = [0; Sum6Kes::SIZE + 4];
        let mut seed_bytes = SEED;
        let (mut their_key, _) = Sum6Kes::keygen(&mut buffer, &mut seed_bytes);
        for (next, (ours, theirs)) in (1..).map(Evolution).zip(&mut times) {
            let begin = Instant::now();
            key.evolve_to(next).unwrap();
            ours.push(nanoseconds(begin.elapsed()));
            let begin = Instant::now();
            their_key.update().unwrap();
            theirs.push(nanoseconds(begin.elapsed()));
        }
    }
    times
        .into_iter()
        .map(|(ours, theirs)| Pair {
            ours: median(ours),
            theirs: median(theirs),
        })
        .collect()
}
