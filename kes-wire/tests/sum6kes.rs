//! Sum6KES against the reference implementation's vectors and an independent implementation.
#![allow(missing_docs, clippy::unwrap_used)]

use kes_summed_ed25519::kes::{Sum6Kes, Sum6KesSig};
use kes_summed_ed25519::traits::{KesSig, KesSk};
use kes_wire::period::Evolution;
use kes_wire::sum6kes::{self, DamagedKey, SignKey, Signature, VerificationKey, VerifyError};
use kes_wire::sys::memory::LockedBytes;

fn seed(bytes: &[u8; 32]) -> LockedBytes<32> {
    let mut locked = LockedBytes::zeroed().unwrap();
    locked.expose_mut().copy_from_slice(bytes);
    locked
}

fn received(bytes: &[u8]) -> LockedBytes<608> {
    let mut locked = LockedBytes::zeroed().unwrap();
    locked.expose_mut().copy_from_slice(bytes);
    locked
}

/// Test seeds, different for each round and the same in each run.
fn test_seed(round: u64) -> [u8; 32] {
    let mut out = [0; 32];
    kes_wire::sys::sodium::blake2b(&round.to_be_bytes(), &mut out);
    out
}

#[test]
fn equals_an_independent_implementation_at_every_evolution() {
    for round in 0..24 {
        let mut their_seed = test_seed(round);
        let mut ours = SignKey::from_seed(seed(&their_seed)).unwrap();
        let mut buffer = [0; Sum6Kes::SIZE + 4];
        let (mut theirs, their_vkey) = Sum6Kes::keygen(&mut buffer, &mut their_seed);
        let vkey = ours.verification_key();
        assert_eq!(vkey.0, *their_vkey.as_bytes());
        for evolution in 0..64u32 {
            assert_eq!(ours.evolution(), Evolution(evolution));
            assert_eq!(
                ours.expose()[..],
                theirs.as_bytes()[..608],
                "round {round} at {evolution}"
            );
            let message = [round as u8, evolution as u8, 3, 4];
            let signature = ours.sign(&message).unwrap();
            assert_eq!(signature.0, theirs.sign(&message).to_bytes());
            sum6kes::verify(&vkey, Evolution(evolution), &message, &signature).unwrap();
            Sum6KesSig::from_bytes(&signature.0)
                .unwrap()
                .verify(evolution, &their_vkey, &message)
                .unwrap();
            if evolution < 63 {
                ours.evolve_to(Evolution(evolution + 1)).unwrap();
                theirs.update().unwrap();
            }
        }
    }
}

#[test]
fn a_received_key_signs_and_evolves_like_the_one_it_came_from() {
    for start in 0..64u32 {
        let mut original = SignKey::from_seed(seed(&test_seed(99))).unwrap();
        original.evolve_to(Evolution(start)).unwrap();
        let vkey = original.verification_key();
        let mut copy =
            SignKey::from_bytes(received(original.expose()), Evolution(start), &vkey).unwrap();
        for evolution in start..64 {
            original.evolve_to(Evolution(evolution)).unwrap();
            copy.evolve_to(Evolution(evolution)).unwrap();
            assert!(
                original.expose() == copy.expose(),
                "from {start} at {evolution}"
            );
            assert_eq!(original.sign(b"m").unwrap(), copy.sign(b"m").unwrap());
        }
    }
}

#[test]
fn evolving_in_one_call_equals_evolving_step_by_step_and_never_goes_back() {
    for target in [0, 1, 2, 31, 32, 33, 47, 48, 62, 63] {
        let mut jump = SignKey::from_seed(seed(&test_seed(5))).unwrap();
        let mut steps = SignKey::from_seed(seed(&test_seed(5))).unwrap();
        jump.evolve_to(Evolution(target)).unwrap();
        (0..=target).for_each(|t| steps.evolve_to(Evolution(t)).unwrap());
        assert!(jump.expose() == steps.expose());
        assert!(jump.evolve_to(Evolution(64)).is_err());
        assert!(jump.evolve_to(Evolution(u32::MAX)).is_err());
        if target > 0 {
            assert!(jump.evolve_to(Evolution(target - 1)).is_err());
        }
        assert!(
            jump.expose() == steps.expose(),
            "a refused evolution changes nothing"
        );
    }
}

