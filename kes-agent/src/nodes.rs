//! The connected nodes, for the status: who they are and what they have confirmed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kes_wire::protocol::control::rotation::{NodeState, NodeStatus, Status};
use kes_wire::protocol::service::ServiceResult;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Process id, where the system tells it.
    pub pid: Option<u32>,
    /// User id.
    pub uid: u32,
}

struct Node {
    peer: Peer,
    connected_since: UnixTime,
    version: String,
    sent: Option<Stamp>,
    answer: Option<ServiceResult>,
}

/// All connected nodes.
#[derive(Default)]
pub struct Nodes {
    next_id: u64,
    connected: BTreeMap<u64, Node>,
}

/// A node's entry; it is removed when the connection ends.
pub struct Entry {
    nodes: Rc<RefCell<Nodes>>,
    id: u64,
}

impl Nodes {
    /// Enters a node that has finished its handshake.
    #[must_use]
    pub fn enter(
        nodes: &Rc<RefCell<Self>>,
        peer: Peer,
        connected_since: UnixTime,
        version: String,
    ) -> Entry {
        let mut all = nodes.borrow_mut();
        let id = all.next_id;
        all.next_id += 1;
        let node = Node {
            peer,
            connected_since,
            version,
            sent: None,
            answer: None,
        };
        all.connected.insert(id, node);
        Entry {
            nodes: Rc::clone(nodes),
            id,
        }
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.connected.len()).unwrap_or(u32::MAX)
    }

    /// The latest ones, as they are shown.
    #[must_use]
    pub fn list(&self) -> Vec<NodeStatus> {
        let latest = self.connected.values().rev().take(Status::MOST_NODES);
        latest.map(Node::show).collect()
    }
}

impl Node {
    fn show(&self) -> NodeStatus {
        let state = match (self.sent, self.answer) {
            (None, _) => NodeState::NothingSent,
            (Some(_), None) => NodeState::Awaiting,
            (Some(_), Some(ServiceResult::Ok)) => NodeState::Confirmed,
            (Some(_), Some(ServiceResult::KeyOutdated)) => NodeState::HasItAlready,
            (Some(_), Some(_)) => NodeState::Declined,
        };
        NodeStatus {
            pid: self.peer.pid,
            uid: self.peer.uid,
            connected_since: self.connected_since,
            version: self.version.clone(),
            state,
        }
    }
}

impl Entry {
    /// Notes that the state of `stamp` was sent.
    pub fn sent(&self, stamp: Stamp) {
        self.update(|node| {
            node.sent = Some(stamp);
            node.answer = None;
        });
    }

    /// Notes the node's answer.
    pub fn answered(&self, answer: ServiceResult) {
        self.update(|node| node.answer = Some(answer));
    }

    fn update(&self, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.borrow_mut().connected.get_mut(&self.id) {
            change(node);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.nodes.borrow_mut().connected.remove(&self.id);
    }
}
