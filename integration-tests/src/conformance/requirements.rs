//! Every requirement of the specification: tried on an agent, on a client, or not from outside.

use super::{agent, client};

/// The order of the specification.
const GROUPS: [&str; 17] = [
    "TR", "HS", "KEY", "SVC", "CLI", "ROT", "VER", "DEP", "ST", "EVO", "SCH", "CNT", "TOMB",
    "PEER", "TIME", "MEM", "SEC",
];

/// Requirements that cannot be tried through the sockets, and why.
const NOT_SEEN: &[(&[&str], &str)] = &[
    (&["ROT-10"], "it is on the client of the control socket"),
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
    (&["SEC-1", "SEC-6"], "further users would have to connect"),
    (
        &["SEC-2", "SEC-3", "SEC-4"],
        "it is about memory and logs that are the program's own",
    ),
    (&["SEC-7"], "it is on who forwards sockets between machines"),
];

/// The requirements that an agent, or a client, is not tried for, and why.
pub fn not_tried(role: &str) -> Vec<(&'static str, &'static str)> {
    let on = |ids: Vec<&'static str>, reason| ids.into_iter().map(move |id| (id, reason));
    let agents = agent::checks().iter().map(|check| check.id).collect();
    let clients = client::checks().iter().map(|check| check.id).collect();
    let others: Vec<_> = if role == "agent" {
        on(clients, "it is on clients: conformance client").collect()
    } else {
        on(agents, "it is on agents: conformance agent").collect()
    };
    let not_seen = NOT_SEEN.iter().flat_map(|(ids, reason)| {
        let reason: &'static str = reason;
        ids.iter().map(move |id| (*id, reason))
    });
    others.into_iter().chain(not_seen).collect()
}

/// Every requirement that the kit knows.
#[must_use]
pub fn known() -> Vec<&'static str> {
    let all = [not_tried("agent"), not_tried("client")].concat();
    let mut ids: Vec<_> = all.into_iter().map(|(id, _)| id).collect();
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
