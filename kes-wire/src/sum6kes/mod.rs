//! Sum6KES: the key-evolving signature of Cardano (Ed25519 leaves, Blake2b-256, depth 6).
//!
//! A key is a binary tree of 64 Ed25519 keys. Evolution `t` signs with leaf `t`; evolving wipes
//! the leaf and derives the next one from a seed higher up, so that earlier leaves cannot be had
//! any more. The construction is the MMM sum composition as the Haskell reference implements it:
//!
//! - a node's seed gives its children's: left `Blake2b-256(1 || seed)`, right
//!   `Blake2b-256(2 || seed)`; a leaf's seed is the Ed25519 seed;
//! - a node's verification key is `Blake2b-256(left || right)`, a leaf's the Ed25519 public key.
//!
//! Levels are counted from the leaf: level 1 is a pair of leaves, level 6 the whole tree.

mod layout;
mod leaf_signer;
mod sign_key;
mod tree;
mod verify;

pub use leaf_signer::LeafSigner;
pub use sign_key::{DamagedKey, EvolveError, SignKey};
pub use verify::{VerifyError, verify};

use crate::public_bytes::public_bytes;

/// Levels of the tree.
pub const DEPTH: usize = 6;
/// How many evolutions the algorithm has (2^6). The ledger allows fewer, see
/// [`crate::genesis::Network::max_evolutions`].
pub const EVOLUTIONS: u32 = 1 << DEPTH;
/// Bytes of a serialised sign key.
pub const SIGN_KEY_BYTES: usize = 32 + DEPTH * 96;
/// Bytes of a signature: one Ed25519 signature and a pair of verification keys a level.
pub const SIGNATURE_BYTES: usize = 64 + DEPTH * 64;

public_bytes! {
    /// A KES verification key: the root of the tree, 32 bytes. It stays the same over all
    /// evolutions.
    VerificationKey, 32
}

public_bytes! {
    /// A KES signature, 448 bytes: the leaf's Ed25519 signature, then the pairs of verification
    /// keys from level 1 to level 6.
    Signature, SIGNATURE_BYTES
}
