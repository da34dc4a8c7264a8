//! The agent's state in Prometheus' text format.
//!
//! All names begin with `kes_agent_`: the node's own metrics are not impersonated. Labels have
//! few values: a node is counted by its state, not named.

use core::fmt;
use core::str::FromStr;

use kes_wire::protocol::control::deployed::AgentInfo;
use kes_wire::protocol::control::rotation::{
    ActiveStatus, NodeState, OpCertStatus, PeerState, PendingStatus, Status,
};
use kes_wire::unix_time::UnixTime;

use crate::coverage::{coverage, gap, periods_left};

// What stands in more than one place: node exporters want one text for a name.
const INFO: &str = "What the agent is and whose pool it serves; always 1.";
const CURRENT_PERIOD: &str = "The current KES period, by the agent.";
const ACTIVE_STATE: &str = "The active slot: 1 for the state it is in.";
const PENDING_STATE: &str = "The pending slot: 1 for the state it is in.";
const EVOLUTION: &str = "The active key's evolution.";
const NUMBER: &str = "The issue number of this slot's certificate.";
const START_PERIOD: &str = "The first period of this slot's certificate.";

/// A label that every sample is given, to tell several agents on one host apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    name: String,
    value: String,
}

/// A text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NAME=VALUE with a name of letters, digits and _")]
pub(crate) struct NotALabel(String);

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let not_a_label = || NotALabel(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(not_a_label)?;
        let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let is_name = name.bytes().next().is_some_and(is_letter)
            && name
                .bytes()
                .all(|byte| is_letter(byte) || byte.is_ascii_digit());
        if !is_name {
            return Err(not_a_label());
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// The metrics of an agent that cannot be asked.
pub(crate) fn of_none(written_at: UnixTime, labels: &[Label]) -> String {
    let mut out = Exposition::new(labels);
    begin(&mut out, false, written_at);
    out.text
}

/// The metrics of an agent of another make, which tells little.
pub(crate) fn of_other_make(info: &AgentInfo, written_at: UnixTime, labels: &[Label]) -> String {
    let mut out = Exposition::new(labels);
    begin(&mut out, true, written_at);
    let version = info.version.as_deref().unwrap_or_default();
    out.family("info", INFO).sample(&[("version", version)], 1);
    out.family("current_period", CURRENT_PERIOD)
        .sample(&[], info.period.0);
    let bundle = info.installed.as_ref().and_then(|i| i.bundle);
    states(
        &mut out,
        "active_state",
        ACTIVE_STATE,
        &[("empty", bundle.is_none()), ("serving", bundle.is_some())],
    );
    states(
        &mut out,
        "pending_state",
        PENDING_STATE,
        &[
            ("empty", info.staged.is_none()),
            ("key", info.staged.is_some()),
        ],
    );
    if let Some(bundle) = bundle {
        out.family("active_certificate_number", NUMBER)
            .sample(&[], bundle.opcert.counter);
        out.family("active_start_period", START_PERIOD)
            .sample(&[], bundle.opcert.start_period.0);
        out.family("active_evolution", EVOLUTION)
            .sample(&[], bundle.evolution.0);
    }
    out.text
}

/// The metrics of an agent.
pub(crate) fn of(status: &Status, written_at: UnixTime, labels: &[Label]) -> String {
    let mut out = Exposition::new(labels);
    begin(&mut out, true, written_at);
    out.family("info", INFO).sample(
        &[
            ("version", status.agent_version.as_str()),
            ("pool_id", status.pool_id.as_str()),
            ("memory", status.memory.kind.as_str()),
        ],
        1,
    );
    out.family("time_seconds", "The time by which the agent acts.")
        .sample(&[], seconds(status.now));
    out.family("current_period", CURRENT_PERIOD)
        .sample(&[], status.current_period.0);
    out.family(
        "period_end_timestamp_seconds",
        "When the current KES period ends.",
    )
    .sample(&[], seconds(status.period_ends_at));
    out.family(
        "max_evolutions",
        "How many evolutions of a key the ledger accepts.",
    )
    .sample(&[], status.network.max_kes_evolutions);
    active(&mut out, status);
    pending(&mut out, status);
    covered(&mut out, status);
    if let Some(mark) = status.counter_high_water_mark {
        out.family(
            "highest_certificate_number",
            "The highest issue number of a certificate that was active.",
        )
        .sample(&[], mark);
    }
    clock(&mut out, status);
    nodes(&mut out, status);
    peers(&mut out, status);
    let mut family = out.family(
        "protection_in_force",
        "Whether a protection of the keys is in force.",
    );
    for protection in &status.memory.protections {
        family.sample(
            &[("protection", &protection.name)],
            u8::from(protection.in_force),
        );
    }
    let mut codes: Vec<&str> = status
        .warnings
        .iter()
        .map(|note| note.code.as_str())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    let mut family = out.family(
        "attention",
        "What the agent wants attended to: 1 for each, by its code.",
    );
    for code in codes {
        family.sample(&[("code", code)], 1);
    }
    out.text
}

/// What stands there for every agent, and for none.
fn begin(out: &mut Exposition, is_up: bool, written_at: UnixTime) {
    out.family("up", "Whether the agent answered.")
        .sample(&[], u8::from(is_up));
    out.family(
        "written_timestamp_seconds",
        "When this was written, by this machine's clock.",
    )
    .sample(&[], seconds(written_at));
}

fn active(out: &mut Exposition, status: &Status) {
    let (state, opcert) = match &status.active {
        ActiveStatus::Empty {} => ("empty", None),
        ActiveStatus::Serving { opcert, .. } => ("serving", Some(opcert)),
        ActiveStatus::Expired { opcert, .. } => ("expired", Some(opcert)),
        ActiveStatus::Dropped { .. } => ("dropped", None),
    };
    let all = ["empty", "serving", "expired", "dropped"];
    states(
        out,
        "active_state",
        ACTIVE_STATE,
        &all.map(|name| (name, name == state)),
    );
    if let ActiveStatus::Serving {
        evolution, since, ..
    } = &status.active
    {
        out.family("active_evolution", EVOLUTION)
            .sample(&[], evolution.0);
        out.family(
            "active_since_timestamp_seconds",
            "When the key became the active one.",
        )
        .sample(&[], seconds(*since));
    }
    if let Some(opcert) = opcert {
        certificate(out, "active", opcert, status);
    }
}

fn pending(out: &mut Exposition, status: &Status) {
    let (state, opcert) = match &status.pending {
        PendingStatus::Empty {} => ("empty", None),
        PendingStatus::Key { .. } => ("key", None),
        PendingStatus::Certified { opcert, .. } => ("certified", Some(opcert)),
        PendingStatus::Scheduled { opcert, .. } => ("scheduled", Some(opcert)),
    };
    let all = ["empty", "key", "certified", "scheduled"];
    states(
        out,
        "pending_state",
        PENDING_STATE,
        &all.map(|name| (name, name == state)),
    );
    if let Some(opcert) = opcert {
        certificate(out, "pending", opcert, status);
    }
}

/// A slot's certificate.
fn certificate(out: &mut Exposition, which: &str, opcert: &OpCertStatus, status: &Status) {
    for (name, help, value) in [
        ("certificate_number", NUMBER, opcert.counter),
        ("start_period", START_PERIOD, opcert.start_period.0),
        (
            "expiry_period",
            "The first period in which this slot's key does not sign any more.",
            opcert.expiry_period.0,
        ),
        (
            "remaining_periods",
            "Periods until this slot's key expires, the current one counted.",
            periods_left(opcert, status),
        ),
        (
            "start_timestamp_seconds",
            "When this slot's key begins to sign.",
            seconds(opcert.starts_at),
        ),
        (
            "expiry_timestamp_seconds",
            "When this slot's key expires.",
            seconds(opcert.expires_at),
        ),
    ] {
        out.family(&format!("{which}_{name}"), help)
            .sample(&[], value);
    }
}

/// What alerts are about: until when nodes have a key.
fn covered(out: &mut Exposition, status: &Status) {
    if let Some(covered) = coverage(status) {
        out.family(
            "covered_until_timestamp_seconds",
            "Until when nodes have a key: the active one, then a scheduled one without a gap.",
        )
        .sample(&[], seconds(covered.last.expires_at));
        out.family(
            "covered_periods",
            "For how many periods nodes have a key, the current one counted.",
        )
        .sample(&[], covered.periods);
    }
    out.family(
        "schedule_gap_periods",
        "Periods without a key before the scheduled one begins.",
    )
    .sample(&[], gap(status).unwrap_or(0));
}

fn clock(out: &mut Exposition, status: &Status) {
    let Some(clock) = &status.clock else {
        return;
    };
    let ahead = i128::from(clock.ahead_us) - i128::from(clock.behind_us);
    let sign = if ahead < 0 { "-" } else { "" };
    let (seconds, rest) = (
        ahead.unsigned_abs() / 1_000_000,
        ahead.unsigned_abs() % 1_000_000,
    );
    out.family(
        "clock_ahead_seconds",
        "How far the wall clock is ahead of the time by which the agent acts.",
    )
    .sample(&[], format!("{sign}{seconds}.{rest:06}"));
    for (name, help, value) in [
        (
            "clock_trusted",
            "Whether the agent has a time that it trusts.",
            clock.source.is_some(),
        ),
        (
            "clock_synchronised",
            "Whether the agent itself hears from the kernel that the wall clock is synchronised; under the packaged units it cannot ask.",
            clock.synchronised,
        ),
        (
            "clock_disagrees",
            "Whether the wall clock waits to be confirmed.",
            clock.disagrees,
        ),
    ] {
        out.family(name, help).sample(&[], u8::from(value));
    }
}

fn nodes(out: &mut Exposition, status: &Status) {
    out.family("connected_nodes", "How many nodes are connected.")
        .sample(&[], status.connected_nodes);
    let mut family = out.family(
        "nodes",
        "Connected nodes by what they have of the newest state (the latest 200 of them).",
    );
    for (name, state) in [
        ("nothing-sent", NodeState::NothingSent),
        ("awaiting", NodeState::Awaiting),
        ("confirmed", NodeState::Confirmed),
        ("declined", NodeState::Declined),
        ("has-it-already", NodeState::HasItAlready),
    ] {
        let count = status
            .listed_nodes()
            .filter(|node| node.state == state)
            .count();
        family.sample(&[("state", name)], count);
    }
}

fn peers(out: &mut Exposition, status: &Status) {
    if status.peers.is_empty() {
        return;
    }
    let mut family = out.family("peer_up", "Whether a peer agent is connected.");
    for peer in &status.peers {
        let is_up = matches!(peer.state, PeerState::Up {});
        family.sample(&[("peer", &peer.address)], u8::from(is_up));
    }
    let mut family = out.family(
        "peer_last_key_timestamp_seconds",
        "When a peer agent last sent a key.",
    );
    for peer in &status.peers {
        if let Some(at) = peer.last_key_at {
            family.sample(&[("peer", &peer.address)], seconds(at));
        }
    }
}

fn states(out: &mut Exposition, name: &str, help: &str, states: &[(&str, bool)]) {
    let mut family = out.family(name, help);
    for (state, is_it) in states {
        family.sample(&[("state", state)], u8::from(*is_it));
    }
}

fn seconds(moment: UnixTime) -> u64 {
    moment.0 / 1_000_000
}

/// Text in the exposition format, version 0.0.4. All metrics are gauges.
struct Exposition<'a> {
    text: String,
    labels: &'a [Label],
}

/// The samples of one name. Its head is written before the first of them.
struct Family<'a> {
    text: &'a mut String,
    labels: &'a [Label],
    name: String,
    head: Option<String>,
}

