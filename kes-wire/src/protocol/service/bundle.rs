//! A key with its evolution and certificate, 724 bytes: what all versions have in common.
//!
//! Sign key 608, evolution u32, certificate 112. A version may put a head before them.

use super::super::Reader;
use crate::opcert::OpCert;
use crate::period::Evolution;
use crate::sum6kes::{SIGN_KEY_BYTES, SignKey};
use crate::sys::memory::{LockError, LockedBytes, SecretBytes};

/// Bytes of a key, its evolution and its certificate.
pub(super) const BUNDLE_BYTES: usize = SIGN_KEY_BYTES + TAIL_BYTES;
/// Bytes that the longest head has.
pub(super) const MOST_HEAD_BYTES: usize = 9;

const TAIL_BYTES: usize = 4 + OpCert::WIRE_BYTES;

/// A message with a key, in the pieces it is sent from: the secret stays where it is.
pub struct KeyMessage<'a> {
    head: [u8; MOST_HEAD_BYTES],
    head_bytes: usize,
    secret: &'a [u8; SIGN_KEY_BYTES],
    tail: [u8; TAIL_BYTES],
}

impl<'a> KeyMessage<'a> {
    /// The message for a key at its present evolution, behind a version's head.
    pub(super) fn new<const HEAD: usize, S: SecretBytes<SIGN_KEY_BYTES>>(
        head: &[u8; HEAD],
        key: &'a SignKey<S>,
        opcert: &OpCert,
    ) -> Self {
        const { assert!(HEAD <= MOST_HEAD_BYTES) };
        let mut own = [0; MOST_HEAD_BYTES];
        own[..HEAD].copy_from_slice(head);
        let mut tail = [0; TAIL_BYTES];
        tail[..4].copy_from_slice(&key.evolution().0.to_be_bytes());
        tail[4..].copy_from_slice(&opcert.to_wire());
        Self {
            head: own,
            head_bytes: HEAD,
            secret: key.expose(),
            tail,
        }
    }

    /// The pieces in order, for one vectored write. The first is empty where the version has no
    /// head.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        [&self.head[..self.head_bytes], self.secret, &self.tail]
    }
}

/// A key as it arrived, without a version's head.
pub(super) struct Bundle {
    pub(super) secret: LockedBytes<SIGN_KEY_BYTES>,
    pub(super) evolution: Evolution,
    pub(super) opcert: OpCert,
}

/// Reads bundles one after the other; the secret lands in locked memory.
pub(super) struct BundleReader {
    secret: LockedBytes<SIGN_KEY_BYTES>,
    tail: [u8; TAIL_BYTES],
    /// How much of the current bundle has arrived.
    filled: usize,
}

impl BundleReader {
    pub(super) fn new() -> Result<Self, LockError> {
        Ok(Self {
            secret: LockedBytes::zeroed()?,
            tail: [0; TAIL_BYTES],
            filled: 0,
        })
    }
}

impl Reader for BundleReader {
    type Item = Bundle;
    type Error = LockError;

    fn wants(&mut self) -> &mut [u8] {
        match self.filled {
            at @ 0..SIGN_KEY_BYTES => &mut self.secret.expose_mut()[at..],
            at => &mut self.tail[at - SIGN_KEY_BYTES..],
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<Bundle>, LockError> {
        self.filled += count;
        if self.filled < BUNDLE_BYTES {
            return Ok(None);
        }
        self.filled = 0;
        // The secret is handed over, and fresh memory taken for the next.
        let secret = core::mem::replace(&mut self.secret, LockedBytes::zeroed()?);
        let (evolution, opcert) = self.tail.split_first_chunk().expect("116 bytes");
        Ok(Some(Bundle {
            secret,
            evolution: Evolution(u32::from_be_bytes(*evolution)),
            opcert: OpCert::from_wire(opcert.first_chunk().expect("112 bytes")),
        }))
    }

    fn is_between_items(&self) -> bool {
        self.filled == 0
    }
}

#[cfg(test)]
pub(super) mod testing {
    use crate::opcert::{ColdSignature, OpCert};
    use crate::period::{Evolution, KesPeriod};
    use crate::sum6kes::SignKey;

    /// A key at evolution 3 and a certificate for it (its cold signature is none).
    pub(in super::super) fn sample() -> (SignKey, OpCert) {
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
}
