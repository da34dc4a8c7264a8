//! KES periods and evolutions.

use core::fmt;

/// An absolute KES period of the chain: `slot / slotsPerKESPeriod`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct KesPeriod(#[n(0)] pub u64);

/// How often a key has been updated: 0 to 63. The period minus the certificate's start period.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    minicbor::Encode,
    minicbor::Decode,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Evolution(#[n(0)] pub u32);

impl fmt::Display for KesPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Evolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl KesPeriod {
    /// The evolution that a key starting at `start` has in this period; `None` before its start
    /// and where the difference does not fit.
    #[must_use]
    pub fn evolution_since(self, start: Self) -> Option<Evolution> {
        let passed = self.0.checked_sub(start.0)?;
        u32::try_from(passed).ok().map(Evolution)
    }
}
