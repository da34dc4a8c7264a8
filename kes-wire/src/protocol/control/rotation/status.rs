//! The agent's state as it is shown: every answer carries it, so that each command is one call.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{ClockStatus, Note};
use crate::cold::ColdVerificationKey;
use crate::period::{Evolution, KesPeriod};
use crate::sum6kes::VerificationKey;
use crate::unix_time::UnixTime;

/// The agent's state as it is shown. All of it is public.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Status {
    /// The agent's version.
    #[n(0)]
    pub agent_version: String,
    /// The time by which the agent acts.
    #[n(1)]
    pub now: UnixTime,
    /// The current KES period.
    #[n(2)]
    pub current_period: KesPeriod,
    /// When it began.
    #[n(3)]
    pub period_started_at: UnixTime,
    /// When the next one begins.
    #[n(4)]
    pub period_ends_at: UnixTime,
    /// The network's parameters.
    #[n(5)]
    pub network: NetworkStatus,
    /// The pool's cold verification key, from the configuration.
    #[n(6)]
    pub cold_vkey: ColdVerificationKey,
    /// The pool's id in bech32 (`pool1...`).
    #[n(7)]
    pub pool_id: String,
    /// The key that waits to be activated.
    #[n(8)]
    pub pending: PendingStatus,
    /// The key that is served.
    #[n(9)]
    pub active: ActiveStatus,
    /// The highest certificate counter that was active, if known.
    #[n(10)]
    pub counter_high_water_mark: Option<u64>,
    /// How many nodes are connected; peer agents are left out.
    #[n(11)]
    pub connected_nodes: u32,
    /// The connected nodes and peer agents, at most [`Status::MOST_NODES`] of them, the latest first.
    #[n(12)]
    #[cbor(default)]
    pub nodes: Vec<NodeStatus>,
    /// How the keys are kept.
    #[n(13)]
    pub memory: MemoryStatus,
    /// What needs attention, the most urgent first.
    #[n(14)]
    #[cbor(default)]
    pub warnings: Vec<Note>,
    /// The peer agents that this one follows, at most [`Status::MOST_PEERS`] of them, by address.
    #[n(15)]
    #[cbor(default)]
    pub peers: Vec<PeerStatus>,
    /// The clocks; `None` from an agent of before trusted time.
    #[n(16)]
    pub clock: Option<ClockStatus>,
}

impl Status {
    /// How many connected nodes are listed at the most, so that an answer stays within a frame.
    pub const MOST_NODES: usize = 200;
    /// How many peers are listed at the most, for the same reason.
    pub const MOST_PEERS: usize = 32;

    /// The nodes that are listed, without the peer agents.
    pub fn listed_nodes(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter(|node| !node.is_peer)
    }

    /// The peer agents that are listed: those that follow this agent.
    pub fn followers(&self) -> impl Iterator<Item = &NodeStatus> {
        self.nodes.iter().filter(|node| node.is_peer)
    }
}

/// The parameters of the network that decide periods.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct NetworkStatus {
    /// The network's magic number.
    #[n(0)]
    pub magic: u32,
    /// Slots in a KES period.
    #[n(1)]
    pub slots_per_kes_period: u64,
    /// Length of a slot in nanoseconds.
    #[n(2)]
    pub slot_length_ns: u64,
    /// How many evolutions of a key the ledger accepts.
    #[n(3)]
    pub max_kes_evolutions: u32,
}

/// A certificate as it is shown, with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct OpCertStatus {
    /// The issue number.
    #[n(0)]
    pub counter: u64,
    /// The first period in which the key signs.
    #[n(1)]
    pub start_period: KesPeriod,
    /// The first period in which it does not sign any more.
    #[n(2)]
    pub expiry_period: KesPeriod,
    /// When the start period begins.
    #[n(3)]
    pub starts_at: UnixTime,
    /// When the key expires: the start of the expiry period.
    #[n(4)]
    pub expires_at: UnixTime,
    /// Periods left, the current one counted; 0 once expired.
    #[n(5)]
    pub periods_left: u64,
}