impl<'a> Exposition<'a> {
    fn new(labels: &'a [Label]) -> Self {
        Self {
            text: String::new(),
            labels,
        }
    }

    fn family(&mut self, name: &str, help: &str) -> Family<'_> {
        let name = format!("kes_agent_{name}");
        let head = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        Family {
            text: &mut self.text,
            labels: self.labels,
            name,
            head: Some(head),
        }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        if let Some(head) = self.head.take() {
            self.text.push_str(&head);
        }
        let general = self
            .labels
            .iter()
            .map(|l| (l.name.as_str(), l.value.as_str()));
        let pairs: Vec<String> = general
            .chain(labels.iter().copied())
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let braces = if pairs.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", pairs.join(","))
        };
        self.text
            .push_str(&format!("{}{braces} {value}\n", self.name));
    }
}

/// A label's value as the format has it.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::testing::{
        PERIOD, certified, dropped, expired, follower, node, peer, scheduled, serving, specified,
        warning, well,
    };

    const WRITTEN: UnixTime = UnixTime(1_700_000_000_900_000);

    fn value(text: &str, sample: &str) -> Option<String> {
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find_map(|(name, value)| (name == sample).then(|| value.to_owned()))
    }

    #[test]
    fn an_agent_that_is_away_is_down_and_says_when() {
        let text = of_none(WRITTEN, &[]);
        assert_eq!(value(&text, "kes_agent_up").as_deref(), Some("0"));
        let written = value(&text, "kes_agent_written_timestamp_seconds");
        assert_eq!(written.as_deref(), Some("1700000000"));
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            2
        );
    }

    #[test]
    fn values_are_those_of_the_status() {
        let mut status = well();
        status.pending = scheduled(PERIOD + 5);
        status.nodes = vec![
            node(NodeState::Confirmed),
            node(NodeState::Declined),
            follower(NodeState::Confirmed),
            follower(NodeState::Awaiting),
        ];
        status.peers = vec![
            peer(PeerState::Up {}),
            peer(PeerState::Down { why: String::new() }),
        ];
        status.peers[1].address = "a\"b\\c\nd".to_owned();
        status.warnings = vec![warning("one", ""), warning("one", ""), warning("two", "")];
        let clock = status.clock.as_mut().unwrap();
        clock.behind_us = 90_000_005;
        let text = of(&status, WRITTEN, &[]);
        for (sample, expected) in [
            ("kes_agent_up", "1"),
            ("kes_agent_current_period", "1600"),
            ("kes_agent_active_state{state=\"serving\"}", "1"),
            ("kes_agent_active_state{state=\"expired\"}", "0"),
            ("kes_agent_active_evolution", "20"),
            ("kes_agent_active_remaining_periods", "42"),
            ("kes_agent_active_certificate_number", "4"),
            ("kes_agent_active_expiry_period", "1642"),
            // Mainnet's slot 1642 * 129600 = 212803200; Shelley began at slot 4492800, 1596059091.
            ("kes_agent_active_expiry_timestamp_seconds", "1804369491"),
            ("kes_agent_clock_ahead_seconds", "-90.000005"),
            ("kes_agent_clock_trusted", "1"),
            ("kes_agent_covered_periods", "67"),
            ("kes_agent_schedule_gap_periods", "0"),
            ("kes_agent_pending_state{state=\"scheduled\"}", "1"),
            ("kes_agent_pending_remaining_periods", "67"),
            ("kes_agent_nodes{state=\"confirmed\"}", "1"),
            ("kes_agent_nodes{state=\"declined\"}", "1"),
            ("kes_agent_nodes{state=\"awaiting\"}", "0"),
            ("kes_agent_peer_up{peer=\"/run/peer.socket\"}", "1"),
            ("kes_agent_peer_up{peer=\"a\\\"b\\\\c\\nd\"}", "0"),
            ("kes_agent_protection_in_force{protection=\"locked\"}", "1"),
            ("kes_agent_attention{code=\"two\"}", "1"),
        ] {
            assert_eq!(
                value(&text, sample).as_deref(),
                Some(expected),
                "{sample}\n{text}"
            );
        }
        assert_eq!(
            text.matches("code=\"one\"").count(),
            1,
            "no sample stands there twice"
        );
    }

    #[test]
    fn the_names_are_the_specified_ones() {
        let mut status = well();
        status.pending = scheduled(PERIOD + 5);
        status.peers = vec![peer(PeerState::Up {})];
        status.peers[0].last_key_at = Some(WRITTEN);
        status.warnings = vec![warning("one", "")];
        let text = of(&status, WRITTEN, &[]);
        let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names: BTreeSet<&str> = heads.filter_map(|head| head.split(' ').next()).collect();
        assert_eq!(BTreeSet::from_iter(specified("## Metrics")), names);
    }

    #[test]
    fn labels_tell_agents_apart() {
        let labels = ["agent=one".parse().unwrap(), "_b2=".parse().unwrap()];
        let text = of(&well(), WRITTEN, &labels);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("{agent=\"one\",_b2=\"\""), "{line}");
        }
        for text in ["", "x", "=x", "2x=y", "a-b=c", "é=f"] {
            assert!(text.parse::<Label>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_state_is_well_formed() {
        let mut states = Vec::new();
        for active in [
            ActiveStatus::Empty {},
            serving(PERIOD),
            expired(3),
            dropped(),
        ] {
            for pending in [
                PendingStatus::Empty {},
                certified(PERIOD),
                scheduled(PERIOD + 1),
            ] {
                let mut status = well();
                (status.active, status.pending) = (active.clone(), pending);
                states.push(of(&status, WRITTEN, &[]));
            }
        }
        for text in states {
            let mut last = String::new();
            let mut families = BTreeSet::new();
            let mut samples = BTreeSet::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("# HELP ") {
                    last = rest.split(' ').next().unwrap().to_owned();
                    assert!(last.starts_with("kes_agent_"), "{line}");
                    assert!(families.insert(last.clone()), "{last} begins twice");
                } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                    assert_eq!(rest, format!("{last} gauge"));
                } else {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    assert_eq!(name.split('{').next(), Some(last.as_str()));
                    value.parse::<f64>().unwrap();
                    assert!(samples.insert(name.to_owned()), "{name} stands there twice");
                }
            }
        }
    }
}
