//! Service:1.0 and Service:StandardCrypto:0.4, which have the same bytes.
//!
//! There is one message, a key, 724 bytes: sign key 608, evolution u32, certificate 112. It has no
//! stamp, and there is no word for a drop. The deployed client takes the stamp as 0 and so refuses
//! every second key on a connection: an agent closes the connection instead of sending one.

use super::super::Reader;
use super::bundle::{BUNDLE_BYTES, BundleReader};
use super::{KeyMessage, MessageError, ReceivedKey, ServiceMessage};
use crate::opcert::OpCert;
use crate::sum6kes::{SIGN_KEY_BYTES, SignKey};
use crate::sys::memory::{LockError, SecretBytes};

/// Bytes of a message.
pub const KEY_BYTES: usize = BUNDLE_BYTES;

/// The message for a key at its present evolution.
#[must_use]
pub fn key_message<'a, S: SecretBytes<SIGN_KEY_BYTES>>(
    key: &'a SignKey<S>,
    opcert: &OpCert,
) -> KeyMessage<'a> {
    KeyMessage::new(&[], key, opcert)
}

/// Reads messages one after the other; the secret lands in locked memory.
pub struct MessageReader(BundleReader);

impl MessageReader {
    /// A reader at the start of a message.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn new() -> Result<Self, LockError> {
        BundleReader::new().map(Self)
    }
}

impl Reader for MessageReader {
    type Item = ServiceMessage;
    type Error = MessageError;

    fn wants(&mut self) -> &mut [u8] {
        self.0.wants()
    }

    fn advance(&mut self, count: usize) -> Result<Option<ServiceMessage>, MessageError> {
        let bundle = self.0.advance(count)?;
        Ok(bundle.map(|bundle| ServiceMessage::Key(ReceivedKey::new(None, bundle))))
    }

    fn is_between_items(&self) -> bool {
        self.0.is_between_items()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::testing::sample;
    use super::*;
    use crate::protocol::testing::feed;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read_in_pieces_of_every_size() {
        let (key, opcert) = sample();
        let bytes = key_message(&key, &opcert).pieces().concat().repeat(2);
        assert_eq!(bytes.len(), 2 * 724);
        for piece in 1..=bytes.len() {
            let mut reader = MessageReader::new().unwrap();
            let messages = feed(&mut reader, &bytes, piece).unwrap();
            assert_eq!(messages.len(), 2);
            assert!(reader.is_between_items());
            for message in messages {
                let ServiceMessage::Key(received) = message else {
                    panic!("there are no drops")
                };
                assert_eq!(received.stamp, None);
                assert_eq!(received.evolution, key.evolution());
                assert_eq!(received.opcert, opcert);
                assert!(received.secret.expose() == key.expose());
            }
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_no_message() {
        let (key, opcert) = sample();
        let bytes = key_message(&key, &opcert).pieces().concat();
        for cut in 1..bytes.len() {
            let mut reader = MessageReader::new().unwrap();
            assert!(feed(&mut reader, &bytes[..cut], 100).unwrap().is_empty());
            assert!(!reader.is_between_items());
        }
    }

    proptest! {
        #[test]
        fn any_724_bytes_are_a_message(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1usize..800,
        ) {
            let mut reader = MessageReader::new().unwrap();
            let messages = feed(&mut reader, &bytes, piece).unwrap();
            prop_assert_eq!(messages.len(), bytes.len() / KEY_BYTES);
        }
    }
}
