//! Sessions of the reference's control client with the reference agent, in pieces of every size:
//! read and written again, each direction; and the same requests put to our agent.
#![allow(missing_docs, clippy::unwrap_used)]

use integration_tests::session::{Session, next, recorded};
use integration_tests::shared;
use kes_wire::envelope;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::deployed::{
    AgentInfo, AnswerReader, DeployedAnswer, DeployedRequest, PeerConnection, RequestReader,
    layout, v1_0, v2_0,
};
use kes_wire::protocol::handshake::{ClientHandshake, Kind, ServerHandshake, Step};
use kes_wire::protocol::result::ResultCode;
use kes_wire::protocol::version::{
    CONTROL_3_0, CONTROL_VERSIONS, DEPLOYED_CONTROL_VERSIONS, VersionId,
};
use kes_wire::sum6kes::VerificationKey;

/// Every control recording, and what the README beside them says of it.
const RECORDINGS: [&str; 27] = [
    "control-01-info-empty",
    "control-02-export-staged-vkey-none",
    "control-03-drop-staged-key-none",
    "control-04-gen-staged-key",
    "control-05-export-staged-vkey",
    "control-06-info-staged-only",
    "control-07-drop-staged-key",
    "control-08-install-key-no-staged-key",
    "control-09-drop-key-none",
    "control-10-info-after-drop-key-none",
    "control-11-install-key-ok",
    "control-12-info-installed",
    "control-13-info-installed-and-staged",
    "control-14-install-key-wrong-cold-key",
    "control-15-export-staged-vkey-after-failed-install",
    "control-17-install-key-outdated-counter",
    "control-18-install-key-equal-counter",
    "control-21-install-key-start-5-periods-ahead",
    "control-22-info-future",
    "control-23-install-key-start-63-periods-ago",
    "control-25-install-key-expired",
    "control-26-info-after-expired-install",
    "control-28-drop-key",
    "control-29-info-after-drop-key",
    "control-30-install-key-low-counter-after-drop",
    "bootstrap-02-control-info-peer-up",
    "bootstrap-03-control-info-peer-lost",
];

/// The exchanges of a session, read in pieces of this size by our reader of each side.
fn exchanges(session: &Session, piece: usize) -> Vec<(DeployedRequest, DeployedAnswer)> {
    let mut from_agent = &session.from_agent[..];
    let mut handshake = ClientHandshake::begin(Kind::Control, DEPLOYED_CONTROL_VERSIONS);
    let Some(Step::Finish(version, answer)) = next(&mut handshake, &mut from_agent, piece) else {
        panic!("a choice")
    };
    assert_eq!(version, CONTROL_3_0);
    assert_eq!(
        answer,
        session.from_client[..answer.len()],
        "our client's words are the recorded"
    );

    let mut from_client = &session.from_client[..];
    let (mut handshake, _) = ServerHandshake::begin(Kind::Control, CONTROL_VERSIONS);
    let Some(Step::Finish(version, _)) = next(&mut handshake, &mut from_client, piece) else {
        panic!("an end")
    };
    assert_eq!(version, CONTROL_3_0);

    let layout = layout(version).unwrap();
    let mut requests = RequestReader::new(layout);
    let mut exchanges = Vec::new();
    while let Some(request) = next(&mut requests, &mut from_client, piece) {
        let mut reader = AnswerReader::new(layout, request);
        let answer = next(&mut reader, &mut from_agent, piece).expect("an answer to each");
        exchanges.push((request, answer));
    }
    assert!(from_agent.is_empty(), "nothing is left over");
    exchanges
}

/// The one exchange of a recording.
fn exchange(name: &str) -> Option<(DeployedRequest, DeployedAnswer)> {
    let session = recorded(name)?;
    let mut exchanges = exchanges(&session, 1000);
    assert_eq!(exchanges.len(), 1, "{name}");
    exchanges.pop()
}

fn certificate(name: &str) -> OpCert {
    let text = shared::text(&format!("transcripts/{name}.cert")).unwrap();
    envelope::read_opcert(text.as_bytes()).unwrap().0
}

fn vkey(name: &str) -> VerificationKey {
    let text = shared::text(&format!("transcripts/{name}.vkey")).unwrap();
    envelope::read_kes_vkey(text.as_bytes()).unwrap()
}

#[test]
fn every_recording_is_read_in_every_piece_and_written_again() {
    for name in RECORDINGS {
        let Some(session) = recorded(name) else {
            return;
        };
        let whole = exchanges(&session, usize::MAX);
        assert_eq!(whole.len(), 1, "{name}");
        for piece in 1..=session.from_agent.len() {
            assert_eq!(
                exchanges(&session, piece),
                whole,
                "{name} in pieces of {piece}"
            );
        }
        let layout = layout(CONTROL_3_0).unwrap();
        let (request, answer) = &whole[0];
        assert!(session.from_client.ends_with(&request.to_wire()), "{name}");
        assert!(
            session.from_agent.ends_with(&answer.to_wire(layout)),
            "{name}"
        );
    }
}

