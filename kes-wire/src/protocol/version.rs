//! Names of protocol versions: 32 bytes of ASCII, padded with zeros on the right.

use core::fmt;

/// A version's name as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionId([u8; VersionId::BYTES]);

/// Service protocol 2.0: keys and drops with stamps.
pub const SERVICE_2_0: VersionId = VersionId::new("Service:2.0");
/// Service protocol 1.0: keys alone.
pub const SERVICE_1_0: VersionId = VersionId::new("Service:1.0");
/// Service protocol 0.4 of the standard cryptography: the same bytes as 1.0.
pub const SERVICE_0_4: VersionId = VersionId::new("Service:StandardCrypto:0.4");
/// Our own control protocol, with a message for each step of a rotation.
pub const CONTROL_ROTATION_1_0: VersionId = VersionId::new("Control:Rotation:1.0");
/// Deployed control protocol 3.0.
pub const CONTROL_3_0: VersionId = VersionId::new("Control:3.0");
/// Deployed control protocol 2.0.
pub const CONTROL_2_0: VersionId = VersionId::new("Control:2.0");
/// Deployed control protocol 1.0.
pub const CONTROL_1_0: VersionId = VersionId::new("Control:1.0");
/// Deployed control protocol 0.5 of the standard cryptography.
pub const CONTROL_0_5: VersionId = VersionId::new("Control:StandardCrypto:0.5");

/// The service versions that this crate speaks, the best first.
pub const SERVICE_VERSIONS: &[VersionId] = &[SERVICE_2_0, SERVICE_1_0, SERVICE_0_4];
/// The control versions that this crate speaks, the best first.
pub const CONTROL_VERSIONS: &[VersionId] = &[
    CONTROL_ROTATION_1_0,
    CONTROL_3_0,
    CONTROL_2_0,
    CONTROL_1_0,
    CONTROL_0_5,
];

/// The control versions of the deployed agents, the best first.
pub const DEPLOYED_CONTROL_VERSIONS: &[VersionId] =
    &[CONTROL_3_0, CONTROL_2_0, CONTROL_1_0, CONTROL_0_5];

impl VersionId {
    /// Bytes of a name on the wire.
    pub const BYTES: usize = 32;

    /// The id of a name.
    ///
    /// # Panics
    /// Where the name is longer than 32 bytes: names are constants of the program.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(name.len() <= Self::BYTES);
        let mut bytes = [0; Self::BYTES];
        let mut at = 0;
        while at < name.len() {
            bytes[at] = name[at];
            at += 1;
        }
        Self(bytes)
    }

    /// The id of 32 received bytes. Every value is one, known or not.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self
            .0
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        self.0[..end].escape_ascii().fmt(f)
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_padded_and_shown_without_the_padding() {
        assert_eq!(&SERVICE_2_0.as_bytes()[..12], b"Service:2.0\0");
        assert_eq!(SERVICE_2_0.as_bytes()[12..], [0; 20]);
        assert_eq!(SERVICE_2_0.to_string(), "Service:2.0");
        assert_eq!(VersionId::from_bytes([0; 32]).to_string(), "");
        assert_eq!(
            VersionId::from_bytes([0xff; 32]).to_string(),
            "\\xff".repeat(32)
        );
    }
}
