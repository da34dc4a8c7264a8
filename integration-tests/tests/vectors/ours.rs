//! What our programs make of a vector's bytes.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::envelope::{self, EnvelopeError};
use kes_wire::opcert::{OpCert, OutOfPeriod};
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::Reader;
use kes_wire::protocol::control::deployed::{
    AgentInfo, AnswerReader, BundleInfo, DeployedAnswer, DeployedError, DeployedRequest,
    PeerConnection, RequestReader, layout,
};
use kes_wire::protocol::control::frame::{self, FrameReader};
use kes_wire::protocol::control::rotation::{Answer, IfPending, ImportedOpCert, Request};
use kes_wire::protocol::handshake::{ClientHandshake, HandshakeError, Kind, ServerHandshake, Step};
use kes_wire::protocol::service::{MessageError, ResultReader, ServiceMessage, ServiceVersion};
use kes_wire::protocol::version::{CONTROL_VERSIONS, SERVICE_VERSIONS, VersionId};
use kes_wire::sum6kes::{self, DamagedKey, SignKey, Signature, VerificationKey, VerifyError};
use kes_wire::sys::memory::LockedBytes;
use serde_json::{Value, json};

use crate::file::Vector;

mod kept;

pub(crate) type Outcome = Result<Value, String>;

pub(crate) fn refused<T>(reason: &str) -> Result<T, String> {
    Err(reason.to_owned())
}

/// What the bytes say, in a version where there are versions.
pub(crate) fn read(vector: &Vector, version: Option<&str>) -> Outcome {
    let bytes = &vector.bytes[..];
    match vector.read_as.as_str() {
        "offer" => offer(bytes, vector.given("socket")),
        "answer-to-offer" => answer_to_offer(bytes, vector.given("socket")),
        "repeated-id" => repeated_id(bytes, vector.given("chosen")),
        "sign-key" => sign_key(vector),
        "signature" => signature(vector),
        "certificate" => certificate(vector),
        "certificate-in-period" => certificate_in_period(vector),
        "text-envelope" => text_envelope(bytes, vector.given("wanted")),
        "service-message" => service_message(bytes, version.unwrap()),
        "service-result" => {
            let code = whole(&mut ResultReader::default(), bytes, |never| match never {})?;
            Ok(json!({ "result": code.to_string() }))
        }
        "control-request" => control_request(bytes, version.unwrap()),
        "control-answer" => control_answer(bytes, version.unwrap(), vector.given("to")),
        "rotation-request" => rotation(bytes).and_then(|content| {
            let request = frame::parse(&content).or_else(|_| refused("not-understood"))?;
            Ok(request_says(&request))
        }),
        "rotation-answer" => rotation(bytes).and_then(|content| {
            let answer = frame::parse(&content).or_else(|_| refused("not-understood"))?;
            Ok(answer_says(&answer))
        }),
        "kept-record" => kept::record(bytes),
        "kept-head" => kept::head(bytes),
        other => panic!("nothing reads {other}"),
    }
}

/// Reads one item that takes all the bytes; `incomplete` where it needs more.
fn whole<R: Reader>(
    reader: &mut R,
    mut bytes: &[u8],
    reason: impl Fn(R::Error) -> &'static str,
) -> Result<R::Item, String> {
    while !bytes.is_empty() {
        let into = reader.wants();
        let count = into.len().min(bytes.len());
        into[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        match reader.advance(count) {
            Ok(Some(item)) => {
                assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
                return Ok(item);
            }
            Ok(None) => {}
            Err(error) => return refused(reason(error)),
        }
    }
    refused("incomplete")
}

fn handshake_reason(error: HandshakeError) -> &'static str {
    match error {
        HandshakeError::OfferCount(_) => "offer-count",
        HandshakeError::Answer(_) => "first-byte",
        HandshakeError::NotOffered(_) => "not-offered",
        HandshakeError::Mismatch { .. } => "not-the-chosen",
        HandshakeError::NothingInCommon { .. } => "nothing-in-common",
    }
}

