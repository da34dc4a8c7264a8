//! The connected nodes, for the status: who they are and what they have confirmed. A peer agent
//! follows as a node does, and is told from one by its user alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
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
    /// The users of peer agents.
    peer_users: BTreeSet<u32>,
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

    /// From now on what these users connect, or have connected, is peer agents.
    pub fn set_peer_users(&mut self, users: BTreeSet<u32>) {
        self.peer_users = users;
    }

    /// Whether this is a peer agent.
    #[must_use]
    pub fn is_peer(&self, peer: Peer) -> bool {
        self.peer_users.contains(&peer.uid)
    }

    /// How many nodes are connected; peer agents are none.
    #[must_use]
    pub fn count(&self) -> u32 {
        let all = self.connected.values();
        let nodes = all.filter(|node| !self.is_peer(node.peer)).count();
        u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    /// The latest ones, as they are shown, peer agents too.
    #[must_use]
    pub fn list(&self) -> Vec<NodeStatus> {
        let latest = self.connected.values().rev().take(Status::MOST_NODES);
        latest
            .map(|node| node.show(self.is_peer(node.peer)))
            .collect()
    }
}

impl Node {
    fn show(&self, is_peer: bool) -> NodeStatus {
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
            is_peer,
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

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u32 = 1000;
    const TUNNEL: u32 = 990;

    fn enter(nodes: &Rc<RefCell<Nodes>>, uid: u32) -> Entry {
        let peer = Peer { pid: None, uid };
        Nodes::enter(nodes, peer, UnixTime(1), "Service:2.0".to_owned())
    }

    fn are_peers(nodes: &Rc<RefCell<Nodes>>) -> Vec<bool> {
        let list = nodes.borrow().list();
        list.iter().map(|node| node.is_peer).collect()
    }

    #[test]
    fn a_peer_agent_is_listed_and_not_counted() {
        let nodes = Rc::default();
        let (node, _peer) = (enter(&nodes, NODE), enter(&nodes, TUNNEL));
        // Without the setting each client is a node.
        assert_eq!(nodes.borrow().count(), 2);
        assert_eq!(are_peers(&nodes), [false, false]);
        // A reload takes those over that are connected, and back.
        let set = |users: &[u32]| {
            let users = users.iter().copied().collect();
            nodes.borrow_mut().set_peer_users(users);
        };
        set(&[TUNNEL]);
        assert_eq!(nodes.borrow().count(), 1);
        assert_eq!(are_peers(&nodes), [true, false]);
        let another = enter(&nodes, TUNNEL);
        assert_eq!(nodes.borrow().count(), 1);
        drop((node, another));
        assert_eq!(nodes.borrow().count(), 0);
        assert_eq!(are_peers(&nodes), [true]);
        set(&[]);
        assert_eq!(nodes.borrow().count(), 1);
    }
}
