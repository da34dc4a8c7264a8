//! The agent's time, as it is shown.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::unix_time::UnixTime;

/// How far the agent believes the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum ClockMode {
    /// With a reason: the kernel calls it synchronised, an operator confirms it or activates a
    /// certificate by it, or a peer's key has waited for five minutes.
    #[default]
    #[n(0)]
    Guard,
    /// As `Guard`, but a peer's key waits for as long as it takes.
    #[n(1)]
    Strict,
    /// Always: for test networks.
    #[n(2)]
    Trust,
}

/// Why the agent's time is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSource {
    /// The kernel said that the clock was synchronised.
    #[n(0)]
    Synchronised,
    /// An operator confirmed the clock.
    #[n(1)]
    Confirmed,
    /// An operator activated a certificate by it.
    #[n(2)]
    Activation,
    /// A key from a peer had waited for five minutes.
    #[n(3)]
    NothingBetter,
    /// The mode is [`ClockMode::Trust`].
    #[n(4)]
    Unguarded,
}

/// The clocks and what the agent makes of them. It acts by [`Status::now`](super::Status::now).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct ClockStatus {
    /// How far the wall clock is believed.
    #[n(0)]
    pub mode: ClockMode,
    /// Why the time is trusted; `None` where no time is trusted yet.
    #[n(1)]
    pub source: Option<TimeSource>,
    /// What the wall clock says.
    #[n(2)]
    pub wall_clock: UnixTime,
    /// Whether the agent hears from the kernel that it is synchronised. In a sandbox that forbids the
    /// question this is always false; [`source`](Self::source) says what the time rests on.
    #[n(3)]
    pub synchronised: bool,
    /// How far the wall clock is ahead of the agent's time, in microseconds.
    #[n(4)]
    pub ahead_us: u64,
    /// How far it is behind, in microseconds.
    #[n(5)]
    pub behind_us: u64,
    /// Whether that is more than a small difference: then the wall clock waits to be confirmed.
    #[n(6)]
    pub disagrees: bool,
}
