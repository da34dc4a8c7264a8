//! The decoders of the wire: what is read must not depend on the pieces it comes in, and what can
//! be written must be read as it was.

use kes_wire::opcert::OpCert;
use kes_wire::protocol::Reader;
use kes_wire::protocol::control::deployed::{
    AnswerReader, DeployedAnswer, DeployedRequest, Layout, RequestReader, v1_0, v2_0, v3_0,
};
use kes_wire::protocol::control::frame::{self, FrameReader};
use kes_wire::protocol::control::rotation::{Answer, Request};
use kes_wire::protocol::handshake::{ClientHandshake, Kind, ServerHandshake};
use kes_wire::protocol::service::{ResultReader, ServiceMessage, ServiceVersion};
use kes_wire::protocol::version::{CONTROL_VERSIONS, SERVICE_VERSIONS};

const LAYOUTS: [Layout; 3] = [v1_0::LAYOUT, v2_0::LAYOUT, v3_0::LAYOUT];

/// Items until the bytes end or are refused; whether they were.
fn read_all<R: Reader>(mut reader: R, mut bytes: &[u8], piece: usize) -> (Vec<R::Item>, bool) {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let wanted = reader.wants();
        assert!(!wanted.is_empty(), "a reader always wants something");
        let count = wanted.len().min(piece).min(bytes.len());
        wanted[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        match reader.advance(count) {
            Ok(item) => items.extend(item),
            Err(_) => return (items, true),
        }
    }
    (items, false)
}

/// Reads byte by byte and whole, which must be the same; gives what was read.
fn read_both_ways<R: Reader>(new: impl Fn() -> R, bytes: &[u8]) -> Vec<R::Item>
where
    R::Item: PartialEq + std::fmt::Debug,
{
    let whole = read_all(new(), bytes, usize::MAX);
    let split = read_all(new(), bytes, 1);
    assert_eq!(whole, split, "read otherwise in pieces");
    whole.0
}

pub(super) fn handshake(bytes: &[u8]) {
    for (kind, versions) in [
        (Kind::Service, SERVICE_VERSIONS),
        (Kind::Control, CONTROL_VERSIONS),
    ] {
        read_both_ways(|| ServerHandshake::begin(kind, versions).0, bytes);
        read_both_ways(|| ClientHandshake::begin(kind, versions), bytes);
    }
}

/// A message's stamp and, where it is a key, secret, evolution and certificate.
type Shown = (Option<u64>, Option<(Vec<u8>, u32, OpCert)>);

/// A message as it stands on the wire, to be compared; its secret is what was fed.
fn shown(message: &ServiceMessage) -> Shown {
    match message {
        ServiceMessage::Dropped { stamp } => (Some(stamp.0), None),
        ServiceMessage::Key(key) => (
            key.stamp.map(|stamp| stamp.0),
            Some((key.secret.expose().to_vec(), key.evolution.0, key.opcert)),
        ),
    }
}

pub(super) fn service(bytes: &[u8]) {
    read_both_ways(ResultReader::default, bytes);
    for version in [ServiceVersion::V2_0, ServiceVersion::V1_0] {
        let read = |piece| {
            let reader = version.reader().expect("memory can be locked");
            let (items, refused) = read_all(reader, bytes, piece);
            (items.iter().map(shown).collect::<Vec<_>>(), refused)
        };
        let (whole, split) = (read(usize::MAX), read(7));
        assert_eq!(whole, split, "read otherwise in pieces");
        // What was read stands in the bytes, in its order.
        let mut at = 0;
        for (stamp, key) in whole.0 {
            if version == ServiceVersion::V2_0 {
                assert_eq!(bytes[at], u8::from(key.is_none()));
                let stamp = stamp.expect("this version has stamps");
                assert_eq!(bytes[at + 1..at + 9], stamp.to_be_bytes());
                at += 9;
            }
            if let Some((secret, evolution, opcert)) = key {
                assert_eq!(bytes[at..at + 608], secret[..]);
                assert_eq!(bytes[at + 608..at + 612], evolution.to_be_bytes());
                assert_eq!(bytes[at + 612..at + 724], opcert.to_wire());
                at += 724;
            }
        }
    }
}