#[test]
fn no_past_secret_is_left_in_the_key() {
    let mut key = SignKey::from_seed(seed(&test_seed(7))).unwrap();
    let mut past: Vec<[u8; 32]> = Vec::new();
    for evolution in 0..64 {
        key.evolve_to(Evolution(evolution)).unwrap();
        let windows: std::collections::HashSet<&[u8]> = key.expose().windows(32).collect();
        for leaf in &past {
            assert!(
                !windows.contains(&leaf[..]),
                "an earlier leaf at evolution {evolution}"
            );
        }
        past.push(*key.expose().first_chunk().unwrap());
    }
}

#[test]
fn every_changed_byte_of_a_received_key_is_found() {
    for evolution in [0, 1, 5, 31, 32, 63] {
        let mut key = SignKey::from_seed(seed(&test_seed(11))).unwrap();
        key.evolve_to(Evolution(evolution)).unwrap();
        let vkey = key.verification_key();
        for at in 0..608 {
            let mut bytes = received(key.expose());
            bytes.expose_mut()[at] ^= 1 << (at % 8);
            let checked = SignKey::from_bytes(bytes, Evolution(evolution), &vkey);
            assert!(checked.is_err(), "byte {at} at evolution {evolution}");
        }
    }
}

#[test]
fn a_received_key_is_refused_by_reason() {
    let refused = |bytes: &[u8], evolution, vkey: &VerificationKey| {
        SignKey::from_bytes(received(bytes), Evolution(evolution), vkey)
            .err()
            .expect("is refused")
    };
    let mut key = SignKey::from_seed(seed(&test_seed(12))).unwrap();
    let vkey = key.verification_key();
    let fresh = *key.expose();
    assert!(matches!(
        refused(&fresh, 64, &vkey),
        DamagedKey::EvolutionTooHigh(_)
    ));
    let other = VerificationKey([9; 32]);
    assert!(matches!(
        refused(&fresh, 0, &other),
        DamagedKey::OtherKey { .. }
    ));
    // A key that says evolution 1 but still has the seed of the right leaf.
    key.evolve_to(Evolution(1)).unwrap();
    let mut unspent = *key.expose();
    unspent[32] = 1;
    assert_eq!(
        refused(&unspent, 1, &vkey),
        DamagedKey::SpentSeedPresent { level: 1 }
    );
    assert_eq!(
        refused(&fresh, 1, &vkey),
        DamagedKey::SpentSeedPresent { level: 1 }
    );
    assert!(matches!(
        refused(&[0; 608], 0, &vkey),
        DamagedKey::WrongVerificationKey { level: 1 }
    ));
}

#[test]
fn a_signature_is_refused_by_reason() {
    let mut key = SignKey::from_seed(seed(&test_seed(13))).unwrap();
    key.evolve_to(Evolution(9)).unwrap();
    let vkey = key.verification_key();
    let signature = key.sign(b"message").unwrap();
    let verify = |evolution, message: &[u8], signature: &Signature| {
        sum6kes::verify(&vkey, Evolution(evolution), message, signature)
    };
    assert_eq!(verify(9, b"message", &signature), Ok(()));
    assert_eq!(
        verify(9, b"massage", &signature),
        Err(VerifyError::WrongSignature)
    );
    assert!(verify(8, b"message", &signature).is_err());
    assert_eq!(
        verify(64, b"message", &signature),
        Err(VerifyError::EvolutionTooHigh(Evolution(64)))
    );
    for at in 0..Signature::BYTES {
        let mut changed = signature;
        changed.0[at] ^= 1 << (at % 8);
        let refusal = verify(9, b"message", &changed).unwrap_err();
        assert_eq!(
            refusal == VerifyError::WrongSignature,
            at < 64,
            "byte {at}: {refusal}"
        );
    }
}
