//! What a second implementation makes of a vector's bytes: by the tables of the specification, with
//! other implementations of Ed25519, Sum6KES and CBOR than our programs', and without a line of
//! theirs but for Blake2b.

use ed25519_dalek::VerifyingKey;
use integration_tests::conformance::keys::{Certificate, Served};
use kes_summed_ed25519::kes::{Sum6Kes, Sum6KesSig};
use kes_summed_ed25519::traits::{KesSig, KesSk};
use serde_json::{Value, json};

use crate::cddl;
use crate::file::Vector;

pub(crate) type Outcome = Result<Value, String>;

pub(crate) fn refused<T>(reason: &str) -> Result<T, String> {
    Err(reason.to_owned())
}

const SERVICE: [&str; 3] = ["Service:2.0", "Service:1.0", "Service:StandardCrypto:0.4"];
const CONTROL: [&str; 5] = [
    "Control:Rotation:1.0",
    "Control:3.0",
    "Control:2.0",
    "Control:1.0",
    "Control:StandardCrypto:0.5",
];

/// What the bytes say, in a version where there are versions.
pub(crate) fn read(vector: &Vector, version: Option<&str>) -> Outcome {
    let mut bytes = Bytes(&vector.bytes);
    let says = match vector.read_as.as_str() {
        "offer" => offer(&mut bytes)?,
        "answer-to-offer" => answer_to_offer(&mut bytes, vector.given("socket"))?,
        "repeated-id" => {
            if bytes.id()? != vector.given("chosen") {
                return refused("not-the-chosen");
            }
            json!({ "settled": vector.given("chosen") })
        }
        "sign-key" => sign_key(vector, bytes.take(608)?)?,
        "signature" => signature(vector, bytes.take(448)?)?,
        "certificate" => certificate(vector, bytes.take(112)?)?,
        "certificate-in-period" => in_period(vector, bytes.take(112)?)?,
        "text-envelope" => return text_envelope(&vector.bytes, vector.given("wanted")),
        "service-message" => service_message(&mut bytes, version.unwrap())?,
        "service-result" => json!({ "result": result(bytes.number(4)?) }),
        "control-request" => control_request(&mut bytes, version.unwrap())?,
        "control-answer" => match vector.given("to") {
            "export-staged-vkey" => json!({ "staged": bytes.maybe(Bytes::vkey)? }),
            "drop-key" => json!({ "result": result(bytes.number(2)?) }),
            "info" => info(&mut bytes, version.unwrap())?,
            other => panic!("no command {other}"),
        },
        "rotation-request" => cddl::request(&frame(&mut bytes)?)?,
        "rotation-answer" => cddl::answer(&frame(&mut bytes)?)?,
        "kept-record" => return kept_record(&vector.bytes),
        "kept-head" => return kept_head(&vector.bytes),
        other => panic!("nothing reads {other}"),
    };
    assert!(bytes.0.is_empty(), "{} bytes are left", bytes.0.len());
    Ok(says)
}

/// Bytes that are read from the front.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else {
            return refused("incomplete");
        };
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<u64, String> {
        let bytes = self.take(width)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn count(&mut self) -> Result<usize, String> {
        Ok(usize::try_from(self.number(4)?).unwrap())
    }

    fn id(&mut self) -> Result<String, String> {
        let name = self.take(32)?;
        let end = name
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        Ok(String::from_utf8(name[..end].to_vec()).unwrap())
    }

    fn vkey(&mut self) -> Outcome {
        Ok(hex::encode(self.take(32)?).into())
    }

    /// Times are signed.
    fn time(&mut self) -> Result<i64, String> {
        Ok(self.number(8)?.cast_signed())
    }

    fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self.number(1)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => refused("maybe"),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.count()?;
        if length > 4096 {
            return refused("text");
        }
        String::from_utf8(self.take(length)?.to_vec()).or_else(|_| refused("text"))
    }
}

fn offer(bytes: &mut Bytes<'_>) -> Outcome {
    let count = bytes.count()?;
    if count == 0 || count > 64 {
        return refused("offer-count");
    }
    let offered: Result<Vec<String>, String> = (0..count).map(|_| bytes.id()).collect();
    Ok(json!({ "offered": offered? }))
}

