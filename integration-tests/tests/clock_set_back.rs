//! An install after the wall clock was set back still reaches those who are connected: nodes take
//! only what is stamped later than what they have.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use integration_tests::pool::{Agent, Pool, TestNetwork, until};
use integration_tests::watcher::{Served, Watcher};

const MINUTE: i64 = 60 * 1_000_000;

/// Sets the clock of the agent; whole or not at all, for it is read at any moment.
fn set_clock(pool: &Pool, microseconds: i64, synchronised: &str) {
    let new = pool.path("clock.new");
    std::fs::write(&new, format!("{microseconds} 0 {synchronised}")).unwrap();
    std::fs::rename(new, pool.path("clock")).unwrap();
}

fn agent(pool: &Pool) -> Agent {
    let mut command = pool.command_of("kes-agent-for-tests");
    command
        .env("KES_AGENT_TEST_CLOCK", pool.path("clock"))
        .env("KES_AGENT_CLOCK", "guard");
    Agent::spawn(command, &pool.path("control.socket"))
}

/// A second agent that follows the first one, with this machine's clock.
fn follower(pool: &Pool) -> Agent {
    let mut command = pool.agent_command();
    command
        .env("KES_AGENT_SERVICE_PATH", pool.path("second.service"))
        .env("KES_AGENT_CONTROL_PATH", pool.path("second.control"))
        .env("KES_AGENT_BOOTSTRAP_PATHS", pool.path("service.socket"));
    Agent::spawn(command, &pool.path("second.control"))
}

fn newest_key(node: &Watcher, vkey: &str) -> Option<u64> {
    match node.newest()? {
        Served::Key { stamp, opcert, .. } if opcert.kes_vkey.to_string() == vkey => Some(stamp),
        Served::Key { .. } | Served::Dropped { .. } => None,
    }
}

/// The nodes that are connected all the time get each key and each drop, whatever the clock does
/// in between.
fn reaches(synchronised: &str) {
    let pool = Pool::new(TestNetwork::default());
    set_clock(&pool, 0, synchronised);
    let _agent = agent(&pool);
    let _follower = follower(&pool);
    let node = |socket: &str| Watcher::start(Path::new(&pool.path(socket)));
    let nodes = [node("service.socket"), node("second.service")];
    let first = pool.rotate();
    let stamp = |vkey: &str| {
        let all =
            || -> Option<Vec<u64>> { nodes.iter().map(|node| newest_key(node, vkey)).collect() };
        let stamps = until("the key at every node", all);
        assert!(stamps.iter().all(|stamp| *stamp == stamps[0]), "{stamps:?}");
        stamps[0]
    };
    let mut newest = stamp(&first);
    for back in [1, 30, 90, 600] {
        set_clock(&pool, -back * MINUTE, synchronised);
        until("the clock to be seen", || {
            let status = pool.status();
            let ahead = status["clock"]["ahead_us"].as_u64()?;
            let behind = status["clock"]["behind_us"].as_u64()?;
            let disagrees = ahead.max(behind) > 10 * 1_000_000;
            // Believed at once where the system vouches for it, and not at all where it does not.
            (disagrees == (synchronised == "unsync")).then_some(())
        });
        // A certificate that signs by the agent's time and by the follower's.
        pool.prepare(pool.period().min(1000));
        let activated = pool
            .cli(&["activate", "--opcert-file", "opcert.cert"])
            .succeeded();
        let next = stamp(activated["kes_verification_key"].as_str().unwrap());
        assert!(next > newest, "{next} after {newest}");
        newest = next;
    }
    pool.cli(&["drop-active"]).succeeded();
    until("the drop at every node", || {
        let mut newest = nodes.iter().map(Watcher::newest);
        newest
            .all(|served| matches!(served, Some(Served::Dropped { .. })))
            .then_some(())
    });
}

#[test]
fn where_the_system_vouches_for_the_clock() {
    reaches("sync");
}

#[test]
fn where_the_clock_is_not_believed() {
    reaches("unsync");
}
