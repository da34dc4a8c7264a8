//! What nodes are sent when keys are installed and dropped.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;

use super::operator::Operator;
use super::peers::is_dropped;
use super::{Scene, take};
use crate::conformance::keys::{Certificate, KEY_2_0, Message, Served};
use crate::conformance::wire::{PATIENCE, QUIET, Wire};
use crate::conformance::{Check, Finding, Found, broken, does_not_apply, hold};

/// A key that was installed comes sooner, unless there is no room for it.
const IS_FULL: Duration = Duration::from_secs(1);

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "SVC-3",
            what: "a key comes on connect, and an install and a drop as they happen",
            run: pushes,
        },
        Check {
            id: "SVC-5",
            what: "nothing is sent before the last message is answered",
            run: one_at_a_time,
        },
        Check {
            id: "SVC-6",
            what: "of two installs during a wait for an answer the second alone is sent; what was \
                   refused is not sent again; a drop that wins a tie ends the connection (with \
                   --peer-socket)",
            run: newest,
        },
        Check {
            id: "SVC-7",
            what: "a client that answers and never reads is let go when its buffer is full",
            run: never_reads,
        },
        Check {
            id: "SVC-9",
            what: "a client that says 1, 3, 4 or 8 bytes that were not asked for is let go",
            run: unasked,
        },
        Check {
            id: "SVC-10",
            what: "a key installed late is served at the present evolution, a foreign one never",
            run: present_evolution,
        },
        Check {
            id: "TOMB-1",
            what: "a client that connects after a drop is told of it",
            run: tombstone,
        },
        Check {
            id: "DEP-4",
            what: "over 1.0 and 0.4 a key is 724 bytes: key, evolution, certificate",
            run: without_stamps,
        },
        Check {
            id: "DEP-5",
            what: "over 1.0 and 0.4 a newer key and a drop close the connection",
            run: one_a_connection,
        },
    ]
}

/// Takes what comes until it is this key.
fn await_key(wire: &Wire, expected: &Certificate) -> Found<Served> {
    for _ in 0..4 {
        if let Message::Key(served) = Message::read(wire)?
            && served.certificate == *expected
        {
            return Ok(*served);
        }
        take(wire)?;
    }
    broken("the installed key does not come")
}

fn installed<'a>(scene: &'a Scene, wire: &Wire) -> Found<(Operator<'a>, Certificate)> {
    let operator = scene.operator()?;
    let certificate = operator.install(3)?;
    await_key(wire, &certificate)?;
    Ok((operator, certificate))
}

fn pushes(scene: &Scene) -> Found {
    let (wire, first) = scene.served()?;
    if scene.cold().is_err() {
        return Ok(());
    }
    take(&wire)?;
    let operator = scene.operator()?;
    let second = operator.install(2)?;
    hold(first.certificate != second, "the same certificate")?;
    await_key(&wire, &second)?;
    take(&wire)?;
    operator.drop_active()?;
    for _ in 0..4 {
        match Message::read(&wire)? {
            Message::Drop(_) => return Ok(()),
            Message::Key(_) => take(&wire)?,
        }
    }
    broken("the drop does not come")
}

fn one_at_a_time(scene: &Scene) -> Found {
    scene.cold()?;
    let (wire, _) = scene.served()?;
    let other = scene.service("Service:2.0")?;
    // The other node has the new key, so it was sent by now; this one has not answered.
    installed(scene, &other)?;
    wire.is_quiet(QUIET)
}

fn newest(scene: &Scene) -> Found {
    newest_alone(scene)?;
    once(scene)?;
    match scene.peer_socket() {
        Ok(_) => tied_drop(scene),
        Err(_) => Ok(()),
    }
}

/// Whatever the answer.
fn once(scene: &Scene) -> Found {
    for answer in [1, 2, 65_535u32] {
        let (wire, _) = scene.served()?;
        wire.send(&answer.to_be_bytes())?;
        wire.is_quiet(QUIET)?;
    }
    Ok(())
}

/// Who has the key would discard its drop, since the stamp is the same (CLI-3).
fn tied_drop(scene: &Scene) -> Found {
    scene.as_peer(|peer| {
        let held = peer.holds_a_key()?;
        let node = scene.service("Service:2.0")?;
        await_key(&node, &held.certificate)?;
        take(&node)?;
        let answer = peer.says_drop(held.stamp)?;
        hold(answer == 0, format!("a tied drop has the answer {answer}"))?;
        let said = node.until_closed(PATIENCE)?;
        hold(said.is_empty(), "a drop that the client would discard")?;
        is_dropped(scene, held.stamp)
    })
}

