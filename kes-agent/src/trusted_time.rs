//! **An evolution cannot be undone, so a wall clock is not believed without a reason**: the agent
//! acts by trusted time, which is the last trusted wall time plus what the boot clock has counted
//! since.
//!
//! An [`Anchor`] joins the two clocks. It is taken when the kernel says that the clock is
//! synchronised, when an operator says so (`confirm-clock`), at an operator's activation where
//! there is none yet (a certificate that fits the time vouches for it), and, unless the mode is
//! strict, from the wall clock when five minutes have passed since a key came from a peer and
//! none of the others has happened.
//!
//! Pure: readings of the clocks are handed in ([`crate::clock`] takes them).

use kes_wire::protocol::control::rotation::{ClockMode, ClockStatus, TimeSource};
use kes_wire::unix_time::UnixTime;

/// Microseconds since the machine was started, those in which it slept counted: `CLOCK_BOOTTIME`.
/// No one can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

/// What the machine's clocks say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: UnixTime,
    /// The boot clock.
    pub boot: BootTime,
    /// Whether the kernel says that the wall clock is synchronised (`adjtimex(2)`).
    pub is_synchronised: bool,
}

/// A wall time that is trusted, and when on the boot clock it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Anchor {
    /// The wall time.
    pub wall: UnixTime,
    /// The boot clock at that moment.
    pub boot: BootTime,
    /// Why it is trusted.
    pub source: TimeSource,
}

impl Anchor {
    /// The trusted time when the boot clock is at `boot`.
    #[must_use]
    pub fn time_at(&self, boot: BootTime) -> UnixTime {
        let passed = boot.0.saturating_sub(self.boot.0);
        UnixTime(self.wall.0.saturating_add(passed))
    }
}

/// How long after a peer's key the wall clock is taken for want of anything better, in
/// microseconds: five minutes.
pub const PATIENCE: u64 = 5 * 60 * 1_000_000;

/// How far the wall clock may be from trusted time before that is called a disagreement, in
/// microseconds: ten seconds.
pub const TOLERANCE: u64 = 10 * 1_000_000;

/// A difference of which nobody needs to be told, in microseconds: a second.
const MOMENT: u64 = 1_000_000;

/// The time as the agent takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// The trusted time; where there is none, the wall clock, to be shown and not acted by.
    pub time: UnixTime,
    /// Whether it may be acted by.
    pub is_trusted: bool,
}

/// The rule's state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustedTime {
    mode: ClockMode,
    anchor: Option<Anchor>,
    /// When a key came from a peer while no time was trusted.
    peer_key_at: Option<BootTime>,
}

impl TrustedTime {
    /// The rule in this mode, with the anchor that was kept from before a restart, if any.
    #[must_use]
    pub fn new(mode: ClockMode, kept: Option<Anchor>) -> Self {
        // A mode goes on from no time that it would not have taken.
        let is_taken = |anchor: &Anchor| match (anchor.source, mode) {
            (TimeSource::Unguarded, ClockMode::Guard | ClockMode::Strict)
            | (TimeSource::NothingBetter, ClockMode::Strict) => false,
            (
                TimeSource::Synchronised
                | TimeSource::Confirmed
                | TimeSource::Activation
                | TimeSource::NothingBetter
                | TimeSource::Unguarded,
                _,
            ) => true,
        };
        Self {
            mode,
            anchor: kept.filter(is_taken),
            peer_key_at: None,
        }
    }

    /// The anchor, to be kept over a restart.
    #[must_use]
    pub fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// Looks at the clocks: takes an anchor where there is a reason to, and tells the time.
    pub fn look(&mut self, reading: Reading) -> Believed {
        match self.mode {
            ClockMode::Trust => self.take(reading, TimeSource::Unguarded),
            ClockMode::Guard | ClockMode::Strict if reading.is_synchronised => {
                self.take(reading, TimeSource::Synchronised);
            }
            ClockMode::Guard if self.patience_is_over(reading.boot) => {
                self.take(reading, TimeSource::NothingBetter);
            }
            ClockMode::Guard | ClockMode::Strict => {}
        }
        self.believed(reading)
    }

    /// The time at this reading, by the anchor that was last taken.
    #[must_use]
    pub fn believed(&self, reading: Reading) -> Believed {
        match &self.anchor {
            Some(anchor) => Believed {
                time: anchor.time_at(reading.boot),
                is_trusted: true,
            },
            None => Believed {
                time: reading.wall,
                is_trusted: false,
            },
        }
    }

