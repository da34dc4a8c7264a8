//! What a peer is told of what it sent, and what the log says of it.

use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::service::ServiceResult;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;

use super::{Active, Now};

/// How far ahead of our time a peer's stamp may be, in microseconds: five minutes. A stamp of the
/// far future, once taken, would outrank every later install and drop.
pub const FUTURE_TOLERANCE: u64 = 5 * 60 * 1_000_000;

/// What a peer is answered, with what the log says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAnswer {
    /// Its state is ours now.
    Taken,
    /// It is ours already; nothing is passed on.
    Equal,
    /// It is not taken; what we hold is unchanged.
    Declined(Declined),
}

/// Why a peer's state is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Declined {
    /// Not signed by our cold key.
    #[error(
        "its certificate is not signed by this pool's cold key: is the peer an agent of the same \
         pool?"
    )]
    Foreign,
    /// The certificate's last period has passed.
    #[error("its certificate does not sign from period {expiry} on, and now is period {now}")]
    Expired {
        /// The first period in which it does not sign.
        expiry: KesPeriod,
        /// The current period.
        now: KesPeriod,
        /// Whether the time that says so is trusted.
        is_trusted: bool,
    },
    /// The stamp is too far ahead.
    #[error(
        "its stamp {} is more than 5 minutes ahead of this agent's time {}: check both clocks",
        UnixTime(.stamp.0), UnixTime(.now.0)
    )]
    FutureStamp {
        /// Its stamp.
        stamp: Stamp,
        /// Our time.
        now: Stamp,
    },
    /// What we hold is newer.
    #[error("it is of {}, and what this agent holds is newer, of {}", UnixTime(.theirs.0), UnixTime(.ours.0))]
    Older {
        /// Its stamp.
        theirs: Stamp,
        /// Ours.
        ours: Stamp,
    },
    /// We hold nothing any more, but have served a later key with a higher counter: the chain would
    /// not take the blocks of this one.
    #[error(
        "its key has counter {their_counter}, and this agent has served a later one with counter \
         {mark} before it lost it"
    )]
    BelowMark {
        /// Its counter.
        their_counter: u64,
        /// The counter that was active here last.
        mark: u64,
    },
    /// A key of before a drop that we know of.
    #[error(
        "the key of {} was dropped: this agent knows of a drop of {}", UnixTime(.key.0), UnixTime(.drop.0)
    )]
    DroppedSince {
        /// The key's stamp.
        key: Stamp,
        /// The drop's, not older.
        drop: Stamp,
    },
    /// Its stamp is newer but its counter lower, or the other way round, or the stamps are the
    /// same with other certificates: the peer declines ours as we decline its.
    #[error(
        "each holds what the other refuses: its key has counter {their_counter}, installed {}; \
         this agent's has counter {our_counter}, installed {}",
        UnixTime(.theirs.0), UnixTime(.ours.0)
    )]
    EachRefuses {
        /// Its counter.
        their_counter: u64,
        /// Our key's counter.
        our_counter: u64,
        /// Its stamp.
        theirs: Stamp,
        /// Our stamp.
        ours: Stamp,
    },
    /// Its first period is still ahead. It may be taken when that begins.
    #[error("its certificate starts in period {start}, and now is period {now}; asked again then")]
    Early {
        /// The first period.
        start: KesPeriod,
        /// The current period.
        now: KesPeriod,
    },
    /// The key is evolved past our period. It may be taken when that has come.
    #[error(
        "its key is at evolution {held}, and this agent's time asks for {wanted}: check both \
         clocks; asked again when that period begins"
    )]
    Ahead {
        /// The period of its evolution.
        period: KesPeriod,
        /// Where it is.
        held: Evolution,
        /// Where it would have to be.
        wanted: Evolution,
    },
}

/// What has to come before a declined state may be taken after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Awaits {
    /// This period.
    Period(KesPeriod),
    /// This time.
    Time(Stamp),
    /// Another state here than that of this stamp: what was refused for the key that is held may
    /// be taken once that is gone, and the peer does not send it again by itself.
    Change(Stamp),
    /// A time that is trusted: what has expired by one that is not may not have.
    TrustedTime,
    /// Memory that can be locked: only another attempt tells whether there is any.
    Memory,
}

impl Awaits {
    /// Whether it has come.
    #[must_use]
    pub fn has_come(self, now: Now, active: &Active) -> bool {
        match self {
            Self::Period(period) => now.period >= period,
            Self::Time(stamp) => now.stamp >= stamp,
            // It was refused for a key; a drop that won a tie has that key's stamp.
            Self::Change(stamp) => {
                active.stamp() != Some(stamp) || matches!(active, Active::Dropped { .. })
            }
            Self::TrustedTime => now.is_trusted,
            Self::Memory => true,
        }
    }
}

impl PeerAnswer {
    /// The answer on the wire. The deployed protocol has a code for a stamp or counter that is
    /// not acceptable and one for a certificate; nothing else fits.
    #[must_use]
    pub fn result(self) -> ServiceResult {
        match self {
            Self::Taken => ServiceResult::Ok,
            Self::Equal => ServiceResult::KeyOutdated,
            Self::Declined(declined) => match declined {
                Declined::Foreign
                | Declined::Expired { .. }
                | Declined::Early { .. }
                | Declined::Ahead { .. } => ServiceResult::InvalidOpCert,
                Declined::FutureStamp { .. }
                | Declined::Older { .. }
                | Declined::BelowMark { .. }
                | Declined::DroppedSince { .. }
                | Declined::EachRefuses { .. } => ServiceResult::KeyOutdated,
            },
        }
    }

    /// A stable name for scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Equal => "equal",
            Self::Declined(declined) => match declined {
                Declined::Foreign => "foreign",
                Declined::Expired { .. } => "expired",
                Declined::FutureStamp { .. } => "future-stamp",
                Declined::Older { .. } => "older",
                Declined::BelowMark { .. } => "below-mark",
                Declined::DroppedSince { .. } => "dropped-since",
                Declined::EachRefuses { .. } => "each-refuses",
                Declined::Early { .. } => "early",
                Declined::Ahead { .. } => "ahead",
            },
        }
    }

    /// What it waits for, where time or what is held here is in the way and no rule of its own.
    #[must_use]
    pub fn awaits(self) -> Option<Awaits> {
        let Self::Declined(declined) = self else {
            return None;
        };
        match declined {
            Declined::Early { start, .. } => Some(Awaits::Period(start)),
            Declined::Ahead { period, .. } => Some(Awaits::Period(period)),
            Declined::FutureStamp { stamp, .. } => Some(Awaits::Time(Stamp(
                stamp.0.saturating_sub(FUTURE_TOLERANCE),
            ))),
            Declined::Expired {
                is_trusted: false, ..
            } => Some(Awaits::TrustedTime),
            Declined::Foreign
            | Declined::Expired { .. }
            | Declined::Older { .. }
            | Declined::BelowMark { .. }
            | Declined::DroppedSince { .. } => None,
            Declined::EachRefuses { ours, .. } => Some(Awaits::Change(ours)),
        }
    }
}
