//! The steps of a rotation: keygen, export-verkey, import-opcert, activate, and dropping.

use std::path::Path;

use kes_wire::envelope;
use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::protocol::control::rotation::{
    ActiveStatus, IfPending, ImportedOpCert, NodeState, NodeStatus, Note, OpCertStatus,
    PendingStatus, Request, Status,
};
use kes_wire::protocol::version::{SERVICE_VERSIONS, VersionId};
use kes_wire::sum6kes::VerificationKey;
use kes_wire::sys::os;

use super::{Done, Outcome, call, deployed};
use crate::arguments::{Activate, Agent, ConfirmClock, ExportVerkey, ImportOpcert, Insist, Keygen};
use crate::failure::Failure;
use crate::output::Report;
use crate::words::{fingerprint, relative, several};

/// `kes-cli keygen`
pub(crate) fn keygen(args: &Keygen) -> Result<Report, Failure> {
    let file = args.kes_verification_key_file.as_deref();
    if let Some(path) = file
        && !args.if_absent
    {
        // Found out before a key is generated, not after.
        files::check_target(path, overwrite(args.force))?;
    }
    let if_pending = match (args.replace, args.if_absent) {
        (true, _) => IfPending::Replace,
        (_, true) => IfPending::Keep,
        _ => IfPending::Refuse,
    };
    let done = match call(&args.agent, &Request::Keygen { if_pending })? {
        Outcome::Ours(done) => done,
        Outcome::Deployed(done) => return staged_elsewhere(&done, file, args.force),
    };
    let what = if done.changed {
        "Generated a KES key."
    } else {
        "A KES key is pending already."
    };
    for_the_cold_machine(done, what, file, args.force)
}

/// `kes-cli export-verkey`
pub(crate) fn export_verkey(args: &ExportVerkey) -> Result<Report, Failure> {
    let file = Some(args.kes_verification_key_file.as_path());
    let done = match call(&args.agent, &Request::ExportVkey {})? {
        Outcome::Ours(done) => done,
        Outcome::Deployed(done) => return staged_elsewhere(&done, file, args.force),
    };
    for_the_cold_machine(done, "A KES key is pending.", file, args.force)
}

/// Writes the pending verification key and tells all that the air-gapped machine needs.
fn for_the_cold_machine(
    done: Done,
    what: &str,
    file: Option<&Path>,
    force: bool,
) -> Result<Report, Failure> {
    let Done {
        mut changed,
        notes,
        status,
    } = done;
    let vkey = pending_vkey(&status).ok_or_else(Failure::contradiction)?;
    let mut report = Report::new(changed).line(what);
    if let Some(path) = file {
        let text = envelope::kes_vkey(&vkey);
        changed |= write_vkey(path, &text, force, changed)?;
        report.changed = changed;
        report = report
            .field("kes_verification_key_file", path.display().to_string())
            .line(format!("Verification key written to {}.", path.display()));
    }
    let print = fingerprint(&vkey);
    let doubt = period_doubt(&status);
    Ok(report
        .line(format!("Verification key:  {vkey}"))
        .line(format!(
            "Fingerprint:       {print}  (compare it on the cold machine)"
        ))
        .line(format!(
            "KES period to use: {}  (the current one{}, until {}, {})",
            status.current_period,
            if doubt.is_some() {
                " by this machine's clock"
            } else {
                ""
            },
            status.period_ends_at,
            relative(status.period_ends_at, status.now)
        ))
        .field("kes_verification_key", vkey)
        .field("fingerprint", print)
        .field("current_period", status.current_period)
        .field("period_ends_at", status.period_ends_at)
        .notes(notes)
        .notes(doubt.into_iter().collect()))
}

/// That the period which is named is that of a clock that may be wrong: the certificate begins with
/// it for good.
fn period_doubt(status: &Status) -> Option<Note> {
    let clock = status.clock.as_ref()?;
    clock.source.is_none().then(|| Note {
        code: "period-unconfirmed".to_owned(),
        sentence: format!(
            "period {} is by this machine's clock ({}), which nothing vouches for: compare it with \
             a watch before the certificate is issued",
            status.current_period, clock.wall_clock
        ),
    })
}

