//! The messages of the deployed control versions.

use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::deployed::{
    AgentInfo, BundleInfo, DeployedAnswer, DeployedRequest, InstalledInfo, PeerConnection,
    PeerInfo, layout,
};
use kes_wire::protocol::version::VersionId;

use super::{Kind, Made, NOW, START, kes_vkey, opcert};

const V3_0: &[&str] = &["Control:3.0"];
const V2_0: &[&str] = &["Control:2.0"];
const V1_0: &[&str] = &["Control:1.0", "Control:StandardCrypto:0.5"];
const WITH_DROP: &[&str] = &["Control:3.0", "Control:2.0"];
const ALL: &[&str] = &[
    "Control:3.0",
    "Control:2.0",
    "Control:1.0",
    "Control:StandardCrypto:0.5",
];

pub(super) fn requests(made: &mut Made) {
    let request = |versions| Kind::of("control-request").versions(versions);
    for (number, shows, one, versions) in [
        (
            0,
            "generate a staged key",
            DeployedRequest::GenStagedKey,
            ALL,
        ),
        (
            1,
            "tell the staged key",
            DeployedRequest::QueryStagedKey,
            ALL,
        ),
        (
            2,
            "drop the staged key",
            DeployedRequest::DropStagedKey,
            ALL,
        ),
        (
            3,
            "install the staged key",
            DeployedRequest::InstallKey(opcert(7)),
            ALL,
        ),
        (4, "tell the state", DeployedRequest::Info, ALL),
        (
            5,
            "drop the installed key",
            DeployedRequest::DropKey,
            WITH_DROP,
        ),
    ] {
        let name = format!("control/request-{number}-{}", one.name());
        let ids = ["TR-2", "DEP-7"];
        made.add(&name, shows, &ids, request(versions), &one.to_wire());
    }
    made.refused(
        "unknown-command",
        "control/request-5-unknown",
        "a command that these versions do not have: the agent closes",
        &["DEP-8"],
        request(V1_0),
        &[0, 5],
    );
    made.refused(
        "unknown-command",
        "control/request-6-unknown",
        "a command that no version has: the agent closes",
        &["DEP-8"],
        request(ALL),
        &[0, 6],
    );
    made.refused(
        "incomplete",
        "control/request-3-cut",
        "an install whose certificate is a byte short: nothing was asked",
        &["TR-4"],
        request(ALL),
        &DeployedRequest::InstallKey(opcert(7)).to_wire()[..113],
    );
}

fn answer(to: &str, versions: &'static [&'static str]) -> Kind {
    Kind::of("control-answer")
        .versions(versions)
        .given("to", to)
}

pub(super) fn answers(made: &mut Made) {
    let any = layout(VersionId::new("Control:3.0")).unwrap();
    let staged = |vkey| DeployedAnswer::StagedKey(vkey).to_wire(any);
    let to_staged = || answer("export-staged-vkey", ALL);
    let ids = &["DEP-2", "DEP-7"];
    made.add(
        "control/staged-none",
        "no key is staged",
        ids,
        to_staged(),
        &staged(None),
    );
    made.add(
        "control/staged",
        "the staged key",
        ids,
        to_staged(),
        &staged(Some(kes_vkey())),
    );
    made.refused(
        "maybe",
        "control/maybe-2",
        "neither nothing nor something",
        &["DEP-2"],
        to_staged(),
        &[2],
    );
    for number in [0u16, 1, 2, 3, 4, 5, 600] {
        made.add(
            &format!("control/result-{number}"),
            "a result of an install or a drop",
            &["DEP-3"],
            answer("drop-key", WITH_DROP),
            &number.to_be_bytes(),
        );
    }
    for (versions, folder) in [(V3_0, "3.0"), (V2_0, "2.0"), (V1_0, "1.0")] {
        infos(made, versions, folder);
    }
    refused_infos(made);
}

fn peers() -> Vec<PeerInfo> {
    [
        ("/run/kes-agent/peer-1.socket", PeerConnection::Up),
        ("/run/kes-agent/peer-2.socket", PeerConnection::Connecting),
        ("", PeerConnection::Down),
    ]
    .map(|(address, connection)| PeerInfo {
        address: address.to_owned(),
        connection,
    })
    .to_vec()
}

