//! `kes-cli status`

use kes_wire::protocol::control::rotation::{
    ActiveStatus, NodeState, NodeStatus, OpCertStatus, PeerState, PeerStatus, PendingStatus,
    Request, Status, TimeSource,
};

use kes_wire::protocol::control::deployed::AgentInfo;

use super::deployed::{self, Done};
use super::rotation::expiry;
use super::{Outcome, call};
use crate::arguments::Agent;
use crate::failure::Failure;
use crate::output::Report;
use crate::words::{fingerprint, relative, user};

/// Shows the agent's state.
pub(crate) fn status(args: &Agent) -> Result<Report, Failure> {
    let status = match call(args, &Request::Status {})? {
        Outcome::Ours(done) => done.status,
        Outcome::Deployed(Done::Info(info)) => return Ok(of_another_make(&info)),
        Outcome::Deployed(_) => return Err(Failure::contradiction()),
    };
    let mut report = Report::new(false);
    report.lines = describe(&status);
    let serde_json::Value::Object(fields) =
        serde_json::to_value(&status).expect("our own types serialise")
    else {
        return Err(Failure::contradiction());
    };
    report.fields = fields;
    Ok(report)
}

/// What an agent of another make tells.
fn of_another_make(info: &AgentInfo) -> Report {
    let mut report = Report::new(false);
    report.lines = vec![format!(
        "Period    {} (by an agent of another make)",
        info.period
    )];
    report.lines.push(
        match info
            .installed
            .as_ref()
            .and_then(|installed| installed.bundle)
        {
            Some(bundle) => format!(
                "Active    key {} ({}), certificate number {}, evolution {}",
                fingerprint(&bundle.opcert.kes_vkey),
                bundle.opcert.kes_vkey,
                bundle.opcert.counter,
                bundle.evolution
            ),
            None => "Active    no key".to_owned(),
        },
    );
    report.lines.push(match &info.staged {
        Some(vkey) => format!("Pending   key {} ({vkey})", fingerprint(vkey)),
        None => "Pending   nothing".to_owned(),
    });
    if let serde_json::Value::Object(fields) = deployed::info_fields(info) {
        report.fields = fields;
    }
    report
}

fn describe(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for warning in &status.warnings {
        lines.push(format!("ATTENTION {}", warning.sentence));
    }
    lines.push(format!(
        "Period    {}, since {}, until {} ({})",
        status.current_period,
        status.period_started_at,
        status.period_ends_at,
        relative(status.period_ends_at, status.now)
    ));
    lines.push(format!("Pool      {}", status.pool_id));
    lines.extend(active(status));
    lines.extend(pending(status));
    lines.push(match status.counter_high_water_mark {
        Some(mark) => format!("Counter   {mark} is the highest that was active"),
        None => "Counter   none was active since the agent started".to_owned(),
    });
    lines.push(format!("Nodes     {} connected", status.connected_nodes));
    lines.extend(status.nodes.iter().map(|node| describe_node(node, status)));
    lines.extend(
        status
            .peers
            .iter()
            .flat_map(|peer| describe_peer(peer, status)),
    );
    lines.push(format!("Memory    {}", status.memory.kind));
    for protection in &status.memory.protections {
        let word = if protection.in_force { "yes" } else { "NO " };
        lines.push(format!(
            "          {word}  {}: {}",
            protection.name, protection.meaning
        ));
    }
    lines.push(format!(
        "Network   magic {}, {} slots of {} ms a period, {} evolutions a key",
        status.network.magic,
        status.network.slots_per_kes_period,
        status.network.slot_length_ns / 1_000_000,
        status.network.max_kes_evolutions
    ));
    lines.push(format!("Clock     {}", clock(status)));
    lines.push(format!("Agent     version {}", status.agent_version));
    lines
}

/// `2026-11-26 19:00:00 UTC, trusted: the kernel calls it synchronised`
fn clock(status: &Status) -> String {
    let Some(clock) = &status.clock else {
        return format!("{} (wall clock)", status.now);
    };
    let why = match clock.source {
        None => "not trusted yet: nothing vouches for it",
        Some(TimeSource::Synchronised) => "trusted: the kernel called it synchronised",
        Some(TimeSource::Confirmed) => "trusted: it was confirmed",
        Some(TimeSource::Activation) => "trusted since a certificate was activated by it",
        Some(TimeSource::NothingBetter) => "taken for want of anything better",
        Some(TimeSource::Unguarded) => "the wall clock, unguarded (clock = \"trust\")",
    };
    format!("{} ({why})", status.now)
}

