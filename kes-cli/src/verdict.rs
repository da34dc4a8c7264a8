//! Whether all is well with an agent, as a monitor wants to know it.

use core::cmp::Reverse;

use kes_wire::protocol::control::deployed::AgentInfo;
use kes_wire::protocol::control::rotation::{ActiveStatus, NodeState, PeerState, Status};
use serde::Serialize;

use crate::coverage::{coverage, gap, periods_left};
use crate::margin::Margin;
use crate::next_step::{NextStep, is_about_expiry, is_behind, next_step};
use crate::words::{relative, several};

/// How bad it is. The numbers are the exit codes of Nagios and the monitors like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub(crate) enum Severity {
    /// All is well.
    Ok = 0,
    /// Someone should look at it, in office hours.
    Warning = 1,
    /// Nodes cannot forge, or soon will not.
    Critical = 2,
    /// It could not be found out.
    Unknown = 3,
}

impl Severity {
    /// The word that monitors look for.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// The stable name.
    pub(crate) code: String,
    /// What is the matter.
    pub(crate) sentence: String,
}

/// What is asked of the agent.
#[derive(Debug, Clone)]
pub(crate) struct Demands {
    /// Warn from this long before expiry.
    pub(crate) warn: Margin,
    /// Critical from this long before expiry.
    pub(crate) crit: Margin,
    /// How many nodes must be connected.
    pub(crate) nodes: u32,
    /// Protections that need not be in force.
    pub(crate) without: Vec<String>,
}

/// The word on an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// The worst of the findings, or all well.
    pub(crate) state: Severity,
    /// What is not as it should be, the worst first.
    pub(crate) findings: Vec<Finding>,
    /// What is to be said where all is well.
    pub(crate) summary: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_step: Option<NextStep>,
}

impl Verdict {
    fn new(mut findings: Vec<Finding>, summary: String, next_step: Option<NextStep>) -> Self {
        findings.sort_by_key(|finding| Reverse(rank(finding.severity)));
        Self {
            state: findings
                .first()
                .map_or(Severity::Ok, |worst| worst.severity),
            findings,
            summary,
            next_step,
        }
    }

    /// The word where there is no status to judge.
    pub(crate) fn without_status(severity: Severity, code: &str, sentence: String) -> Self {
        Self::new(vec![finding(severity, code, sentence)], String::new(), None)
    }
}

/// What is known to be broken is worse than what is not known.
fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Ok => 0,
        Severity::Warning => 1,
        Severity::Unknown => 2,
        Severity::Critical => 3,
    }
}

fn finding(severity: Severity, code: &str, sentence: impl Into<String>) -> Finding {
    Finding {
        severity,
        code: code.to_owned(),
        sentence: sentence.into(),
    }
}

/// Judges an agent's state.
pub(crate) fn judge(status: &Status, demands: &Demands) -> Verdict {
    let mut findings = Vec::new();
    findings.extend(key(status, demands));
    findings.extend(nodes(status, demands));
    findings.extend(peers(status));
    findings.extend(protections(status, demands));
    findings.extend(warnings(status));
    Verdict::new(findings, summary(status), Some(next_step(status)))
}

/// Judges an agent of another make, which tells little.
pub(crate) fn judge_other_make(info: &AgentInfo) -> Verdict {
    let bundle = info.installed.as_ref().and_then(|i| i.bundle);
    let finding = match bundle {
        None => finding(Severity::Critical, "no-key", "no key: nodes are not served"),
        Some(bundle) => finding(
            Severity::Unknown,
            "other-make",
            format!(
                "certificate number {} is served, but an agent of another make does not tell when \
                 it expires: ask the chain (cardano-cli query kes-period-info)",
                bundle.opcert.counter
            ),
        ),
    };
    Verdict::new(vec![finding], String::new(), None)
}