fn answer_to_offer(bytes: &mut Bytes<'_>, socket: &str) -> Outcome {
    match bytes.number(1)? {
        0 => return Ok(json!({ "chosen": null })),
        1 => {}
        _ => return refused("first-byte"),
    }
    let chosen = bytes.id()?;
    let is_service = socket == "service";
    let offered: &[&str] = if is_service { &SERVICE } else { &CONTROL };
    if !offered.contains(&chosen.as_str()) {
        return refused("not-offered");
    }
    if !is_service && bytes.id()? != chosen {
        return refused("not-the-chosen");
    }
    Ok(json!({ "chosen": chosen }))
}

/// A key with all that belongs to it, for the checks of the conformance kit.
fn served(key: &[u8], evolution: u64, certificate: &[u8]) -> Served {
    Served {
        tag: 0,
        stamp: 0,
        key: key.to_vec(),
        evolution: u32::try_from(evolution).unwrap(),
        certificate: Certificate::read(certificate),
    }
}

/// Why a key is none, by KEY-1, KEY-2 and KEY-4.
fn damage(key: &Served) -> Result<(), String> {
    if key.evolution >= 64 {
        return refused("evolution-too-high");
    }
    if key.forgets().is_err() {
        return refused("spent-seed");
    }
    if key.seeds().is_err() {
        return refused("wrong-verification-key");
    }
    // The outermost pair of verification keys is the last.
    let mut root = [0; 32];
    kes_wire::sys::sodium::blake2b(&key.key[544..], &mut root);
    let mut below_the_root = key.clone();
    below_the_root.certificate.vkey = root;
    if below_the_root.layout().is_err() {
        return refused("wrong-verification-key");
    }
    key.layout().or_else(|_| refused("other-key"))
}

fn sign_key(vector: &Vector, bytes: &[u8]) -> Outcome {
    let mut certificate = hex::decode(vector.given("verification_key")).unwrap();
    certificate.resize(112, 0);
    let evolution = vector.number("evolution");
    damage(&served(bytes, evolution, &certificate))?;
    let mut bytes = bytes.to_vec();
    bytes.extend(u32::try_from(evolution).unwrap().to_be_bytes());
    let mut key = Sum6Kes::from_bytes(&mut bytes).unwrap();
    let root = kes_summed_ed25519::PublicKey::from_bytes(&certificate[..32]).unwrap();
    let mut signs = 0;
    for at in u32::try_from(evolution).unwrap()..64 {
        let signature = key.sign(b"vector");
        signature.verify(at, &root, b"vector").unwrap();
        signs += 1;
        assert_eq!(key.update().is_ok(), at < 63);
    }
    Ok(json!({ "evolutions_left": signs }))
}

fn signature(vector: &Vector, bytes: &[u8]) -> Outcome {
    let evolution = vector.number("evolution");
    if evolution >= 64 {
        return refused("evolution-too-high");
    }
    let vkey = hex::decode(vector.given("verification_key")).unwrap();
    // The pairs, the outermost last, lead from the root to the leaf.
    let mut expected = vkey.clone();
    for level in (1..=6).rev() {
        let pair = &bytes[64 * level..64 * (level + 1)];
        let mut node = [0; 32];
        kes_wire::sys::sodium::blake2b(pair, &mut node);
        if node[..] != expected[..] {
            return refused("other-key");
        }
        let half = usize::from(evolution >> (level - 1) & 1 == 1);
        expected = pair[32 * half..32 * (half + 1)].to_vec();
    }
    let message = hex::decode(vector.given("message")).unwrap();
    let root = kes_summed_ed25519::PublicKey::from_bytes(&vkey).unwrap();
    let read = Sum6KesSig::from_bytes(bytes).unwrap();
    match read.verify(u32::try_from(evolution).unwrap(), &root, &message) {
        Ok(()) => Ok(json!({ "verifies": true })),
        Err(_) => refused("bad-signature"),
    }
}

fn certificate_says(certificate: &Certificate) -> Value {
    json!({
        "kes_verification_key": hex::encode(certificate.vkey),
        "counter": certificate.counter,
        "start_period": certificate.start,
        "cold_signature": hex::encode(certificate.signature),
    })
}

pub(crate) fn opcert_says(bytes: &[u8]) -> Value {
    certificate_says(&Certificate::read(bytes))
}

fn certificate(vector: &Vector, bytes: &[u8]) -> Outcome {
    let certificate = Certificate::read(bytes);
    let mut cold = [0; 32];
    hex::decode_to_slice(vector.given("cold_verification_key"), &mut cold).unwrap();
    let cold = VerifyingKey::from_bytes(&cold).unwrap();
    if certificate.is_signed_by(&cold) {
        Ok(certificate_says(&certificate))
    } else {
        refused("bad-signature")
    }
}

