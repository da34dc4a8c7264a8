//! Verification of a signature. Nothing here is secret.

use super::{DEPTH, EVOLUTIONS, Signature, VerificationKey};
use crate::period::Evolution;
use crate::sys::sodium;

/// Why a KES signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The evolution is 64 or more: no key has it.
    #[error("evolution {0} is beyond the last one of any KES key, 63")]
    EvolutionTooHigh(Evolution),
    /// The pairs of verification keys in the signature do not lead to the verification key: the
    /// signature is of another key or damaged.
    #[error("the signature was made by another KES key (its path ends at level {level})")]
    WrongKey {
        /// The level (6 is the outermost) whose pair does not hash to the key above it.
        level: usize,
    },
    /// The leaf's Ed25519 signature does not hold: another message, another evolution, or damage.
    #[error("the signature is not over this message at this evolution")]
    WrongSignature,
}

/// Checks `signature` over `message` by `key` at `evolution`.
///
/// Walks from the outermost pair (the last 64 bytes) to the leaf, then checks one Ed25519
/// signature.
///
/// # Errors
/// [`VerifyError`], by reason.
pub fn verify(
    key: &VerificationKey,
    evolution: Evolution,
    message: &[u8],
    signature: &Signature,
) -> Result<(), VerifyError> {
    if evolution.0 >= EVOLUTIONS {
        return Err(VerifyError::EvolutionTooHigh(evolution));
    }
    let (leaf_signature, pairs) = signature.0.split_first_chunk::<64>().expect("448 bytes");
    let (pairs, _) = pairs.as_chunks::<64>();
    let mut expected = key.0;
    for level in (1..=DEPTH).rev() {
        let pair = &pairs[level - 1];
        let mut node = [0; 32];
        sodium::blake2b(pair, &mut node);
        if node != expected {
            return Err(VerifyError::WrongKey { level });
        }
        let goes_right = evolution.0 >> (level - 1) & 1 == 1;
        let side = if goes_right { &pair[32..] } else { &pair[..32] };
        expected.copy_from_slice(side);
    }
    if sodium::ed25519_verify(&expected, message, leaf_signature) {
        Ok(())
    } else {
        Err(VerifyError::WrongSignature)
    }
}