/// Writes a pending key's verification key. A key that was `generated` just now waits in the agent
/// whatever becomes of the file, and the failure says so.
fn write_vkey(path: &Path, text: &str, force: bool, generated: bool) -> Result<bool, Failure> {
    let written = files::write(path, text.as_bytes(), overwrite(force), Visibility::Public);
    written.map_err(|error| {
        let mut failure = Failure::from(error);
        if generated {
            failure
                .sentence
                .push_str("; the key itself was generated and is pending");
            failure.next_step =
                "write its verification key elsewhere with `kes-cli export-verkey`".to_owned();
        }
        failure
    })
}

/// A key that waits in an agent of another make. Its periods are its own: the one to use must be
/// taken from the chain.
fn staged_elsewhere(
    done: &deployed::Done,
    file: Option<&Path>,
    force: bool,
) -> Result<Report, Failure> {
    let deployed::Done::Staged { mut changed, vkey } = *done else {
        return Err(Failure::contradiction());
    };
    let mut report = Report::new(changed).line("A KES key is staged in the agent.");
    if let Some(path) = file {
        let text = envelope::kes_vkey(&vkey);
        changed |= write_vkey(path, &text, force, changed)?;
        report.changed = changed;
        report = report.line(format!("Verification key written to {}.", path.display()));
    }
    let print = fingerprint(&vkey);
    Ok(report
        .line(format!("Verification key:  {vkey}"))
        .line(format!(
            "Fingerprint:       {print}  (compare it on the cold machine)"
        ))
        .line("KES period to use: ask the chain (cardano-cli query kes-period-info)")
        .field("kes_verification_key", vkey)
        .field("fingerprint", print))
}

/// A key that was installed in an agent of another make.
fn installed_elsewhere() -> Report {
    Report::new(true)
        .line("Installed. This agent does not say more: see `kes-cli status`.")
        .field("result", "active")
}

/// `kes-cli import-opcert`
pub(crate) fn import_opcert(args: &ImportOpcert) -> Result<Report, Failure> {
    let import = read_opcert(&args.opcert_file, &args.insist)?;
    let allow_lower_counter = args.insist.allow_lower_counter;
    let Outcome::Ours(done) = call(
        &args.agent,
        &Request::ImportOpcert {
            import,
            allow_lower_counter,
        },
    )?
    else {
        return Err(Failure::contradiction());
    };
    let (state, opcert) = match &done.status.pending {
        PendingStatus::Certified { opcert, .. } => ("certified", opcert),
        PendingStatus::Scheduled { opcert, .. } => ("scheduled", opcert),
        PendingStatus::Empty {} | PendingStatus::Key { .. } => {
            return Err(Failure::contradiction());
        }
    };
    let what = if done.changed {
        "Imported"
    } else {
        "Unchanged: already imported"
    };
    Ok(Report::new(done.changed)
        .line(format!(
            "{what} certificate number {} for periods {} to {}.",
            opcert.counter,
            opcert.start_period,
            opcert.expiry_period.0.saturating_sub(1)
        ))
        .line("Next: kes-cli activate")
        .field("pending", state)
        .field("opcert", opcert)
        .notes(done.notes))
}

