//! The paths: what is there before, and what the agent does while a call fails.

use std::time::{Duration, Instant};

use integration_tests::pool::Node;

use crate::site::{Acted, Network, Site};

/// Which occurrences of a call fail, in each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The one of this number, from 1 on.
    At(u32),
    /// All of them.
    All,
}

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// With the program's first instruction.
    Start,
    /// With something that happens to an agent that runs.
    Running,
}

pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) from: From,
    pub(crate) network: Network,
    /// Makes what is there before.
    pub(crate) prepare: fn(&mut Site),
    /// What happens while the call fails.
    pub(crate) act: fn(&mut Site) -> Acted,
}

/// How long something is waited for that a failing call may keep from happening.
const WHILE_IT_FAILS: Duration = Duration::from_secs(8);

pub(crate) const PATHS: [Path; 13] = [
    Path {
        name: "start",
        from: From::Start,
        network: Network::Slow,
        prepare: |_| {},
        act: Site::launch,
    },
    Path {
        name: "restart",
        from: From::Start,
        network: Network::Slow,
        prepare: |site| {
            both_slots(site);
            site.before = Some(site.held());
            site.manager.terminate();
        },
        act: Site::launch,
    },
    Path {
        name: "keygen",
        from: From::Running,
        network: Network::Slow,
        prepare: Site::start,
        act: |site| site.command(&["keygen"]),
    },
    Path {
        name: "import",
        from: From::Running,
        network: Network::Slow,
        prepare: |site| {
            site.start();
            site.pool.prepare(1000);
        },
        act: |site| site.command(&["import-opcert", "--opcert-file", "opcert.cert"]),
    },
    Path {
        name: "activate",
        from: From::Running,
        network: Network::Slow,
        prepare: |site| {
            site.start();
            // Behind its period: it has to evolve.
            site.pool.prepare(980);
        },
        act: |site| site.command(&["activate", "--opcert-file", "opcert.cert"]),
    },
    Path {
        name: "push",
        from: From::Running,
        network: Network::Slow,
        prepare: |site| {
            site.start();
            let _ = site.pool.rotate();
            let node = Node::start(&site.pool);
            let _ = node.await_event("key", 0);
            site.node = Some(node);
            site.pool.prepare(1000);
        },
        act: |site| site.command(&["activate", "--opcert-file", "opcert.cert"]),
    },
    Path {
        name: "drop",
        from: From::Running,
        network: Network::Slow,
        prepare: both_slots,
        act: |site| site.command(&["drop-active"]),
    },
    Path {
        name: "status",
        from: From::Running,
        network: Network::Slow,
        prepare: both_slots,
        act: |site| site.command(&["status"]),
    },
    Path {
        name: "serve",
        from: From::Running,
        network: Network::Slow,
        prepare: both_slots,
        act: |site| site.command(&["probe"]),
    },
    Path {
        name: "period",
        from: From::Running,
        network: Network::Fast,
        prepare: |site| {
            site.start();
            let _ = site.pool.rotate();
        },
        act: |site| {
            site.wait_for_a_turn();
            Acted::default()
        },
    },
    Path {
        name: "peer",
        from: From::Running,
        network: Network::Slow,
        prepare: |site| {
            site.with_peer();
            site.start();
            site.peer_installs(0);
            site.await_peers_key();
        },
        act: |site| {
            let vkey = site.peer_installs(1);
            let begun = Instant::now();
            while begun.elapsed() < WHILE_IT_FAILS && site.active_vkey() != vkey {
                std::thread::sleep(Duration::from_millis(20));
            }
            Acted::default()
        },
    },
    Path {
        name: "reload",
        from: From::Running,
        network: Network::Slow,
        prepare: both_slots,
        act: |site| {
            site.manager.running().signal("HUP");
            let begun = Instant::now();
            while begun.elapsed() < WHILE_IT_FAILS && !site.manager.log().contains("reloaded") {
                std::thread::sleep(Duration::from_millis(5));
            }
            Acted::default()
        },
    },
    Path {
        name: "stop",
        from: From::Running,
        network: Network::Slow,
        prepare: both_slots,
        act: |site| {
            site.manager.running().signal("TERM");
            let begun = Instant::now();
            while begun.elapsed() < WHILE_IT_FAILS && site.manager.running().ended().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Acted::default()
        },
    },
];

/// An active key and a pending one.
fn both_slots(site: &mut Site) {
    site.start();
    let _ = site.pool.rotate();
    site.pool.cli(&["keygen"]).succeeded();
}
