//! Every interleaving of requests, turns, swaps and drops, by the model checker loom.
//!
//! `stage.rs` is compiled here a second time, over loom's `Arc` and a place that loom can look
//! into. What arc-swap promises of a place (a load, a store and a compare-and-swap each happen at
//! one moment) is taken for granted; what is checked is what the stages make of it.

/// What [`super::sync`] is, of loom.
mod sync {
    pub(super) use loom::sync::Arc;
    use loom::sync::Mutex;

    pub(super) struct Place<T>(Mutex<Arc<T>>);

    impl<T> Place<T> {
        pub(super) fn new(first: Arc<T>) -> Self {
            Self(Mutex::new(first))
        }

        pub(super) fn load(&self) -> Box<Arc<T>> {
            Box::new(self.0.lock().unwrap().clone())
        }

        pub(super) fn put(&self, new: Arc<T>) {
            let former = core::mem::replace(&mut *self.0.lock().unwrap(), new);
            drop(former);
        }

        pub(super) fn put_if(&self, seen: &Arc<T>, new: Arc<T>) -> bool {
            let mut present = self.0.lock().unwrap();
            let is_the_same = super::FORGETFUL.get() || Arc::ptr_eq(&present, seen);
            let former = is_the_same.then(|| core::mem::replace(&mut *present, new));
            drop(present);
            former.is_some()
        }
    }
}

#[allow(
    clippy::duplicate_mod,
    reason = "the point of it: the same source over other types"
)]
#[path = "stage.rs"]
mod stage;

use core::cell::Cell;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use self::stage::{Stage, Turnstile};
use crate::period::KesPeriod;

std::thread_local! {
    /// Makes the compare-and-swap of the model an unconditional store: the models below must
    /// notice.
    static FORGETFUL: Cell<bool> = const { Cell::new(false) };
}

/// What signs in the model: a key's evolution, counted while it is in memory.
#[derive(Clone)]
struct Signer(
    #[expect(dead_code, reason = "held for its end")] Arc<Secret>,
    Name,
);

/// Which key, and for which period.
type Name = (char, u64);

struct Secret(Arc<AtomicUsize>);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Secrets in memory.
#[derive(Clone)]
struct Memory(Arc<AtomicUsize>);

impl Memory {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn signer(&self, key: char, period: u64) -> Option<Signer> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let secret = Arc::new(Secret(self.0.clone()));
        Some(Signer(secret, (key, period)))
    }

    fn in_use(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

type TestStage = Stage<Option<Signer>>;

fn stage(period: u64, content: Option<Signer>, next: Option<TestStage>) -> TestStage {
    Stage {
        period: KesPeriod(period),
        content,
        next: next.map(Arc::new),
    }
}

/// Key `a` at period 1, with period 2 prepared.
fn a_at_1(memory: &Memory) -> Arc<Turnstile<Option<Signer>>> {
    let next = stage(2, memory.signer('a', 2), None);
    let first = stage(1, memory.signer('a', 1), Some(next));
    Arc::new(Turnstile::new(first))
}

/// What a request for `period` would sign with, as `HotKey::sign` decides it.
fn request(stages: &Turnstile<Option<Signer>>, period: u64) -> Option<Name> {
    let stage = stages.at(KesPeriod(period));
    match &stage.content {
        Some(signer) if stage.period == KesPeriod(period) => {
            assert_eq!(signer.1.1, period, "a signature of the period asked for");
            Some(signer.1)
        }
        _ => None,
    }
}

/// Runs a model over all interleavings in which threads are interrupted at most 4 times, or, with
/// `KES_MODEL=whole` (`make model`), over all there are.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    let is_whole = std::env::var_os("KES_MODEL").is_some_and(|how| how == "whole");
    builder.preemption_bound = (!is_whole).then_some(4);
    let interleavings = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&interleavings);
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!(
        "{} interleavings",
        interleavings.load(std::sync::atomic::Ordering::Relaxed)
    );
}

/// Two forging threads over a turn: once the new period was asked for, the old one is refused to
/// everybody, and its secret is gone when nobody uses it.
fn turns() {
    let memory = Memory::new();
    let stages = a_at_1(&memory);
    let other = {
        let stages = stages.clone();
        thread::spawn(move || {
            let old = request(&stages, 1);
            let new = request(&stages, 2);
            assert_eq!(new, Some(('a', 2)));
            assert_eq!(
                request(&stages, 1),
                None,
                "let go by this thread's own request"
            );
            old
        })
    };
    let old = request(&stages, 1);
    assert_eq!(request(&stages, 2), Some(('a', 2)));
    assert_eq!(request(&stages, 1), None);
    for old in [old, other.join().unwrap()] {
        assert!(matches!(old, None | Some(('a', 1))));
    }
    assert_eq!(memory.in_use(), 1, "the old secret is wiped");
}