fn socket(name: &str) -> (Kind, &'static [VersionId]) {
    match name {
        "service" => (Kind::Service, SERVICE_VERSIONS),
        "control" => (Kind::Control, CONTROL_VERSIONS),
        other => panic!("no socket {other}"),
    }
}

/// A client that speaks nothing names what it is offered.
fn offer(bytes: &[u8], name: &str) -> Outcome {
    let mut client = ClientHandshake::begin(socket(name).0, &[]);
    match whole(&mut client, bytes, handshake_reason)? {
        Step::GiveUp(HandshakeError::NothingInCommon { offered }, _) => {
            let offered: Vec<String> = offered.iter().map(VersionId::to_string).collect();
            Ok(json!({ "offered": offered }))
        }
        other => panic!("{other:?}"),
    }
}

fn answer_to_offer(bytes: &[u8], name: &str) -> Outcome {
    let (kind, offered) = socket(name);
    let (mut server, _) = ServerHandshake::begin(kind, offered);
    match whole(&mut server, bytes, handshake_reason)? {
        Step::Finish(chosen, _) => Ok(json!({ "chosen": chosen.to_string() })),
        Step::GiveUp(..) => Ok(json!({ "chosen": null })),
        Step::Send(_) => panic!("the agent has nothing more to send"),
    }
}

fn repeated_id(bytes: &[u8], chosen: &str) -> Outcome {
    let spoken = SERVICE_VERSIONS.iter().find(|id| id.to_string() == chosen);
    let mut client = ClientHandshake::begin(Kind::Service, std::slice::from_ref(spoken.unwrap()));
    let (_, offer) = ServerHandshake::begin(Kind::Service, SERVICE_VERSIONS);
    whole(&mut client, &offer, handshake_reason)?;
    match whole(&mut client, bytes, handshake_reason)? {
        Step::Finish(chosen, _) => Ok(json!({ "settled": chosen.to_string() })),
        other => panic!("{other:?}"),
    }
}

fn damage(error: &DamagedKey) -> &'static str {
    match error {
        DamagedKey::EvolutionTooHigh(_) => "evolution-too-high",
        DamagedKey::SpentSeedPresent { .. } => "spent-seed",
        DamagedKey::WrongVerificationKey { .. } => "wrong-verification-key",
        DamagedKey::OtherKey { .. } => "other-key",
        DamagedKey::Lock(error) => panic!("{error}"),
    }
}

/// The whole key, evolved to the end, signs at each evolution on the way.
fn sign_key(vector: &Vector) -> Outcome {
    let vkey: VerificationKey = vector.given("verification_key").parse().unwrap();
    let evolution = Evolution(u32::try_from(vector.number("evolution")).unwrap());
    let mut secret = LockedBytes::zeroed().unwrap();
    secret.expose_mut().copy_from_slice(&vector.bytes);
    let key = SignKey::from_bytes(secret, evolution, &vkey);
    let mut key = key.or_else(|error| refused(damage(&error)))?;
    let mut signs = 0;
    for at in evolution.0..64 {
        key.evolve_to(Evolution(at)).unwrap();
        let signature = key.sign(b"vector").unwrap();
        sum6kes::verify(&vkey, Evolution(at), b"vector", &signature).unwrap();
        signs += 1;
    }
    Ok(json!({ "evolutions_left": signs }))
}

fn signature(vector: &Vector) -> Outcome {
    let vkey: VerificationKey = vector.given("verification_key").parse().unwrap();
    let evolution = Evolution(u32::try_from(vector.number("evolution")).unwrap());
    let message = hex::decode(vector.given("message")).unwrap();
    let signature = Signature(vector.bytes[..].try_into().unwrap());
    match sum6kes::verify(&vkey, evolution, &message, &signature) {
        Ok(()) => Ok(json!({ "verifies": true })),
        Err(VerifyError::EvolutionTooHigh(_)) => refused("evolution-too-high"),
        Err(VerifyError::WrongKey { .. }) => refused("other-key"),
        Err(VerifyError::WrongSignature) => refused("bad-signature"),
    }
}