#[test]
fn they_say_what_the_readme_says() {
    if shared::vectors("transcripts/README.md").is_none() {
        return;
    }
    let of = |name: &str| exchange(name).unwrap();
    let result = |name: &str| match of(name).1 {
        DeployedAnswer::Result(code) => code,
        other => panic!("{other:?}"),
    };
    let staged = |name: &str| match of(name).1 {
        DeployedAnswer::StagedKey(vkey) => vkey,
        other => panic!("{other:?}"),
    };
    assert_eq!(staged("control-02-export-staged-vkey-none"), None);
    assert_eq!(staged("control-04-gen-staged-key"), Some(vkey("kes1")));
    assert_eq!(staged("control-05-export-staged-vkey"), Some(vkey("kes1")));
    assert_eq!(staged("control-07-drop-staged-key"), None);
    assert_eq!(
        staged("control-15-export-staged-vkey-after-failed-install"),
        None
    );
    assert_eq!(
        result("control-08-install-key-no-staged-key"),
        ResultCode::NoKey
    );
    assert_eq!(result("control-09-drop-key-none"), ResultCode::Ok);
    assert_eq!(result("control-11-install-key-ok"), ResultCode::Ok);
    assert_eq!(
        result("control-14-install-key-wrong-cold-key"),
        ResultCode::InvalidOpCert
    );
    assert_eq!(
        result("control-17-install-key-outdated-counter"),
        ResultCode::KeyOutdated
    );
    assert_eq!(
        result("control-18-install-key-equal-counter"),
        ResultCode::Ok
    );
    assert_eq!(result("control-28-drop-key"), ResultCode::Ok);
    let installs = [
        ("control-11-install-key-ok", "opcert2"),
        ("control-14-install-key-wrong-cold-key", "opcert3-wrongcold"),
        (
            "control-17-install-key-outdated-counter",
            "opcert5-outdated",
        ),
        (
            "control-18-install-key-equal-counter",
            "opcert6-equal-counter",
        ),
        ("control-25-install-key-expired", "opcert10-expired"),
    ];
    for (name, cert) in installs {
        assert_eq!(
            of(name).0,
            DeployedRequest::InstallKey(certificate(cert)),
            "{name}"
        );
    }
}

fn info(name: &str) -> AgentInfo {
    match exchange(name).unwrap() {
        (DeployedRequest::Info, DeployedAnswer::Info(info)) => *info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn info_tells_what_is_installed_staged_and_connected() {
    if shared::vectors("transcripts/README.md").is_none() {
        return;
    }
    let empty = info("control-01-info-empty");
    assert_eq!((empty.installed, empty.staged), (None, None));
    assert_eq!(
        info("control-06-info-staged-only").staged,
        Some(vkey("kes1"))
    );
    let installed = info("control-12-info-installed");
    let bundle = installed.installed.unwrap().bundle.unwrap();
    assert_eq!(bundle.opcert, certificate("opcert2"));
    assert_eq!(
        (bundle.evolution, installed.period),
        (Evolution(0), KesPeriod(2231))
    );
    // 36 hours, around the moment of the recording.
    let (start, end) = installed.period_times.unwrap();
    assert_eq!(end - start, 129_600);
    assert!((start..end).contains(&installed.now));
    assert_eq!(info("control-29-info-after-drop-key").installed, None);
    assert_eq!(
        info("control-26-info-after-expired-install").installed,
        None
    );
    let up = info("bootstrap-02-control-info-peer-up").peers;
    assert_eq!(
        up.iter().map(|p| p.connection).collect::<Vec<_>>(),
        [PeerConnection::Up]
    );
    let lost = info("bootstrap-03-control-info-peer-lost").peers;
    assert_ne!(lost[0].connection, PeerConnection::Up);
}

#[test]
fn older_versions_tell_less() {
    let names = [
        ("extra-Control_2.0-info", v2_0::LAYOUT),
        ("extra-Control_StandardCrypto_0.5-info", v1_0::LAYOUT),
    ];
    for (name, layout) in names {
        let Some(json) = shared::json(&format!("transcripts/{name}.json")) else {
            return;
        };
        let bytes = hex::decode(json[0]["hex"].as_str().unwrap()).unwrap();
        for piece in 1..=bytes.len() {
            let mut rest = &bytes[..];
            let mut reader = AnswerReader::new(layout, DeployedRequest::Info);
            let answer = next(&mut reader, &mut rest, piece).unwrap();
            assert!(rest.is_empty());
            assert_eq!(answer.to_wire(layout), bytes);
            let DeployedAnswer::Info(info) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(info.period, KesPeriod(2231));
            assert_eq!(info.version, None);
        }
    }
    assert_eq!(
        layout(VersionId::new("Control:StandardCrypto:0.5")),
        Some(v1_0::LAYOUT)
    );
}
