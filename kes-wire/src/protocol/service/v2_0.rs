//! Service:2.0.
//!
//! - a key, 733 bytes: `00`, stamp u64 (microseconds), sign key 608, evolution u32, certificate
//!   112;
//! - a drop, 9 bytes: `01`, stamp u64.

use super::super::Reader;
use super::{ReceivedKey, ServiceMessage};
use crate::opcert::OpCert;
use crate::period::Evolution;
use crate::protocol::stamp::Stamp;
use crate::sum6kes::{SIGN_KEY_BYTES, SignKey};
use crate::sys::memory::{LockError, LockedBytes};

/// Bytes of a message that carries a key.
pub const KEY_BYTES: usize = HEAD_BYTES + SIGN_KEY_BYTES + TAIL_BYTES;
/// Bytes of a message that says that a key was dropped.
pub const DROPPED_BYTES: usize = HEAD_BYTES;

const HEAD_BYTES: usize = 1 + 8;
const TAIL_BYTES: usize = 4 + OpCert::WIRE_BYTES;
const TAG_KEY: u8 = 0;
const TAG_DROPPED: u8 = 1;

/// A message with a key, in the three pieces it is sent from: the secret stays where it is.
pub struct KeyMessage<'a> {
    head: [u8; HEAD_BYTES],
    secret: &'a [u8; SIGN_KEY_BYTES],
    tail: [u8; TAIL_BYTES],
}

impl<'a> KeyMessage<'a> {
    /// The message for a key at its present evolution.
    #[must_use]
    pub fn new(stamp: Stamp, key: &'a SignKey, opcert: &OpCert) -> Self {
        let mut tail = [0; TAIL_BYTES];
        tail[..4].copy_from_slice(&key.evolution().0.to_be_bytes());
        tail[4..].copy_from_slice(&opcert.to_wire());
        Self {
            head: head(TAG_KEY, stamp),
            secret: key.expose(),
            tail,
        }
    }

    /// The pieces in order, for one vectored write.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [&self.head, self.secret, &self.tail]
    }
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

/// Why what an agent sent cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The first byte is neither of the two.
    #[error("a message begins with byte {0}: this is no Service:2.0")]
    UnknownTag(u8),
    /// Memory for a key cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Reads messages one after the other; the secret lands in locked memory.
pub struct MessageReader {
    head: [u8; HEAD_BYTES],
    secret: LockedBytes<SIGN_KEY_BYTES>,
    tail: [u8; TAIL_BYTES],
    /// How much of the current message has arrived.
    filled: usize,
}

const SECRET_END: usize = HEAD_BYTES + SIGN_KEY_BYTES;

impl MessageReader {
    /// A reader at the start of a message.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn new() -> Result<Self, LockError> {
        Ok(Self {
            head: [0; HEAD_BYTES],
            secret: LockedBytes::zeroed()?,
            tail: [0; TAIL_BYTES],
            filled: 0,
        })
    }

    fn stamp(&self) -> Stamp {
        Stamp(u64::from_be_bytes(
            *self.head.last_chunk().expect("nine bytes"),
        ))
    }

    /// All 733 bytes are there. The secret is handed over, and fresh memory taken for the next.
    fn key(&mut self) -> Result<ReceivedKey, LockError> {
        let secret = core::mem::replace(&mut self.secret, LockedBytes::zeroed()?);
        let (evolution, opcert) = self.tail.split_first_chunk().expect("116 bytes");
        Ok(ReceivedKey {
            stamp: self.stamp(),
            secret,
            evolution: Evolution(u32::from_be_bytes(*evolution)),
            opcert: OpCert::from_wire(opcert.first_chunk().expect("112 bytes")),
        })
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
            at @ HEAD_BYTES..SECRET_END => &mut self.secret.expose_mut()[at - HEAD_BYTES..],
            at => &mut self.tail[at - SECRET_END..],
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<ServiceMessage>, MessageError> {
        self.filled += count;
        if self.filled == 0 {
            return Ok(None);
        }
        let message = match (self.head[0], self.filled) {
            (TAG_DROPPED, DROPPED_BYTES) => ServiceMessage::Dropped {
                stamp: self.stamp(),
            },
            (TAG_KEY, KEY_BYTES) => ServiceMessage::Key(self.key()?),
            (TAG_KEY | TAG_DROPPED, _) => return Ok(None),
            (other, _) => return Err(MessageError::UnknownTag(other)),
        };
        self.filled = 0;
        Ok(Some(message))
    }

    fn is_between_items(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::feed;
    use super::*;
    use crate::opcert::ColdSignature;
    use crate::period::KesPeriod;
    use proptest::prelude::*;

    fn sample() -> (SignKey, OpCert) {
        let mut key = SignKey::generate().unwrap();
        key.evolve_to(Evolution(3)).unwrap();
        let opcert = OpCert {
            kes_vkey: key.verification_key(),
            counter: 5,
            start_period: KesPeriod(1572),
            cold_signature: ColdSignature([4; 64]),
        };
        (key, opcert)
    }

    fn wire(stamp: u64, key: &SignKey, opcert: &OpCert) -> Vec<u8> {
        KeyMessage::new(Stamp(stamp), key, opcert).pieces().concat()
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
                        assert_eq!(received.stamp, Stamp([10, 0, 12, 12][at]));
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
