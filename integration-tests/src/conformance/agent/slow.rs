//! Deadlines of 10 and 30 seconds.

use std::time::{Duration, Instant};

use super::Scene;
use super::operator::ROTATION;
use crate::conformance::rotation::{frame, plain};
use crate::conformance::wire::Wire;
use crate::conformance::{Check, Finding, Found, does_not_apply, hold};

/// How much later than its deadline an agent on a busy machine may act.
const SLACK: Duration = Duration::from_secs(3);

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "HS-7",
            what: "a client that does not do its part is let go after 10 seconds",
            run: handshake,
        },
        Check {
            id: "SVC-8",
            what: "a client that does not answer is let go after 30 seconds, and not before",
            run: unanswered,
        },
        Check {
            id: "ROT-9",
            what: "silence ends a connection after 30 seconds, an unread answer after 10; over \
                   Control:3.0 too (DEP-7)",
            run: silence,
        },
    ]
}

pub(super) fn is_slow(id: &str) -> bool {
    checks().iter().any(|check| check.id == id)
}

fn is_wanted(scene: &Scene) -> Found {
    if scene.options.slow {
        Ok(())
    } else {
        does_not_apply("it takes half a minute: --slow was not given")
    }
}

/// Whether the agent closes after this time.
fn closes_after(wire: &Wire, seconds: u64) -> Found {
    let (due, begin) = (Duration::from_secs(seconds), Instant::now());
    wire.until_closed(due + SLACK)?;
    let passed = begin.elapsed();
    hold(
        passed + SLACK > due,
        format!("closed after {} s of {seconds}", passed.as_secs()),
    )
}

fn handshake(scene: &Scene) -> Found {
    is_wanted(scene)?;
    let wire = scene.service_socket()?;
    wire.read_offer()?;
    wire.until_closed(Duration::from_secs(10) + SLACK).map(drop)
}

fn unanswered(scene: &Scene) -> Found {
    is_wanted(scene)?;
    let (wire, _) = scene.served_as_it_is()?;
    closes_after(&wire, 30)
}

/// Connections of one control version on which too little is said or read.
struct Silent {
    silent: Wire,
    partial: Wire,
    deaf: Wire,
    /// The request that is sent on the last.
    status: Vec<u8>,
}

impl Silent {
    fn open(scene: &Scene, version: &str, status: Vec<u8>) -> Found<Self> {
        let partial = scene.control(version)?;
        partial.send(&status[..1])?;
        Ok(Self {
            silent: scene.control(version)?,
            partial,
            deaf: scene.control(version)?,
            status,
        })
    }
}

fn silence(scene: &Scene) -> Found {
    is_wanted(scene)?;
    let mut all = vec![Silent::open(scene, ROTATION, frame(&plain(4)))?];
    match Silent::open(scene, "Control:3.0", vec![0, 4]) {
        Ok(deployed) => all.push(deployed),
        Err(Finding::DoesNotApply(_)) => {}
        Err(broken) => return Err(broken),
    }
    let ended = std::thread::scope(|scope| {
        let mut waits = Vec::new();
        for wires in &all {
            let mute = [&wires.silent, &wires.partial];
            waits.extend(mute.map(|wire| scope.spawn(|| closes_after(wire, 30))));
            waits.push(scope.spawn(|| is_cut_off(&wires.deaf, &wires.status)));
        }
        waits
            .into_iter()
            .map(|wait| wait.join().expect("no check panics"))
            .collect::<Vec<_>>()
    });
    ended.into_iter().collect()
}

/// Asks without ever reading an answer, until the agent closes.
fn is_cut_off(wire: &Wire, status: &[u8]) -> Found {
    let statuses = status.repeat(10_000);
    wire.fill(&statuses, Duration::from_secs(10) + SLACK)
}
