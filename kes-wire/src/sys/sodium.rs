//! libsodium: Ed25519, Blake2b, randomness, wiping.
//!
//! Functions that take a secret belong on the secret stack ([`super::stack::run`]): libsodium
//! leaves intermediate values in its frames.

use std::sync::Once;

/// Bytes of an Ed25519 seed.
pub const ED25519_SEED_BYTES: usize = 32;
/// Bytes of an Ed25519 public key.
pub const ED25519_PUBLIC_BYTES: usize = 32;
/// Bytes of libsodium's secret key: the seed, then the public key.
pub const ED25519_SECRET_BYTES: usize = 64;
/// Bytes of an Ed25519 signature.
pub const ED25519_SIGNATURE_BYTES: usize = 64;

fn initialise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sodium_init may be called at any time from any thread.
        let code = unsafe { libsodium_sys::sodium_init() };
        // It fails only where the system has no source of randomness, and then nothing that this
        // library does is safe.
        assert!(
            code >= 0,
            "libsodium cannot be initialised: no source of randomness"
        );
    });
}

/// Fills `out` with the system's randomness.
pub fn fill_random(out: &mut [u8]) {
    initialise();
    // SAFETY: the pointer and length describe `out`.
    unsafe { libsodium_sys::randombytes_buf(out.as_mut_ptr().cast(), out.len()) }
}

/// Overwrites `bytes` with zeros in a way the compiler does not leave out.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the pointer and length describe `bytes`.
    unsafe { libsodium_sys::sodium_memzero(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Derives the key pair of `seed`: `secret` becomes the seed followed by the public key.
pub fn ed25519_keypair(
    seed: &[u8; ED25519_SEED_BYTES],
    secret: &mut [u8; ED25519_SECRET_BYTES],
    public: &mut [u8; ED25519_PUBLIC_BYTES],
) {
    initialise();
    // SAFETY: the three arrays have the sizes that libsodium documents.
    let code = unsafe {
        libsodium_sys::crypto_sign_seed_keypair(
            public.as_mut_ptr(),
            secret.as_mut_ptr(),
            seed.as_ptr(),
        )
    };
    debug_assert_eq!(code, 0, "documented to succeed always");
}

/// Signs `message` with a secret key whose public half was derived by [`ed25519_keypair`].
///
/// The public half goes into the signature: a wrong one gives the seed away, so callers never
/// pass one that came from outside.
pub fn ed25519_sign(
    secret: &[u8; ED25519_SECRET_BYTES],
    message: &[u8],
    signature: &mut [u8; ED25519_SIGNATURE_BYTES],
) {
    initialise();
    // SAFETY: the arrays have the sizes that libsodium documents, pointer and length describe
    // `message`, and a null length pointer is allowed.
    let code = unsafe {
        libsodium_sys::crypto_sign_detached(
            signature.as_mut_ptr(),
            core::ptr::null_mut(),
            message.as_ptr(),
            message.len() as u64,
            secret.as_ptr(),
        )
    };
    debug_assert_eq!(code, 0, "documented to succeed always");
}

/// Whether `signature` is `public`'s over `message`.
pub fn ed25519_verify(
    public: &[u8; ED25519_PUBLIC_BYTES],
    message: &[u8],
    signature: &[u8; ED25519_SIGNATURE_BYTES],
) -> bool {
    initialise();
    // SAFETY: the arrays have the sizes that libsodium documents, pointer and length describe
    // `message`.
    let code = unsafe {
        libsodium_sys::crypto_sign_verify_detached(
            signature.as_ptr(),
            message.as_ptr(),
            message.len() as u64,
            public.as_ptr(),
        )
    };
    code == 0
}

/// Blake2b of `message` with `N` bytes of output (16 to 64), without a key.
pub fn blake2b<const N: usize>(message: &[u8], out: &mut [u8; N]) {
    const { assert!(N >= 16 && N <= 64) };
    initialise();
    // SAFETY: pointers and lengths describe `out` and `message`; a null key of length 0 means
    // none; the output size is within libsodium's bounds, checked above.
    let code = unsafe {
        libsodium_sys::crypto_generichash(
            out.as_mut_ptr(),
            N,
            message.as_ptr(),
            message.len() as u64,
            core::ptr::null(),
            0,
        )
    };
    debug_assert_eq!(code, 0, "documented to succeed for these sizes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn ed25519_agrees_with_dalek() {
        for round in 0..32u8 {
            let mut seed = [0; 32];
            fill_random(&mut seed);
            let (mut secret, mut public, mut signature) = ([0; 64], [0; 32], [0; 64]);
            ed25519_keypair(&seed, &mut secret, &mut public);
            let message = vec![round; usize::from(round) * 7];
            ed25519_sign(&secret, &message, &mut signature);
            let dalek = SigningKey::from_bytes(&seed);
            assert_eq!(dalek.verifying_key().to_bytes(), public);
            assert_eq!(dalek.sign(&message).to_bytes(), signature);
            assert!(ed25519_verify(&public, &message, &signature));
            signature[usize::from(round)] ^= 1;
            assert!(!ed25519_verify(&public, &message, &signature));
        }
    }

    #[test]
    fn blake2b_known_answers() {
        // b2sum -l 256 and -l 224 of GNU coreutils over the three bytes "abc".
        let mut out = [0; 32];
        blake2b(b"abc", &mut out);
        assert_eq!(
            hex::encode(out),
            "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
        );
        let mut out = [0; 28];
        blake2b(b"abc", &mut out);
        assert_eq!(
            hex::encode(out),
            "9bd237b02a29e43bdd6738afa5b53ff0eee178d6210b618e4511aec8"
        );
    }
}
