//! Certificates and KES signatures of real blocks: they verify, and with any bit changed they do
//! not.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::shared;
use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::sum6kes::{self, Signature};
use serde_json::Value;

struct Header {
    source: String,
    cold_vkey: ColdVerificationKey,
    opcert: OpCert,
    evolution: Evolution,
    body: Vec<u8>,
    signature: Signature,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn headers() -> Option<Vec<Header>> {
    let all = shared::json("block-headers.json")?;
    let read = |header: &Value| {
        let opcert = &header["opcert"];
        Header {
            source: text(&header["source"]).to_owned(),
            cold_vkey: text(&header["issuer_vkey"]).parse().unwrap(),
            opcert: OpCert {
                kes_vkey: text(&opcert["kes_vkey"]).parse().unwrap(),
                counter: opcert["counter"].as_u64().unwrap(),
                start_period: KesPeriod(opcert["kes_period"].as_u64().unwrap()),
                cold_signature: text(&opcert["cold_signature"]).parse().unwrap(),
            },
            evolution: Evolution(
                header["kes_evolution"]
                    .as_u64()
                    .unwrap()
                    .try_into()
                    .unwrap(),
            ),
            body: hex::decode(text(&header["header_body"])).unwrap(),
            signature: text(&header["kes_signature"]).parse().unwrap(),
        }
    };
    Some(all.as_array().unwrap().iter().map(read).collect())
}

#[test]
fn every_certificate_and_signature_verifies() {
    let Some(headers) = headers() else { return };
    assert_eq!(headers.len(), 22);
    for header in headers {
        let Header {
            source,
            cold_vkey,
            opcert,
            evolution,
            body,
            signature,
        } = header;
        assert!(opcert.is_signed_by(&cold_vkey), "{source}");
        sum6kes::verify(&opcert.kes_vkey, evolution, &body, &signature)
            .unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

#[test]
fn a_certificate_with_any_bit_changed_does_not_verify() {
    let Some(headers) = headers() else { return };
    for header in headers {
        let wire = header.opcert.to_wire();
        for bit in 0..wire.len() * 8 {
            let mut changed = wire;
            changed[bit / 8] ^= 1 << (bit % 8);
            let opcert = OpCert::from_wire(&changed);
            assert!(
                !opcert.is_signed_by(&header.cold_vkey),
                "{} bit {bit}",
                header.source
            );
        }
        for bit in 0..256 {
            let mut cold_vkey = header.cold_vkey;
            cold_vkey.0[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !header.opcert.is_signed_by(&cold_vkey),
                "{} key bit {bit}",
                header.source
            );
        }
    }
}

#[test]
fn a_signature_with_any_bit_changed_does_not_verify() {
    let Some(headers) = headers() else { return };
    for header in headers {
        let Header {
            source,
            opcert,
            evolution,
            body,
            signature,
            ..
        } = header;
        let vkey = opcert.kes_vkey;
        for bit in 0..Signature::BYTES * 8 {
            let mut changed = signature;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            let verified = sum6kes::verify(&vkey, evolution, &body, &changed);
            assert!(verified.is_err(), "{source} signature bit {bit}");
        }
        for bit in 0..256 {
            let mut changed = vkey;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            let verified = sum6kes::verify(&changed, evolution, &body, &signature);
            assert!(verified.is_err(), "{source} key bit {bit}");
        }
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verified = sum6kes::verify(&vkey, evolution, &changed, &signature);
            assert!(verified.is_err(), "{source} body bit {bit}");
        }
        for other in (0..66).map(Evolution).filter(|&other| other != evolution) {
            let verified = sum6kes::verify(&vkey, other, &body, &signature);
            assert!(verified.is_err(), "{source} at evolution {other}");
        }
    }
}
