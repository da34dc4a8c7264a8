//! A status for the tests of what is said about one: a mainnet agent in the middle of its key's
//! life, with one node that has confirmed.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::genesis::Network;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{
    ActiveStatus, ClockMode, ClockStatus, MemoryStatus, NetworkStatus, NodeState, NodeStatus, Note,
    OpCertStatus, PeerState, PeerStatus, PendingStatus, Protection, Status, TimeSource,
};
use kes_wire::sum6kes::VerificationKey;
use kes_wire::unix_time::UnixTime;

/// The names in the first column of the table below this heading of spec/names.md, in its order.
pub(crate) fn specified(heading: &str) -> Vec<&'static str> {
    let (_, below) = include_str!("../../spec/names.md")
        .split_once(heading)
        .expect("the heading");
    let table = below.lines().skip_while(|line| !line.starts_with("| ---"));
    let rows = table
        .skip(1)
        .map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name).collect()
}

/// The period that the tests are in; an hour of it has passed.
pub(crate) const PERIOD: u64 = 1600;

const MAINNET: Network = Network::MAINNET;

/// A certificate with this number for the periods from `start` on, as the agent shows it.
pub(crate) fn opcert(counter: u64, start: u64) -> OpCertStatus {
    let expiry = start + u64::from(MAINNET.max_evolutions);
    OpCertStatus {
        counter,
        start_period: KesPeriod(start),
        expiry_period: KesPeriod(expiry),
        starts_at: MAINNET.period_start(KesPeriod(start)),
        expires_at: MAINNET.period_start(KesPeriod(expiry)),
        periods_left: expiry.saturating_sub(PERIOD.max(start)),
    }
}

/// A served key whose certificate starts there.
pub(crate) fn serving(start: u64) -> ActiveStatus {
    ActiveStatus::Serving {
        vkey: VerificationKey([1; 32]),
        opcert: opcert(4, start),
        evolution: Evolution(u32::try_from(PERIOD.saturating_sub(start)).expect("few")),
        since: MAINNET.period_start(KesPeriod(start)),
    }
}

/// A key that has expired `periods` periods ago.
pub(crate) fn expired(periods: u64) -> ActiveStatus {
    ActiveStatus::Expired {
        vkey: VerificationKey([1; 32]),
        opcert: opcert(4, PERIOD - u64::from(MAINNET.max_evolutions) - periods),
    }
}

/// A dropped key.
pub(crate) fn dropped() -> ActiveStatus {
    ActiveStatus::Dropped {
        vkey: None,
        since: UnixTime(1),
    }
}

pub(crate) fn pending_key() -> PendingStatus {
    PendingStatus::Key {
        vkey: VerificationKey([2; 32]),
    }
}

pub(crate) fn certified(start: u64) -> PendingStatus {
    PendingStatus::Certified {
        vkey: VerificationKey([2; 32]),
        opcert: opcert(5, start),
    }
}

pub(crate) fn scheduled(start: u64) -> PendingStatus {
    PendingStatus::Scheduled {
        vkey: VerificationKey([2; 32]),
        opcert: opcert(5, start),
    }
}

pub(crate) fn node(state: NodeState) -> NodeStatus {
    NodeStatus {
        pid: Some(77),
        uid: 4_294_967_294,
        connected_since: UnixTime(1),
        version: "Service:2.0".to_owned(),
        state,
        is_peer: false,
    }
}

/// A peer agent that follows this one.
pub(crate) fn follower(state: NodeState) -> NodeStatus {
    NodeStatus {
        is_peer: true,
        ..node(state)
    }
}

pub(crate) fn peer(state: PeerState) -> PeerStatus {
    PeerStatus {
        address: "/run/peer.socket".to_owned(),
        state,
        since: UnixTime(1),
        last_key_at: None,
        last_answer: None,
        hint: None,
    }
}

pub(crate) fn protection(name: &str, in_force: bool) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force,
        meaning: "what it means".to_owned(),
    }
}

pub(crate) fn warning(code: &str, sentence: &str) -> Note {
    Note {
        code: code.to_owned(),
        sentence: sentence.to_owned(),
    }
}

/// All is well.
pub(crate) fn well() -> Status {
    let cold_vkey = ColdVerificationKey([3; 32]);
    let started = MAINNET.period_start(KesPeriod(PERIOD));
    Status {
        agent_version: "1.2.3".to_owned(),
        now: UnixTime(started.0 + 3_600_000_000),
        current_period: KesPeriod(PERIOD),
        period_started_at: started,
        period_ends_at: MAINNET.period_end(KesPeriod(PERIOD)),
        network: NetworkStatus {
            magic: MAINNET.magic,
            slots_per_kes_period: MAINNET.slots_per_kes_period,
            slot_length_ns: MAINNET.slot_length_ns,
            max_kes_evolutions: MAINNET.max_evolutions,
        },
        cold_vkey,
        pool_id: "pool1test".to_owned(),
        pending: PendingStatus::Empty {},
        active: serving(PERIOD - 20),
        counter_high_water_mark: Some(4),
        connected_nodes: 1,
        nodes: vec![node(NodeState::Confirmed)],
        memory: MemoryStatus {
            kind: "memfd_secret".to_owned(),
            protections: vec![protection("locked", true)],
        },
        warnings: Vec::new(),
        peers: Vec::new(),
        clock: Some(ClockStatus {
            mode: ClockMode::Guard,
            source: Some(TimeSource::Synchronised),
            wall_clock: UnixTime(started.0 + 3_600_000_000),
            synchronised: true,
            ahead_us: 0,
            behind_us: 0,
            disagrees: false,
        }),
    }
}
