//! Where each part of the 608 bytes stands: the leaf's seed (32), then for each level from 1 to 6
//! the right child's seed (32), the left child's verification key (32), the right child's (32).
//!
//! A level's right seed is all zeros once the level has moved to its right half.

use super::{DEPTH, SIGN_KEY_BYTES};

/// The seed of the leaf that signs now.
pub(super) const LEAF_SEED: usize = 0;

const LEVEL_BYTES: usize = 96;

/// Offset of the right child's seed at `level` (1 to 6).
pub(super) const fn right_seed(level: usize) -> usize {
    assert!(level >= 1 && level <= DEPTH);
    32 + (level - 1) * LEVEL_BYTES
}

/// Offset of the left child's verification key at `level` (1 to 6); the right child's follows.
pub(super) const fn verification_keys(level: usize) -> usize {
    right_seed(level) + 32
}

/// The 32 bytes of `key` at `offset`.
pub(super) fn at(key: &[u8; SIGN_KEY_BYTES], offset: usize) -> &[u8; 32] {
    key[offset..]
        .first_chunk()
        .expect("offsets are inside the key")
}

/// The 32 bytes of `key` at `offset`, for writing.
pub(super) fn at_mut(key: &mut [u8; SIGN_KEY_BYTES], offset: usize) -> &mut [u8; 32] {
    key[offset..]
        .first_chunk_mut()
        .expect("offsets are inside the key")
}