/// The pending slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PendingStatus {
    /// Nothing waits.
    #[n(0)]
    Empty {},
    /// A key was generated; its certificate is awaited.
    #[n(1)]
    Key {
        /// Its verification key.
        #[n(0)]
        vkey: VerificationKey,
    },
    /// A key with its certificate, ready to be activated.
    #[n(2)]
    Certified {
        /// Its verification key.
        #[n(0)]
        vkey: VerificationKey,
        /// Its certificate.
        #[n(1)]
        opcert: OpCertStatus,
    },
    /// Activated; becomes active by itself when the certificate's first period begins.
    #[n(3)]
    Scheduled {
        /// Its verification key.
        #[n(0)]
        vkey: VerificationKey,
        /// Its certificate.
        #[n(1)]
        opcert: OpCertStatus,
    },
}

/// The active slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ActiveStatus {
    /// There has been no key since the agent started.
    #[n(0)]
    Empty {},
    /// A key is served.
    #[n(1)]
    Serving {
        /// Its verification key.
        #[n(0)]
        vkey: VerificationKey,
        /// Its certificate.
        #[n(1)]
        opcert: OpCertStatus,
        /// The key's evolution.
        #[n(2)]
        evolution: Evolution,
        /// When it became the active one.
        #[n(3)]
        since: UnixTime,
    },
    /// The key has expired and its secret is wiped.
    #[n(2)]
    Expired {
        /// Its verification key.
        #[n(0)]
        vkey: VerificationKey,
        /// Its certificate.
        #[n(1)]
        opcert: OpCertStatus,
    },
    /// The key was dropped by an operator.
    #[n(3)]
    Dropped {
        /// Its verification key, if known.
        #[n(0)]
        vkey: Option<VerificationKey>,
        /// When.
        #[n(1)]
        since: UnixTime,
    },
}

/// A connected node, or a peer agent, which follows as a node does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct NodeStatus {
    /// Its process id, where the system tells it.
    #[n(0)]
    pub pid: Option<u32>,
    /// Its user id.
    #[n(1)]
    pub uid: u32,
    /// Since when it is connected.
    #[n(2)]
    pub connected_since: UnixTime,
    /// The protocol version it chose.
    #[n(3)]
    pub version: String,
    /// What it holds, as far as the agent knows.
    #[n(4)]
    pub state: NodeState,
    /// Whether its user is one of peer agents, by the agent's settings.
    #[n(5)]
    #[cbor(skip_if = "is_false")]
    pub is_peer: bool,
}

/// What is so by default is not said.
fn is_false(value: &bool) -> bool {
    !value
}

/// What a node has said of the newest state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Connected, and nothing to send yet.
    #[n(0)]
    NothingSent,
    /// Sent; its answer is awaited.
    #[n(1)]
    Awaiting,
    /// It has confirmed the newest state.
    #[n(2)]
    Confirmed,
    /// It has declined the newest state.
    #[n(3)]
    Declined,
    /// It says that it has this state, or a newer one, already: a peer agent does.
    #[n(4)]
    HasItAlready,
}

/// A peer agent that this one follows.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct PeerStatus {
    /// The path of its service socket, as configured.
    #[n(0)]
    pub address: String,
    /// Whether there is a connection.
    #[n(1)]
    pub state: PeerState,
    /// Since when.
    #[n(2)]
    pub since: UnixTime,
    /// When it last sent a key.
    #[n(3)]
    pub last_key_at: Option<UnixTime>,
    /// What became of the last it sent, a key or word of a drop: `taken`, `equal` or why it was
    /// declined.
    #[n(4)]
    pub last_answer: Option<Note>,
    /// What to make of it and, where there is something to do, what.
    #[n(5)]
    pub hint: Option<Note>,
}

/// The connection to a peer agent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PeerState {
    /// There is one.
    #[n(0)]
    Up {},
    /// There has been none yet; it is tried again and again.
    #[n(1)]
    Connecting {
        /// Why the last attempt failed.
        #[n(0)]
        why: Option<String>,
    },
    /// It was lost; it is tried again and again.
    #[n(2)]
    Down {
        /// Why there is none.
        #[n(0)]
        why: String,
    },
}

/// How the keys are kept in memory.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct MemoryStatus {
    /// The kind of memory, such as `memsec`.
    #[n(0)]
    pub kind: String,
    /// Each protection and whether it is in force.
    #[n(1)]
    pub protections: Vec<Protection>,
}

/// A protection of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Protection {
    /// Its name, such as `locked`.
    #[n(0)]
    pub name: String,
    /// Whether it is in force.
    #[n(1)]
    pub in_force: bool,
    /// What it means, or why it is not in force.
    #[n(2)]
    pub meaning: String,
}