/// `kes-cli activate`
pub(crate) fn activate(args: &Activate) -> Result<Report, Failure> {
    let import = args
        .opcert_file
        .as_deref()
        .map(|path| read_opcert(path, &args.insist))
        .transpose()?;
    let given = import.as_ref().map(|import| import.opcert.kes_vkey);
    let is_given = |vkey: &VerificationKey| given.is_none_or(|given| given == *vkey);
    let allow_lower_counter = args.insist.allow_lower_counter;
    let done = match call(
        &args.agent,
        &Request::Activate {
            import,
            allow_lower_counter,
        },
    )? {
        Outcome::Ours(done) => done,
        Outcome::Deployed(_) => return Ok(installed_elsewhere()),
    };
    let report = Report::new(done.changed);
    let unchanged = if done.changed { "" } else { "Unchanged: " };
    // A key may be scheduled beside the active one whose certificate was given once more.
    if let PendingStatus::Scheduled { vkey, opcert } = &done.status.pending
        && is_given(vkey)
    {
        return Ok(report
            .line(format!(
                "{unchanged}Scheduled: this key becomes active by itself in period {}, at {} ({}).",
                opcert.start_period,
                opcert.starts_at,
                relative(opcert.starts_at, done.status.now)
            ))
            .field("result", "scheduled")
            .field("kes_verification_key", vkey)
            .field("opcert", opcert)
            .notes(done.notes));
    }
    let ActiveStatus::Serving {
        vkey,
        opcert,
        evolution,
        ..
    } = &done.status.active
    else {
        return Err(Failure::contradiction());
    };
    if !is_given(vkey) {
        return Err(Failure::contradiction());
    }
    Ok(report
        .line(format!(
            "{unchanged}Active: certificate number {}, evolution {evolution} of {}, {}.",
            opcert.counter,
            done.status.network.max_kes_evolutions,
            expiry(opcert, &done.status)
        ))
        .field("result", "active")
        .field("kes_verification_key", vkey)
        .field("opcert", opcert)
        .field("evolution", evolution)
        .field("connected_nodes", done.status.connected_nodes)
        .notes(done.notes))
}

/// `kes-cli drop-pending`
pub(crate) fn drop_pending(args: &Agent) -> Result<Report, Failure> {
    let Outcome::Ours(done) = call(args, &Request::DropPending {})? else {
        return Ok(Report::new(true).line("The staged key is wiped."));
    };
    Ok(Report::new(done.changed)
        .line("The pending key is wiped. The active key is as it was.")
        .notes(done.notes))
}

/// `kes-cli drop-active`
pub(crate) fn drop_active(args: &Agent) -> Result<Report, Failure> {
    let Outcome::Ours(done) = call(args, &Request::DropActive {})? else {
        return Ok(Report::new(true).line("The active key is dropped."));
    };
    let nodes = done.status.connected_nodes;
    let untold = untold_nodes(&done.status);
    let told = if untold.is_some() {
        "Nodes that can be told are told to stop forging."
    } else {
        "Nodes that were served it are told to stop forging."
    };
    Ok(Report::new(done.changed)
        .line(format!("The active key is wiped. {told}"))
        .line(format!(
            "Connected nodes: {nodes}. The pending key is as it was."
        ))
        .field("connected_nodes", nodes)
        .notes(done.notes)
        .notes(untold.into_iter().collect()))
}

/// That nodes forge on with a key that was dropped: before Service:2.0 there was no word for it.
fn untold_nodes(status: &Status) -> Option<Note> {
    let [first, older @ ..] = SERVICE_VERSIONS else {
        return None;
    };
    let first = first.to_string();
    let older: Vec<String> = older.iter().map(VersionId::to_string).collect();
    let has_key = |node: &&NodeStatus| node.state != NodeState::NothingSent;
    let those = status.nodes.iter().filter(has_key);
    let untold = those.filter(|node| older.contains(&node.version)).count();
    let who = match (untold, status.connected_nodes) {
        (0, 0) => return None,
        // An agent of before does not list them with this answer.
        (0, _) if status.nodes.is_empty() => {
            format!("nodes that speak {} (see their logs)", older.join(" or "))
        }
        (0, _) => return None,
        (_, _) => format!(
            "{} that {} {}",
            several(untold as u64, "node"),
            if untold == 1 { "speaks" } else { "speak" },
            older.join(" or ")
        ),
    };
    Some(Note {
        code: "nodes-not-told".to_owned(),
        sentence: format!(
            "{who} cannot be told, for only {first} has a word for it: restart what speaks an older \
             one, it forges with the dropped key until then"
        ),
    })
}

