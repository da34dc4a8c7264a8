//! Keys, certificates and the messages of the service socket, by the tables of the specification.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use kes_summed_ed25519::kes::{Sum6Kes, Sum6KesSig};
use kes_summed_ed25519::traits::{KesSig, KesSk};
use kes_wire::sys::sodium::blake2b;

use super::wire::{Wire, big_endian};
use super::{Found, broken, hold};

/// A tag and a stamp, a key, an evolution and a certificate.
pub const KEY_2_0: usize = 1 + 8 + KEY_1_0;
/// A key, an evolution and a certificate.
pub const KEY_1_0: usize = 608 + 4 + 112;

/// An operational certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// The KES verification key.
    pub vkey: [u8; 32],
    /// The counter.
    pub counter: u64,
    /// The first period.
    pub start: u64,
    /// The cold key's signature.
    pub signature: [u8; 64],
}

impl Certificate {
    /// Issues one.
    #[must_use]
    pub fn issue(cold: &SigningKey, vkey: [u8; 32], counter: u64, start: u64) -> Self {
        let mut certificate = Self {
            vkey,
            counter,
            start,
            signature: [0; 64],
        };
        certificate.signature = cold.sign(&certificate.bytes()[..48]).to_bytes();
        certificate
    }

    /// Its 112 bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [
            &self.vkey[..],
            &self.counter.to_be_bytes(),
            &self.start.to_be_bytes(),
            &self.signature,
        ]
        .concat()
    }

    /// Reads 112 bytes.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        Self {
            vkey: array(&bytes[..32]),
            counter: big_endian(&bytes[32..40]),
            start: big_endian(&bytes[40..48]),
            signature: array(&bytes[48..112]),
        }
    }

    /// Whether this cold key signed it.
    #[must_use]
    pub fn is_signed_by(&self, cold: &VerifyingKey) -> bool {
        cold.verify(&self.bytes()[..48], &Signature::from_bytes(&self.signature))
            .is_ok()
    }
}

/// A key as it is served.
#[derive(Debug, Clone)]
pub struct Served {
    /// The first byte, where the version has one.
    pub tag: u8,
    /// The stamp, where the version has one.
    pub stamp: u64,
    /// The 608 bytes.
    pub key: Vec<u8>,
    /// The evolution.
    pub evolution: u32,
    /// The certificate.
    pub certificate: Certificate,
}

/// A message of Service:2.0.
#[derive(Debug, Clone)]
pub enum Message {
    /// A key.
    Key(Box<Served>),
    /// A drop's stamp.
    Drop(u64),
}

impl Message {
    /// Reads the next one. Which first byte a key has is the check of SVC-1.
    ///
    /// # Errors
    /// Where none comes.
    pub fn read(wire: &Wire) -> Found<Self> {
        let tag = wire.read(1)?[0];
        let stamp = wire.number(8)?;
        if tag == 1 {
            return Ok(Self::Drop(stamp));
        }
        let mut served = Served::read(wire)?;
        (served.tag, served.stamp) = (tag, stamp);
        Ok(Self::Key(Box::new(served)))
    }
}

impl Served {
    /// Reads the fields that all versions have.
    ///
    /// # Errors
    /// Where they do not come.
    pub fn read(wire: &Wire) -> Found<Self> {
        let bytes = wire.read(KEY_1_0)?;
        Ok(Self {
            tag: 0,
            stamp: 0,
            key: bytes[..608].to_vec(),
            evolution: u32::from_be_bytes(array(&bytes[608..612])),
            certificate: Certificate::read(&bytes[612..]),
        })
    }

    /// The message of Service:1.0.
    #[must_use]
    pub fn bytes_1_0(&self) -> Vec<u8> {
        let certificate = self.certificate.bytes();
        [&self.key[..], &self.evolution.to_be_bytes(), &certificate].concat()
    }

    /// The message of Service:2.0.
    #[must_use]
    pub fn bytes_2_0(&self) -> Vec<u8> {
        [
            &[self.tag][..],
            &self.stamp.to_be_bytes(),
            &self.bytes_1_0(),
        ]
        .concat()
    }