fn key(status: &Status, demands: &Demands) -> Option<Finding> {
    let critical = |code, sentence: String| Some(finding(Severity::Critical, code, sentence));
    match &status.active {
        ActiveStatus::Empty {} => critical("no-key", "no key: nodes are not served".to_owned()),
        ActiveStatus::Dropped { since, .. } => critical(
            "dropped",
            format!(
                "the key was dropped {}: nodes do not forge",
                relative(*since, status.now)
            ),
        ),
        ActiveStatus::Expired { opcert, .. } => critical(
            "expired",
            format!(
                "the key expired {}: nodes cannot forge",
                relative(opcert.expires_at, status.now)
            ),
        ),
        ActiveStatus::Serving { .. } => end(status, demands),
    }
}

/// How near the end of what is served is.
fn end(status: &Status, demands: &Demands) -> Option<Finding> {
    let covered = coverage(status)?;
    let ends = covered.last.expires_at;
    let is_reached = |margin: Margin| margin.is_reached(ends, covered.periods, status.now);
    let severity = if is_reached(demands.crit) {
        Severity::Critical
    } else if is_reached(demands.warn) {
        Severity::Warning
    } else {
        Severity::Ok
    };
    if let Some(periods) = gap(status) {
        let sentence = format!(
            "the key expires {}, and nodes cannot forge for {} before the scheduled one begins",
            relative(ends, status.now),
            several(periods, "period")
        );
        return Some(finding(severity.max(Severity::Warning), "gap", sentence));
    }
    let what = if covered.is_scheduled {
        "the scheduled key"
    } else {
        "the key"
    };
    (severity > Severity::Ok).then(|| {
        let sentence = format!(
            "{what} expires {} at {ends}, {} left",
            relative(ends, status.now),
            several(covered.periods, "period")
        );
        finding(severity, "expires-soon", sentence)
    })
}

fn nodes(status: &Status, demands: &Demands) -> Vec<Finding> {
    let mut findings = Vec::new();
    if status.connected_nodes < demands.nodes {
        let sentence = match (status.connected_nodes, demands.nodes) {
            (0, _) => "no node is connected".to_owned(),
            (nodes, wanted) => format!("{nodes} of {wanted} nodes are connected"),
        };
        findings.push(finding(Severity::Warning, "nodes-missing", sentence));
    }
    let count = |is: &dyn Fn(NodeState) -> bool| {
        status.listed_nodes().filter(|node| is(node.state)).count()
    };
    let declined = count(&|state| state == NodeState::Declined);
    if declined > 0 {
        let sentence = format!("nodes that have declined the newest key: {declined}");
        findings.push(finding(Severity::Warning, "node-declined", sentence));
    }
    let behind = count(&is_behind);
    if behind > 0 && matches!(status.active, ActiveStatus::Serving { .. }) {
        let sentence = format!("nodes that have not confirmed the newest key: {behind}");
        findings.push(finding(Severity::Warning, "node-unconfirmed", sentence));
    }
    findings
}

fn peers(status: &Status) -> Vec<Finding> {
    let down = |address: &str, why: &str| {
        let sentence = format!("peer {address} is not connected: {why}");
        Some(finding(Severity::Warning, "peer-down", sentence))
    };
    let each = status.peers.iter().filter_map(|peer| match &peer.state {
        PeerState::Up {} => None,
        PeerState::Connecting { why } => {
            down(&peer.address, why.as_deref().unwrap_or("connecting"))
        }
        PeerState::Down { why } => down(&peer.address, why),
    });
    each.collect()
}

fn protections(status: &Status, demands: &Demands) -> Vec<Finding> {
    let missing =
        status.memory.protections.iter().filter(|protection| {
            !protection.in_force && !demands.without.contains(&protection.name)
        });
    missing
        .map(|protection| {
            let sentence = format!(
                "protection {} is not in force: {}",
                protection.name, protection.meaning
            );
            finding(Severity::Warning, "protection-missing", sentence)
        })
        .collect()
}

