//! What happens to a hot key, for logs and metrics.
//!
//! Where cardano-node traces the same, the event has its name there: the constructors of
//! kes-agent's `ServiceClientTrace` below the namespace `Consensus.KESAgent` (cardano-node's
//! tracer for ouroboros-consensus' `KESAgentClientTrace`), and `Forge.StateInfo.StateInfo` with
//! the kinds `KESInfo`, `ExpiryLogMessage` and `KESCouldNotEvolve`. The others begin with
//! `HotKey`.

use core::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::state::{ForgingState, KesInfo};
use crate::opcert::OutOfPeriod;
use crate::period::KesPeriod;
use crate::protocol::stamp::Stamp;
use crate::protocol::version::VersionId;
use crate::sum6kes::DamagedKey;
use crate::sys::memory::LockError;

/// Remaining periods from which on cardano-node reports a key's end (`ExpiryLogMessage`).
pub const EXPIRY_WARNING_PERIODS: u64 = 7;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The agent is connected, and the version of the protocol settled.
    Connected {
        /// The service socket.
        socket: PathBuf,
        /// The version.
        version: VersionId,
    },
    /// The connection could not be made; it is tried again.
    AttemptReconnect {
        /// How many attempts have failed in a row, this one included.
        failed: u32,
        /// How long until the next.
        delay: Duration,
        /// Why this one failed.
        reason: String,
    },
    /// The agent spoke, but not this protocol.
    HandshakeFailed {
        /// What was wrong.
        reason: String,
    },
    /// The connection ended. The key is kept.
    Disconnected {
        /// How.
        reason: String,
    },
    /// A key came, was checked and accepted. It signs now or, where its period lies ahead, from
    /// then on.
    ReceivedKey {
        /// The key.
        key: KesInfo,
        /// Whether it has to wait for its first period.
        waits: bool,
    },
    /// The key that is held came once more. Nothing changed.
    ReceivedAgain {
        /// The key.
        key: KesInfo,
    },
    /// The certificate number of a key that came, beside that of the newest key accepted.
    CounterCheck {
        /// The number of the key accepted before.
        held: u64,
        /// The number of the key that came.
        received: u64,
    },
    /// A key came and was refused. What is held stays.
    DeclinedKey {
        /// Why.
        reason: Decline,
    },
    /// The agent said that the key was dropped. It is wiped.
    DroppedKey,
    /// Another key or another evolution signs from now on.
    KeyInfo {
        /// The key.
        key: KesInfo,
    },
    /// As [`Event::KeyInfo`], of a key that has [`EXPIRY_WARNING_PERIODS`] periods left or fewer.
    KeyExpiresSoon {
        /// The key.
        key: KesInfo,
    },
    /// The key's last period is over. It is wiped.
    KeySpent {
        /// The first period in which its certificate is not valid any more.
        expiry: KesPeriod,
    },
    /// Another of the five states holds from now on.
    State {
        /// Which.
        state: ForgingState,
    },
    /// Memory could not be locked, so that something was not prepared. It is tried again.
    CannotLock {
        /// What the operator has to change.
        reason: LockError,
    },
    /// The receiving side has ended, and every key is wiped.
    Stopped,
}

