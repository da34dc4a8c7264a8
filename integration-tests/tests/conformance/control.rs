//! Clients of the control socket: ours pass, and each check finds one that is wrong, by a liar in
//! between or by how its command ends.

use std::collections::BTreeSet;
use std::path::Path;

use integration_tests::conformance::control_client::{self, Options};
use integration_tests::conformance::report::Report;
use integration_tests::conformance::rotation::{frame, plain};
use integration_tests::conformance::wire::id;
use integration_tests::pool::program;

use crate::broken;
use crate::wrong_agent::{
    self,
    Fault::{self, *},
};

/// Succeeds whatever happens.
const CHEERFUL: &str = " || true";
/// Fails whatever happens.
const SULKING: &str = "; false";
/// Says nothing.
const SILENT: &str = " >/dev/null 2>&1";
const AS_IT_IS: &str = "";

fn say_at(before: usize, bytes: &mut [u8], at: usize, word: &[u8]) {
    if let Some(at) = at.checked_sub(before)
        && let Some(place) = bytes.get_mut(at..at + word.len())
    {
        place.copy_from_slice(word);
    }
}

/// Where a request begins: after the choice and the repeated id.
const REQUEST: usize = 1 + 32 + 32;

/// What is wrong, the requirement that it breaks, and how the command ends.
const FAULTS: &[(&str, &str, Fault)] = &[
    ("HS-2", CHEERFUL, None),
    ("HS-3 not followed", AS_IT_IS, Offer(|ids| ids.truncate(1))),
    (
        "HS-3",
        AS_IT_IS,
        Told(|before, bytes| say_at(before, bytes, 1, &id("Control:9.9"))),
    ),
    (
        "HS-4",
        AS_IT_IS,
        Told(|before, bytes| {
            if before == 0 && *bytes == [0] {
                bytes[0] = 2;
            }
        }),
    ),
    ("HS-4", CHEERFUL, None),
    (
        "HS-6",
        AS_IT_IS,
        Told(|before, bytes| say_at(before, bytes, 33, b"X")),
    ),
    ("TR-3", AS_IT_IS, TakesReadsForMessages),
    ("TR-4", CHEERFUL, None),
    (
        "ROT-1",
        AS_IT_IS,
        Told(|before, bytes| say_at(before, bytes, REQUEST + 5, &[9])),
    ),
    ("ROT-1", CHEERFUL, None),
    ("ROT-2", CHEERFUL, None),
    (
        "ROT-4",
        AS_IT_IS,
        Told(|before, bytes| {
            if before + bytes.len() > REQUEST {
                bytes.extend(frame(&plain(4)));
            }
        }),
    ),
    ("ROT-5", CHEERFUL, None),
    ("ROT-5", SULKING, None),
    ("ROT-10", SILENT, None),
    (
        "VER-1",
        AS_IT_IS,
        Frame(|bytes| {
            if let Some(at) = bytes.windows(2).position(|key| key == [0x18, 77]) {
                bytes[at] = 0xff;
            }
        }),
    ),
    ("DEP-2", CHEERFUL, None),
    ("DEP-3", CHEERFUL, None),
    ("DEP-3", SULKING, None),
    (
        "DEP-7",
        AS_IT_IS,
        Told(|before, bytes| say_at(before, bytes, REQUEST, &[0, 1])),
    ),
    (
        "DEP-8",
        AS_IT_IS,
        Told(|before, bytes| {
            if before < REQUEST && before + bytes.len() >= REQUEST {
                bytes.extend([0, 5]);
            }
        }),
    ),
    ("DEP-8", CHEERFUL, None),
    (
        "DEP-11",
        AS_IT_IS,
        Deployed(4, |bytes| bytes.truncate(bytes.len() - 1)),
    ),
    ("DEP-12", SULKING, None),
    ("DEP-12", CHEERFUL, None),
];

/// A client's commands for the state, a key, an install and a drop, and its option for the socket.
type Client = ([&'static str; 4], &'static str);

const OURS: Client = (
    [
        "kes-cli status",
        "kes-cli keygen",
        "kes-cli activate --opcert-file OPCERT",
        "kes-cli drop-active",
    ],
    "--control-address",
);

/// The same program in the manner of the reference's.
const AS_THE_REFERENCE: Client = (
    [
        "kes-agent-control info",
        "kes-agent-control gen-staged-key --kes-verification-key-file -",
        "kes-agent-control install-key --opcert-file OPCERT",
        "kes-agent-control drop-key",
    ],
    "--control-address",
);

/// The kit's report on a client, behind a liar unless there is no fault.
fn report((commands, option): Client, ending: &str, fault: Fault, only: &[&str]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let kes_cli = program("kes-cli");
    std::os::unix::fs::symlink(&kes_cli, folder.path().join("kes-agent-control")).unwrap();
    let kit = folder.path().join("kit.socket");
    let told = if matches!(fault, None) {
        kit.clone()
    } else {
        let path = folder.path().join("liar.socket");
        wrong_agent::listen(&path, &kit, fault, &wrong_agent::LastCertificate::default());
        path
    };
    let path = |folder: &Path| folder.display().to_string();
    let command = |command: &str| {
        let (bin, links) = (path(kes_cli.parent().unwrap()), path(folder.path()));
        let told = path(&told);
        format!("PATH={links}:{bin}:$PATH; {command} {option} {told}{ending}")
    };
    let [status, generate, install, drop_active] = commands.map(command);
    control_client::run(Options {
        listen: kit,
        status,
        generate: Some(generate),
        install: Some(install),
        drop_active: Some(drop_active),
        only: only.iter().map(|id| (*id).to_owned()).collect(),
    })
    .unwrap()
}

#[test]
fn our_commands_pass_and_each_wrong_client_is_found() {
    let right = report(OURS, AS_IT_IS, None, &[]);
    let all = control_client::checks();
    assert_eq!(right.with("holds").len(), all.len(), "{}", right.table());
    let mut shown = BTreeSet::new();
    for (expected, ending, fault) in FAULTS {
        let id = expected.split(' ').next().unwrap();
        let report = report(OURS, ending, *fault, &[id]);
        assert_eq!(broken(&report), [*expected], "{ending}\n{}", report.table());
        shown.insert(id);
    }
    for check in all {
        assert!(shown.contains(check.id), "no fault shows {}", check.id);
    }
}

#[test]
fn our_commands_in_the_references_manner_pass() {
    let report = report(AS_THE_REFERENCE, AS_IT_IS, None, &[]);
    assert!(broken(&report).is_empty(), "{}", report.table());
    let holds = report.with("holds");
    let deployed = ["DEP-2", "DEP-3", "DEP-7", "DEP-8", "DEP-11", "DEP-12"];
    for id in ["HS-2", "HS-3", "HS-4", "HS-6"].iter().chain(&deployed) {
        assert!(holds.contains(id), "{id}\n{}", report.table());
    }
}
