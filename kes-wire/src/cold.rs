//! Cold keys: the pool's identity. The verification key is configured in the agent; the sign key
//! lives on the air-gapped machine.

use core::fmt;

use crate::opcert::{ColdSignature, OpCert};
use crate::period::KesPeriod;
use crate::public_bytes::public_bytes;
use crate::sum6kes::VerificationKey;
use crate::sys::memory::{LockError, LockedBytes};
use crate::sys::{sodium, stack};

public_bytes! {
    /// A pool's cold verification key (Ed25519), 32 bytes.
    ColdVerificationKey, 32
}

/// A pool's id: Blake2b-224 of its cold verification key (ledger: `KeyHash 'StakePool`), shown in
/// bech32 as `pool1...` (CIP-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolId(pub [u8; 28]);

impl PoolId {
    /// The id of the pool with this cold key.
    #[must_use]
    pub fn of(cold_vkey: &ColdVerificationKey) -> Self {
        let mut hash = [0; 28];
        sodium::blake2b(&cold_vkey.0, &mut hash);
        Self(hash)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = bech32::Hrp::parse("pool").expect("a valid prefix");
        let text = bech32::encode::<bech32::Bech32>(prefix, &self.0).expect("28 bytes fit");
        f.write_str(&text)
    }
}

/// A pool's cold sign key: an Ed25519 seed in locked memory. It has no `Clone`, `Debug`,
/// `PartialEq` or serde.
///
/// ```compile_fail
/// fn show(key: &kes_wire::cold::ColdSignKey) -> String { format!("{key:?}") }
/// ```
pub struct ColdSignKey {
    seed: LockedBytes<32>,
    verification_key: ColdVerificationKey,
}

impl ColdSignKey {
    /// Generates a key from the system's randomness.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn generate() -> Result<Self, LockError> {
        Self::from_seed(LockedBytes::random()?)
    }

    /// The key of a 32-byte seed.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn from_seed(seed: LockedBytes<32>) -> Result<Self, LockError> {
        let mut verification_key = ColdVerificationKey([0; 32]);
        stack::run(|| {
            let mut secret = [0; sodium::ED25519_SECRET_BYTES];
            sodium::ed25519_keypair(seed.expose(), &mut secret, &mut verification_key.0);
        })?;
        Ok(Self {
            seed,
            verification_key,
        })
    }

    /// The verification key.
    #[must_use]
    pub fn verification_key(&self) -> ColdVerificationKey {
        self.verification_key
    }

    /// The secret seed, for writing into a secret envelope.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.seed.expose()
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn issue(
        &self,
        kes_vkey: &VerificationKey,
        counter: u64,
        start_period: KesPeriod,
    ) -> Result<OpCert, LockError> {
        let signed = OpCert::signed_bytes(kes_vkey, counter, start_period);
        let mut cold_signature = ColdSignature([0; 64]);
        stack::run(|| {
            let (mut secret, mut public) = ([0; sodium::ED25519_SECRET_BYTES], [0; 32]);
            sodium::ed25519_keypair(self.seed.expose(), &mut secret, &mut public);
            sodium::ed25519_sign(&secret, &signed, &mut cold_signature.0);
        })?;
        Ok(OpCert {
            kes_vkey: *kes_vkey,
            counter,
            start_period,
            cold_signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Verifier;

    #[test]
    fn an_issued_certificate_verifies_by_an_independent_implementation() {
        let key = ColdSignKey::generate().unwrap();
        let opcert = key
            .issue(&VerificationKey([3; 32]), 9, KesPeriod(1572))
            .unwrap();
        assert!(opcert.is_signed_by(&key.verification_key()));
        let dalek = ed25519_dalek::VerifyingKey::from_bytes(&key.verification_key().0).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&opcert.cold_signature.0);
        let mut signed = [3; 48];
        signed[32..40].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 9]);
        signed[40..].copy_from_slice(&[0, 0, 0, 0, 0, 0, 6, 36]);
        dalek.verify(&signed, &signature).unwrap();
        assert!(
            !OpCert {
                counter: 10,
                ..opcert
            }
            .is_signed_by(&key.verification_key())
        );
    }

    #[test]
    fn a_pool_id_is_bech32_of_the_keys_hash() {
        // Hash by b2sum -l 224 of 32 zero bytes (GNU coreutils), bech32 by the Python package
        // bech32 1.2.0.
        let id = PoolId::of(&ColdVerificationKey([0; 32]));
        assert_eq!(
            hex::encode(id.0),
            "f9dca21a6c826ec8acb4cf395cbc24351937bfe6560b2683ab8b415f"
        );
        assert_eq!(
            id.to_string(),
            "pool1l8w2yxnvsfhv3t95euu4e0pyx5vn00lx2c9jdqat3dq47avj9qx"
        );
    }
}