impl Event {
    /// Its name: that of cardano-node's trace where there is one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "Consensus.KESAgent.ServiceClientConnected",
            Self::AttemptReconnect { .. } => "Consensus.KESAgent.ServiceClientAttemptReconnect",
            Self::HandshakeFailed { .. } => {
                "Consensus.KESAgent.ServiceClientVersionHandshakeFailed"
            }
            Self::Disconnected { .. } => "Consensus.KESAgent.ServiceClientSocketClosed",
            Self::ReceivedKey { .. } => "Consensus.KESAgent.ServiceClientReceivedKey",
            Self::CounterCheck { .. } => "Consensus.KESAgent.ServiceClientOpCertNumberCheck",
            Self::DeclinedKey { .. } => "Consensus.KESAgent.ServiceClientDeclinedKey",
            Self::DroppedKey => "Consensus.KESAgent.ServiceClientDroppedKey",
            Self::Stopped => "Consensus.KESAgent.ServiceClientStopped",
            Self::KeyInfo { .. } | Self::KeyExpiresSoon { .. } | Self::KeySpent { .. } => {
                "Forge.StateInfo.StateInfo"
            }
            Self::ReceivedAgain { .. } => "HotKey.ReceivedAgain",
            Self::State { .. } => "HotKey.State",
            Self::CannotLock { .. } => "HotKey.CannotLock",
        }
    }

    /// The `kind` of cardano-node's trace, where its name alone does not tell.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::KeyInfo { .. } => Some("KESInfo"),
            Self::KeyExpiresSoon { .. } => Some("ExpiryLogMessage"),
            Self::KeySpent { .. } => Some("KESCouldNotEvolve"),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { socket, version } => {
                write!(f, "connected to {} ({version})", socket.display())
            }
            Self::AttemptReconnect {
                failed,
                delay,
                reason,
            } => write!(
                f,
                "not connected: {reason} (attempt {failed}, the next in {} ms)",
                delay.as_millis()
            ),
            Self::HandshakeFailed { reason } => write!(f, "the handshake failed: {reason}"),
            Self::Disconnected { reason } => {
                write!(f, "disconnected: {reason}; the key is kept")
            }
            Self::ReceivedKey { key, waits: false } => write!(f, "key received: {}", Key(key)),
            Self::ReceivedKey { key, waits: true } => write!(
                f,
                "key received: {}; it waits for period {}",
                Key(key),
                key.period()
            ),
            Self::ReceivedAgain { key } => {
                write!(f, "the key held was sent again: {}", Key(key))
            }
            Self::CounterCheck { held, received } => write!(
                f,
                "certificate number {received} received, {held} accepted before"
            ),
            Self::DeclinedKey { reason } => write!(f, "key declined: {reason}"),
            Self::DroppedKey => f.write_str("the agent dropped the key: it is wiped"),
            Self::KeyInfo { key } => write!(
                f,
                "signing at period {} with {}, until period {}",
                key.period(),
                Key(key),
                key.end_period
            ),
            Self::KeyExpiresSoon { key } => write!(
                f,
                "signing at period {} with {}; it expires in {} KES periods, at {}: rotate the \
                 key",
                key.period(),
                Key(key),
                key.remaining_periods(),
                key.expires_at
            ),
            Self::KeySpent { expiry } => write!(
                f,
                "the key is spent: its certificate expired with the start of period {expiry}; \
                 rotate the key"
            ),
            Self::State { state } => write!(f, "state: {state}"),
            Self::CannotLock { reason } => reason.fmt(f),
            Self::Stopped => f.write_str("stopped: every key is wiped"),
        }
    }
}

/// A key in a sentence: the beginning of its verification key, number and evolution.
struct Key<'a>(&'a KesInfo);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vkey = self.0.kes_vkey.to_string();
        write!(
            f,
            "{}..., certificate number {}, evolution {}",
            &vkey[..16],
            self.0.counter,
            self.0.evolution
        )
    }
}

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// Its stamp is not newer than the last on this connection.
    #[error("its stamp {stamp} is not newer than {last}, the last on this connection")]
    NotNewer {
        /// The message's.
        stamp: Stamp,
        /// The last one's.
        last: Stamp,
    },
    /// The certificate is not signed by the pool's cold key.
    #[error(
        "its certificate is not signed by this pool's cold key: compare the cold verification \
         keys that node and agent are given"
    )]
    NotOfThisPool,
    /// Its certificate's number is lower than that of the newest key accepted.
    #[error(
        "its certificate has number {received}, lower than {held}, which was accepted before: \
         restart this node if the lower number is meant; it was not told of a drop before"
    )]
    LowerCounter {
        /// The number of the key that came.
        received: u64,
        /// The number of the key accepted before.
        held: u64,
    },
    /// Its certificate is not valid any more.
    #[error("{0}: rotate the key")]
    Spent(OutOfPeriod),
    /// The 608 bytes are not the key that the certificate names.
    #[error(transparent)]
    Damaged(#[from] DamagedKey),
}
