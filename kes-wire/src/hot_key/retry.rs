//! How long to wait before the next attempt to connect.

use std::time::Duration;

use crate::sys::sodium;

/// The first delay is at most this.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No delay is longer: the deployed node waits so long between all attempts.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Delays that double from [`FIRST_DELAY`] to [`LONGEST_DELAY`], each shortened by chance by up to a
/// half, so that nodes do not come back to a restarted agent all at once.
#[derive(Default)]
pub(super) struct Delays {
    /// Attempts that have failed since one succeeded.
    pub(super) failed: u32,
}

impl Delays {
    /// The delay after another failed attempt.
    pub(super) fn next(&mut self) -> Duration {
        let doubled = FIRST_DELAY * 2u32.saturating_pow(self.failed.min(16));
        self.failed = self.failed.saturating_add(1);
        let mut chance = [0; 4];
        sodium::fill_random(&mut chance);
        let chance = f64::from(u32::from_be_bytes(chance)) / f64::from(u32::MAX);
        doubled.min(LONGEST_DELAY).mul_f64(1.0 - chance / 2.0)
    }

    /// An attempt has succeeded.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_ten_seconds_and_are_jittered() {
        for _ in 0..100 {
            let mut delays = Delays::default();
            let first = delays.next();
            assert!(
                (FIRST_DELAY / 2..=FIRST_DELAY).contains(&first),
                "{first:?}"
            );
            let second = delays.next();
            assert!(
                (FIRST_DELAY..=FIRST_DELAY * 2).contains(&second),
                "{second:?}"
            );
            let later = (0..40).map(|_| delays.next()).last().unwrap();
            assert!(
                (LONGEST_DELAY / 2..=LONGEST_DELAY).contains(&later),
                "{later:?}"
            );
            delays.reset();
            assert!(delays.next() <= FIRST_DELAY);
        }
        let different: std::collections::BTreeSet<_> =
            (0..20).map(|_| Delays::default().next()).collect();
        assert!(different.len() > 1, "by chance");
    }
}