/// `kes-cli confirm-clock`
pub(crate) fn confirm_clock(args: &ConfirmClock) -> Result<Report, Failure> {
    let synchronised = args.if_synchronised;
    if synchronised {
        let unconfirmed = |line: String, said: Option<bool>| {
            Ok(Report::new(false).line(line).field("synchronised", said))
        };
        match os::ask_whether_clock_is_synchronised() {
            Ok(true) => {}
            Ok(false) => {
                let line = "The kernel does not call this machine's clock synchronised: nothing \
                            is confirmed.";
                return unconfirmed(line.to_owned(), Some(false));
            }
            Err(error) => {
                let line = format!(
                    "The kernel may not be asked here about the clock ({error}): nothing is \
                     confirmed."
                );
                return unconfirmed(line, None);
            }
        }
    }
    let Outcome::Ours(done) = call(&args.agent, &Request::ConfirmClock { synchronised })? else {
        return Err(Failure::contradiction());
    };
    let status = &done.status;
    Ok(Report::new(done.changed)
        .line(format!(
            "The agent's time is the machine's: {}, in KES period {}.",
            status.now, status.current_period
        ))
        .field("synchronised", synchronised)
        .field("now", status.now)
        .field("current_period", status.current_period)
        .notes(done.notes))
}

fn read_opcert(path: &Path, insist: &Insist) -> Result<ImportedOpCert, Failure> {
    let (opcert, cold_vkey) = envelope::read_file(path, envelope::read_opcert)?;
    Ok(ImportedOpCert {
        opcert,
        cold_vkey: Some(cold_vkey),
        replace: insist.replace,
    })
}

fn pending_vkey(status: &Status) -> Option<VerificationKey> {
    match &status.pending {
        PendingStatus::Empty {} => None,
        PendingStatus::Key { vkey }
        | PendingStatus::Certified { vkey, .. }
        | PendingStatus::Scheduled { vkey, .. } => Some(*vkey),
    }
}

/// `expires 2026-12-01 00:00:00 UTC (in 5 days 2 h, 4 periods left)`
pub(crate) fn expiry(opcert: &OpCertStatus, status: &Status) -> String {
    format!(
        "expires {} ({}, {} periods left)",
        opcert.expires_at,
        relative(opcert.expires_at, status.now),
        opcert.periods_left
    )
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, well};

    fn of_version(version: &str, state: NodeState) -> NodeStatus {
        NodeStatus {
            version: version.to_owned(),
            ..node(state)
        }
    }

    fn untold(nodes: Vec<NodeStatus>, connected: u32) -> String {
        let mut status = well();
        (status.nodes, status.connected_nodes) = (nodes, connected);
        untold_nodes(&status).map_or_else(String::new, |note| note.sentence)
    }

    #[test]
    fn nodes_that_cannot_be_told_of_a_drop_are_counted() {
        use NodeState::{Awaiting, Confirmed, NothingSent};
        let new = || of_version("Service:2.0", Confirmed);
        let old = |state| of_version("Service:1.0", state);
        let oldest = || of_version("Service:StandardCrypto:0.4", Awaiting);
        assert_eq!(untold(vec![], 0), "");
        assert_eq!(untold(vec![new()], 1), "");
        assert_eq!(untold(vec![new(), old(NothingSent)], 2), "");
        let one = untold(vec![new(), old(Confirmed)], 2);
        assert!(
            one.starts_with("1 node that speaks Service:1.0 or"),
            "{one}"
        );
        let two = untold(vec![oldest(), old(Confirmed)], 2);
        assert!(two.starts_with("2 nodes that speak"), "{two}");
        // Not listed: they may be of any version.
        let any = untold(vec![], 2);
        assert!(any.starts_with("nodes that speak Service:1.0 or"), "{any}");
    }

    #[test]
    fn a_period_of_a_clock_that_nothing_vouches_for_is_doubted() {
        let mut status = well();
        assert_eq!(period_doubt(&status), None);
        status.clock.as_mut().unwrap().source = None;
        let doubt = period_doubt(&status).unwrap();
        assert!(doubt.sentence.contains("compare it with a watch"));
        // An agent of before trusted time does not say.
        status.clock = None;
        assert_eq!(period_doubt(&status), None);
    }
}
