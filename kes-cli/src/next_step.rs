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
    if let Some(step) = while_held_back(status) {
        return step;
    }
    let step = |code, sentence: String| NextStep { code, sentence };
    if let Some(half_done) = with_pending(status) {
        // A key that waits is the way on from a key that is gone: what it waits for is what to do.
        // A schedule tells of the time without a key itself.
        let is_scheduled = matches!(status.pending, PendingStatus::Scheduled { .. });
        return match why_none(&status.active) {
            Some(why) if !is_scheduled => {
                step(half_done.code, format!("{why}: {}", half_done.sentence))
            }
            Some(_) | None => half_done,
        };
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

/// Where the agent holds back the key that it has, or one that it would begin: what to do about
/// that, whatever else waits.
fn while_held_back(status: &Status) -> Option<NextStep> {
    let step = |code, sentence: String| Some(NextStep { code, sentence });
    if let ActiveStatus::Serving { opcert, .. } = &status.active
        && status.current_period < opcert.start_period
    {
        return step(
            "check-clock",
            "the clock stands before the active key's first period: set the clock right \
             (timedatectl shows whether it is synchronised)"
                .to_owned(),
        );
    }
    let stop = status.warnings.iter().find(|w| w.holds_key_back())?;
    // The way out is another key, and keygen would be refused beside one that waits.
    let waiting = with_pending(status).filter(|_| stop.code == "ahead-of-time");
    let other = waiting.map_or_else(String::new, |step| {
        format!("; a key waits already: {}", step.sentence)
    });
    step("attend", format!("{}{other}", stop.sentence))
}

/// Why nodes have no key any more; `None` where they have one, or have had none.
fn why_none(active: &ActiveStatus) -> Option<&'static str> {
    match active {
        ActiveStatus::Dropped { .. } => Some("the key was dropped and nodes do not forge"),
        ActiveStatus::Expired { .. } => Some("the key has expired and nodes cannot forge"),
        ActiveStatus::Empty {} | ActiveStatus::Serving { .. } => None,
    }
}

/// What a pending key waits for, if there is one.
fn with_pending(status: &Status) -> Option<NextStep> {
    let step = |code, sentence: String| Some(NextStep { code, sentence });
    let current = status.current_period;
    let refused = || status.warnings.iter().find(|w| w.code == "not-activated");
    match &status.pending {
        PendingStatus::Empty {} => None,
        PendingStatus::Key { .. } => step(
            "certify",
            format!(
                "write the verification key to a stick (kes-cli export-verkey), issue its \
                 certificate on the air-gapped machine (kes-cli cold issue-op-cert --kes-period \
                 {current}), bring it back and import it (kes-cli import-opcert)"
            ),
        ),
        PendingStatus::Certified { opcert, .. } if opcert.expiry_period <= current => step(
            "certify-anew",
            format!(
                "the waiting certificate has expired: issue another for the same key from period \
                 {current} on and import it (kes-cli import-opcert --replace)"
            ),
        ),
        PendingStatus::Certified { opcert, .. } => match refused() {
            Some(warning) => step("attend", warning.sentence.clone()),
            None => Some(activate(opcert, status)),
        },
        PendingStatus::Scheduled { opcert, .. } => match refused() {
            Some(warning) => step("attend", warning.sentence.clone()),
            None => Some(wait_for(opcert, status)),
        },
    }
}