fn in_period(vector: &Vector, bytes: &[u8]) -> Outcome {
    let (start, period) = (Certificate::read(bytes).start, vector.number("period"));
    if period < start {
        return refused("before-its-start");
    }
    if period >= start + vector.number("max_evolutions") {
        return refused("expired");
    }
    Ok(json!({ "evolution": period - start }))
}

fn text_envelope(text: &[u8], wanted: &str) -> Outcome {
    if text.trim_ascii().is_empty() {
        return refused("empty");
    }
    let envelope: Value = serde_json::from_slice(text).or_else(|_| refused("no-envelope"))?;
    let field = |name: &str| envelope[name].as_str();
    let (Some(kind), Some(hex)) = (field("type"), field("cborHex")) else {
        return refused("no-envelope");
    };
    let kinds: &[&str] = match wanted {
        "kes.vkey" => &["KesVerificationKey_ed25519_kes_2^6"],
        "cold.vkey" => &[
            "StakePoolVerificationKey_ed25519",
            "StakePoolExtendedVerificationKey_ed25519_bip32",
        ],
        "opcert.cert" => &["NodeOperationalCertificate"],
        "opcert.counter" => &["NodeOperationalCertificateIssueCounter"],
        other => panic!("no file {other}"),
    };
    if !kinds.contains(&kind) {
        return refused("other-type");
    }
    envelope_content(hex, wanted, kind.contains("Extended")).map_or_else(|| refused("content"), Ok)
}

fn envelope_content(hex: &str, wanted: &str, is_extended: bool) -> Option<Value> {
    let bytes = hex::decode(hex).ok()?;
    let mut rest = &bytes[..];
    let item: ciborium::Value = ciborium::from_reader(&mut rest).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let bytes_of = |item: &ciborium::Value, count: usize| {
        let bytes = item.as_bytes()?;
        (bytes.len() == count).then(|| bytes.clone())
    };
    let number = |item: &ciborium::Value| u64::try_from(item.as_integer()?).ok();
    Some(match wanted {
        "kes.vkey" => json!({ "verification_key": hex::encode(bytes_of(&item, 32)?) }),
        "cold.vkey" => {
            let whole = bytes_of(&item, if is_extended { 64 } else { 32 })?;
            json!({ "verification_key": hex::encode(&whole[..32]) })
        }
        "opcert.counter" => match &item.as_array()?[..] {
            [next, cold] => json!({
                "next_counter": number(next)?,
                "cold_verification_key": hex::encode(bytes_of(cold, 32)?),
            }),
            _ => return None,
        },
        _ => match &item.as_array()?[..] {
            [ciborium::Value::Array(fields), cold] => match &fields[..] {
                [vkey, counter, start, signature] => json!({
                    "kes_verification_key": hex::encode(bytes_of(vkey, 32)?),
                    "counter": number(counter)?,
                    "start_period": number(start)?,
                    "cold_signature": hex::encode(bytes_of(signature, 64)?),
                    "cold_verification_key": hex::encode(bytes_of(cold, 32)?),
                }),
                _ => return None,
            },
            _ => return None,
        },
    })
}

fn service_message(bytes: &mut Bytes<'_>, version: &str) -> Outcome {
    let has_stamp = version == "Service:2.0";
    let mut stamp = None;
    if has_stamp {
        let tag = bytes.number(1)?;
        if tag > 1 {
            return refused("first-byte");
        }
        let number = bytes.number(8)?;
        if tag == 1 {
            return Ok(json!({ "message": "drop", "stamp": number }));
        }
        stamp = Some(number);
    }
    let (key, evolution) = (bytes.take(608)?, bytes.number(4)?);
    let certificate = bytes.take(112)?;
    Ok(json!({
        "message": "key",
        "stamp": stamp,
        "sign_key": hex::encode(key),
        "evolution": evolution,
        "certificate": opcert_says(certificate),
        "sign_key_is_whole": damage(&served(key, evolution, certificate)).is_ok(),
    }))
}

fn result(number: u64) -> &'static str {
    match number {
        0 => "ok",
        1 => "key outdated",
        2 => "invalid certificate",
        3 => "no key",
        4 => "unsupported operation",
        _ => "unknown result",
    }
}

