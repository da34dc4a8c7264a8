//! Sessions of the reference agent with a node, read by our client in pieces of every size; and
//! our agent's bytes for the same keys.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::session::{Session, next, recorded};
use integration_tests::shared;
use kes_wire::envelope;
use kes_wire::opcert::OpCert;
use kes_wire::period::Evolution;
use kes_wire::protocol::Reader;
use kes_wire::protocol::control::deployed::{
    AnswerReader, DeployedAnswer, DeployedRequest, v2_0 as v2_0_control,
};
use kes_wire::protocol::handshake::{ClientHandshake, Kind, ServerHandshake, Step};
use kes_wire::protocol::service::v2_0::{self, MessageReader};
use kes_wire::protocol::service::{ResultReader, ServiceMessage, ServiceResult, ServiceVersion};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::{SERVICE_1_0, SERVICE_2_0, SERVICE_VERSIONS, VersionId};
use kes_wire::sum6kes::SignKey;

fn certificate(name: &str) -> OpCert {
    let text = shared::text(&format!("transcripts/{name}.cert")).unwrap();
    envelope::read_opcert(text.as_bytes()).unwrap().0
}

/// What the agent sent in a session, as one line a message.
fn read(session: &Session, piece: usize) -> Vec<(u64, Option<(Evolution, OpCert)>)> {
    let mut bytes = &session.from_agent[..];
    let mut handshake = ClientHandshake::begin(Kind::Service, SERVICE_VERSIONS);
    let Some(Step::Send(answer)) = next(&mut handshake, &mut bytes, piece) else {
        panic!("a choice")
    };
    assert_eq!(
        answer,
        session.from_client[..33],
        "our node's answer is the recorded one"
    );
    let Some(Step::Finish(version, _)) = next(&mut handshake, &mut bytes, piece) else {
        panic!("an end")
    };
    assert_eq!(version, SERVICE_2_0);
    let mut reader = MessageReader::new().unwrap();
    let mut messages = Vec::new();
    while let Some(message) = next(&mut reader, &mut bytes, piece) {
        messages.push(match message {
            ServiceMessage::Dropped { stamp } => (stamp.0, None),
            ServiceMessage::Key(key) => {
                let (evolution, opcert) = (key.evolution, key.opcert);
                SignKey::from_bytes(key.secret, evolution, &opcert.kes_vkey).unwrap();
                (key.stamp.unwrap().0, Some((evolution, opcert)))
            }
        });
    }
    assert!(reader.is_between_items());
    messages
}

fn in_pieces(name: &str, expected: &[Option<(u32, &str)>]) {
    let Some(session) = recorded(name) else {
        return;
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|message| message.map(|(at, cert)| (Evolution(at), certificate(cert))))
        .collect();
    for piece in 1..=session.from_agent.len().min(800) {
        let messages = read(&session, piece);
        let content: Vec<_> = messages.iter().map(|(_, message)| *message).collect();
        assert_eq!(content, expected, "{name} in pieces of {piece}");
        // Recorded in November 2026; a repeated key keeps its stamp.
        let stamps: Vec<u64> = messages.iter().map(|(stamp, _)| *stamp).collect();
        assert!(stamps.is_sorted());
        assert!(
            stamps
                .iter()
                .all(|stamp| stamp / 1_000_000_000_000_000 == 1),
            "{stamps:?}"
        );
    }
}

#[test]
fn a_key_at_connect() {
    in_pieces(
        "service-01-connect-with-installed-key",
        &[Some((0, "opcert12-low-counter-after-drop"))],
    );
}

#[test]
fn a_first_key_twice_a_second_key_and_a_drop() {
    let name = "service-02-first-key-second-key-drop";
    in_pieces(
        name,
        &[
            Some((0, "svc1")),
            Some((0, "svc1")),
            Some((0, "svc2")),
            None,
        ],
    );
}

#[test]
fn nothing_after_a_drop() {
    in_pieces("service-03-connect-after-drop", &[]);
}

#[test]
fn an_agent_that_is_fed_by_another() {
    let name = "bootstrap-01-agent-D-from-agent-B";
    let Some(session) = recorded(name) else {
        return;
    };
    for piece in 1..=session.from_agent.len().min(800) {
        let messages = read(&session, piece);
        let evolutions: Vec<_> = messages
            .iter()
            .map(|(_, key)| key.map(|(evolution, _)| evolution))
            .collect();
        assert_eq!(
            evolutions[..2],
            [Some(Evolution(2)), None],
            "a key, then a drop"
        );
        assert!(messages.len() == 3 && evolutions[2].is_some(), "then a key");
        let stamps: Vec<u64> = messages.iter().map(|(stamp, _)| *stamp).collect();
        assert!(stamps.is_sorted());
    }
}

#[test]
fn a_key_at_evolution_3() {
    in_pieces(
        "service-04-connect-with-key-at-evolution-3",
        &[Some((3, "svc3-past3"))],
    );
}

