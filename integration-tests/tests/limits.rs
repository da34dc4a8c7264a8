//! The specification's table of limits has what the programs have, and all of it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use kes_agent::config::access::ConnectionLimits;
use kes_agent::kept::layout::{CELLS, HEAD_BYTES, MOST_BODY_BYTES};
use kes_agent::{
    agent, control, listener, marks, peers, run, service, state, status, trusted_time,
};
use kes_wire::opcert::{self, OpCert};
use kes_wire::protocol::control::{deployed, frame, rotation};
use kes_wire::protocol::handshake::MOST_VERSIONS;
use kes_wire::protocol::service::{v1_0, v2_0};
use kes_wire::protocol::version::VersionId;
use kes_wire::sum6kes::{EVOLUTIONS, SIGN_KEY_BYTES, SIGNATURE_BYTES};
use kes_wire::{envelope, genesis, hot_key, net};

/// A limit as the table has it.
fn bytes(bytes: usize) -> String {
    match bytes {
        0..1_048_576 => format!("{bytes} bytes"),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) if seconds % 86_400 == 0 => format!("{} days", seconds / 86_400),
        (seconds, 0) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        (seconds, 0) => format!("{seconds} s"),
        other => panic!("{other:?}"),
    }
}

fn micros(micros: u64) -> String {
    time(Duration::from_micros(micros))
}

/// What the programs have.
fn constants() -> BTreeMap<&'static str, String> {
    let connections = ConnectionLimits::default();
    BTreeMap::from([
        (
            "protocol::version::VersionId::BYTES",
            bytes(VersionId::BYTES),
        ),
        (
            "protocol::handshake::MOST_VERSIONS",
            MOST_VERSIONS.to_string(),
        ),
        (
            "service::HANDSHAKE_DEADLINE",
            time(service::HANDSHAKE_DEADLINE),
        ),
        ("net::CLIENT_DEADLINE", time(net::CLIENT_DEADLINE)),
        (
            "hot_key::HANDSHAKE_DEADLINE",
            time(hot_key::HANDSHAKE_DEADLINE),
        ),
        ("sum6kes::EVOLUTIONS", EVOLUTIONS.to_string()),
        ("sum6kes::SIGN_KEY_BYTES", bytes(SIGN_KEY_BYTES)),
        ("sum6kes::SIGNATURE_BYTES", bytes(SIGNATURE_BYTES)),
        ("opcert::OpCert::WIRE_BYTES", bytes(OpCert::WIRE_BYTES)),
        ("opcert::SIGNED_BYTES", bytes(opcert::SIGNED_BYTES)),
        ("protocol::service::v2_0::KEY_BYTES", bytes(v2_0::KEY_BYTES)),
        (
            "protocol::service::v2_0::DROPPED_BYTES",
            bytes(v2_0::DROPPED_BYTES),
        ),
        ("protocol::service::v1_0::KEY_BYTES", bytes(v1_0::KEY_BYTES)),
        ("service::ANSWER_DEADLINE", time(service::ANSWER_DEADLINE)),
        ("hot_key::FIRST_DELAY", time(hot_key::FIRST_DELAY)),
        ("hot_key::LONGEST_DELAY", time(hot_key::LONGEST_DELAY)),
        ("hot_key::DEFAULT_GRACE", time(hot_key::DEFAULT_GRACE)),
        ("peers::FIRST_DELAY", time(peers::FIRST_DELAY)),
        ("peers::LONGEST_DELAY", time(peers::LONGEST_DELAY)),
        ("peers::LOOK_AGAIN", time(peers::LOOK_AGAIN)),
        ("state::FUTURE_TOLERANCE", micros(state::FUTURE_TOLERANCE)),
        (
            "protocol::control::frame::MOST_BYTES",
            bytes(frame::MOST_BYTES),
        ),
        (
            "protocol::control::rotation::Status::MOST_NODES",
            rotation::Status::MOST_NODES.to_string(),
        ),
        (
            "protocol::control::rotation::Status::MOST_PEERS",
            rotation::Status::MOST_PEERS.to_string(),
        ),
        ("control::REQUEST_DEADLINE", time(control::REQUEST_DEADLINE)),
        ("control::REPLY_DEADLINE", time(control::REPLY_DEADLINE)),
        (
            "protocol::control::deployed::MOST_TEXT_BYTES",
            format!("{} bytes", deployed::MOST_TEXT_BYTES),
        ),
        (
            "protocol::control::deployed::MOST_PEERS",
            deployed::MOST_PEERS.to_string(),
        ),
        ("trusted_time::PATIENCE", micros(trusted_time::PATIENCE)),
        ("trusted_time::TOLERANCE", micros(trusted_time::TOLERANCE)),
        ("agent::LOOK_AGAIN", time(agent::LOOK_AGAIN)),
        ("status::EXPIRY_WARNING", micros(status::EXPIRY_WARNING)),
        (
            "status::EXPIRY_WARNING_PERIODS",
            status::EXPIRY_WARNING_PERIODS.to_string(),
        ),
        (
            "config::access::ConnectionLimits::default().most",
            connections.most.to_string(),
        ),
        (
            "config::access::ConnectionLimits::default().most_per_user",
            connections.most_per_user.to_string(),
        ),
        ("listener::BACKLOG", listener::BACKLOG.to_string()),
        ("run::FAREWELL", time(run::FAREWELL)),
        (
            "kept::layout::SlotsRegion",
            bytes(HEAD_BYTES + CELLS * SIGN_KEY_BYTES),
        ),
        ("kept::layout::CELLS", CELLS.to_string()),
        ("kept::layout::MOST_BODY_BYTES", bytes(MOST_BODY_BYTES)),
        ("agent::DISK_PATIENCE", time(agent::DISK_PATIENCE)),
        ("marks::TRY_AGAIN", time(marks::TRY_AGAIN)),
        ("marks::MOST_BYTES", bytes(marks::MOST_BYTES)),
        ("envelope::MOST_BYTES", bytes(envelope::MOST_BYTES)),
        ("genesis::MOST_BYTES", bytes(genesis::MOST_BYTES)),
        ("config::MOST_BYTES", bytes(kes_agent::config::MOST_BYTES)),
    ])
}

