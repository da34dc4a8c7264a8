//! How long one waits for an agent.

use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::super::report::{Goal, Report};
use super::Both;
use super::node::Node;
use super::operator::Operator;
use super::site::{PATIENCE, Site};

const STARTS: usize = 300;
const INFOS: usize = 150;
const CONNECTS: usize = 3000;
const PUSHES: usize = 300;
/// Clients that are connected at once, and pushes to all of them.
const CLIENTS: usize = 900;
const PUSHES_TO_ALL: usize = 21;

/// The reference's figures, in milliseconds; of a range, the better end.
mod recorded {
    pub(super) const START: f64 = 7.0;
    pub(super) const CONNECT: f64 = 0.72;
    pub(super) const CONNECT_P95: f64 = 1.1;
    pub(super) const PUSH: f64 = 1.1;
    pub(super) const PUSH_TO_LAST: f64 = 200.0;
    pub(super) const PUSH_TO_MIDDLE: f64 = 115.0;
    pub(super) const INFO: f64 = 8.8;
}

/// Leaves agents with a key.
pub(crate) fn measure(report: &mut Report, sites: &mut Both<Site>) {
    let mut starts = sites.in_turns(STARTS, |site| milliseconds(site.restart()));
    report.add(starts.at(0.5).row(
        "start to first handshake byte",
        "ms",
        Some(recorded::START),
        Goal::TimesFaster(3.0),
    ));

    sites.map(Site::rotate_by_commands);
    let mut infos = sites.in_turns(INFOS, |site| milliseconds(site.info_command()));
    report.add(infos.at(0.5).row(
        "one info command",
        "ms",
        Some(recorded::INFO),
        Goal::TimesFaster(3.0),
    ));

    let mut connects = sites.in_turns(CONNECTS, |site| milliseconds(connect_to_key(site)));
    for (name, share, recorded, goal) in [
        (
            "median",
            0.5,
            Some(recorded::CONNECT),
            Goal::TimesFaster(3.0),
        ),
        ("p95", 0.95, Some(recorded::CONNECT_P95), Goal::None),
        ("p99", 0.99, None, Goal::None),
    ] {
        let name = format!("connect to whole key, {name}");
        report.add(connects.at(share).row(name, "ms", recorded, goal));
    }

    let mut with_node = sites.each_with(|site| connected(site, 1));
    let mut pushes = with_node.in_turns(PUSHES, |(nodes, site)| push(site, nodes)[0]);
    report.add(pushes.at(0.5).row(
        "install sent to push received",
        "ms",
        Some(recorded::PUSH),
        Goal::None,
    ));

    let mut with_nodes = sites.each_with(|site| connected(site, CLIENTS));
    let mut pushes = with_nodes.in_turns(PUSHES_TO_ALL, |(nodes, site)| push(site, nodes));
    for (name, at, recorded) in [
        ("last", CLIENTS - 1, recorded::PUSH_TO_LAST),
        ("middle", CLIENTS / 2, recorded::PUSH_TO_MIDDLE),
    ] {
        let mut arrival = pushes.map(|rounds| rounds.iter().map(|round| round[at]).collect());
        report.add(Both::<Vec<f64>>::at(&mut arrival, 0.5).row(
            format!("push to {CLIENTS} connected clients, the {name}"),
            "ms",
            Some(recorded),
            Goal::TimesFaster(10.0),
        ));
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn connect_to_key(site: &mut Site) -> Duration {
    let begin = Instant::now();
    let mut node = Node::with_key(&site.service(), PATIENCE).unwrap();
    let took = begin.elapsed();
    node.confirm().unwrap();
    took
}

/// So many nodes that have the key and have confirmed it.
fn connected(site: &mut Site, count: usize) -> Vec<Node> {
    let nodes = (0..count).map(|_| {
        let mut node = Node::with_key(&site.service(), PATIENCE).unwrap();
        node.confirm().unwrap();
        node
    });
    nodes.collect()
}

/// Installs a new key; after how many milliseconds each of the nodes had it whole, the first one
/// first. Each confirms at once.
fn push(site: &mut Site, nodes: &mut [Node]) -> Vec<f64> {
    let mut operator = Operator::connect(&site.control());
    let (vkey, opcert) = site.prepare(&mut operator);
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (at, node) in (0..).zip(nodes.iter()) {
        let data = epoll::EventData::new_u64(at);
        epoll::add(&queue, node, data, epoll::EventFlags::IN).unwrap();
    }
    let patience = PATIENCE.try_into().unwrap();
    let mut events = Vec::with_capacity(64);
    let mut has_it = vec![false; nodes.len()];
    let mut arrivals = Vec::with_capacity(nodes.len());
    let begin = Instant::now();
    operator.send_install(opcert);
    while arrivals.len() < nodes.len() {
        events.clear();
        epoll::wait(&queue, spare_capacity(&mut events), Some(&patience)).unwrap();
        assert!(!events.is_empty(), "a node waits in vain for a key");
        for event in &events {
            let at = usize::try_from(event.data.u64()).unwrap();
            let Some(came) = nodes[at].read().unwrap() else {
                continue;
            };
            // The one before may still have been on its way, and one may come twice.
            if came == vkey && !std::mem::replace(&mut has_it[at], true) {
                arrivals.push(milliseconds(begin.elapsed()));
            }
            nodes[at].confirm().unwrap();
        }
    }
    operator.read_installed(opcert);
    arrivals
}
