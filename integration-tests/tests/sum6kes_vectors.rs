//! Sum6KES byte for byte as the Haskell reference implementation has it.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::shared;
use kes_wire::period::Evolution;
use kes_wire::sum6kes::SignKey;
use kes_wire::sys::memory::LockedBytes;

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn sign_keys_and_signature_equal_the_reference() {
    let Some(vector) = shared::json("sum6kes.json") else {
        return;
    };
    let mut seed = LockedBytes::<32>::zeroed().unwrap();
    seed.expose_mut().copy_from_slice(&bytes(&vector["seed"]));
    let message = bytes(&vector["message"]);
    let mut key = SignKey::from_seed(seed).unwrap();
    assert_eq!(key.expose()[..], bytes(&vector["sign_key_evolution_0"]));
    assert_eq!(
        key.sign(&message).unwrap().0[..],
        bytes(&vector["signature_evolution_0"])
    );
    key.evolve_to(Evolution(1)).unwrap();
    assert_eq!(key.expose()[..], bytes(&vector["sign_key_evolution_1"]));
}
