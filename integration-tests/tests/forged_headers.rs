//! The example node's header bodies have the shape of those on the chain.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../kes-wire/examples/forging_node/header.rs"]
mod header;

use header::HeaderBody;
use integration_tests::shared;
use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::{ColdSignature, OpCert};
use kes_wire::period::KesPeriod;
use kes_wire::sum6kes::VerificationKey;
use minicbor::Decoder;

fn bytes<const N: usize>(d: &mut Decoder<'_>) -> [u8; N] {
    d.bytes().unwrap().try_into().unwrap()
}

/// Reads a header body of the Praos eras, field by field.
fn read(cbor: &[u8]) -> HeaderBody {
    let d = &mut Decoder::new(cbor);
    assert_eq!(d.array().unwrap(), Some(10));
    let (block_number, slot) = (d.u64().unwrap(), d.u64().unwrap());
    let previous = Some(bytes(d));
    let (issuer, vrf_vkey) = (ColdVerificationKey(bytes(d)), bytes(d));
    assert_eq!(d.array().unwrap(), Some(2));
    let (vrf_output, vrf_proof) = (bytes(d), bytes(d));
    let (body_size, body_hash) = (d.u64().unwrap(), bytes(d));
    assert_eq!(d.array().unwrap(), Some(4));
    let opcert = OpCert {
        kes_vkey: VerificationKey(bytes(d)),
        counter: d.u64().unwrap(),
        start_period: KesPeriod(d.u64().unwrap()),
        cold_signature: ColdSignature(bytes(d)),
    };
    assert_eq!(d.array().unwrap(), Some(2));
    let protocol_version = (d.u64().unwrap(), d.u64().unwrap());
    assert_eq!(d.position(), cbor.len());
    HeaderBody {
        block_number,
        slot,
        previous,
        issuer,
        vrf_vkey,
        vrf_output,
        vrf_proof,
        body_size,
        body_hash,
        opcert,
        protocol_version,
    }
}

#[test]
fn real_headers_are_assembled_to_the_byte() {
    let Some(headers) = shared::json("block-headers.json") else {
        return;
    };
    let mut praos = 0;
    for header in headers.as_array().unwrap() {
        if header["format"] != "praos" {
            continue;
        }
        let recorded = hex::decode(header["header_body"].as_str().unwrap()).unwrap();
        let body = read(&recorded);
        assert_eq!(body.slot, header["slot"].as_u64().unwrap());
        assert_eq!(hex::encode(body.to_cbor()), hex::encode(recorded));
        praos += 1;
    }
    assert_eq!(praos, 8);
}
