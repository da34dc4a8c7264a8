//! What a hot key holds, for those who watch it.

use core::fmt;

use super::event::Decline;
use crate::genesis::Network;
use crate::opcert::OpCert;
use crate::period::{Evolution, KesPeriod};
use crate::sum6kes::VerificationKey;
use crate::unix_time::UnixTime;

/// The five states that operators tell apart
/// (ouroboros-consensus, issue 1405, lists them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgingState {
    /// The node has no hot key: it is not a block producer.
    NotABlockProducer,
    /// There is a key, and the agent is connected.
    ForgingConnected,
    /// There is a key; the agent is not connected. Nothing is lost while the key lasts.
    ForgingNotConnected,
    /// The agent is connected; there is no key, or none that may sign yet.
    ConnectedNoKey,
    /// There is neither.
    NotConnectedNoKey,
}

impl ForgingState {
    /// The state of a node that may have a hot key.
    #[must_use]
    pub fn of(hot_key: Option<&super::HotKey>) -> Self {
        hot_key.map_or(Self::NotABlockProducer, |hot_key| hot_key.status().state)
    }

    pub(super) fn new(is_connected: bool, has_key: bool) -> Self {
        match (has_key, is_connected) {
            (true, true) => Self::ForgingConnected,
            (true, false) => Self::ForgingNotConnected,
            (false, true) => Self::ConnectedNoKey,
            (false, false) => Self::NotConnectedNoKey,
        }
    }

    /// Whether blocks can be signed.
    #[must_use]
    pub fn is_forging(self) -> bool {
        matches!(self, Self::ForgingConnected | Self::ForgingNotConnected)
    }
}

impl fmt::Display for ForgingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotABlockProducer => "not a block producer",
            Self::ForgingConnected => "forging, connected",
            Self::ForgingNotConnected => "forging, not connected",
            Self::ConnectedNoKey => "connected, no key",
            Self::NotConnectedNoKey => "not connected, no key",
        })
    }
}

/// A key and how far it is, as cardano-node's `KESInfo` tells it. Nothing in it is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KesInfo {
    /// The verification key.
    pub kes_vkey: VerificationKey,
    /// The certificate's number.
    pub counter: u64,
    /// The first period in which the key may sign (`startPeriod`).
    pub start_period: KesPeriod,
    /// The first period in which it may not any more (`endPeriod`): start plus
    /// `maxKESEvolutions`.
    pub end_period: KesPeriod,
    /// The evolution that signs (`evolution`).
    pub evolution: Evolution,
    /// When `end_period` begins.
    pub expires_at: UnixTime,
}

impl KesInfo {
    pub(super) fn new(opcert: &OpCert, evolution: Evolution, network: &Network) -> Self {
        let end_period = opcert.expiry_period(network.max_evolutions);
        Self {
            kes_vkey: opcert.kes_vkey,
            counter: opcert.counter,
            start_period: opcert.start_period,
            end_period,
            evolution,
            expires_at: network.period_start(end_period),
        }
    }

    /// The period in which this evolution signs.
    #[must_use]
    pub fn period(&self) -> KesPeriod {
        KesPeriod(
            self.start_period
                .0
                .saturating_add(u64::from(self.evolution.0)),
        )
    }

    /// Periods in which the key can still sign, this one included.
    #[must_use]
    pub fn remaining_periods(&self) -> u64 {
        self.end_period.0.saturating_sub(self.period().0)
    }

    /// The four gauges that cardano-node shows of its key, by their names there (Prometheus adds
    /// `cardano_node_metrics_` before them and `_int` behind).
    #[must_use]
    pub fn metrics(&self) -> [(&'static str, u64); 4] {
        [
            ("currentKESPeriod", self.period().0),
            ("remainingKESPeriods", self.remaining_periods()),
            ("operationalCertificateStartKESPeriod", self.start_period.0),
            ("operationalCertificateExpiryKESPeriod", self.end_period.0),
        ]
    }
}

/// What a hot key holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which of the five states.
    pub state: ForgingState,
    /// The key that signs.
    pub key: Option<KesInfo>,
    /// A key that has come and begins in a later period.
    pub waiting: Option<KesInfo>,
    /// Why the last key that came was refused, where it was: what is held is not what the agent
    /// serves, and the sentence says what to do.
    pub refused: Option<Decline>,
}