    /// Somebody who may know says that the wall clock is right. Tells whether that changed anything
    /// but the difference of a moment.
    pub fn confirm(&mut self, reading: Reading, source: TimeSource) -> bool {
        let before = self.anchor.map(|anchor| anchor.source);
        let has_moved = self.believed(reading).time.0.abs_diff(reading.wall.0) > MOMENT;
        // What is followed anyway needs nobody's word.
        let is_followed = self.mode == ClockMode::Trust || reading.is_synchronised;
        if before.is_some() && is_followed && !has_moved {
            return false;
        }
        self.take(reading, source);
        before != Some(source) || has_moved
    }

    /// An operator activates a certificate: where no time is trusted yet, the wall clock is from
    /// now on.
    pub fn activation(&mut self, reading: Reading) {
        if self.anchor.is_none() {
            self.take(reading, TimeSource::Activation);
        }
    }

    /// A peer's key was taken.
    pub fn peer_key_came(&mut self, reading: Reading) {
        if self.anchor.is_none() {
            self.peer_key_at.get_or_insert(reading.boot);
        }
    }

    /// What there is to show of the clock.
    #[must_use]
    pub fn status(&self, reading: Reading) -> ClockStatus {
        let trusted = self.believed(reading).time;
        let (ahead, behind) = (
            reading.wall.0.saturating_sub(trusted.0),
            trusted.0.saturating_sub(reading.wall.0),
        );
        ClockStatus {
            mode: self.mode,
            source: self.anchor.map(|anchor| anchor.source),
            wall_clock: reading.wall,
            synchronised: reading.is_synchronised,
            ahead_us: ahead,
            behind_us: behind,
            disagrees: ahead.max(behind) > TOLERANCE,
        }
    }

    /// Whether something is awaited that no timer tells of: the clocks are to be looked at now and
    /// then.
    #[must_use]
    pub fn is_in_doubt(&self, reading: Reading) -> bool {
        self.anchor.is_none() || self.status(reading).disagrees
    }

    fn take(&mut self, reading: Reading, source: TimeSource) {
        self.anchor = Some(Anchor {
            wall: reading.wall,
            boot: reading.boot,
            source,
        });
        self.peer_key_at = None;
    }