pub(crate) fn opcert_says(opcert: &OpCert) -> Value {
    json!({
        "kes_verification_key": opcert.kes_vkey,
        "counter": opcert.counter,
        "start_period": opcert.start_period,
        "cold_signature": opcert.cold_signature,
    })
}

fn certificate(vector: &Vector) -> Outcome {
    let opcert = OpCert::from_wire(vector.bytes[..].try_into().unwrap());
    let cold: ColdVerificationKey = vector.given("cold_verification_key").parse().unwrap();
    if opcert.is_signed_by(&cold) {
        Ok(opcert_says(&opcert))
    } else {
        refused("bad-signature")
    }
}

fn certificate_in_period(vector: &Vector) -> Outcome {
    let opcert = OpCert::from_wire(vector.bytes[..].try_into().unwrap());
    let most = u32::try_from(vector.number("max_evolutions")).unwrap();
    match opcert.evolution_at(KesPeriod(vector.number("period")), most) {
        Ok(evolution) => Ok(json!({ "evolution": evolution })),
        Err(OutOfPeriod::NotYet { .. }) => refused("before-its-start"),
        Err(OutOfPeriod::Expired { .. }) => refused("expired"),
    }
}

fn text_envelope(text: &[u8], wanted: &str) -> Outcome {
    let says = match wanted {
        "kes.vkey" => envelope::read_kes_vkey(text).map(|key| json!({ "verification_key": key })),
        "cold.vkey" => envelope::read_cold_vkey(text).map(|key| json!({ "verification_key": key })),
        "opcert.cert" => envelope::read_opcert(text).map(|(opcert, cold)| {
            let mut says = opcert_says(&opcert);
            says["cold_verification_key"] = json!(cold);
            says
        }),
        "opcert.counter" => envelope::read_opcert_counter(text)
            .map(|(next, cold)| json!({ "next_counter": next, "cold_verification_key": cold })),
        other => panic!("no file {other}"),
    };
    says.or_else(|error| {
        refused(match error {
            EnvelopeError::Empty => "empty",
            EnvelopeError::NotAnEnvelope => "no-envelope",
            EnvelopeError::OtherType { .. } => "other-type",
            EnvelopeError::Content(_) => "content",
            EnvelopeError::ExtendedSignKey => "extended-sign-key",
        })
    })
}

fn service_message(bytes: &[u8], version: &str) -> Outcome {
    let version = ServiceVersion::from_id(VersionId::new(version)).unwrap();
    let mut reader = version.reader().unwrap();
    let message = whole(&mut reader, bytes, |error| match error {
        MessageError::UnknownTag(_) => "first-byte",
        MessageError::Lock(error) => panic!("{error}"),
    })?;
    Ok(match message {
        ServiceMessage::Dropped { stamp } => json!({ "message": "drop", "stamp": stamp.0 }),
        ServiceMessage::Key(key) => {
            let mut says = json!({
                "message": "key",
                "stamp": key.stamp.map(|stamp| stamp.0),
                "sign_key": hex::encode(key.secret.expose()),
                "evolution": key.evolution,
                "certificate": opcert_says(&key.opcert),
            });
            let checked = SignKey::from_bytes(key.secret, key.evolution, &key.opcert.kes_vkey);
            says["sign_key_is_whole"] = checked.is_ok().into();
            says
        }
    })
}

fn deployed_reason(error: DeployedError) -> &'static str {
    match error {
        DeployedError::UnknownCommand(_) => "unknown-command",
        DeployedError::NotABool(_) => "maybe",
        DeployedError::Text => "text",
        DeployedError::List(_) => "list",
        DeployedError::PeerConnection(_) => "peer-state",
    }
}

