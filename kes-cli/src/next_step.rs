//! What an operator does next, from the agent's state alone.

use kes_wire::protocol::control::rotation::{
    ActiveStatus, NodeState, OpCertStatus, PendingStatus, Status,
};
use kes_wire::unix_time::UnixTime;
use serde::Serialize;

use crate::coverage::gap;
use crate::words::{relative, several};

/// From how long before a key expires the next one is due: 14 days, in microseconds...
const DUE: u64 = 14 * 24 * 60 * 60 * 1_000_000;
/// ...or 10 periods, where those are less: the agent warns by the same rule.
const DUE_PERIODS: u64 = 10;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NextStep {
    /// The stable name.
    pub(crate) code: &'static str,
    /// What to do, with the command.
    pub(crate) sentence: String,
}

/// The one thing to do next. What stops nodes from forging comes first, then what is half done,
/// then what is due.
pub(crate) fn next_step(status: &Status) -> NextStep {
    let step = |code, sentence: String| NextStep { code, sentence };
    let current = status.current_period;
    match &status.pending {
        PendingStatus::Key { .. } => {
            return step(
                "certify",
                format!(
                    "write the verification key to a stick (kes-cli export-verkey), issue its \
                     certificate on the air-gapped machine (kes-cli cold issue-op-cert \
                     --kes-period {current}), bring it back and import it (kes-cli import-opcert)"
                ),
            );
        }
        PendingStatus::Certified { opcert, .. } if opcert.expiry_period <= current => {
            return step(
                "certify-anew",
                format!(
                    "the waiting certificate has expired: issue another for the same key from \
                     period {current} on and import it (kes-cli import-opcert --replace)"
                ),
            );
        }
        PendingStatus::Certified { opcert, .. } => {
            let when = if opcert.start_period > current {
                format!("; it becomes active by itself at {}", opcert.starts_at)
            } else {
                String::new()
            };
            return step(
                "activate",
                format!("activate the waiting key: kes-cli activate{when}"),
            );
        }
        PendingStatus::Scheduled { opcert, .. } => return wait_for(opcert, status),
        PendingStatus::Empty {} => {}
    }
    match &status.active {
        ActiveStatus::Empty {} => step(
            "keygen",
            "generate the first key: kes-cli keygen".to_owned(),
        ),
        ActiveStatus::Dropped { .. } => step(
            "keygen",
            "the key was dropped and nodes do not forge: generate another: kes-cli keygen"
                .to_owned(),
        ),
        ActiveStatus::Expired { .. } => step(
            "keygen",
            "the key has expired and nodes cannot forge: rotate now, beginning with kes-cli keygen"
                .to_owned(),
        ),
        ActiveStatus::Serving { opcert, .. } => while_serving(opcert, status),
    }
}

/// Where a key is scheduled: wait, unless the active one ends before.
fn wait_for(next: &OpCertStatus, status: &Status) -> NextStep {
    if let Some(gap) = gap(status) {
        return NextStep {
            code: "close-gap",
            sentence: format!(
                "nodes cannot forge for {} before the scheduled key begins at {}: where that is too \
                 long, drop it (kes-cli drop-pending) and rotate with a certificate from period {} \
                 on",
                several(gap, "period"),
                next.starts_at,
                status.current_period
            ),
        };
    }
    NextStep {
        code: "wait",
        sentence: format!(
            "nothing to do: the scheduled key becomes active by itself at {} ({})",
            next.starts_at,
            relative(next.starts_at, status.now)
        ),
    }
}

fn while_serving(opcert: &OpCertStatus, status: &Status) -> NextStep {
    let step = |code, sentence: String| NextStep { code, sentence };
    let ends = opcert.expires_at;
    if status.current_period < opcert.start_period {
        return step(
            "check-clock",
            "the clock stands before the active key's first period: set the clock right \
             (timedatectl shows whether it is synchronised)"
                .to_owned(),
        );
    }
    if let Some(stop) = status.warnings.iter().find(|w| is_stop(&w.code)) {
        return step("attend", stop.sentence.clone());
    }
    let due = due_at(ends, status);
    if status.now >= due {
        return step(
            "keygen",
            format!(
                "the key expires {}: begin the next rotation with kes-cli keygen",
                relative(ends, status.now)
            ),
        );
    }
    if let Some(other) = status.warnings.iter().find(|w| !is_about_expiry(&w.code)) {
        return step("attend", other.sentence.clone());
    }
    if status.connected_nodes == 0 {
        return step(
            "connect-node",
            "start the block producer with --shelley-kes-agent-socket and this agent's service \
             socket: no node is connected"
                .to_owned(),
        );
    }
    if status
        .nodes
        .iter()
        .any(|node| node.state == NodeState::Declined)
    {
        return step(
            "see-node",
            "a node has declined the key: its log says why".to_owned(),
        );
    }
    if status.nodes.iter().any(|node| is_behind(node.state)) {
        return step(
            "await-node",
            "wait: a node has not confirmed the newest key yet".to_owned(),
        );
    }
    step(
        "none",
        format!(
            "nothing to do; begin the next rotation at {} ({}), when 14 days or {DUE_PERIODS} \
             periods are left",
            due,
            relative(due, status.now)
        ),
    )
}

