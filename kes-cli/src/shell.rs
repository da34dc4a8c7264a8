//! The agent's state for POSIX shells: `kes_name='value'` a line, so that a script needs nothing
//! but the shell to read it:
//!
//! ```sh
//! state=$(kes-cli status --format shell) && eval "$state"
//! ```
//!
//! Every name stands there each time, empty where there is nothing to say: what an earlier call
//! has set never stays.

use kes_wire::protocol::control::rotation::{
    ActiveStatus, NodeState, OpCertStatus, PendingStatus, Status,
};
use kes_wire::sum6kes::VerificationKey;
use kes_wire::unix_time::UnixTime;

use crate::next_step::{is_behind, next_step};
use crate::words::fingerprint;

/// The assignments, a line each.
pub(crate) fn assignments(status: &Status) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        out.push_str(&format!("kes_{name}={}\n", quote(&value)));
    };
    put("agent_version", status.agent_version.clone());
    put("pool_id", status.pool_id.clone());
    put("now", seconds(status.now));
    put("current_period", status.current_period.to_string());
    put("period_ends_at", seconds(status.period_ends_at));
    put("period_ends_at_utc", status.period_ends_at.to_string());
    let is_trusted = status.clock.as_ref().map(|clock| clock.source.is_some());
    let word = is_trusted.map_or("", |is| if is { "yes" } else { "no" });
    put("clock_trusted", word.to_owned());
    let (state, vkey, opcert) = match &status.active {
        ActiveStatus::Empty {} => ("empty", None, None),
        ActiveStatus::Serving { vkey, opcert, .. } => ("serving", Some(vkey), Some(opcert)),
        ActiveStatus::Expired { vkey, opcert } => ("expired", Some(vkey), Some(opcert)),
        ActiveStatus::Dropped { vkey, .. } => ("dropped", vkey.as_ref(), None),
    };
    slot(&mut put, "active", state, vkey, opcert);
    let (state, vkey, opcert) = match &status.pending {
        PendingStatus::Empty {} => ("empty", None, None),
        PendingStatus::Key { vkey } => ("key", Some(vkey), None),
        PendingStatus::Certified { vkey, opcert } => ("certified", Some(vkey), Some(opcert)),
        PendingStatus::Scheduled { vkey, opcert } => ("scheduled", Some(vkey), Some(opcert)),
    };
    slot(&mut put, "pending", state, vkey, opcert);
    let highest = status.counter_high_water_mark;
    put(
        "highest_number",
        highest.map(|number| number.to_string()).unwrap_or_default(),
    );
    put("nodes", status.connected_nodes.to_string());
    let count = |is: &dyn Fn(NodeState) -> bool| {
        let those = status.listed_nodes().filter(|node| is(node.state));
        those.count().to_string()
    };
    put("nodes_behind", count(&is_behind));
    put(
        "nodes_declined",
        count(&|state| state == NodeState::Declined),
    );
    let next = next_step(status);
    put("next_step", next.code.to_owned());
    put("next_step_sentence", next.sentence);
    out
}

fn slot(
    put: &mut impl FnMut(&str, String),
    which: &str,
    state: &str,
    vkey: Option<&VerificationKey>,
    opcert: Option<&OpCertStatus>,
) {
    let mut put = |name: &str, value: Option<String>| {
        put(&format!("{which}_{name}"), value.unwrap_or_default());
    };
    put("state", Some(state.to_owned()));
    put("vkey", vkey.map(VerificationKey::to_string));
    put("fingerprint", vkey.map(fingerprint));
    put("number", opcert.map(|o| o.counter.to_string()));
    put("start_period", opcert.map(|o| o.start_period.to_string()));
    put("expiry_period", opcert.map(|o| o.expiry_period.to_string()));
    put("starts_at_utc", opcert.map(|o| o.starts_at.to_string()));
    put("expires_at", opcert.map(|o| seconds(o.expires_at)));
    put("expires_at_utc", opcert.map(|o| o.expires_at.to_string()));
}

fn seconds(moment: UnixTime) -> String {
    (moment.0 / 1_000_000).to_string()
}

/// A word that a POSIX shell takes as it stands.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PERIOD, expired, follower, scheduled, specified, well};
    use std::collections::BTreeSet;
    use std::process::Command;

    /// What a shell makes of the assignments.
    fn evaluated(text: &str, name: &str) -> String {
        let script = format!("set -eu; eval \"$1\"; printf %s \"${name}\"");
        let output = Command::new("sh")
            .args(["-c", &script, "sh", text])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_reads_what_stands_there() {
        let mut status = well();
        status.agent_version = "it's $(touch x) `y` \"z\"\n2".to_owned();
        status.pending = scheduled(PERIOD + 1);
        status.nodes.push(follower(NodeState::Awaiting));
        status.nodes.push(follower(NodeState::Declined));
        let text = assignments(&status);
        for (name, value) in [
            ("kes_agent_version", status.agent_version.as_str()),
            ("kes_current_period", "1600"),
            ("kes_clock_trusted", "yes"),
            ("kes_active_state", "serving"),
            ("kes_active_number", "4"),
            ("kes_pending_state", "scheduled"),
            ("kes_pending_start_period", "1601"),
            ("kes_nodes_behind", "0"),
            ("kes_nodes_declined", "0"),
            ("kes_next_step", "wait"),
        ] {
            assert_eq!(evaluated(&text, name), value, "{name}");
        }
    }

    #[test]
    fn the_names_are_always_the_specified_ones() {
        let names = |status: &Status| -> BTreeSet<String> {
            let text = assignments(status);
            let lines = text
                .lines()
                .map(|line| line.split('=').next().unwrap().to_owned());
            lines.collect()
        };
        let mut other = well();
        other.active = expired(1);
        other.pending = PendingStatus::Empty {};
        let specified = specified("## Shell variables").into_iter();
        let specified: BTreeSet<String> = specified.map(str::to_owned).collect();
        assert_eq!(names(&well()), specified);
        assert_eq!(names(&other), specified);
    }
}
