//! Service:2.0.
//!
//! - a key, 733 bytes: `00`, stamp u64 (microseconds), sign key 608, evolution u32, certificate
//!   112;
//! - a drop, 9 bytes: `01`, stamp u64.

use super::super::Reader;
use super::bundle::{BUNDLE_BYTES, BundleReader};
use super::{KeyMessage, MessageError, ReceivedKey, ServiceMessage};
use crate::opcert::OpCert;
use crate::protocol::stamp::Stamp;
use crate::sum6kes::{SIGN_KEY_BYTES, SignKey};
use crate::sys::memory::{LockError, SecretBytes};

/// Bytes of a message that carries a key.
pub const KEY_BYTES: usize = HEAD_BYTES + BUNDLE_BYTES;
/// Bytes of a message that says that a key was dropped.
pub const DROPPED_BYTES: usize = HEAD_BYTES;

const HEAD_BYTES: usize = 1 + 8;
const TAG_KEY: u8 = 0;
const TAG_DROPPED: u8 = 1;

/// The message for a key at its present evolution.
#[must_use]
pub fn key_message<'a, S: SecretBytes<SIGN_KEY_BYTES>>(
    stamp: Stamp,
    key: &'a SignKey<S>,
    opcert: &OpCert,
) -> KeyMessage<'a> {
    KeyMessage::new(&head(TAG_KEY, stamp), key, opcert)
}

/// The message that says that the key was dropped.
#[must_use]
pub fn dropped(stamp: Stamp) -> [u8; DROPPED_BYTES] {
    head(TAG_DROPPED, stamp)
}

fn head(tag: u8, stamp: Stamp) -> [u8; HEAD_BYTES] {
    let mut head = [tag; HEAD_BYTES];
    head[1..].copy_from_slice(&stamp.0.to_be_bytes());
    head
}

/// Reads messages one after the other; the secret lands in locked memory.
pub struct MessageReader {
    head: [u8; HEAD_BYTES],
    /// How much of the head has arrived.
    filled: usize,
    bundle: BundleReader,
}

impl MessageReader {
    /// A reader at the start of a message.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn new() -> Result<Self, LockError> {
        Ok(Self {
            head: [0; HEAD_BYTES],
            filled: 0,
            bundle: BundleReader::new()?,
        })
    }

    fn stamp(&self) -> Stamp {
        Stamp(u64::from_be_bytes(
            *self.head.last_chunk().expect("nine bytes"),
        ))
    }
}

impl Reader for MessageReader {
    type Item = ServiceMessage;
    type Error = MessageError;

    fn wants(&mut self) -> &mut [u8] {
        match self.filled {
            // Until the tag is known only its byte may be asked for.
            0 => &mut self.head[..1],
            at @ 1..HEAD_BYTES => &mut self.head[at..],
            _ => self.bundle.wants(),
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<ServiceMessage>, MessageError> {
        let message = if self.filled < HEAD_BYTES {
            self.filled += count;
            match (self.filled, self.head[0]) {
                (0, _) | (_, TAG_KEY) => None,
                (HEAD_BYTES, TAG_DROPPED) => Some(ServiceMessage::Dropped {
                    stamp: self.stamp(),
                }),
                (_, TAG_DROPPED) => None,
                (_, other) => return Err(MessageError::UnknownTag(other)),
            }
        } else {
            let bundle = self.bundle.advance(count)?;
            bundle.map(|b| ServiceMessage::Key(ReceivedKey::new(Some(self.stamp()), b)))
        };
        if message.is_some() {
            self.filled = 0;
        }
        Ok(message)
    }

    fn is_between_items(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::testing::sample;
    use super::*;
    use crate::protocol::testing::feed;
    use proptest::prelude::*;

    fn wire(stamp: u64, key: &SignKey, opcert: &OpCert) -> Vec<u8> {
        key_message(Stamp(stamp), key, opcert).pieces().concat()
    }

    #[test]
    fn keys_and_drops_are_read_in_pieces_of_every_size() {
        let (key, opcert) = sample();
        let mut bytes = wire(10, &key, &opcert);
        assert_eq!(bytes.len(), 733);
        bytes.extend(dropped(Stamp(11)));
        bytes.extend(wire(12, &key, &opcert));
        bytes.extend(wire(12, &key, &opcert));
        for piece in 1..=bytes.len() {
            let mut reader = MessageReader::new().unwrap();
            let messages = feed(&mut reader, &bytes, piece).unwrap();
            assert_eq!(messages.len(), 4);
            assert!(reader.is_between_items());
            for (at, message) in messages.into_iter().enumerate() {
                match message {
                    ServiceMessage::Dropped { stamp } => assert_eq!((at, stamp), (1, Stamp(11))),
                    ServiceMessage::Key(received) => {
                        assert_eq!(received.stamp, Some(Stamp([10, 0, 12, 12][at])));
                        assert_eq!(received.opcert, opcert);
                        let (secret, evolution) = (received.secret, received.evolution);
                        let whole =
                            SignKey::from_bytes(secret, evolution, &opcert.kes_vkey).unwrap();
                        assert!(whole.expose() == key.expose());
                    }
                }
            }
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_no_message() {
        let (key, opcert) = sample();
        let bytes = wire(10, &key, &opcert);
        for cut in 1..bytes.len() {
            let mut reader = MessageReader::new().unwrap();
            assert!(feed(&mut reader, &bytes[..cut], 100).unwrap().is_empty());
            assert!(!reader.is_between_items());
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_by_its_first_byte_or_read_as_what_it_says(
            bytes in proptest::collection::vec(any::<u8>(), 1..2000), piece in 1usize..800,
        ) {
            let mut reader = MessageReader::new().unwrap();
            match feed(&mut reader, &bytes, piece) {
                Err(MessageError::UnknownTag(tag)) => prop_assert!(tag > 1),
                Err(MessageError::Lock(error)) => return Err(TestCaseError::fail(error.to_string())),
                Ok(_) => prop_assert!(bytes[0] <= 1),
            }
        }
    }
}
