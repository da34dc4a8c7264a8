//! The shared pointer that forging threads read: `arc-swap`.
//!
//! [`super::stage`] is written against this small face, so that the model check can put another
//! one, of loom, under the very same source.

use arc_swap::{ArcSwap, Guard};

pub(super) use std::sync::Arc;

/// A place for one `Arc`: reading it takes no lock, whatever is done to it meanwhile.
pub(super) struct Place<T>(ArcSwap<T>);

impl<T> Place<T> {
    pub(super) fn new(first: Arc<T>) -> Self {
        Self(ArcSwap::new(first))
    }

    /// What stands there now. It lives on as long as it is held, whatever takes its place.
    pub(super) fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// Puts `new` there; what stood there before is let go.
    pub(super) fn put(&self, new: Arc<T>) {
        self.0.store(new);
    }

    /// Puts `new` there if what stands there is still `seen`.
    pub(super) fn put_if(&self, seen: &Arc<T>, new: Arc<T>) -> bool {
        Arc::ptr_eq(&self.0.compare_and_swap(seen, new), seen)
    }
}