fn control_request(bytes: &mut Bytes<'_>, version: &str) -> Outcome {
    let can_drop = ["Control:3.0", "Control:2.0"].contains(&version);
    let command = match bytes.number(2)? {
        0 => "gen-staged-key",
        1 => "export-staged-vkey",
        2 => "drop-staged-key",
        3 => {
            let certificate = opcert_says(bytes.take(112)?);
            return Ok(json!({ "command": "install-key", "certificate": certificate }));
        }
        4 => "info",
        5 if can_drop => "drop-key",
        _ => return refused("unknown-command"),
    };
    Ok(json!({ "command": command }))
}

/// Key: evolution, start period, counter, VKey, cold signature.
fn key(bytes: &mut Bytes<'_>) -> Outcome {
    let (evolution, start, counter) = (bytes.number(4)?, bytes.number(8)?, bytes.number(8)?);
    let (vkey, signature) = (bytes.vkey()?, hex::encode(bytes.take(64)?));
    Ok(json!({
        "evolution": evolution,
        "certificate": {
            "kes_verification_key": vkey,
            "counter": counter,
            "start_period": start,
            "cold_signature": signature,
        },
    }))
}

pub(crate) fn info(bytes: &mut Bytes<'_>, version: &str) -> Outcome {
    let (is_3, is_2) = (version == "Control:3.0", version == "Control:2.0");
    let agent_version = if is_3 { Some(bytes.text()?) } else { None };
    let installed = bytes.maybe(|bytes| {
        let (key, time) = if is_3 || is_2 {
            (bytes.maybe(key)?, bytes.maybe(Bytes::time)?)
        } else {
            (Some(key(bytes)?), None)
        };
        Ok(json!({ "key": key, "time": time }))
    })?;
    let staged = bytes.maybe(Bytes::vkey)?;
    let (now, period) = (bytes.time()?, bytes.number(8)?);
    let period_times = if is_3 {
        Some([bytes.time()?, bytes.time()?])
    } else {
        None
    };
    let count = bytes.count()?;
    if count > 256 {
        return refused("list");
    }
    let mut peers = Vec::new();
    for _ in 0..count {
        let address = bytes.text()?;
        let state = match bytes.number(1)? {
            0 => "up",
            1 => "connecting",
            2 => "down",
            _ => return refused("peer-state"),
        };
        peers.push(json!({ "address": address, "state": state }));
    }
    Ok(json!({
        "agent_version": agent_version,
        "installed": installed,
        "staged": staged,
        "now": now,
        "period": period,
        "period_times": period_times,
        "peers": peers,
    }))
}

/// A frame with exactly one item in it.
fn frame(bytes: &mut Bytes<'_>) -> Result<ciborium::Value, String> {
    let length = bytes.count()?;
    if !(1..=65_536).contains(&length) {
        return refused("frame-length");
    }
    let mut content = bytes.take(length)?;
    match ciborium::from_reader(&mut content) {
        Ok(item) if content.is_empty() => Ok(item),
        Ok(_) | Err(_) => refused("not-understood"),
    }
}

/// A record of kept memory, in which no two keys have one cell.
fn kept_record(bytes: &[u8]) -> Outcome {
    let item = ciborium::from_reader(bytes).or_else(|_| refused("unreadable"))?;
    let says = cddl::kept_record(&item)?;
    let cells = [&says["pending"]["cell"], &says["active"]["cell"]];
    if cells[0] == cells[1] && !cells[0].is_null() {
        return refused("contradictory");
    }
    Ok(says)
}

/// The head of kept memory.
fn kept_head(head: &[u8]) -> Outcome {
    let mut bytes = Bytes(head);
    if bytes.take(8)? != b"KESAGENT" {
        return refused("foreign");
    }
    if bytes.number(4)? != 1 {
        return refused("other-version");
    }
    bytes.take(4)?;
    let number = bytes.number(8)?;
    if number == 0 {
        return Ok(json!({ "body": null }));
    }
    let place = &head[if number % 2 == 0 { 64 } else { 960 }..][..896];
    let mut bytes = Bytes(place);
    let (found, length) = (bytes.number(8)?, bytes.count()?);
    let (sum, body) = (bytes.take(32)?, bytes.0);
    let mut expected = [0; 32];
    if found == number && length <= 852 {
        let said = [&place[..12], &body[..length]].concat();
        kes_wire::sys::sodium::blake2b(&said, &mut expected);
    }
    if sum != expected {
        return refused("damaged");
    }
    Ok(json!({ "body": hex::encode(&body[..length]) }))
}
