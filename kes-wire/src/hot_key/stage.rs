//! How forging threads and the receiving side meet: a chain of stages.
//!
//! A stage is what stands for one KES period, with the stage that comes after it prepared. The
//! forging threads read one pointer to the present stage. The first request for the period of the
//! next stage turns the pointer to it, by compare-and-swap: from then on no request finds the
//! former stage, and what signed in it is dropped, and so wiped, by whoever is the last to use it.
//!
//! The receiving side is the only one that makes stages. Where it replaces a stage because of what
//! it saw in it, it too does so by compare-and-swap: a turn that a forging thread makes meanwhile
//! is never undone.

use super::sync::{Arc, Place};
use crate::period::KesPeriod;

/// What stands for one period.
pub(super) struct Stage<C> {
    /// The period; of no meaning where the content is not one for a period.
    pub(super) period: KesPeriod,
    pub(super) content: C,
    /// What the first request for its period turns to.
    pub(super) next: Option<Arc<Stage<C>>>,
}

/// The pointer to the present stage.
pub(super) struct Turnstile<C>(Place<Stage<C>>);

impl<C> Turnstile<C> {
    pub(super) fn new(first: Stage<C>) -> Self {
        Self(Place::new(Arc::new(first)))
    }

    /// The stage that a request for `period` is answered from: the present one, after a turn to
    /// the next where that is the one for `period`.
    pub(super) fn at(&self, period: KesPeriod) -> impl core::ops::Deref<Target = Arc<Stage<C>>> {
        loop {
            let seen = self.0.load();
            match &seen.next {
                // Where another was faster, or the receiving side has put something else there,
                // the pointer is looked at again.
                Some(next) if next.period == period => {
                    self.0.put_if(&seen, Arc::clone(next));
                }
                _ => return seen,
            }
        }
    }

    /// The present stage, as it is.
    pub(super) fn present(&self) -> impl core::ops::Deref<Target = Arc<Stage<C>>> {
        self.0.load()
    }

    /// Puts a stage there, whatever stands there.
    pub(super) fn put(&self, stage: Arc<Stage<C>>) {
        self.0.put(stage);
    }

    /// Puts a stage there if what stands there is still `seen`.
    pub(super) fn put_if(&self, seen: &Arc<Stage<C>>, stage: Arc<Stage<C>>) -> bool {
        self.0.put_if(seen, stage)
    }

    /// Turns from `seen` to the stage after it, if what stands there is still `seen`.
    pub(super) fn turn(&self, seen: &Arc<Stage<C>>) -> bool {
        match &seen.next {
            Some(next) => self.0.put_if(seen, Arc::clone(next)),
            None => false,
        }
    }
}
