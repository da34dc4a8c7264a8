//! The service socket: keys for nodes and peer agents.

pub mod v2_0;

use core::fmt;

use super::Reader;
use super::stamp::Stamp;
use crate::opcert::OpCert;
use crate::period::Evolution;
use crate::sum6kes::SIGN_KEY_BYTES;
use crate::sys::memory::LockedBytes;

/// A key as it arrived, in locked memory. Nothing of it has been checked.
///
/// ```compile_fail
/// fn show(key: &kes_wire::protocol::service::ReceivedKey) -> String { format!("{key:?}") }
/// ```
pub struct ReceivedKey {
    /// When the agent installed it.
    pub stamp: Stamp,
    /// The serialised sign key.
    pub secret: LockedBytes<SIGN_KEY_BYTES>,
    /// The evolution it is said to be at.
    pub evolution: Evolution,
    /// Its certificate.
    pub opcert: OpCert,
}

/// What an agent sends.
pub enum ServiceMessage {
    /// A key to use from now on.
    Key(ReceivedKey),
    /// The key was dropped: stop using it.
    Dropped {
        /// When.
        stamp: Stamp,
    },
}

/// What a node says to a message: a u32 on this socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceResult {
    /// Taken.
    Ok,
    /// Not newer than what it has.
    KeyOutdated,
    /// The certificate is not valid.
    InvalidOpCert,
    /// There is no key.
    NoKey,
    /// It does not do this.
    UnsupportedOperation,
    /// Anything else.
    Unknown,
}

impl ServiceResult {
    /// The number on the wire.
    #[must_use]
    pub fn to_u32(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::KeyOutdated => 1,
            Self::InvalidOpCert => 2,
            Self::NoKey => 3,
            Self::UnsupportedOperation => 4,
            Self::Unknown => u32::MAX,
        }
    }

    /// The result of a number; an unassigned one is unknown.
    #[must_use]
    pub fn from_u32(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::KeyOutdated,
            2 => Self::InvalidOpCert,
            3 => Self::NoKey,
            4 => Self::UnsupportedOperation,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ServiceResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::KeyOutdated => "key outdated",
            Self::InvalidOpCert => "invalid certificate",
            Self::NoKey => "no key",
            Self::UnsupportedOperation => "unsupported operation",
            Self::Unknown => "unknown result",
        })
    }
}

/// Reads results, one after the other.
#[derive(Default)]
pub struct ResultReader {
    bytes: [u8; 4],
    filled: usize,
}

impl Reader for ResultReader {
    type Item = ServiceResult;
    type Error = core::convert::Infallible;

    fn wants(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    fn advance(&mut self, count: usize) -> Result<Option<ServiceResult>, Self::Error> {
        self.filled += count;
        if self.filled < self.bytes.len() {
            return Ok(None);
        }
        self.filled = 0;
        Ok(Some(ServiceResult::from_u32(u32::from_be_bytes(
            self.bytes,
        ))))
    }

    fn is_between_items(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::feed;
    use super::*;

    #[test]
    fn results_are_read_in_pieces_of_every_size() {
        let bytes = [0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9];
        for piece in 1..=16 {
            let results = feed(&mut ResultReader::default(), &bytes, piece).unwrap();
            assert_eq!(
                results,
                [
                    ServiceResult::Ok,
                    ServiceResult::KeyOutdated,
                    ServiceResult::Unknown,
                    ServiceResult::Unknown,
                ]
            );
        }
        for number in [0, 1, 2, 3, 4, u32::MAX] {
            assert_eq!(ServiceResult::from_u32(number).to_u32(), number);
        }
    }
}
