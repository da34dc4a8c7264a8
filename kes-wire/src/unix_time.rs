//! Moments.
/// A moment: microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
    serde::Serialize,
)]
#[cbor(transparent)]
pub struct UnixTime(#[n(0)] pub u64);