/// Where a key waits with its certificate.
fn activate(opcert: &OpCertStatus, status: &Status) -> NextStep {
    let current = status.current_period;
    let later = opcert.start_period > current;
    let when = if later {
        format!("; it becomes active by itself at {}", opcert.starts_at)
    } else {
        String::new()
    };
    let sooner = if later && why_none(&status.active).is_some() {
        format!(
            ", and where that is too long, issue another certificate for it from period {current} \
             on (kes-cli import-opcert --replace)"
        )
    } else {
        String::new()
    };
    NextStep {
        code: "activate",
        sentence: format!("activate the waiting key: kes-cli activate{when}{sooner}"),
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
        .listed_nodes()
        .any(|node| node.state == NodeState::Declined)
    {
        return step(
            "see-node",
            "a node has declined the key: its log says why".to_owned(),
        );
    }
    if status.listed_nodes().any(|node| is_behind(node.state)) {
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
        PERIOD, certified, dropped, expired, follower, node, pending_key, scheduled, serving,
        warning, well,
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
                "the waiting key would be refused",
                with(|s| {
                    s.pending = certified(PERIOD);
                    s.warnings = vec![warning("not-activated", "would be refused")];
                }),
                "attend",
                "would be refused",
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
                "peer agents alone",
                with(|s| {
                    s.connected_nodes = 0;
                    s.nodes = vec![follower(NodeState::HasItAlready)];
                }),
                "connect-node",
                "no node is connected",
            ),
            (
                "peer agents that are behind or decline",
                with(|s| {
                    s.nodes.push(follower(NodeState::Awaiting));
                    s.nodes.push(follower(NodeState::Declined));
                }),
                "none",
                "nothing to do",
            ),
            (
                "a node is behind",
                with(|s| s.nodes.push(node(NodeState::Awaiting))),
                "await-node",
                "wait",
            ),
        ]
    }

    /// Where nodes do not forge and a key is pending.
    fn stopped() -> Vec<Row> {
        let gone = |active, pending| {
            with(|s| {
                s.active = active;
                s.pending = pending;
            })
        };
        let held = |code, pending| {
            with(|s| {
                s.pending = pending;
                s.warnings = vec![warning("other", "other"), warning(code, "held back")];
            })
        };
        let before_start = |pending| {
            with(|s| {
                s.active = serving(PERIOD + 1);
                s.pending = pending;
            })
        };
        vec![
            (
                "expired, a key waits for its certificate",
                gone(expired(1), pending_key()),
                "certify",
                "the key has expired and nodes cannot forge: write the verification key",
            ),
            (
                "dropped, a key waits for its certificate",
                gone(dropped(), pending_key()),
                "certify",
                "the key was dropped and nodes do not forge: write the verification key",
            ),
            (
                "expired, a key can be activated",
                gone(expired(1), certified(PERIOD)),
                "activate",
                "the key has expired and nodes cannot forge: activate the waiting key",
            ),
            (
                "dropped, a key can be activated",
                gone(dropped(), certified(PERIOD)),
                "activate",
                "the key was dropped and nodes do not forge: activate the waiting key",
            ),
            (
                "expired, a key begins later",
                gone(expired(1), certified(PERIOD + 2)),
                "activate",
                "where that is too long, issue another certificate for it from period 1600 on",
            ),
            (
                "expired, and so has the waiting certificate",
                gone(expired(1), certified(PERIOD - 62)),
                "certify-anew",
                "nodes cannot forge: the waiting certificate has expired",
            ),
            (
                "dropped, a key is scheduled",
                gone(dropped(), scheduled(PERIOD + 2)),
                "close-gap",
                "nodes cannot forge for 2 periods",
            ),
            (
                "not served, a key waits for its certificate",
                held("clock-not-trusted", pending_key()),
                "attend",
                "held back",
            ),
            (
                "not served, a key can be activated",
                held("clock-not-trusted", certified(PERIOD)),
                "attend",
                "held back",
            ),
            (
                "not served, a key is scheduled",
                held("clock-not-trusted", scheduled(PERIOD + 2)),
                "attend",
                "held back",
            ),
            (
                "evolved too far, a key can be activated",
                held("ahead-of-time", certified(PERIOD)),
                "attend",
                "held back; a key waits already: activate the waiting key",
            ),
            (
                "before its start, a key can be activated",
                before_start(certified(PERIOD)),
                "check-clock",
                "timedatectl",
            ),
            (
                "before its start, a key waits for its certificate",
                before_start(pending_key()),
                "check-clock",
                "timedatectl",
            ),
        ]
    }

    #[test]
    fn every_state_has_its_next_step() {
        for (name, status, code, says) in table().into_iter().chain(stopped()) {
            let step = next_step(&status);
            assert_eq!(step.code, code, "{name}: {step:?}");
            assert!(step.sentence.contains(says), "{name}: {step:?}");
        }
    }
}
