//! What an agent takes: memory, processor, and what happens when descriptors run out.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::super::report::{Goal, Report};
use super::Both;
use super::node::Node;
use super::operator::Operator;
use super::site::{PATIENCE, Site};

const CONTROL_CONNECTIONS: u32 = 20_000;
/// How long processor use is watched.
const WATCH: Duration = Duration::from_secs(5);
/// Descriptors that an agent may have where they are to run out...
const DESCRIPTORS: u64 = 64;
/// ...and clients that wait for one at each of its sockets.
const WAITING: usize = 8;
/// How long a client waits to be served where descriptors may have run out.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits before it tries again.
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// The reference's figures.
mod recorded {
    /// Megabytes.
    pub(super) const RESIDENT: f64 = 20.0;
    /// 13 KB for each of the connections, in KiB.
    pub(super) const GROWTH: f64 = 13.0 / 1.024 * super::CONTROL_CONNECTIONS as f64;
    /// Percent of one processor.
    pub(super) const SPINNING: f64 = 100.0;
    /// Kilobytes a second.
    pub(super) const LOGGING: f64 = 7000.0;
}

pub(crate) fn measure(report: &mut Report, sites: &mut Both<Site>) {
    // Agents that have done nothing but to install a key and to give it to a node.
    let mut with_node = sites.each_with(|site| {
        site.restart();
        site.rotate_by_commands();
        served(site, PATIENCE).unwrap()
    });
    let mut idle = with_node.map(|(_, site)| site.resident());
    report.add(idle.map(|bytes| *bytes / 1e6).row(
        "resident memory, idle with a key and a node",
        "MB",
        Some(recorded::RESIDENT),
        Goal::AtMostTimes(1.0 / 3.0),
    ));

    let used = with_node.map(|(_, site)| watch(site).processor);
    report.add(used.row("processor, idle", "%", None, Goal::AtMost(1.0)));

    let grown = with_node.map(|(_, site)| {
        let before = site.resident();
        for _ in 0..CONTROL_CONNECTIONS {
            Operator::connect(&site.control()).info();
        }
        (site.resident() - before) / 1024.0
    });
    report.add(grown.row(
        format!("growth of memory over {CONTROL_CONNECTIONS} control connections"),
        "KiB",
        Some(recorded::GROWTH),
        Goal::AtMost(256.0),
    ));
    drop(with_node);

    let mut used = sites.map(exhaust);
    report.add(used.map(|(watched, _)| watched.processor).row(
        "processor, no descriptor left",
        "%",
        Some(recorded::SPINNING),
        Goal::AtMost(5.0),
    ));
    report.add(used.map(|(watched, _)| watched.logged).row(
        "log, no descriptor left",
        "KB/s",
        Some(recorded::LOGGING),
        // A line a second at most.
        Goal::AtMost(0.25),
    ));
    report.add(used.map(|(_, until_served)| *until_served).row(
        "descriptors free again to a client served",
        "ms",
        None,
        Goal::AtMost(1000.0),
    ));
}

/// A node that was given the key and has confirmed it.
fn served(site: &Site, patience: Duration) -> io::Result<Node> {
    let mut node = Node::with_key(&site.service(), patience)?;
    node.confirm()?;
    Ok(node)
}

/// What an agent used while it was left alone.
struct Watched {
    /// Percent of one processor.
    processor: f64,
    /// Kilobytes a second.
    logged: f64,
}

fn watch(site: &Site) -> Watched {
    let (time, logged) = (site.processor_time(), site.logged());
    let begin = Instant::now();
    std::thread::sleep(WATCH);
    let seconds = begin.elapsed().as_secs_f64();
    Watched {
        processor: (site.processor_time() - time) / seconds * 100.0,
        logged: (site.logged() - logged) / 1e3 / seconds,
    }
}

/// Clients take all descriptors and others wait; how many milliseconds it takes, once the former
/// are gone, until a client is served.
fn exhaust(site: &mut Site) -> (Watched, f64) {
    site.limit_descriptors(DESCRIPTORS);
    let holders: Vec<_> = (0..DESCRIPTORS)
        .map_while(|_| served(site, SHORT_PATIENCE).ok())
        .collect();
    let waiting: Vec<_> = [site.service(), site.control()]
        .iter()
        .flat_map(|socket| (0..WAITING).map(|_| knock(socket)))
        .collect();
    let watched = watch(site);
    drop(waiting);
    drop(holders);
    let begin = Instant::now();
    // An agent that never recovers has its patience's worth in the report.
    while served(site, PATIENCE).is_err() && begin.elapsed() < PATIENCE {
        std::thread::sleep(BETWEEN_TRIES);
    }
    (watched, begin.elapsed().as_secs_f64() * 1e3)
}

/// Connects without waiting for the agent. Where its queue is full, it has enough to do already.
fn knock(path: &Path) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    match connect(&socket, &SocketAddrUnix::new(path).unwrap()) {
        Ok(()) | Err(Errno::AGAIN) => socket,
        Err(error) => panic!("{error}"),
    }
}