/// An agent's state, as far as a version tells it.
fn info(version: &str) -> AgentInfo {
    let layout = layout(VersionId::new(version)).unwrap();
    let now = i64::try_from(NOW / 1_000_000).unwrap();
    AgentInfo {
        version: layout
            .info_has_version_and_period_times
            .then(|| "0.1.0".to_owned()),
        installed: None,
        staged: None,
        now,
        period: KesPeriod(START + 3),
        period_times: layout
            .info_has_version_and_period_times
            .then_some((now - 100, now + 129_500)),
        peers: Vec::new(),
    }
}

fn put(info: AgentInfo, version: &str) -> Vec<u8> {
    let layout = layout(VersionId::new(version)).unwrap();
    DeployedAnswer::Info(Box::new(info)).to_wire(layout)
}

fn infos(made: &mut Made, versions: &'static [&'static str], folder: &str) {
    let version = versions[0];
    let has_time = version != "Control:1.0";
    let bundle = BundleInfo {
        evolution: Evolution(3),
        opcert: opcert(7),
    };
    let installed = InstalledInfo {
        bundle: Some(bundle),
        time: has_time.then_some(-1),
    };
    let whole = AgentInfo {
        installed: Some(installed),
        staged: Some(kes_vkey()),
        peers: peers(),
        ..info(version)
    };
    let name = |name: &str| format!("control-{folder}/info-{name}");
    let kind = || answer("info", versions);
    let ids = &["DEP-2", "DEP-11"];
    let bytes = put(info(version), version);
    made.add(
        &name("nothing"),
        "an agent without keys and peers",
        ids,
        kind(),
        &bytes,
    );
    let shows = "everything there can be; times are signed";
    made.add(
        &name("everything"),
        shows,
        ids,
        kind(),
        &put(whole, version),
    );
    if has_time {
        let dropped = AgentInfo {
            installed: Some(InstalledInfo {
                bundle: None,
                time: Some(1_795_393_132),
            }),
            ..info(version)
        };
        let shows = "the form of a drop that agents do not send";
        let bytes = put(dropped, version);
        made.add(&name("dropped"), shows, &["DEP-12"], kind(), &bytes);
    }
}

/// 1.0 tells nothing before the two Maybes, two numbers and the list.
fn refused_infos(made: &mut Made) {
    let up_to_list = {
        let mut bytes = put(info("Control:1.0"), "Control:1.0");
        bytes.truncate(bytes.len() - 4);
        bytes
    };
    let peer = |length: u32, text: &[u8], state: u8| {
        let parts = [
            &1u32.to_be_bytes()[..],
            &length.to_be_bytes(),
            text,
            &[state],
        ];
        [&up_to_list[..], &parts.concat()].concat()
    };
    let kind = || answer("info", V1_0);
    let ids = &["DEP-2"];
    made.refused(
        "list",
        "control-1.0/info-257-peers",
        "a list of more than 256 elements: its count is enough",
        ids,
        kind(),
        &[&up_to_list[..], &257u32.to_be_bytes()].concat(),
    );
    made.refused(
        "text",
        "control-1.0/info-text-4097",
        "a text of more than 4096 bytes: its length is enough",
        ids,
        kind(),
        &[&up_to_list[..], &1u32.to_be_bytes(), &4097u32.to_be_bytes()].concat(),
    );
    let not_utf_8 = peer(2, &[0xc3, 0x28], 0);
    made.refused(
        "text",
        "control-1.0/info-text-not-utf-8",
        "a text that is not UTF-8",
        ids,
        kind(),
        // What is wrong with it is known before the state.
        &not_utf_8[..not_utf_8.len() - 1],
    );
    made.refused(
        "peer-state",
        "control-1.0/info-peer-state-3",
        "a peer in a state that there is not",
        &["DEP-11"],
        kind(),
        &peer(2, b"/a", 3),
    );
}
