//! The service versions behind one face.

use super::super::Reader;
use super::super::stamp::Stamp;
use super::super::version::{SERVICE_0_4, SERVICE_1_0, SERVICE_2_0, VersionId};
use super::{KeyMessage, MessageError, ServiceMessage, v1_0, v2_0};
use crate::opcert::OpCert;
use crate::sum6kes::{SIGN_KEY_BYTES, SignKey};
use crate::sys::memory::{LockError, SecretBytes};

/// A settled service version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceVersion {
    /// Service:2.0
    V2_0,
    /// Service:1.0, and Service:StandardCrypto:0.4 with the same bytes.
    V1_0,
}

impl ServiceVersion {
    /// The version of an id, if it is one that is known here.
    #[must_use]
    pub fn from_id(id: VersionId) -> Option<Self> {
        match id {
            SERVICE_2_0 => Some(Self::V2_0),
            SERVICE_1_0 | SERVICE_0_4 => Some(Self::V1_0),
            _ => None,
        }
    }

    /// The message for a key at its present evolution.
    #[must_use]
    pub fn key_message<S: SecretBytes<SIGN_KEY_BYTES>>(
        self,
        stamp: Stamp,
        key: &SignKey<S>,
        opcert: OpCert,
    ) -> KeyMessage<'_> {
        match self {
            Self::V2_0 => v2_0::key_message(stamp, key, &opcert),
            Self::V1_0 => v1_0::key_message(key, &opcert),
        }
    }

    /// The message that says that the key was dropped; `None` where the version has none.
    #[must_use]
    pub fn dropped(self, stamp: Stamp) -> Option<[u8; v2_0::DROPPED_BYTES]> {
        match self {
            Self::V2_0 => Some(v2_0::dropped(stamp)),
            Self::V1_0 => None,
        }
    }

    /// Whether a client takes a second state on a connection. Without stamps it refuses every
    /// one: it has to connect anew.
    #[must_use]
    pub fn takes_further_states(self) -> bool {
        match self {
            Self::V2_0 => true,
            Self::V1_0 => false,
        }
    }

    /// A reader of this version's messages.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn reader(self) -> Result<MessageReader, LockError> {
        Ok(match self {
            Self::V2_0 => MessageReader::V2_0(v2_0::MessageReader::new()?),
            Self::V1_0 => MessageReader::V1_0(v1_0::MessageReader::new()?),
        })
    }
}

/// Reads messages of a settled version.
pub enum MessageReader {
    /// Of Service:2.0.
    V2_0(v2_0::MessageReader),
    /// Of Service:1.0 or StandardCrypto:0.4.
    V1_0(v1_0::MessageReader),
}

impl Reader for MessageReader {
    type Item = ServiceMessage;
    type Error = MessageError;

    fn wants(&mut self) -> &mut [u8] {
        match self {
            Self::V2_0(reader) => reader.wants(),
            Self::V1_0(reader) => reader.wants(),
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<ServiceMessage>, MessageError> {
        match self {
            Self::V2_0(reader) => reader.advance(count),
            Self::V1_0(reader) => reader.advance(count),
        }
    }

    fn is_between_items(&self) -> bool {
        match self {
            Self::V2_0(reader) => reader.is_between_items(),
            Self::V1_0(reader) => reader.is_between_items(),
        }
    }
}
