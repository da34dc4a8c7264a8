//! What the first signature of a period costs more than a plain one, at each boundary of a key's
//! life: with the hot key, and where the key evolves under a lock when it is asked, as the
//! reference node does it.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;

use kes_summed_ed25519::kes::Sum6Kes;
use kes_summed_ed25519::traits::KesSk;
use kes_wire::hot_key::Event;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::sum6kes::{EVOLUTIONS, SignKey};

use super::super::measure::median;
use super::super::report::{Goal, Report, Row};
use super::scheduler::Stopwatch;
use super::{MESSAGE, Node, PERIOD, plots};

/// Keys that are followed from evolution 0 to 63.
const LIVES: usize = 60;
const BOUNDARIES: usize = EVOLUTIONS as usize - 1;
const PATIENCE: Duration = Duration::from_secs(10);

/// For each boundary, how long its first signature took beyond a plain one, in microseconds, in
/// every life in which the scheduler did not interrupt it.
pub(super) type HeldUp = Vec<Vec<f64>>;

pub(super) fn measure(report: &mut Report) {
    let mut ours = vec![Vec::new(); BOUNDARIES];
    let (mut locked, mut summed) = (ours.clone(), ours.clone());
    let mut node = Node::new();
    for _ in 0..LIVES {
        hot_key_life(&mut node, &mut ours);
        sign_key_life(&mut locked);
        summed_life(&mut summed);
    }
    let worst = |held_up: &HeldUp| {
        let medians = held_up.iter().map(|times| median(times.clone()));
        medians.fold(f64::MIN, f64::max)
    };
    let single = |held_up: &HeldUp| held_up.iter().flatten().copied().fold(f64::MIN, f64::max);
    let boundary = "held up at the worst of 63 period boundaries";
    for (against, theirs) in [
        ("kes-summed-ed25519, evolving under a lock", &summed),
        ("this SignKey, evolving under a lock", &locked),
    ] {
        report.add(Row {
            name: boundary.to_owned(),
            value: worst(&ours),
            unit: "us",
            against: Some((against, worst(theirs))),
            goal: Goal::AtMost(5.0),
        });
    }
    report.add(Row {
        name: format!(
            "the longest single time of {} boundaries",
            LIVES * BOUNDARIES
        ),
        value: single(&ours),
        unit: "us",
        against: Some(("kes-summed-ed25519, evolving under a lock", single(&summed))),
        goal: Goal::None,
    });
    plots::boundaries(&ours, &locked, &summed);
}

/// What `turn` takes beyond the median of some plain signatures, in microseconds; `None` where the
/// scheduler interrupted it.
fn beyond(mut plain: impl FnMut(), turn: impl FnOnce()) -> Option<f64> {
    let mut watch = Stopwatch::new(0.0);
    let usual: Vec<f64> = (0..9).filter_map(|_| watch.time(&mut plain)).collect();
    let took = watch.time(turn)?;
    (!usual.is_empty()).then(|| took - median(usual))
}

fn hot_key_life(node: &mut Node, held_up: &mut HeldUp) {
    node.turn_to(PERIOD);
    node.agent.send_drop();
    let key = node.key_at(0);
    node.receives(&key);
    let events = node.hot_key.subscribe();
    let sign = |period| {
        black_box(node.hot_key.sign(KesPeriod(period), &MESSAGE)).unwrap();
    };
    for (period, held_up) in (PERIOD..).zip(held_up) {
        held_up.extend(beyond(|| sign(period), || sign(period + 1)));
        node.turn_to(period + 1);
        // The stage after is prepared when this is told.
        let is_told = |event: &Event| match event {
            Event::KeyInfo { key } | Event::KeyExpiresSoon { key } => {
                key.period() == KesPeriod(period + 1)
            }
            _ => false,
        };
        while !is_told(&events.recv_timeout(PATIENCE).unwrap()) {}
    }
}

fn sign_key_life(held_up: &mut HeldUp) {
    let key = Mutex::new(SignKey::generate().unwrap());
    let sign = |evolution| {
        let mut key = key.lock().unwrap();
        key.evolve_to(Evolution(evolution)).unwrap();
        black_box(key.sign(&MESSAGE)).unwrap();
    };
    for (evolution, held_up) in (0..).zip(held_up) {
        held_up.extend(beyond(|| sign(evolution), || sign(evolution + 1)));
    }
}

fn summed_life(held_up: &mut HeldUp) {
    let mut buffer = [0; Sum6Kes::SIZE + 4];
    let mut seed = [7; 32];
    let (key, _) = Sum6Kes::keygen(&mut buffer, &mut seed);
    let key = Mutex::new(key);
    for held_up in held_up {
        let plain = || {
            black_box(key.lock().unwrap().sign(&MESSAGE));
        };
        let turn = || {
            let mut key = key.lock().unwrap();
            key.update().unwrap();
            black_box(key.sign(&MESSAGE));
        };
        held_up.extend(beyond(plain, turn));
    }
}
