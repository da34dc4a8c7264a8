//! What `info` prints.

use kes_wire::protocol::control::deployed::{AgentInfo, PeerConnection};
use kes_wire::unix_time::UnixTime;

fn time(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    UnixTime(seconds.saturating_mul(1_000_000)).to_string()
}

/// The lines, as the reference's control client has them.
pub(super) fn describe(info: &AgentInfo, version: &str) -> String {
    let mut lines = vec!["--- Agent ---".to_owned()];
    if let Some(agent) = &info.version {
        lines.push(format!("Agent version: {agent}"));
    }
    lines.push(format!("Connected via: {version}"));
    lines.push(format!("Current time: {}", time(info.now)));
    lines.push(format!("Current KES period: {}", info.period));
    if let Some((start, end)) = info.period_times {
        lines.push(format!("Current KES period started: {}", time(start)));
        lines.push(format!("Next KES period starts: {}", time(end)));
    }
    if let Some(installed) = &info.installed {
        lines.push("--- Installed KES SignKey ---".to_owned());
        if let Some(at) = installed.time {
            lines.push(format!("Timestamp: {}", time(at)));
        }
        if let Some(bundle) = &installed.bundle {
            let opcert = &bundle.opcert;
            lines.push(format!("VerKey: {}", opcert.kes_vkey));
            lines.push(format!("Valid from period: {}", opcert.start_period));
            // The protocol does not tell how many the ledger accepts.
            lines.push(format!("Current evolution: {} / 64", bundle.evolution));
            lines.push(format!("OpCert number: {}", opcert.counter));
            lines.push(format!("OpCert signature: {}", opcert.cold_signature));
        }
    }
    if let Some(vkey) = &info.staged {
        lines.push("--- Staged KES SignKey ---".to_owned());
        lines.push(format!("VerKey: {vkey}"));
    }
    lines.push("--- Bootstrap Peers ---".to_owned());
    for peer in &info.peers {
        let connection = match peer.connection {
            PeerConnection::Up => "up",
            PeerConnection::Connecting => "connecting...",
            PeerConnection::Down => "down",
        };
        lines.push(format!("{}: {connection}", peer.address));
    }
    lines.join("\n") + "\n"
}