/// What the agent itself wants attended to, beside the end of its key.
fn warnings(status: &Status) -> Vec<Finding> {
    let others = status
        .warnings
        .iter()
        .filter(|note| !is_about_expiry(&note.code));
    others
        .map(|note| {
            let severity = if note.holds_key_back() {
                Severity::Critical
            } else {
                Severity::Warning
            };
            finding(severity, &note.code, note.sentence.clone())
        })
        .collect()
}

fn summary(status: &Status) -> String {
    let ActiveStatus::Serving { opcert, .. } = &status.active else {
        return String::new();
    };
    let confirmed = status
        .listed_nodes()
        .filter(|node| matches!(node.state, NodeState::Confirmed | NodeState::HasItAlready));
    format!(
        "certificate number {} expires {}, {} left; {} connected, {} with the newest key",
        opcert.counter,
        relative(opcert.expires_at, status.now),
        several(periods_left(opcert, status), "period"),
        several(status.connected_nodes.into(), "node"),
        confirmed.count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        PERIOD, certified, dropped, expired, follower, node, peer, protection, scheduled, serving,
        warning, well,
    };

    fn demands() -> Demands {
        Demands {
            warn: Margin::Seconds(14 * 86_400),
            crit: Margin::Seconds(3 * 86_400),
            nodes: 1,
            without: Vec::new(),
        }
    }

    fn in_periods() -> Demands {
        Demands {
            warn: Margin::Periods(10),
            crit: Margin::Periods(1),
            ..demands()
        }
    }

    /// A state, the demands, and the findings' severities and codes.
    type Row = (&'static str, Status, Demands, Vec<(Severity, &'static str)>);

    fn table() -> Vec<Row> {
        use Severity::{Critical, Warning};
        let with = |change: &dyn Fn(&mut Status)| {
            let mut status = well();
            change(&mut status);
            status
        };
        let row = |name, change: &dyn Fn(&mut Status), findings: Vec<(Severity, &'static str)>| {
            (name, with(change), demands(), findings)
        };
        let mut rows = vec![
            row("well", &|_| {}, vec![]),
            row(
                "no key",
                &|s| s.active = ActiveStatus::Empty {},
                vec![(Critical, "no-key")],
            ),
            row(
                "dropped",
                &|s| s.active = dropped(),
                vec![(Critical, "dropped")],
            ),
            row(
                "expired",
                &|s| s.active = expired(0),
                vec![(Critical, "expired")],
            ),
            // 62 evolutions of 36 hours; an hour of the present period has passed. Ten periods are
            // 14 days 23 h, nine 13 days 11 h, three 4 days 11 h, two 2 days 23 h.
            row("ten periods", &|s| s.active = serving(PERIOD - 52), vec![]),
            row(
                "nine periods",
                &|s| s.active = serving(PERIOD - 53),
                vec![(Warning, "expires-soon")],
            ),
            row(
                "three periods",
                &|s| s.active = serving(PERIOD - 59),
                vec![(Warning, "expires-soon")],
            ),
            row(
                "two periods",
                &|s| s.active = serving(PERIOD - 60),
                vec![(Critical, "expires-soon")],
            ),
            row(
                "a successor is only certified",
                &|s| {
                    s.active = serving(PERIOD - 61);
                    s.pending = certified(PERIOD + 1);
                },
                vec![(Critical, "expires-soon")],
            ),
            row(
                "a successor is scheduled",
                &|s| {
                    s.active = serving(PERIOD - 61);
                    s.pending = scheduled(PERIOD + 1);
                },
                vec![],
            ),
            row(
                "a successor comes too late, in three weeks",
                &|s| s.pending = scheduled(PERIOD + 43),
                vec![(Warning, "gap")],
            ),
            row(
                "a successor comes too late, tomorrow",
                &|s| {
                    s.active = serving(PERIOD - 61);
                    s.pending = scheduled(PERIOD + 2);
                },
                vec![(Critical, "gap")],
            ),
            row(
                "no node",
                &|s| {
                    s.connected_nodes = 0;
                    s.nodes.clear();
                },
                vec![(Warning, "nodes-missing")],
            ),
            row(
                "peer agents alone",
                &|s| {
                    s.connected_nodes = 0;
                    s.nodes = vec![follower(NodeState::HasItAlready)];
                },
                vec![(Warning, "nodes-missing")],
            ),
            row(
                "peer agents that are behind or decline",
                &|s| {
                    s.nodes.push(follower(NodeState::Awaiting));
                    s.nodes.push(follower(NodeState::Declined));
                },
                vec![],
            ),
            row(
                "nodes that are behind or decline",
                &|s| {
                    s.nodes = [
                        NodeState::Awaiting,
                        NodeState::Declined,
                        NodeState::HasItAlready,
                        NodeState::NothingSent,
                    ]
                    .map(node)
                    .to_vec();
                },
                vec![(Warning, "node-declined"), (Warning, "node-unconfirmed")],
            ),
            row(
                "a node with nothing to be sent",
                &|s| {
                    s.active = ActiveStatus::Empty {};
                    s.nodes = vec![node(NodeState::NothingSent)];
                },
                vec![(Critical, "no-key")],
            ),
            row(
                "peers",
                &|s| {
                    s.peers = vec![
                        peer(PeerState::Up {}),
                        peer(PeerState::Down {
                            why: "refused".to_owned(),
                        }),
                        peer(PeerState::Connecting { why: None }),
                    ];
                },
                vec![(Warning, "peer-down"), (Warning, "peer-down")],
            ),
            row(
                "a protection",
                &|s| {
                    s.memory
                        .protections
                        .push(protection("survives-restart", false))
                },
                vec![(Warning, "protection-missing")],
            ),
            row(
                "the agent's own warnings; those about the end are judged here",
                &|s| {
                    s.warnings = [
                        "clock-doubtful",
                        "expires-soon",
                        "clock-not-trusted",
                        "expired",
                    ]
                    .map(|code| warning(code, "a sentence"))
                    .to_vec();
                },
                vec![(Critical, "clock-not-trusted"), (Warning, "clock-doubtful")],
            ),
        ];
        for (name, periods_gone, findings) in [
            ("eleven by periods", 51, vec![]),
            ("ten by periods", 52, vec![(Warning, "expires-soon")]),
            ("two by periods", 60, vec![(Warning, "expires-soon")]),
            ("one by periods", 61, vec![(Critical, "expires-soon")]),
        ] {
            let active = serving(PERIOD - periods_gone);
            rows.push((
                name,
                with(&|s| s.active = active.clone()),
                in_periods(),
                findings,
            ));
        }
        let three = Demands {
            nodes: 3,
            ..demands()
        };
        rows.push((
            "too few nodes",
            well(),
            three,
            vec![(Warning, "nodes-missing")],
        ));
        let backup = Demands {
            nodes: 0,
            without: vec!["survives-restart".to_owned()],
            ..demands()
        };
        let alone = with(&|s| {
            s.connected_nodes = 0;
            s.nodes.clear();
            s.memory
                .protections
                .push(protection("survives-restart", false));
        });
        rows.push(("a backup agent", alone, backup, vec![]));
        rows
    }

    #[test]
    fn every_state_has_its_verdict() {
        for (name, status, demands, expected) in table() {
            let verdict = judge(&status, &demands);
            let found: Vec<(Severity, &str)> = verdict
                .findings
                .iter()
                .map(|f| (f.severity, f.code.as_str()))
                .collect();
            assert_eq!(found, expected, "{name}: {verdict:#?}");
            let worst = expected
                .first()
                .map_or(Severity::Ok, |(severity, _)| *severity);
            assert_eq!(verdict.state, worst, "{name}");
        }
    }

    #[test]
    fn what_is_broken_is_worse_than_what_is_unknown() {
        let of = |severity| finding(severity, "code", "a sentence");
        let findings = vec![
            of(Severity::Warning),
            of(Severity::Unknown),
            of(Severity::Critical),
        ];
        let verdict = Verdict::new(findings, String::new(), None);
        assert_eq!(verdict.state, Severity::Critical);
    }
}
