//! Stamps: when a key was installed or dropped.

use core::fmt;

/// Microseconds since 1970-01-01T00:00:00Z, made unique and growing by the agent: a receiver
/// discards what is not newer than what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
