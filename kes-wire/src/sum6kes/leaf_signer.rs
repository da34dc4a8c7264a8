//! What signs at one evolution and cannot evolve.

use super::{DEPTH, SignKey, Signature};
use crate::period::Evolution;
use crate::sys::cells::{CellPool, SecretCell};
use crate::sys::memory::LockError;
use crate::sys::{sodium, stack};

/// The signing half of a [`SignKey`] at one evolution: the leaf's Ed25519 key (64 secret bytes in
/// locked memory) and the public path to the root (384 bytes). No other evolution can be had from
/// it, and it is wiped when it is dropped, without a lock or a system call.
///
/// ```compile_fail
/// fn show(signer: &kes_wire::sum6kes::LeafSigner) -> String { format!("{signer:?}") }
/// ```
pub struct LeafSigner {
    /// Seed, then public key, as libsodium takes them.
    leaf: SecretCell,
    path: [u8; DEPTH * 64],
    evolution: Evolution,
}

impl LeafSigner {
    /// What signs at the present evolution of `key`.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn of(key: &SignKey, cells: &mut CellPool) -> Result<Self, LockError> {
        let mut signer = Self {
            leaf: cells.take()?,
            path: [0; DEPTH * 64],
            evolution: key.evolution(),
        };
        key.copy_leaf(signer.leaf.expose_mut(), &mut signer.path)?;
        Ok(signer)
    }

    /// The evolution at which it signs.
    #[must_use]
    pub fn evolution(&self) -> Evolution {
        self.evolution
    }

    /// Signs `message`: the same 448 bytes as [`SignKey::sign`].
    ///
    /// # Errors
    /// [`LockError`] where this thread's secret stack cannot be locked.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, LockError> {
        let mut signature = Signature([0; Signature::BYTES]);
        let (leaf, path) = signature
            .0
            .split_first_chunk_mut::<64>()
            .expect("448 bytes");
        stack::run(|| sodium::ed25519_sign(self.leaf.expose(), message, leaf))?;
        path.copy_from_slice(&self.path);
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sum6kes::EVOLUTIONS;

    #[test]
    fn it_signs_as_the_key_does_at_every_evolution() {
        let mut cells = CellPool::new().unwrap();
        let mut key = SignKey::generate().unwrap();
        for evolution in (0..EVOLUTIONS).map(Evolution) {
            key.evolve_to(evolution).unwrap();
            let signer = LeafSigner::of(&key, &mut cells).unwrap();
            assert_eq!(signer.evolution(), evolution);
            let message = evolution.0.to_be_bytes();
            assert_eq!(signer.sign(&message), key.sign(&message));
        }
    }
}