#[test]
fn our_bytes_for_the_same_key_are_the_recorded_ones() {
    for name in [
        "service-01-connect-with-installed-key",
        "service-02-first-key-second-key-drop",
        "service-04-connect-with-key-at-evolution-3",
    ] {
        let Some(session) = recorded(name) else {
            return;
        };
        let offered = u32::from_be_bytes(*session.from_agent.first_chunk().unwrap()) as usize;
        let mut rest = &session.from_agent[4 + 32 * offered + 32..];
        let recorded = rest;
        let mut ours = Vec::new();
        let mut reader = MessageReader::new().unwrap();
        while let Some(message) = next(&mut reader, &mut rest, 1000) {
            match message {
                ServiceMessage::Dropped { stamp } => ours.extend(v2_0::dropped(stamp)),
                ServiceMessage::Key(received) => {
                    let (evolution, opcert) = (received.evolution, received.opcert);
                    let key =
                        SignKey::from_bytes(received.secret, evolution, &opcert.kes_vkey).unwrap();
                    let stamp: Stamp = received.stamp.unwrap();
                    ours.extend(v2_0::key_message(stamp, &key, &opcert).pieces().concat());
                }
            }
        }
        assert!(ours == recorded, "{name}");
    }
}

#[test]
fn a_recorded_nodes_words_are_understood_by_our_agent() {
    for (name, answers) in [
        (
            "service-01-connect-with-installed-key",
            vec![ServiceResult::Ok],
        ),
        (
            "service-02-first-key-second-key-drop",
            vec![
                ServiceResult::Ok,
                ServiceResult::KeyOutdated,
                ServiceResult::Ok,
                ServiceResult::Ok,
            ],
        ),
        (
            "service-04-connect-with-key-at-evolution-3",
            vec![ServiceResult::Ok],
        ),
    ] {
        let Some(session) = recorded(name) else {
            return;
        };
        for piece in 1..=session.from_client.len() {
            let mut bytes = &session.from_client[..];
            let (mut handshake, offer) = ServerHandshake::begin(Kind::Service, SERVICE_VERSIONS);
            assert_eq!(
                offer[4..36],
                session.from_agent[4..36],
                "the same best version"
            );
            let Some(Step::Finish(version, repeated)) = next(&mut handshake, &mut bytes, piece)
            else {
                panic!("an end")
            };
            assert_eq!(version, VersionId::new("Service:2.0"));
            let offered = u32::from_be_bytes(*session.from_agent.first_chunk().unwrap()) as usize;
            assert_eq!(repeated, session.from_agent[4 + 32 * offered..][..32]);
            let mut reader = ResultReader::default();
            let results: Vec<_> =
                std::iter::from_fn(|| next(&mut reader, &mut bytes, piece)).collect();
            assert_eq!(results, answers, "{name}");
        }
    }
}

/// The certificate that the agent of the older versions' recordings tells in `info`.
fn told_over_control_2_0() -> OpCert {
    let json = shared::json("transcripts/extra-Control_2.0-info.json").unwrap();
    let bytes = hex::decode(json[0]["hex"].as_str().unwrap()).unwrap();
    let mut reader = AnswerReader::new(v2_0_control::LAYOUT, DeployedRequest::Info);
    let Some(DeployedAnswer::Info(info)) = next(&mut reader, &mut &bytes[..], 999) else {
        panic!("an info")
    };
    info.installed.unwrap().bundle.unwrap().opcert
}

#[test]
fn a_key_over_service_1_0_is_read_in_every_piece_and_written_again() {
    let Some(json) = shared::json("transcripts/extra-Service_1.0.json") else {
        return;
    };
    let bytes = hex::decode(json[0]["hex"].as_str().unwrap()).unwrap();
    let (repeated, message) = bytes.split_at(VersionId::BYTES);
    let mut offer = 1u32.to_be_bytes().to_vec();
    offer.extend(SERVICE_1_0.as_bytes());
    for piece in 1..=message.len() {
        let mut handshake = ClientHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        let Some(Step::Send(_)) = next(&mut handshake, &mut &offer[..], piece) else {
            panic!("a choice")
        };
        let Some(Step::Finish(settled, _)) = next(&mut handshake, &mut &repeated[..], piece) else {
            panic!("an end")
        };
        let version = ServiceVersion::from_id(settled).unwrap();
        let mut rest = message;
        let mut reader = version.reader().unwrap();
        let Some(ServiceMessage::Key(received)) = next(&mut reader, &mut rest, piece) else {
            panic!("a key")
        };
        assert!(rest.is_empty());
        assert!(reader.is_between_items());
        assert_eq!(received.stamp, None);
        assert_eq!(received.evolution, Evolution(0));
        // Recorded from the same agent as the control session, which tells the certificate.
        let opcert = received.opcert;
        assert_eq!(opcert, told_over_control_2_0());
        let key = SignKey::from_bytes(received.secret, received.evolution, &opcert.kes_vkey);
        let key = key.unwrap();
        let ours = version.key_message(Stamp(1), &key, opcert);
        assert!(ours.pieces().concat() == message);
        assert_eq!(version.dropped(Stamp(1)), None);
    }
}
