//! Every requirement of the specification: tried on an agent, on a client of either socket, or not
//! from outside.

use super::{Check, agent, client, control_client};

/// The order of the specification.
const GROUPS: [&str; 20] = [
    "TR", "HS", "KEY", "SVC", "CLI", "ROT", "VER", "DEP", "ST", "EVO", "SCH", "CNT", "TOMB",
    "PEER", "TIME", "LIM", "MEM", "FILE", "CMD", "SEC",
];

/// Requirements that cannot be tried through the sockets, and why.
const NOT_SEEN: &[(&[&str], &str)] = &[
    (&["VER-2"], "it is on the editors of the specification"),
    (
        &["ST-6"],
        "the agent would have to be killed and started again",
    ),
    (
        &[
            "TIME-1", "TIME-2", "TIME-3", "TIME-4", "TIME-5", "TIME-6", "TIME-7",
        ],
        "the agent's clock would have to be set",
    ),
    (
        &[
            "MEM-1", "MEM-2", "MEM-3", "MEM-4", "MEM-5", "MEM-6", "MEM-7", "MEM-8",
        ],
        "it is about memory and files that are the agent's own",
    ),
    (
        &["LIM-1"],
        "it gathers the limits of other requirements, and some of this project's own",
    ),
    (
        &["FILE-1", "FILE-2", "FILE-3"],
        "it is about files, which do not go through the sockets",
    ),
    (
        &[
            "CMD-1", "CMD-2", "CMD-3", "CMD-4", "CMD-5", "CMD-6", "CMD-7", "CMD-8", "CMD-9",
            "CMD-10", "CMD-11", "CMD-12", "CMD-13", "CMD-14", "CMD-15", "CMD-16", "CMD-17",
        ],
        "it is on this project's own programs, as scripts run them",
    ),
    (
        &["PEER-10", "SEC-1", "SEC-6"],
        "further users would have to connect",
    ),
    (
        &["SEC-2", "SEC-3", "SEC-4"],
        "it is about memory and logs that are the program's own",
    ),
    (&["SEC-7"], "it is on who forwards sockets between machines"),
];

/// Whose sockets are tried, the kit's command for it, and the requirements that are.
type Role = (&'static str, &'static str, fn() -> Vec<&'static str>);

const ROLES: [Role; 3] = [
    ("agent", "agents (conformance agent)", || {
        ids(&agent::checks())
    }),
    ("client", "clients (conformance client)", || {
        ids(&client::checks())
    }),
    (
        "control client",
        "control clients (conformance control-client)",
        || ids(&control_client::checks()),
    ),
];

fn ids<Scene>(checks: &[Check<Scene>]) -> Vec<&'static str> {
    checks.iter().map(|check| check.id).collect()
}

/// The requirements that are not tried on this role, and why.
#[must_use]
pub fn not_tried(role: &str) -> Vec<(&'static str, String)> {
    let tried = ROLES.map(|(name, whose, ids)| (name, whose, ids()));
    let is_tried = |id: &str| {
        let mut own = tried.iter().filter(|(name, ..)| *name == role);
        own.any(|(.., ids)| ids.contains(&id))
    };
    let mut all = Vec::new();
    for id in known() {
        if is_tried(id) {
            continue;
        }
        let others = tried.iter().filter(|(.., ids)| ids.contains(&id));
        let whose: Vec<_> = others.map(|(_, whose, _)| *whose).collect();
        let unseen = NOT_SEEN.iter().find(|(ids, _)| ids.contains(&id));
        let reason = match unseen {
            Some((_, reason)) => (*reason).to_owned(),
            None => format!("it is tried on {}", whose.join(" and ")),
        };
        all.push((id, reason));
    }
    all
}

/// Every requirement that the kit knows.
#[must_use]
pub fn known() -> Vec<&'static str> {
    let unseen = NOT_SEEN.iter().flat_map(|(ids, _)| ids.iter().copied());
    let tried = ROLES.iter().flat_map(|(.., ids)| ids());
    let mut ids: Vec<_> = unseen.chain(tried).collect();
    ids.sort_by_key(|id| place(id));
    ids.dedup();
    ids
}

/// Where a requirement stands in a report.
#[must_use]
pub fn place(id: &str) -> (usize, u32) {
    let (group, number) = id.split_once('-').unwrap_or((id, ""));
    let group = GROUPS.iter().position(|known| *known == group);
    (
        group.unwrap_or(GROUPS.len()),
        number.parse().unwrap_or(u32::MAX),
    )
}