/// A forging thread turns while the receiving side prepares the stage after, as `Keeper` does it:
/// the turn is never undone.
fn a_turn_against_preparation() {
    let memory = Memory::new();
    let stages = a_at_1(&memory);
    let forging = {
        let stages = stages.clone();
        thread::spawn(move || {
            let signed = request(&stages, 2).expect("one of the two");
            assert_eq!(request(&stages, 1), None);
            signed
        })
    };
    // Another key has come and begins in period 2: it takes the place of a's next stage.
    let seen = stages.present();
    if seen.period == KesPeriod(1) {
        let next = stage(2, memory.signer('b', 2), None);
        let with_next = stage(1, seen.content.clone(), Some(next));
        stages.put_if(&seen, Arc::new(with_next));
    }
    drop(seen);
    // And the grace ends.
    loop {
        let seen = stages.present();
        if seen.period == KesPeriod(2) {
            break;
        }
        stages.turn(&seen);
    }
    assert_eq!(request(&stages, 1), None, "let go");
    let signed = forging.join().unwrap();
    assert_eq!(
        request(&stages, 2),
        Some(signed),
        "what signed first goes on"
    );
    assert_eq!(memory.in_use(), 1, "all but the one that signs are wiped");
}

/// A new key is put in place while a forging thread turns the old one: the new one is never lost.
fn a_turn_against_a_swap() {
    let memory = Memory::new();
    let stages = a_at_1(&memory);
    let forging = {
        let stages = stages.clone();
        thread::spawn(move || {
            let signed = request(&stages, 2);
            assert!(matches!(signed, Some(('a' | 'b', 2))));
        })
    };
    loop {
        let seen = stages.present();
        let new = match seen.period {
            KesPeriod(1) => {
                let next = stage(2, memory.signer('b', 2), None);
                stage(1, memory.signer('b', 1), Some(next))
            }
            _ => stage(2, memory.signer('b', 2), None),
        };
        if stages.put_if(&seen, Arc::new(new)) {
            break;
        }
    }
    forging.join().unwrap();
    assert_eq!(request(&stages, 2), Some(('b', 2)), "the new key signs");
    assert_eq!(memory.in_use(), 1, "the old key is wiped");
}

/// A drop while forging threads sign and turn: afterwards nothing signs and nothing is in memory.
fn a_turn_against_a_drop() {
    let memory = Memory::new();
    let stages = a_at_1(&memory);
    let forging = {
        let stages = stages.clone();
        thread::spawn(move || {
            let (old, new) = (request(&stages, 1), request(&stages, 2));
            assert!(matches!(old, None | Some(('a', 1))));
            assert!(matches!(new, None | Some(('a', 2))));
            if old.is_none() {
                assert_eq!(new, None, "a dropped key does not come back");
            }
        })
    };
    stages.put(Arc::new(stage(0, None, None)));
    assert_eq!((request(&stages, 1), request(&stages, 2)), (None, None));
    forging.join().unwrap();
    assert_eq!((request(&stages, 1), request(&stages, 2)), (None, None));
    assert_eq!(memory.in_use(), 0, "the dropped key is wiped");
}

#[test]
fn a_retired_period_is_refused_and_its_secret_wiped() {
    check(turns);
}

#[test]
fn a_turn_is_never_undone_by_preparation() {
    check(a_turn_against_preparation);
}

#[test]
fn a_new_key_is_never_lost() {
    check(a_turn_against_a_swap);
}

#[test]
fn a_dropped_key_never_comes_back() {
    check(a_turn_against_a_drop);
}

/// The models can fail: with a swap that does not compare, each of them does.
#[test]
fn a_swap_that_does_not_compare_is_noticed() {
    let models: [fn(); 3] = [
        a_turn_against_preparation,
        a_turn_against_a_swap,
        a_turn_against_a_drop,
    ];
    for model in models {
        let noticed = std::panic::catch_unwind(|| {
            check(move || {
                FORGETFUL.set(true);
                model();
            });
        });
        FORGETFUL.set(false);
        assert!(noticed.is_err());
    }
}
