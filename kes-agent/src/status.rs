//! The agent's state as it is shown.

use kes_wire::cold::PoolId;
use kes_wire::genesis::Network;
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::{
    ActiveStatus, MemoryStatus, NetworkStatus, Note, OpCertStatus, PendingStatus, Protection,
    Status,
};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;

use crate::nodes::Nodes;
use crate::state::{Active, Pending};
use crate::vault::Vault;

/// From how long before a key expires there are warnings: 14 days, in microseconds...
const EXPIRY_WARNING: u64 = 14 * 24 * 60 * 60 * 1_000_000;
/// ...which are at most 10 periods of 36 hours. On a test network, where 10 of its short periods
/// are less than 14 days, they decide.
const EXPIRY_WARNING_PERIODS: u64 = 10;

/// Puts the status together. Nodes are listed where `list_nodes` asks for it.
#[must_use]
pub fn assemble(
    vault: &Vault,
    network: &Network,
    now: UnixTime,
    nodes: &Nodes,
    list_nodes: bool,
) -> Status {
    let current_period = network.period_at(now);
    let view = View {
        network,
        now,
        current_period,
    };
    let state = vault.state();
    let cold_vkey = vault.rules().cold_vkey;
    let pending = view.pending(&state.pending);
    let active = view.active(&state.active);
    let warnings = view.warnings(&pending, &active);
    Status {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        now,
        current_period,
        period_started_at: network.period_start(current_period),
        period_ends_at: network.period_end(current_period),
        network: NetworkStatus {
            magic: network.magic,
            slots_per_kes_period: network.slots_per_kes_period,
            slot_length_ns: network.slot_length_ns,
            max_kes_evolutions: network.max_evolutions,
        },
        cold_vkey,
        pool_id: PoolId::of(&cold_vkey).to_string(),
        pending,
        active,
        counter_high_water_mark: state.high_water_mark,
        connected_nodes: nodes.count(),
        nodes: if list_nodes { nodes.list() } else { Vec::new() },
        memory: memory(),
        warnings,
        peers: Vec::new(),
    }
}

/// One line for the service manager: what is served, and until when.
#[must_use]
pub fn in_a_line(status: &Status) -> String {
    match &status.active {
        ActiveStatus::Empty {} => "no key yet: nodes are not served".to_owned(),
        ActiveStatus::Serving {
            opcert, evolution, ..
        } => format!(
            "serving certificate number {}, evolution {evolution} of {}, until {}",
            opcert.counter, status.network.max_kes_evolutions, opcert.expires_at
        ),
        ActiveStatus::Expired { opcert, .. } => {
            format!("EXPIRED at {}: nodes cannot forge", opcert.expires_at)
        }
        ActiveStatus::Dropped { since, .. } => format!("no key: dropped at {since}"),
    }
}

struct View<'a> {
    network: &'a Network,
    now: UnixTime,
    current_period: KesPeriod,
}

impl View<'_> {
    fn opcert(&self, opcert: &OpCert) -> OpCertStatus {
        let expiry_period = opcert.expiry_period(self.network.max_evolutions);
        OpCertStatus {
            counter: opcert.counter,
            start_period: opcert.start_period,
            expiry_period,
            starts_at: self.network.period_start(opcert.start_period),
            expires_at: self.network.period_start(expiry_period),
            periods_left: expiry_period
                .0
                .saturating_sub(self.current_period.0.max(opcert.start_period.0)),
        }
    }

    fn pending(&self, pending: &Pending) -> PendingStatus {
        match pending {
            Pending::Empty => PendingStatus::Empty {},
            Pending::Key { vkey } => PendingStatus::Key { vkey: *vkey },
            Pending::Certified { opcert } => PendingStatus::Certified {
                vkey: opcert.kes_vkey,
                opcert: self.opcert(opcert),
            },
            Pending::Scheduled { opcert } => PendingStatus::Scheduled {
                vkey: opcert.kes_vkey,
                opcert: self.opcert(opcert),
            },
        }
    }

    fn active(&self, active: &Active) -> ActiveStatus {
        match active {
            Active::Empty => ActiveStatus::Empty {},
            Active::Bundle {
                opcert,
                evolution,
                stamp,
            } => ActiveStatus::Serving {
                vkey: opcert.kes_vkey,
                opcert: self.opcert(opcert),
                evolution: *evolution,
                since: time(*stamp),
            },
            Active::Expired { opcert, .. } => ActiveStatus::Expired {
                vkey: opcert.kes_vkey,
                opcert: self.opcert(opcert),
            },
            Active::Dropped { vkey, stamp } => ActiveStatus::Dropped {
                vkey: *vkey,
                since: time(*stamp),
            },
        }
    }

    /// What needs attention, the most urgent first.
    fn warnings(&self, pending: &PendingStatus, active: &ActiveStatus) -> Vec<Note> {
        let successor = matches!(pending, PendingStatus::Scheduled { .. });
        let note = |code: &str, sentence: String| Note {
            code: code.to_owned(),
            sentence,
        };
        match active {
            ActiveStatus::Expired { opcert, .. } => vec![note(
                "expired",
                format!(
                    "the key expired at {}: nodes cannot forge; rotate now (kes-cli keygen)",
                    opcert.expires_at
                ),
            )],
            ActiveStatus::Serving { opcert, .. } if self.current_period < opcert.start_period => {
                vec![note(
                    "before-start",
                    format!(
                        "the clock says period {}, but the active certificate starts at {}: the \
                         key is not served; check the clock",
                        self.current_period, opcert.start_period
                    ),
                )]
            }
            ActiveStatus::Serving { opcert, .. }
                if opcert.expires_at.0.saturating_sub(self.now.0) <= EXPIRY_WARNING
                    && opcert.periods_left <= EXPIRY_WARNING_PERIODS =>
            {
                let next = if successor {
                    "its successor is scheduled"
                } else {
                    "rotate soon"
                };
                vec![note(
                    "expires-soon",
                    format!(
                        "the key expires at {}, {} periods left; {next}",
                        opcert.expires_at, opcert.periods_left
                    ),
                )]
            }
            ActiveStatus::Serving { .. }
            | ActiveStatus::Empty {}
            | ActiveStatus::Dropped { .. } => Vec::new(),
        }
    }
}

fn time(stamp: Stamp) -> UnixTime {
    UnixTime(stamp.0)
}

/// How keys are kept. The agent does not start where they cannot be kept so.
fn memory() -> MemoryStatus {
    let in_force = |name: &str, meaning: &str| Protection {
        name: name.to_owned(),
        in_force: true,
        meaning: meaning.to_owned(),
    };
    let missing = |name: &str, meaning: &str| Protection {
        name: name.to_owned(),
        in_force: false,
        meaning: meaning.to_owned(),
    };
    MemoryStatus {
        kind: "memsec (guarded pages of this process)".to_owned(),
        protections: vec![
            in_force("locked", "keys are never swapped"),
            in_force("not-dumped", "keys are left out of core dumps"),
            in_force("guarded", "pages before and after a key are inaccessible"),
            missing(
                "survives-restart",
                "keys are forgotten when the agent stops or crashes",
            ),
        ],
    }
}
