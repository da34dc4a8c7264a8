//! The agent's state as it is shown.

use kes_wire::cold::PoolId;
use kes_wire::genesis::Network;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{
    ActiveStatus, ClockMode, ClockStatus, MemoryStatus, NetworkStatus, Note, OpCertStatus,
    PendingStatus, Protection, Status, TimeSource,
};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sys::region::RegionKind;
use kes_wire::unix_time::UnixTime;

use crate::nodes::Nodes;
use crate::state::{Active, FUTURE_TOLERANCE, Now, Pending};
use crate::store::{self, Survival};
use crate::vault::Vault;

/// From how long before a key expires there are warnings: 14 days, in microseconds...
pub const EXPIRY_WARNING: u64 = 14 * 24 * 60 * 60 * 1_000_000;
/// ...which are at most 10 periods of 36 hours. On a test network, where 10 of its short periods
/// are less than 14 days, they decide.
pub const EXPIRY_WARNING_PERIODS: u64 = 10;

/// What does not change while the agent runs.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Protections of the process and its memory.
    pub protections: Vec<Protection>,
    /// What was odd at the start and is shown until the next.
    pub remarks: Vec<String>,
}

/// What there is to be shown.
pub struct Shown<'a> {
    /// The keys' state.
    pub vault: &'a Vault,
    /// The network.
    pub network: &'a Network,
    /// What does not change.
    pub surroundings: &'a Surroundings,
    /// The connected nodes.
    pub nodes: &'a Nodes,
    /// Whether there are peer agents.
    pub follows_peers: bool,
}

impl Shown<'_> {
    /// Puts the status together. Nodes are listed where `list_nodes` asks for it.
    #[must_use]
    pub fn assemble(&self, now: Now, clock: ClockStatus, list_nodes: bool) -> Status {
        let Self {
            vault,
            network,
            surroundings,
            nodes,
            follows_peers,
        } = *self;
        let time = UnixTime(now.stamp.0);
        let current_period = now.period;
        let view = View {
            network,
            now: time,
            current_period,
        };
        let state = vault.state();
        let cold_vkey = vault.rules().cold_vkey;
        let pending = view.pending(&state.pending);
        let active = view.active(&state.active);
        let mut warnings = view.warnings(&pending, &active);
        warnings.extend(pending_warning(vault, now));
        warnings.extend(clock_warning(&clock, time, &pending, &active));
        if follows_peers {
            warnings.extend(stamp_warning(state.newest_stamp, now));
        }
        let remarks = surroundings.remarks.iter();
        warnings.extend(remarks.map(|sentence| warning("start", sentence.clone())));
        Status {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            now: time,
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
            memory: MemoryStatus {
                kind: kind(vault.memory_kind()).to_owned(),
                protections: surroundings.protections.clone(),
            },
            warnings,
            peers: Vec::new(),
            clock: Some(clock),
        }
    }
}

fn warning(code: &str, sentence: String) -> Note {
    Note {
        code: code.to_owned(),
        sentence,
    }
}

/// That the pending certificate waits in vain: what was said when it was imported may not hold any
/// more, and a schedule that was to begin may not have.
fn pending_warning(vault: &Vault, now: Now) -> Option<Note> {
    // A wrong clock would say that it has expired.
    let refusal = now
        .is_trusted
        .then(|| vault.state().pending_is_refused(vault.rules(), now))??;
    Some(warning(
        "not-activated",
        format!(
            "the pending key would be refused: {}; next: {}",
            refusal.sentence, refusal.next_step
        ),
    ))
}

/// That a clock was ahead when a key was installed or dropped: every later stamp is newer still, and
/// peers decline what is stamped in their future.
fn stamp_warning(newest: Stamp, now: Now) -> Option<Note> {
    let is_ahead = newest.0 > now.stamp.0.saturating_add(FUTURE_TOLERANCE);
    (now.is_trusted && is_ahead).then(|| {
        warning(
            "stamp-ahead",
            format!(
                "a key was installed or dropped here, or on a peer, while a clock was ahead: until \
                 {} peers decline what this agent installs. Where that is too long: stop the agent \
                 and its peers, remove marks-*.json from their state directories, start them and \
                 rotate",
                time(newest)
            ),
        )
    })
}