/// A row of the table.
struct Row {
    limit: String,
    value: String,
    requirement: String,
    constant: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("spec/limits.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter(|row| !row.starts_with("---") && !row.starts_with("limit |"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [limit, value, requirement, constant, ""] = cells[..] else {
                panic!("four columns: {row}")
            };
            Row {
                limit: limit.to_owned(),
                value: value.to_owned(),
                requirement: requirement.to_owned(),
                constant: constant.trim_matches('`').to_owned(),
            }
        })
        .collect()
}

#[test]
fn the_table_has_what_the_programs_have() {
    let constants = constants();
    let mut rest: BTreeSet<&str> = constants.keys().copied().collect();
    for row in rows() {
        let name = row.constant.split_once("::").unwrap().1;
        let value = constants.get(name);
        assert_eq!(value, Some(&row.value), "{}: {}", row.limit, row.constant);
        assert!(rest.remove(name), "{name} twice");
    }
    assert!(rest.is_empty(), "no row has {rest:?}");
}

#[test]
fn its_requirements_are_there() {
    let table = fs::read_to_string(root().join("spec/requirements.md")).unwrap();
    for row in rows().iter().filter(|row| !row.requirement.is_empty()) {
        let begins = format!("\n| {} | `", row.requirement);
        assert!(
            table.contains(&begins),
            "{}: {}",
            row.limit,
            row.requirement
        );
    }
}

/// Constants that look like a limit, and that nobody outside can come up against.
const NOT_SEEN: &[(&str, &str)] = &[
    ("MOST_HEAD_BYTES", "the size of a buffer"),
    ("MOST_KEPT_BYTES", "locked pages that are used again"),
    ("MOST_KEPT", "locked pages that are used again"),
    (
        "LONGEST_WAIT",
        "how often the receiving side looks at the clock",
    ),
    ("KEPT_TIME_TOLERANCE", "when a kept time is written anew"),
    ("BREATH", "a pause while there is no descriptor"),
    (
        "MOST_ADDRESS_BYTES",
        "how much is shown of a peer's address that no socket can have",
    ),
    ("SAY_AGAIN", "how often the log says the same"),
    (
        "LIVED",
        "from when on a connection to a peer was a good one",
    ),
];

/// The names of the constants in a source that are a time, or named as a limit.
fn limits(source: &str) -> Vec<&str> {
    // What is behind the tests' module is not the program's.
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let declared = source.lines().filter_map(|line| {
        let (before, after) = line.split_once("const ")?;
        before
            .trim_start()
            .chars()
            .all(|c| c.is_ascii_lowercase() || "(): ".contains(c))
            .then(|| after.split_once(": "))?
    });
    let is_limit = |(name, kind): &(&str, &str)| {
        let named = [
            "MOST",
            "LONGEST",
            "DEADLINE",
            "PATIENCE",
            "TOLERANCE",
            "BACKLOG",
            "DELAY",
        ];
        let is_time = kind.starts_with("Duration");
        is_time || named.iter().any(|part| name.contains(part))
    };
    declared.filter(is_limit).map(|(name, _)| name).collect()
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "for_tests.rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn no_limit_of_the_programs_is_missing() {
    let mut texts = Vec::new();
    for folder in ["kes-wire/src", "kes-agent/src"] {
        sources(&root().join(folder), &mut texts);
    }
    let found: BTreeSet<&str> = texts.iter().flat_map(|text| limits(text)).collect();
    assert!(found.len() > 20, "{found:?}");
    let rows = rows();
    let told: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.constant.rsplit("::").next())
        .chain(NOT_SEEN.iter().map(|(name, _)| *name))
        .collect();
    let missing: Vec<_> = found.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "neither in the table nor unseen: {missing:?}"
    );
    for (name, _) in NOT_SEEN {
        assert!(found.contains(name), "there is no {name} any more");
    }
    assert_eq!(
        limits(
            "pub(super) const NEW_DEADLINE: u64 = 1;\n    const PAUSE: Duration = X;\nlet x: u8;"
        ),
        ["NEW_DEADLINE", "PAUSE"]
    );
}
