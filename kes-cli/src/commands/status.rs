//! `kes-cli status`

use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::protocol::control::rotation::{
    ActiveStatus, NodeState, NodeStatus, OpCertStatus, PeerState, PeerStatus, PendingStatus,
    Request, Status, TimeSource,
};

use kes_wire::protocol::control::deployed::AgentInfo;
use kes_wire::unix_time::UnixTime;

use super::deployed::{self, Done};
use super::rotation::expiry;
use super::watch::watch;
use super::{Outcome, call};
use crate::arguments::{Format, ShowStatus};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::metrics;
use crate::next_step::{NextStep, next_step};
use crate::output::{self, Report};
use crate::shell;
use crate::words::{fingerprint, relative, several, user};

/// Shows the agent's state.
pub(crate) fn status(args: &ShowStatus, json: bool) -> Result<Report, Failure> {
    if let Some(failure) = contradiction(args, json) {
        return Err(failure);
    }
    if args.watch {
        return watch(&args.agent);
    }
    let outcome = call(&args.agent, &Request::Status {});
    let text = match args
        .format
        .unwrap_or(if json { Format::Json } else { Format::Human })
    {
        Format::Human => output::as_text(&report(outcome?)?),
        Format::Json => output::as_json(&report(outcome?)?),
        Format::Shell => match outcome? {
            Outcome::Ours(done) => shell::assignments(&done.status),
            Outcome::Deployed(_) => return Err(not_of_this_agent("--format shell")),
        },
        Format::Prometheus => return metrics_of(outcome, args),
    };
    deliver(text, args)
}

/// Options that exclude each other; the rest of the rules stand with the arguments.
fn contradiction(args: &ShowStatus, json: bool) -> Option<Failure> {
    let usage =
        |sentence: &str, next: &str| Some(Failure::new(Exit::Usage, "usage", sentence, next));
    match args.format {
        _ if args.watch && json => usage(
            "--watch draws for a person, not in JSON",
            "ask again and again with `kes-cli status --json` instead",
        ),
        Some(Format::Human | Format::Prometheus | Format::Shell) if json => usage(
            "--json and --format name different formats",
            "give one of the two",
        ),
        Some(Format::Prometheus) | None => None,
        Some(_) if !args.label.is_empty() => usage(
            "--label belongs to --format prometheus",
            "leave it out, or ask for that format",
        ),
        Some(_) => None,
    }
}

fn not_of_this_agent(what: &str) -> Failure {
    Failure::new(
        Exit::NotSupported,
        "not-supported",
        format!("an agent of another make does not tell enough for {what}"),
        "use --format json",
    )
}

/// Metrics are written whatever comes: an agent that is away is news, not a failure, so a timer
/// that writes them goes on. One that may not be asked, or is not understood, is also counted as
/// down, and that this happened shows in the exit code.
fn metrics_of(outcome: Result<Outcome, Failure>, args: &ShowStatus) -> Result<Report, Failure> {
    let (now, labels) = (UnixTime::now(), args.label.as_slice());
    let (text, failure) = match outcome {
        Ok(Outcome::Ours(done)) => (metrics::of(&done.status, now, labels), None),
        Ok(Outcome::Deployed(Done::Info(info))) => {
            (metrics::of_other_make(&info, now, labels), None)
        }
        Ok(Outcome::Deployed(_)) => (
            metrics::of_none(now, labels),
            Some(Failure::contradiction()),
        ),
        Err(failure) => (metrics::of_none(now, labels), Some(failure)),
    };
    let report = deliver(text, args)?;
    match failure {
        Some(failure) if failure.exit != Exit::NotReachable => {
            output::show(&report);
            Err(failure)
        }
        Some(failure) => {
            output::complain(&failure);
            Ok(report)
        }
        None => Ok(report),
    }
}

/// Puts a text where it is wanted: into a file, whole or not at all, or out.
fn deliver(text: String, args: &ShowStatus) -> Result<Report, Failure> {
    match args.out_file.as_deref() {
        Some(path) if path.as_os_str() != "-" => {
            files::write(path, text.as_bytes(), Overwrite::OrLink, Visibility::Public)?;
            Ok(Report::verbatim(""))
        }
        Some(_) | None => Ok(Report::verbatim(text)),
    }
}

/// The lines that a person reads.
pub(super) fn lines(outcome: Outcome) -> Result<Vec<String>, Failure> {
    report(outcome).map(|report| report.lines)
}

fn report(outcome: Outcome) -> Result<Report, Failure> {
    let status = match outcome {
        Outcome::Ours(done) => done.status,
        Outcome::Deployed(Done::Info(info)) => return Ok(of_another_make(&info)),
        Outcome::Deployed(_) => return Err(Failure::contradiction()),
    };
    let mut report = Report::new(false);
    let next = next_step(&status);
    report.lines = describe(&status, &next);
    let serde_json::Value::Object(fields) =
        serde_json::to_value(&status).expect("our own types serialise")
    else {
        return Err(Failure::contradiction());
    };
    report.fields = fields;
    Ok(report.field("next_step", next))
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

fn describe(status: &Status, next: &NextStep) -> Vec<String> {
    let mut lines = Vec::new();
    for warning in &status.warnings {
        lines.push(format!("ATTENTION {}", warning.sentence));
    }
    lines.push(format!("Next      {}", next.sentence));
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
    lines.extend(
        status
            .listed_nodes()
            .map(|node| describe_node(node, status)),
    );
    let followers: Vec<_> = status.followers().collect();
    if !followers.is_empty() {
        lines.push(format!(
            "Followers {} connected",
            several(followers.len() as u64, "peer agent")
        ));
        lines.extend(followers.iter().map(|node| describe_node(node, status)));
    }
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
        NodeState::Declined => "DECLINED the newest state: its log says why",
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