fn control_request(bytes: &[u8], version: &str) -> Outcome {
    let layout = layout(VersionId::new(version)).unwrap();
    let request = whole(&mut RequestReader::new(layout), bytes, deployed_reason)?;
    let mut says = json!({ "command": request.name() });
    if let DeployedRequest::InstallKey(opcert) = request {
        says["certificate"] = opcert_says(&opcert);
    }
    Ok(says)
}

fn control_answer(bytes: &[u8], version: &str, to: &str) -> Outcome {
    let layout = layout(VersionId::new(version)).unwrap();
    let to = match to {
        "export-staged-vkey" => DeployedRequest::QueryStagedKey,
        "drop-key" => DeployedRequest::DropKey,
        "info" => DeployedRequest::Info,
        other => panic!("no command {other}"),
    };
    Ok(
        match whole(&mut AnswerReader::new(layout, to), bytes, deployed_reason)? {
            DeployedAnswer::StagedKey(vkey) => json!({ "staged": vkey }),
            DeployedAnswer::Result(code) => json!({ "result": code.to_string() }),
            DeployedAnswer::Info(info) => info_says(&info),
        },
    )
}

fn bundle_says(bundle: &BundleInfo) -> Value {
    json!({ "evolution": bundle.evolution, "certificate": opcert_says(&bundle.opcert) })
}

/// What a version does not have is null.
pub(crate) fn info_says(info: &AgentInfo) -> Value {
    let peers = info.peers.iter().map(|peer| {
        let state = match peer.connection {
            PeerConnection::Up => "up",
            PeerConnection::Connecting => "connecting",
            PeerConnection::Down => "down",
        };
        json!({ "address": peer.address, "state": state })
    });
    json!({
        "agent_version": info.version,
        "installed": info.installed.as_ref().map(|installed| json!({
            "key": installed.bundle.as_ref().map(bundle_says),
            "time": installed.time,
        })),
        "staged": info.staged,
        "now": info.now,
        "period": info.period,
        "period_times": info.period_times.map(|(start, end)| [start, end]),
        "peers": peers.collect::<Vec<_>>(),
    })
}

fn rotation(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let content = whole(&mut FrameReader::default(), bytes, |_| "frame-length")?;
    Ok(content.to_vec())
}

fn import_says(import: &ImportedOpCert) -> Value {
    json!({
        "certificate": opcert_says(&import.opcert),
        "cold_vkey": import.cold_vkey,
        "replace": import.replace,
    })
}

fn request_says(request: &Request) -> Value {
    let mut says = json!({ "request": request.name() });
    match request {
        Request::Keygen { if_pending } => {
            says["if_pending"] = match if_pending {
                IfPending::Refuse => "refuse",
                IfPending::Replace => "replace",
                IfPending::Keep => "keep",
            }
            .into();
        }
        Request::ImportOpcert {
            import,
            allow_lower_counter,
        } => {
            says["import"] = import_says(import);
            says["allow_lower_counter"] = (*allow_lower_counter).into();
        }
        Request::Activate {
            import,
            allow_lower_counter,
        } => {
            says["import"] = import.as_ref().map_or(Value::Null, import_says);
            says["allow_lower_counter"] = (*allow_lower_counter).into();
        }
        Request::ConfirmClock { synchronised } => says["synchronised"] = (*synchronised).into(),
        Request::ExportVkey {}
        | Request::Status {}
        | Request::DropPending {}
        | Request::DropActive {} => {}
    }
    says
}

fn answer_says(answer: &Answer) -> Value {
    match answer {
        Answer::Done {
            changed,
            notes,
            status,
        } => json!({ "answer": "done", "changed": changed, "notes": notes, "status": status }),
        Answer::Refused { refusal } => json!({ "answer": "refused", "refusal": refusal }),
    }
}