pub(super) fn deployed_requests(bytes: &[u8]) {
    for layout in LAYOUTS {
        let requests = read_both_ways(|| RequestReader::new(layout), bytes);
        let again: Vec<u8> = requests.iter().flat_map(DeployedRequest::to_wire).collect();
        assert_eq!(again, bytes[..again.len()], "written otherwise than read");
    }
}

pub(super) fn deployed_answers(bytes: &[u8]) {
    for layout in LAYOUTS {
        for to in [
            DeployedRequest::QueryStagedKey,
            DeployedRequest::DropKey,
            DeployedRequest::Info,
        ] {
            let first = read_all(AnswerReader::new(layout, to), bytes, usize::MAX);
            for answer in read_both_ways(|| AnswerReader::new(layout, to), bytes) {
                let wire = answer.to_wire(layout);
                let again = read_all(AnswerReader::new(layout, to), &wire, usize::MAX);
                assert_eq!(again, (vec![answer.clone()], false), "{to:?}");
                if matches!(answer, DeployedAnswer::Info(_)) {
                    assert!(first.0.contains(&answer));
                }
            }
        }
    }
}

pub(super) fn rotation(bytes: &[u8]) {
    for content in read_both_ways(FrameReader::default, bytes) {
        request_or_answer(&content);
    }
    request_or_answer(bytes);
}

fn request_or_answer(content: &[u8]) {
    let request = frame::parse::<Request>(content);
    let answer = frame::parse::<Answer>(content);
    if request.is_ok() || answer.is_ok() {
        // By an independent reader of CBOR it is one item, to its end.
        let mut rest = content;
        match ciborium::from_reader::<ciborium::Value, _>(&mut rest) {
            Ok(_) => assert!(rest.is_empty(), "more than one item was taken"),
            // It knows no unassigned simple values and descends into 256 items within each other at
            // most. Either may stand beside keys that are skipped, which ours does in a loop.
            Err(
                ciborium::de::Error::Semantic(..) | ciborium::de::Error::RecursionLimitExceeded,
            ) => {}
            Err(error) => panic!("it is not CBOR: {error}"),
        }
    }
    if let Ok(request) = request {
        let again = frame::frame(&request).expect("a request fits");
        assert_eq!(frame::parse::<Request>(&again[4..]).ok(), Some(request));
    }
    if let Ok(answer) = answer
        && let Ok(again) = frame::frame(&answer)
    {
        assert_eq!(frame::parse::<Answer>(&again[4..]).ok(), Some(answer));
    }
}

pub(super) fn certificates(bytes: &[u8]) {
    if let Some(wire) = bytes.first_chunk() {
        let opcert = OpCert::from_wire(wire);
        assert_eq!(opcert.to_wire(), *wire);
        // An independent Ed25519 must accept what is accepted here: whose rule is the stricter.
        let cold = kes_wire::cold::ColdVerificationKey(
            bytes[80..].first_chunk().map_or([0; 32], |it| *it),
        );
        if opcert.is_signed_by(&cold) {
            let key = ed25519_dalek::VerifyingKey::from_bytes(&cold.0).expect("a key");
            let signature = ed25519_dalek::Signature::from_bytes(&opcert.cold_signature.0);
            let signed =
                OpCert::signed_bytes(&opcert.kes_vkey, opcert.counter, opcert.start_period);
            ed25519_dalek::Verifier::verify(&key, &signed, &signature).expect("it verifies");
        }
    }
    if let Ok(opcert) = minicbor::decode::<OpCert>(bytes) {
        let theirs: ciborium::Value = ciborium::from_reader(bytes).expect("it is CBOR");
        assert_eq!(
            theirs.as_bytes().map(Vec::as_slice),
            Some(&opcert.to_wire()[..])
        );
    }
}