/// What is awaited of the clock, if anything.
fn clock_warning(
    clock: &ClockStatus,
    now: UnixTime,
    pending: &PendingStatus,
    active: &ActiveStatus,
) -> Option<Note> {
    let holds_key = matches!(active, ActiveStatus::Serving { .. });
    let awaits_period = matches!(pending, PendingStatus::Scheduled { .. });
    match (clock.source, clock.mode) {
        (None, _) if awaits_period && !holds_key => Some(warning(
            "clock-not-trusted",
            format!(
                "the scheduled key does not begin: nothing vouches for this machine's clock yet \
                 ({}). It begins with its period once the kernel says that the clock is \
                 synchronised, or you confirm it with `kes-cli confirm-clock`",
                clock.wall_clock
            ),
        )),
        (None, mode) if holds_key => {
            let until = match mode {
                ClockMode::Guard => ", or five minutes have passed since the key came",
                ClockMode::Strict | ClockMode::Trust => "",
            };
            Some(warning(
                "clock-not-trusted",
                format!(
                    "the key came from a peer and is not served: nothing vouches for this \
                     machine's clock yet ({}). It is served when the kernel says that the clock is \
                     synchronised, or you confirm it with `kes-cli confirm-clock`{until}",
                    clock.wall_clock
                ),
            ))
        }
        (Some(_), _) if clock.disagrees => {
            let (by, way) = if clock.ahead_us > 0 {
                (clock.ahead_us, "ahead of")
            } else {
                (clock.behind_us, "behind")
            };
            Some(warning(
                "clock-doubtful",
                format!(
                    "this machine's clock says {}, which is {} {way} the time that the agent acts \
                     by ({now}). It is not followed until the kernel says that it is synchronised, \
                     or you confirm it with `kes-cli confirm-clock`",
                    clock.wall_clock,
                    duration(by),
                ),
            ))
        }
        (Some(TimeSource::NothingBetter), _) => Some(warning(
            "clock-unconfirmed",
            format!(
                "a key came from a peer and nothing vouched for this machine's clock for five \
                 minutes, so the agent acts by it ({now}): check it, and let the machine be \
                 synchronised (chrony, systemd-timesyncd)"
            ),
        )),
        (Some(_) | None, _) => None,
    }
}

/// A length of time in its largest whole unit.
fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (n, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{n} {unit}")
}

/// One line for the service manager: what is served, and until when.
#[must_use]
pub fn in_a_line(status: &Status) -> String {
    let mut warnings = status.warnings.iter();
    if let Some(warning) = warnings.find(|warning| warning.holds_key_back()) {
        return format!("NOT serving ({}): {}", warning.code, warning.sentence);
    }
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

    fn period_of(&self, opcert: &OpCertStatus, evolution: Evolution) -> KesPeriod {
        KesPeriod(opcert.start_period.0.saturating_add(evolution.0.into()))
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
            ActiveStatus::Serving {
                opcert, evolution, ..
            } if self.period_of(opcert, *evolution) > self.current_period => {
                let period = self.period_of(opcert, *evolution);
                vec![note(
                    "ahead-of-time",
                    format!(
                        "the key is at evolution {evolution}, which is period {period}'s, but the \
                         time says period {}: the key is not served until {}, because an evolution \
                         cannot be undone. If the clock is wrong, set it right; if it was wrong \
                         before, a new key is served at once (kes-cli keygen)",
                        self.current_period,
                        self.network.period_start(period),
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

fn kind(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Secret => "memfd_secret (memory that the kernel itself does not map)",
        RegionKind::Guarded => "memsec (guarded pages of this process)",
    }
}

/// How the keys' memory is protected.
#[must_use]
pub fn memory_protections(kind: RegionKind, survival: &Survival) -> Vec<Protection> {
    let protection = |name: &str, in_force: bool, meaning: String| Protection {
        name: name.to_owned(),
        in_force,
        meaning,
    };
    let secret = kind == RegionKind::Secret;
    let unreachable = if secret {
        "neither a debugger nor /proc/PID/mem reads the keys; hibernation is refused while they \
         are held"
            .to_owned()
    } else {
        format!(
            "the keys are in ordinary locked memory: {}",
            store::next_step_for_secret_memory()
        )
    };
    let survives = match survival {
        Survival::Kept => "the service manager keeps the keys' memory over a restart, a crash and \
                           an upgrade; a stop forgets them"
            .to_owned(),
        Survival::Handed => "the service manager has taken the keys' memory and keeps it over a \
                             restart if the unit has FileDescriptorStoreMax= (the packaged one \
                             does); systemd before 254 does not say"
            .to_owned(),
        Survival::NoManager => "keys are forgotten when the agent stops or crashes: no service \
                                manager started it; run it under systemd with the packaged unit"
            .to_owned(),
        Survival::NotTaken(why) => {
            format!("keys are forgotten when the agent stops or crashes: {why}")
        }
        Survival::NotConfirmed(why) => format!(
            "the service manager may keep the keys' memory or not: {why}; restart the service when \
             it answers again"
        ),
        Survival::NoSecretMemory(why) => format!(
            "keys are forgotten when the agent stops or crashes: memfd_secret: {why}; {}",
            store::next_step_for_secret_memory()
        ),
    };
    vec![
        protection("locked", true, "keys are never swapped".to_owned()),
        protection(
            "not-dumped",
            true,
            "keys are left out of core dumps".to_owned(),
        ),
        protection("out-of-reach", secret, unreachable),
        protection(
            "survives-restart",
            matches!(survival, Survival::Kept | Survival::Handed),
            survives,
        ),
    ]
}