fn newest_alone(scene: &Scene) -> Found {
    scene.cold()?;
    let (wire, _) = scene.served()?;
    let operator = scene.operator()?;
    operator.install(3)?;
    let newest = operator.install(3)?;
    take(&wire)?;
    match Message::read(&wire)? {
        Message::Key(served) if served.certificate == newest => Ok(()),
        _ => broken("a state that was replaced was sent"),
    }
}

/// More keys than the buffer of a socket takes, as kernels are set.
const MOST_INSTALLS: u64 = 2000;

fn never_reads(scene: &Scene) -> Found {
    scene.cold()?;
    let operator = scene.operator()?;
    operator.installed()?;
    let wire = scene.service("Service:2.0")?;
    let message = KEY_2_0 as u64;
    // It has come whole, and is answered without being read.
    let comes = |count: u64| -> Found<bool> {
        let begin = Instant::now();
        while wire.unread()? < count * message {
            if begin.elapsed() > IS_FULL {
                return Ok(false);
            }
            sleep(Duration::from_micros(200));
        }
        Ok(true)
    };
    let mut count = 1;
    while comes(count)? {
        if count == MOST_INSTALLS {
            return does_not_apply(format!(
                "after {MOST_INSTALLS} keys the buffer of the agent's socket is not full"
            ));
        }
        wire.offer_bytes(&[0; 4]);
        operator.install(3)?;
        count += 1;
    }
    let said = wire.until_closed(PATIENCE)?.len() as u64;
    hold(
        said.is_multiple_of(message),
        format!("{} bytes of a message were sent", said % message),
    )
}

fn unasked(scene: &Scene) -> Found {
    for count in [1, 3, 4, 8] {
        let (wire, _) = scene.served()?;
        take(&wire)?;
        // Apart from the answer, for an agent that reads them at once.
        wire.is_quiet(QUIET)?;
        wire.offer_bytes(&vec![0; count]);
        let said = wire.until_closed(PATIENCE)?;
        hold(said.is_empty(), "bytes before the connection was closed")?;
    }
    Ok(())
}

fn present_evolution(scene: &Scene) -> Found {
    scene.cold()?;
    for ago in [0, 1, 31, 32] {
        let operator = scene.operator()?;
        let installed = operator.install(ago)?;
        let (_, served) = scene.served()?;
        hold(
            served.certificate == installed,
            "another key than the installed one",
        )?;
        let expected = operator.period()?.saturating_sub(installed.start);
        hold(
            u64::from(served.evolution) == expected,
            format!("evolution {} in place of {expected}", served.evolution),
        )?;
    }
    another_pools(scene)
}

/// A certificate by another cold key does not come into the active slot.
fn another_pools(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let before = operator.install(3)?;
    let foreign = SigningKey::from_bytes(&[7; 32]);
    let right = operator.prepare(3)?;
    let certificate = Certificate::issue(&foreign, right.vkey, right.counter, right.start);
    let is_done = operator.try_activate(&certificate)?;
    hold(!is_done, "a certificate by another cold key is activated")?;
    let (_, served) = scene.served()?;
    hold(
        served.certificate == before,
        "a certificate by another cold key was refused, and another key is served than before",
    )
}

fn tombstone(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    operator.install(3)?;
    operator.drop_active()?;
    let wire = scene.service("Service:2.0")?;
    match Message::read(&wire)? {
        Message::Drop(_) => Ok(()),
        Message::Key(_) => broken("a key, where it was dropped"),
    }
}

/// Tries something over each of the two older versions, or the one that is offered.
fn over_the_older(scene: &Scene, each: impl Fn(&str) -> Found) -> Found {
    // They are told what this one is told.
    scene.served()?;
    match each("Service:1.0") {
        Ok(()) | Err(Finding::DoesNotApply(_)) => each("Service:StandardCrypto:0.4"),
        broken => broken,
    }
}

fn without_stamps(scene: &Scene) -> Found {
    over_the_older(scene, |version| {
        let wire = scene.service(version)?;
        let served = Served::read(&wire)?;
        served.layout()?;
        wire.is_quiet(QUIET)
    })
}

fn one_a_connection(scene: &Scene) -> Found {
    scene.cold()?;
    over_the_older(scene, |version| {
        for drops in [false, true] {
            let operator = scene.operator()?;
            operator.installed()?;
            let wire = scene.service(version)?;
            Served::read(&wire)?;
            take(&wire)?;
            if drops {
                operator.drop_active()?;
            } else {
                operator.install(3)?;
            }
            let said = wire.until_closed(PATIENCE)?;
            hold(said.is_empty(), "further bytes on the connection")?;
        }
        Ok(())
    })
}