    /// A key of the independent implementation, evolved, with its certificate.
    #[must_use]
    pub fn new(cold: &SigningKey, stamp: u64, counter: u64, start: u64, evolution: u32) -> Self {
        let mut seed = seed();
        let mut buffer = [0; Sum6Kes::SIZE + 4];
        let (mut key, vkey) = Sum6Kes::keygen(&mut buffer, &mut seed);
        for _ in 0..evolution {
            let _ = key.update();
        }
        Self {
            tag: 0,
            stamp,
            key: key.as_bytes()[..608].to_vec(),
            evolution,
            certificate: Certificate::issue(cold, array(vkey.as_bytes()), counter, start),
        }
    }

    fn field(&self, level: usize, which: usize) -> [u8; 32] {
        let at = 32 + 96 * (level - 1) + 32 * which;
        array(&self.key[at..at + 32])
    }

    fn right_seed(&self, level: usize) -> [u8; 32] {
        self.field(level, 0)
    }

    /// Whether the key has moved to the right half of this level.
    fn is_right(&self, level: usize) -> bool {
        self.evolution >> (level - 1) & 1 == 1
    }

    /// The verification key of this level's node: its halves' hash.
    fn node(&self, level: usize) -> [u8; 32] {
        parent(&self.field(level, 1), &self.field(level, 2))
    }

    /// KEY-1: every part is where it belongs, from the leaf to the certificate's key.
    ///
    /// # Errors
    /// Where one is not.
    pub fn layout(&self) -> Found {
        hold(self.evolution < 64, "an evolution of 64 or more")?;
        let mut below = leaf_vkey(&array(&self.key[..32]));
        for level in 1..=6 {
            let side = if self.is_right(level) { 2 } else { 1 };
            hold(
                self.field(level, side) == below,
                format!("level {level} does not hold the verification key of what is below it"),
            )?;
            below = self.node(level);
        }
        hold(
            below == self.certificate.vkey,
            "the root is not the certificate's KES verification key",
        )
    }

    /// KEY-2: every seed that is there gives the verification key beside it.
    ///
    /// # Errors
    /// Where one does not.
    pub fn seeds(&self) -> Found {
        for level in 1..=6 {
            let seed = self.right_seed(level);
            if !self.is_right(level) {
                hold(
                    tree_vkey(&seed, level - 1) == self.field(level, 2),
                    format!("level {level}: the right seed does not give the right key"),
                )?;
            }
        }
        Ok(())
    }

    /// KEY-3: it signs, and the independent implementation takes the signature.
    ///
    /// # Errors
    /// Where it does not.
    pub fn signs(&self) -> Found {
        let mut bytes = self.key.clone();
        bytes.extend(self.evolution.to_be_bytes());
        let verified = self.evolution < 64
            && Sum6Kes::from_bytes(&mut bytes).is_ok_and(|key| {
                let signature = key.sign(b"conformance").to_bytes();
                let mut root = [0; 32];
                root.copy_from_slice(&self.certificate.vkey);
                signature.len() == 448
                    && is_signature_of(&root, self.evolution, b"conformance", &signature)
            });
        hold(verified, "what it signs does not verify")
    }

    /// KEY-4: no seed of an earlier leaf is left.
    ///
    /// # Errors
    /// Where one is.
    pub fn forgets(&self) -> Found {
        for level in (1..=6).filter(|level| self.is_right(*level)) {
            if self.right_seed(level) != [0; 32] {
                return broken(format!("level {level} keeps a seed that was used"));
            }
        }
        Ok(())
    }
}

/// Whether it is a signature of the key with this root.
fn is_signature_of(root: &[u8; 32], evolution: u32, message: &[u8], signature: &[u8]) -> bool {
    let Ok(read) = Sum6KesSig::from_bytes(signature) else {
        return false;
    };
    kes_summed_ed25519::PublicKey::from_bytes(root)
        .is_ok_and(|root| read.verify(evolution, &root, message).is_ok())
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    kes_wire::sys::sodium::fill_random(&mut seed);
    seed
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    blake2b(&parts.concat(), &mut out);
    out
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    hash(&[left, right])
}

fn leaf_vkey(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// The verification key of a tree of so many levels that grows from a seed.
fn tree_vkey(seed: &[u8; 32], levels: usize) -> [u8; 32] {
    if levels == 0 {
        return leaf_vkey(seed);
    }
    parent(
        &tree_vkey(&hash(&[&[1], seed]), levels - 1),
        &tree_vkey(&hash(&[&[2], seed]), levels - 1),
    )
}

/// The bytes as an array.
///
/// # Panics
/// Where they are not so many.
#[must_use]
pub fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("as many bytes as its caller cut")
}
