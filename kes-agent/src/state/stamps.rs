//! **Every install and every drop has a newer stamp than all before**, whatever the clock does:
//! nodes discard a state whose stamp is not newer.

use kes_wire::protocol::stamp::Stamp;

use super::{Now, State};

impl State {
    /// The stamp of an install or a drop at `now`: the time, or one microsecond after the newest
    /// stamp where the clock is behind it.
    ///
    /// Only a clock at the very end of a u64 (584,000 years) could make it stand still.
    pub(super) fn next_stamp(&self, now: Now) -> Stamp {
        let after_newest = Stamp(self.newest_stamp.0.saturating_add(1));
        now.stamp.max(after_newest)
    }
}
