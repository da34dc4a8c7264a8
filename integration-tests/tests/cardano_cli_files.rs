//! cardano-cli's files by our readers and writers, and our certificates by an independent
//! implementation.
#![allow(missing_docs, clippy::unwrap_used)]

use ed25519_dalek::Verifier;
use integration_tests::pool::{Pool, TestNetwork};
use integration_tests::shared;
use kes_wire::envelope;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::period::KesPeriod;

fn file(name: &str) -> Option<String> {
    shared::text(&format!("files/{name}"))
}

#[test]
fn its_files_are_read_and_written_to_the_byte() {
    let Some(kes_vkey) = file("kes.vkey") else {
        return;
    };
    let (cold_vkey, opcert) = (file("cold.vkey").unwrap(), file("opcert.cert").unwrap());
    let (counter, cold_skey) = (file("opcert.counter").unwrap(), file("cold.skey").unwrap());

    let vkey = envelope::read_kes_vkey(kes_vkey.as_bytes()).unwrap();
    assert_eq!(envelope::kes_vkey(&vkey), kes_vkey);
    let cold = envelope::read_cold_vkey(cold_vkey.as_bytes()).unwrap();
    assert_eq!(envelope::cold_vkey(&cold), cold_vkey);
    let (certificate, named) = envelope::read_opcert(opcert.as_bytes()).unwrap();
    assert_eq!(envelope::opcert(&certificate, &named), opcert);
    let (next, of) = envelope::read_opcert_counter(counter.as_bytes()).unwrap();
    assert_eq!(envelope::opcert_counter(next, &of), counter);
    let path = shared::vectors("files/cold.skey").unwrap();
    let key = envelope::read_cold_skey_file(&path).unwrap();
    assert_eq!(
        envelope::cold_skey(&key).unwrap().expose()[..],
        *cold_skey.as_bytes()
    );

    // They belong together, and the numbers are those that cardano-cli was given.
    assert_eq!((certificate.counter, next), (7, 8));
    assert_eq!(certificate.start_period, KesPeriod(0x0596));
    assert_eq!(certificate.kes_vkey, vkey);
    assert_eq!((named, of, key.verification_key()), (cold, cold, cold));
    assert!(certificate.is_signed_by(&cold));

    // Ed25519 is deterministic: the same cold key over the same fields gives the same file.
    let issued = key.issue(&vkey, 7, KesPeriod(0x0596)).unwrap();
    assert_eq!(envelope::opcert(&issued, &cold), opcert);
}

#[test]
fn the_command_issues_cardano_clis_certificate_to_the_byte() {
    let Some(expected) = file("opcert.cert") else {
        return;
    };
    let pool = Pool::new(TestNetwork::default());
    for name in ["cold.skey", "cold.vkey", "kes.vkey"] {
        std::fs::write(pool.path(name), file(name).unwrap()).unwrap();
    }
    pool.set_counter("cold", 7);
    pool.issue("cold", 0x0596);
    let issued = std::fs::read_to_string(pool.path("opcert.cert")).unwrap();
    assert_eq!(issued, expected);
    // And the counter file is left as cardano-cli leaves it.
    let counter = std::fs::read_to_string(pool.path("cold.counter")).unwrap();
    assert_eq!(counter, file("opcert.counter").unwrap());
}

#[test]
fn our_certificates_verify_by_an_independent_implementation() {
    let Some(path) = shared::vectors("files/cold.skey") else {
        return;
    };
    let key = envelope::read_cold_skey_file(&path).unwrap();
    let kes_vkey = envelope::read_kes_vkey(file("kes.vkey").unwrap().as_bytes()).unwrap();
    let cold = ed25519_dalek::VerifyingKey::from_bytes(&key.verification_key().0).unwrap();
    for (counter, period) in [(0, 0), (1, 1572), (u64::MAX, u64::MAX)] {
        let opcert = key.issue(&kes_vkey, counter, KesPeriod(period)).unwrap();
        let signed = [
            &kes_vkey.0[..],
            &counter.to_be_bytes(),
            &period.to_be_bytes(),
        ]
        .concat();
        let signature = ed25519_dalek::Signature::from_bytes(&opcert.cold_signature.0);
        cold.verify(&signed, &signature).unwrap();
    }
}

#[test]
fn the_mainnet_genesis_gives_mainnets_parameters() {
    let Some(genesis) = file("mainnet-shelley-genesis.json") else {
        return;
    };
    let (network, warnings) =
        genesis::network(genesis.as_bytes(), ShelleyStart::default()).unwrap();
    assert_eq!(network, Network::MAINNET);
    assert_eq!(warnings, Vec::<String>::new());
}
