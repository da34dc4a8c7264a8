//! The service socket: keys for nodes and peer agents.

mod bundle;
pub mod v1_0;
pub mod v2_0;
mod version;

use super::Reader;
use super::stamp::Stamp;
use crate::opcert::OpCert;
use crate::period::Evolution;
use crate::sum6kes::SIGN_KEY_BYTES;
use crate::sys::memory::{LockError, LockedBytes};

pub use super::result::ResultCode as ServiceResult;
pub use bundle::KeyMessage;
pub use version::{MessageReader, ServiceVersion};

/// A key as it arrived, in locked memory. Nothing of it has been checked.
///
/// ```compile_fail
/// fn show(key: &kes_wire::protocol::service::ReceivedKey) -> String { format!("{key:?}") }
/// ```
pub struct ReceivedKey {
    /// When the agent installed it; `None` in the versions that do not say (1.0 and 0.4).
    pub stamp: Option<Stamp>,
    /// The serialised sign key.
    pub secret: LockedBytes<SIGN_KEY_BYTES>,
    /// The evolution it is said to be at.
    pub evolution: Evolution,
    /// Its certificate.
    pub opcert: OpCert,
}

impl ReceivedKey {
    fn new(stamp: Option<Stamp>, bundle: bundle::Bundle) -> Self {
        let bundle::Bundle {
            secret,
            evolution,
            opcert,
        } = bundle;
        Self {
            stamp,
            secret,
            evolution,
            opcert,
        }
    }
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

/// Why what an agent sent cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The first byte is neither that of a key nor that of a drop.
    #[error("a message begins with byte {0}: this is no Service:2.0")]
    UnknownTag(u8),
    /// Memory for a key cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
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
        Ok(Some(ServiceResult::from_number(u32::from_be_bytes(
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
    }
}