fn active(status: &Status) -> Vec<String> {
    match &status.active {
        ActiveStatus::Empty {} => vec!["Active    no key: nodes are not served".to_owned()],
        ActiveStatus::Serving {
            vkey,
            opcert,
            evolution,
            since,
        } => vec![
            format!("Active    key {} ({vkey})", fingerprint(vkey)),
            format!("          {}", certificate(opcert)),
            format!(
                "          evolution {evolution} of {}, {}",
                status.network.max_kes_evolutions,
                expiry(opcert, status)
            ),
            format!("          active since {since}"),
        ],
        ActiveStatus::Expired { vkey, opcert } => vec![
            format!(
                "Active    EXPIRED {} ({})",
                opcert.expires_at,
                relative(opcert.expires_at, status.now)
            ),
            format!("          key {} ({vkey}) is wiped", fingerprint(vkey)),
            format!("          {}", certificate(opcert)),
        ],
        ActiveStatus::Dropped { since, .. } => {
            vec![format!(
                "Active    no key: dropped {since} ({})",
                relative(*since, status.now)
            )]
        }
    }
}

fn pending(status: &Status) -> Vec<String> {
    match &status.pending {
        PendingStatus::Empty {} => vec!["Pending   nothing".to_owned()],
        PendingStatus::Key { vkey } => vec![
            format!("Pending   key {} ({vkey})", fingerprint(vkey)),
            "          waits for its certificate (kes-cli import-opcert)".to_owned(),
        ],
        PendingStatus::Certified { vkey, opcert } => vec![
            format!("Pending   key {} ({vkey})", fingerprint(vkey)),
            format!("          {}", certificate(opcert)),
            "          ready (kes-cli activate)".to_owned(),
        ],
        PendingStatus::Scheduled { vkey, opcert } => vec![
            format!("Pending   key {} ({vkey})", fingerprint(vkey)),
            format!("          {}", certificate(opcert)),
            format!(
                "          scheduled: becomes active by itself at {} ({})",
                opcert.starts_at,
                relative(opcert.starts_at, status.now)
            ),
        ],
    }
}

fn certificate(opcert: &OpCertStatus) -> String {
    format!(
        "certificate number {}, periods {} to {}",
        opcert.counter,
        opcert.start_period,
        opcert.expiry_period.0.saturating_sub(1)
    )
}

fn describe_node(node: &NodeStatus, status: &Status) -> String {
    let pid = node
        .pid
        .map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
    let state = match node.state {
        NodeState::NothingSent => "nothing to send yet",
        NodeState::Awaiting => "sent the newest state, answer awaited",
        NodeState::Confirmed => "has confirmed the newest state",
        NodeState::HasItAlready => "has the newest state, or a newer one",
        NodeState::Declined => "DECLINED the newest state",
    };
    format!(
        "          pid {pid}, user {}, connected {}: {state}",
        user(node.uid),
        relative(node.connected_since, status.now)
    )
}

fn describe_peer(peer: &PeerStatus, status: &Status) -> Vec<String> {
    let state = match &peer.state {
        PeerState::Up {} => "up".to_owned(),
        PeerState::Connecting { why: None } => "connecting".to_owned(),
        PeerState::Connecting { why: Some(why) } => format!("connecting: {why}"),
        PeerState::Down { why } => format!("DOWN: {why}"),
    };
    let mut lines = vec![format!(
        "Peer      {} {state}, {}",
        peer.address,
        relative(peer.since, status.now)
    )];
    if let Some(at) = peer.last_key_at {
        lines.push(format!(
            "          last key {at} ({})",
            relative(at, status.now)
        ));
    }
    if let Some(answer) = &peer.last_answer {
        lines.push(format!(
            "          last answer {}: {}",
            answer.code, answer.sentence
        ));
    }
    lines.extend(
        peer.hint
            .iter()
            .map(|hint| format!("          {}", hint.sentence)),
    );
    lines
}
