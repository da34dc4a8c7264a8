//! Handshakes, and the messages of the service socket.

use kes_wire::protocol::handshake::{Kind as Socket, ServerHandshake};
use kes_wire::protocol::service::{v1_0, v2_0};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::{
    CONTROL_2_0, CONTROL_3_0, CONTROL_ROTATION_1_0, CONTROL_VERSIONS, SERVICE_1_0, SERVICE_2_0,
    SERVICE_VERSIONS, VersionId,
};

use super::{Kind, Made, NOW, key_at, opcert};

fn ids(ids: &[VersionId]) -> Vec<u8> {
    ids.iter().flat_map(VersionId::as_bytes).copied().collect()
}

pub(super) fn handshakes(made: &mut Made) {
    let offer = |socket: &str| Kind::of("offer").given("socket", socket);
    let answer = |socket: &str| Kind::of("answer-to-offer").given("socket", socket);
    for (socket, kind, versions) in [
        ("service", Socket::Service, SERVICE_VERSIONS),
        ("control", Socket::Control, CONTROL_VERSIONS),
    ] {
        let (_, bytes) = ServerHandshake::begin(kind, versions);
        made.add(
            &format!("handshake/{socket}-offer"),
            &format!("what an agent offers on its {socket} socket"),
            &["TR-2", "HS-1", "HS-2", "DEP-1"],
            offer(socket),
            &bytes,
        );
    }
    for (name, shows, bytes) in [
        ("offer-of-none", "an offer of no version", [0, 0, 0, 0]),
        (
            "offer-of-65",
            "an offer of 65 versions: its count is enough",
            [0, 0, 0, 65],
        ),
    ] {
        let name = format!("handshake/{name}");
        made.refused(
            "offer-count",
            &name,
            shows,
            &["HS-2"],
            offer("service"),
            &bytes,
        );
    }
    made.refused(
        "incomplete",
        "handshake/offer-cut",
        "an offer that ends in the middle of an id",
        &["TR-4"],
        offer("service"),
        &[&[0, 0, 0, 1][..], b"Service:2.0"].concat(),
    );
    made.add(
        "handshake/service-choice",
        "a client chooses; the agent repeats the id",
        &["HS-3"],
        answer("service"),
        &[&[1], &ids(&[SERVICE_2_0])[..]].concat(),
    );
    made.add(
        "handshake/control-choice",
        "a client chooses, and repeats the id",
        &["HS-3", "HS-6"],
        answer("control"),
        &[
            &[1],
            &ids(&[CONTROL_ROTATION_1_0, CONTROL_ROTATION_1_0])[..],
        ]
        .concat(),
    );
    made.add(
        "handshake/none-will-do",
        "a client for which no offered version will do",
        &["HS-4"],
        answer("service"),
        &[0],
    );
    made.refused(
        "first-byte",
        "handshake/choice-first-byte-2",
        "an answer that is neither a choice nor none",
        &["HS-5"],
        answer("service"),
        &[2],
    );
    made.refused(
        "not-offered",
        "handshake/choice-not-offered",
        "the choice of an id that was not offered",
        &["HS-5"],
        answer("service"),
        &[&[1], &ids(&[CONTROL_3_0])[..]].concat(),
    );
    made.refused(
        "not-the-chosen",
        "handshake/control-repeats-another",
        "another id is repeated than was chosen",
        &["HS-6"],
        answer("control"),
        &[&[1], &ids(&[CONTROL_3_0, CONTROL_2_0])[..]].concat(),
    );
    let repeated = || Kind::of("repeated-id").given("chosen", SERVICE_2_0.to_string());
    made.add(
        "handshake/service-repetition",
        "the agent repeats the chosen id",
        &["HS-6"],
        repeated(),
        &ids(&[SERVICE_2_0]),
    );
    made.refused(
        "not-the-chosen",
        "handshake/service-repeats-another",
        "the agent repeats another id than was chosen",
        &["HS-6"],
        repeated(),
        &ids(&[SERVICE_1_0]),
    );
}

const V2_0: &[&str] = &["Service:2.0"];
const V1_0: &[&str] = &["Service:1.0", "Service:StandardCrypto:0.4"];

pub(super) fn messages(made: &mut Made) {
    let message = |versions| Kind::of("service-message").versions(versions);
    for (name, shows, evolution) in [
        ("key", "a key at evolution 0", 0),
        ("key-evolution-40", "a key that evolved 40 times", 40),
    ] {
        let key = key_at(evolution);
        let bytes = v2_0::key_message(Stamp(NOW), &key, &opcert(7));
        made.add(
            &format!("service-2.0/{name}"),
            shows,
            &["SVC-1", "SVC-2"],
            message(V2_0),
            &bytes.pieces().concat(),
        );
        let bytes = v1_0::key_message(&key, &opcert(7));
        made.add(
            &format!("service-1.0/{name}"),
            &format!("{shows}: no first byte and no stamp"),
            &["DEP-4"],
            message(V1_0),
            &bytes.pieces().concat(),
        );
    }
    made.add(
        "service-2.0/drop",
        "the key was dropped",
        &["SVC-1", "SVC-2", "TOMB-1"],
        message(V2_0),
        &v2_0::dropped(Stamp(NOW + 1)),
    );
    made.refused(
        "first-byte",
        "service-2.0/first-byte-2",
        "neither a key nor a drop",
        &["SVC-1"],
        message(V2_0),
        &[2],
    );
    let key = key_at(1);
    let whole = v2_0::key_message(Stamp(NOW), &key, &opcert(7));
    let whole = whole.pieces().concat();
    made.refused(
        "incomplete",
        "service-2.0/key-cut",
        "a key whose last byte is missing: nothing was sent",
        &["TR-4"],
        message(V2_0),
        &whole[..whole.len() - 1],
    );
    let mut damaged = whole.clone();
    damaged[9 + 200] ^= 1;
    made.add(
        "service-2.0/key-damaged",
        "a message that can be read, with a key that is not whole: the answer is 2",
        &["KEY-5", "CLI-7"],
        message(V2_0),
        &damaged,
    );
    let mut ahead = whole;
    ahead[617..621].copy_from_slice(&64u32.to_be_bytes());
    made.add(
        "service-2.0/key-evolution-64",
        "a message that can be read, with an evolution that no key has",
        &["KEY-5", "CLI-7"],
        message(V2_0),
        &ahead,
    );
    for (name, number) in [
        ("ok", 0u32),
        ("outdated", 1),
        ("invalid-certificate", 2),
        ("no-key", 3),
        ("unsupported", 4),
        ("unknown", 0xffff),
        ("of-a-later-version", 77),
    ] {
        made.add(
            &format!("service-result/{name}"),
            &format!("the answer {number} to a message"),
            &["SVC-5", "DEP-3"],
            Kind::of("service-result").versions(&[
                "Service:2.0",
                "Service:1.0",
                "Service:StandardCrypto:0.4",
            ]),
            &number.to_be_bytes(),
        );
    }
}