/// When the next rotation is due for a key that ends then.
fn due_at(ends: UnixTime, status: &Status) -> UnixTime {
    let period = status
        .network
        .slots_per_kes_period
        .saturating_mul(status.network.slot_length_ns)
        / 1_000;
    UnixTime(
        ends.0
            .saturating_sub(DUE.min(period.saturating_mul(DUE_PERIODS))),
    )
}

/// Whether an agent's warning says that the key it holds is not served.
pub(crate) fn is_stop(code: &str) -> bool {
    matches!(code, "before-start" | "ahead-of-time" | "clock-not-trusted")
}

/// Whether an agent's warning is about the key's end, which is judged here anew.
pub(crate) fn is_about_expiry(code: &str) -> bool {
    matches!(code, "expired" | "expires-soon")
}

/// Whether a node in this state does not have the newest state yet.
pub(crate) fn is_behind(state: NodeState) -> bool {
    match state {
        NodeState::NothingSent | NodeState::Awaiting => true,
        NodeState::Confirmed | NodeState::HasItAlready | NodeState::Declined => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kes_wire::period::KesPeriod;

    use crate::testing::{
        PERIOD, certified, dropped, expired, node, pending_key, scheduled, serving, warning, well,
    };

    /// The state, the step's code, and what its sentence must say.
    type Row = (&'static str, Status, &'static str, &'static str);

    fn with(change: impl FnOnce(&mut Status)) -> Status {
        let mut status = well();
        change(&mut status);
        status
    }

    fn table() -> Vec<Row> {
        let none = |s: &mut Status| s.active = ActiveStatus::Empty {};
        vec![
            // 1580 + 62 = 1642 ends; 14 days before is less than 10 periods of 36 hours before.
            (
                "well",
                well(),
                "none",
                "nothing to do; begin the next rotation at",
            ),
            ("first key", with(none), "keygen", "kes-cli keygen"),
            (
                "dropped",
                with(|s| s.active = dropped()),
                "keygen",
                "dropped",
            ),
            (
                "expired",
                with(|s| s.active = expired(1)),
                "keygen",
                "rotate now",
            ),
            (
                "pending",
                with(|s| s.pending = pending_key()),
                "certify",
                "--kes-period 1600",
            ),
            (
                "pending, nothing active",
                with(|s| {
                    none(s);
                    s.pending = pending_key();
                }),
                "certify",
                "export-verkey",
            ),
            (
                "certified",
                with(|s| s.pending = certified(PERIOD)),
                "activate",
                "kes-cli activate",
            ),
            (
                "certified for later",
                with(|s| s.pending = certified(PERIOD + 1)),
                "activate",
                "by itself",
            ),
            (
                "certificate expired meanwhile",
                with(|s| s.pending = certified(PERIOD - 62)),
                "certify-anew",
                "--replace",
            ),
            (
                "scheduled",
                with(|s| s.pending = scheduled(PERIOD + 42)),
                "wait",
                "by itself at",
            ),
            (
                "scheduled after the end",
                with(|s| s.pending = scheduled(PERIOD + 45)),
                "close-gap",
                "for 3 periods",
            ),
            (
                "scheduled, nothing active",
                with(|s| {
                    none(s);
                    s.pending = scheduled(PERIOD + 2);
                }),
                "close-gap",
                "for 2 periods",
            ),
            (
                "ten periods left, but more than 14 days",
                with(|s| s.active = serving(PERIOD - 52)),
                "none",
                "",
            ),
            (
                "nine periods left",
                with(|s| s.active = serving(PERIOD - 53)),
                "keygen",
                "expires in 13 days 11 h",
            ),
            (
                "before its start",
                with(|s| {
                    s.active = serving(PERIOD);
                    s.current_period = KesPeriod(PERIOD - 1);
                }),
                "check-clock",
                "timedatectl",
            ),
            (
                "not served, and near its end",
                with(|s| {
                    s.active = serving(PERIOD - 61);
                    s.warnings = vec![warning("clock-not-trusted", "confirm the clock")];
                }),
                "attend",
                "confirm the clock",
            ),
            (
                "another warning",
                with(|s| s.warnings = vec![warning("clock", "confirm the clock")]),
                "attend",
                "confirm the clock",
            ),
            (
                "no node",
                with(|s| {
                    s.connected_nodes = 0;
                    s.nodes.clear();
                }),
                "connect-node",
                "--shelley-kes-agent-socket",
            ),
            (
                "a node declines",
                with(|s| s.nodes = vec![node(NodeState::Awaiting), node(NodeState::Declined)]),
                "see-node",
                "its log",
            ),
            (
                "a node is behind",
                with(|s| s.nodes.push(node(NodeState::Awaiting))),
                "await-node",
                "wait",
            ),
        ]
    }

    #[test]
    fn every_state_has_its_next_step() {
        for (name, status, code, says) in table() {
            let step = next_step(&status);
            assert_eq!(step.code, code, "{name}: {step:?}");
            assert!(step.sentence.contains(says), "{name}: {step:?}");
        }
    }
}
