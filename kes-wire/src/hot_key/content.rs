//! What stands in a stage: what signs, or why nothing does.

use std::sync::Arc;

use super::SignError;
use super::state::KesInfo;
use crate::genesis::Network;
use crate::opcert::{OpCert, OutOfPeriod};
use crate::period::KesPeriod;
use crate::sum6kes::LeafSigner;

/// The content of a stage.
#[derive(Clone)]
pub(super) enum Content {
    Key(Arc<Signing>),
    Nothing(Absence),
}

/// A certificate and what signs under it: together, so that they cannot be read apart.
pub(super) struct Signing {
    pub(super) opcert: OpCert,
    pub(super) signer: LeafSigner,
}

/// Why nothing signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Absence {
    NeverHad,
    Dropped,
    StartsLater(KesPeriod),
    Spent(KesPeriod),
    Stopped,
}

impl Signing {
    pub(super) fn info(&self, network: &Network) -> KesInfo {
        KesInfo::new(&self.opcert, self.signer.evolution(), network)
    }

    /// The refusal of a request for another period than `present`, which it signs at.
    pub(super) fn refuse(
        &self,
        present: KesPeriod,
        period: KesPeriod,
        network: &Network,
    ) -> SignError {
        match self.opcert.evolution_at(period, network.max_evolutions) {
            Err(OutOfPeriod::NotYet { start, period }) => SignError::StartsLater { start, period },
            Err(OutOfPeriod::Expired { expiry, period }) => SignError::Spent { expiry, period },
            Ok(_) if period < present => SignError::LetGo { present, period },
            Ok(_) => SignError::NotYet {
                prepared: KesPeriod(present.0.saturating_add(1)),
                period,
            },
        }
    }
}

impl Absence {
    /// The refusal of a request for `period`.
    pub(super) fn refuse(self, period: KesPeriod) -> SignError {
        match self {
            Self::NeverHad => SignError::NoKey,
            Self::Dropped => SignError::Dropped,
            Self::Stopped => SignError::Stopped,
            Self::StartsLater(start) if period < start => SignError::StartsLater { start, period },
            Self::StartsLater(start) => SignError::NotYet {
                prepared: start,
                period,
            },
            Self::Spent(expiry) if period >= expiry => SignError::Spent { expiry, period },
            Self::Spent(expiry) => SignError::LetGo {
                present: expiry,
                period,
            },
        }
    }
}
