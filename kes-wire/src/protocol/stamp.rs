//! Stamps: which of two states of the active key is the newer one.

use core::fmt;

/// The stamp of an install or a drop: microseconds since 1970-01-01T00:00:00Z, as they stand on
/// the service socket. Nodes and agents discard a state whose stamp is not newer than the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