    fn patience_is_over(&self, boot: BootTime) -> bool {
        self.anchor.is_none()
            && self
                .peer_key_at
                .is_some_and(|since| boot.0.saturating_sub(since.0) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600 * 1_000_000;
    const YEAR: u64 = 365 * 24 * HOUR;
    const WALL: u64 = 50 * YEAR;

    fn reading(wall: u64, boot: u64, is_synchronised: bool) -> Reading {
        Reading {
            wall: UnixTime(wall),
            boot: BootTime(boot),
            is_synchronised,
        }
    }

    fn trusted(time: u64) -> Believed {
        Believed {
            time: UnixTime(time),
            is_trusted: true,
        }
    }

    #[test]
    fn a_clock_that_is_confirmed_again_changes_nothing() {
        for (mode, is_synchronised) in [
            (ClockMode::Guard, false),
            (ClockMode::Guard, true),
            (ClockMode::Strict, true),
            (ClockMode::Trust, false),
        ] {
            let mut rule = TrustedTime::new(mode, None);
            let mut confirmed = |at: u64| {
                let reading = reading(WALL + at, at, is_synchronised);
                rule.look(reading);
                rule.confirm(reading, TimeSource::Confirmed)
            };
            let first = confirmed(0);
            let needed = mode == ClockMode::Guard && !is_synchronised;
            assert_eq!(first, needed, "{mode:?} {is_synchronised}");
            assert!(!confirmed(HOUR), "{mode:?} {is_synchronised}");
        }
    }

    #[test]
    fn steps_of_every_size_both_ways_are_followed_only_where_there_is_a_reason() {
        for step in [1_000_000, 36 * HOUR, YEAR] {
            for stepped in [WALL + step, WALL - step] {
                let mut rule = TrustedTime::new(ClockMode::Guard, None);
                assert_eq!(rule.look(reading(WALL, 0, true)), trusted(WALL));
                // The clock is set; the kernel calls a clock that was set unsynchronised.
                let doubtful = reading(stepped + 5, 5, false);
                assert_eq!(rule.look(doubtful), trusted(WALL + 5), "by {step}");
                assert_eq!(rule.status(doubtful).disagrees, step > TOLERANCE);
                let mut confirmed = rule.clone();
                assert!(confirmed.confirm(doubtful, TimeSource::Confirmed));
                assert_eq!(confirmed.look(doubtful), trusted(stepped + 5));
                assert!(!confirmed.status(doubtful).disagrees);
                let synchronised = reading(stepped + 9, 9, true);
                assert_eq!(rule.look(synchronised), trusted(stepped + 9));
            }
        }
    }

    #[test]
    fn sleep_counts_and_the_wall_clock_does_not_matter_meanwhile() {
        let mut rule = TrustedTime::new(ClockMode::Guard, None);
        rule.look(reading(WALL, 100, true));
        for (wall, boot) in [
            (WALL, 100),
            (0, 100 + HOUR),
            (u64::MAX, 100 + 90 * 24 * HOUR),
        ] {
            let believed = rule.look(reading(wall, boot, false));
            assert_eq!(believed, trusted(WALL + boot - 100));
        }
    }

    #[test]
    fn without_an_anchor_nothing_is_trusted_until_there_is_a_reason() {
        let unsynchronised = |boot| reading(WALL + boot, boot, false);
        for mode in [ClockMode::Guard, ClockMode::Strict] {
            let mut rule = TrustedTime::new(mode, None);
            for boot in [0, PATIENCE, YEAR] {
                assert!(!rule.look(unsynchronised(boot)).is_trusted, "{mode:?}");
                assert!(rule.is_in_doubt(unsynchronised(boot)));
            }
            let mut activated = rule.clone();
            activated.activation(unsynchronised(1));
            assert_eq!(activated.look(unsynchronised(2)), trusted(WALL + 2));
            // A second activation does not bring a clock that was set meanwhile into force.
            activated.activation(reading(WALL + YEAR, 3, false));
            assert_eq!(activated.look(unsynchronised(3)), trusted(WALL + 3));
            let mut confirmed = rule.clone();
            assert!(confirmed.confirm(unsynchronised(1), TimeSource::Confirmed));
            assert!(!confirmed.confirm(unsynchronised(2), TimeSource::Confirmed));
            assert!(confirmed.confirm(unsynchronised(3), TimeSource::Synchronised));
            let source = confirmed.status(unsynchronised(4)).source;
            assert_eq!(source, Some(TimeSource::Synchronised));
            assert_eq!(rule.look(reading(WALL, 7, true)), trusted(WALL));
        }
    }

    #[test]
    fn five_minutes_after_a_peers_key_the_wall_clock_is_taken_unless_strict() {
        for (mode, taken) in [(ClockMode::Guard, true), (ClockMode::Strict, false)] {
            let mut rule = TrustedTime::new(mode, None);
            let at = |boot| reading(WALL + boot, boot, false);
            rule.look(at(0));
            rule.peer_key_came(at(10));
            rule.peer_key_came(at(20));
            assert!(!rule.look(at(10 + PATIENCE - 1)).is_trusted);
            assert_eq!(rule.look(at(10 + PATIENCE)).is_trusted, taken, "{mode:?}");
            let source = rule.status(at(10 + PATIENCE)).source;
            assert_eq!(source, taken.then_some(TimeSource::NothingBetter));
        }
    }

    #[test]
    fn unguarded_time_follows_the_wall_clock() {
        let mut rule = TrustedTime::new(ClockMode::Trust, None);
        for wall in [WALL, 0, WALL + YEAR] {
            assert_eq!(rule.look(reading(wall, 1, false)), trusted(wall));
        }
    }

    #[test]
    fn a_kept_anchor_goes_on() {
        let mut rule = TrustedTime::new(ClockMode::Guard, None);
        rule.look(reading(WALL, 100, true));
        let mut restarted = TrustedTime::new(ClockMode::Strict, rule.anchor());
        assert_eq!(restarted.look(reading(0, 150, false)), trusted(WALL + 50));
        for (source, goes_on) in [
            (TimeSource::Confirmed, [true, true]),
            (TimeSource::NothingBetter, [true, false]),
            (TimeSource::Unguarded, [false, false]),
        ] {
            let kept = rule.anchor().map(|anchor| Anchor { source, ..anchor });
            let modes = [ClockMode::Guard, ClockMode::Strict];
            let goes = modes.map(|mode| TrustedTime::new(mode, kept).anchor().is_some());
            assert_eq!(goes, goes_on, "{source:?}");
        }
    }
}
