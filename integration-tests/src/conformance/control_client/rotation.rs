//! What a control client says and understands in `Control:Rotation:1.0`.

use ciborium::Value;

use super::answers::{done, note, refused, status};
use super::{Ended, ROTATION, Scene};
use crate::conformance::rotation::{field, frame, map, number, read_request, request, variant};
use crate::conformance::wire::{PATIENCE, QUIET, Wire};
use crate::conformance::{Check, Found, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "TR-3",
            what: "an answer in pieces of any size is put together",
            run: pieces,
        },
        Check {
            id: "TR-4",
            what: "an answer that is cut short is none: the command fails",
            run: cut_short,
        },
        Check {
            id: "ROT-1",
            what: "each command is a request of the CDDL, and two items in a frame are no answer",
            run: frames,
        },
        Check {
            id: "ROT-2",
            what: "an answer of no bytes, or of more than 65536, ends the command",
            run: lengths,
        },
        Check {
            id: "ROT-4",
            what: "nothing is said between a request and its answer",
            run: one_at_a_time,
        },
        Check {
            id: "ROT-5",
            what: "a command that was done succeeds, one that was refused fails",
            run: outcomes,
        },
        Check {
            id: "ROT-10",
            what: "a refusal of an unknown code is shown, with its sentences",
            run: unknown_code,
        },
        Check {
            id: "VER-1",
            what: "unknown keys in an answer, a status and a note are skipped",
            run: unknown_keys,
        },
    ]
}

/// Answers every request so until the client closes, and gives the requests.
fn answered(wire: &Wire, answer: &[u8], piece: usize) -> Found<Vec<Value>> {
    let mut requests = Vec::new();
    while let Some(request) = read_request(wire)? {
        requests.push(request);
        wire.send_in_pieces(answer, piece)?;
    }
    Ok(requests)
}

/// Runs a command whose requests are all answered so.
fn run(scene: &Scene, command: &str, answer: &[u8]) -> Found<(Ended, Vec<Value>)> {
    let mut requests = Vec::new();
    let ended = scene.settled(command, ROTATION, |wire| {
        requests = answered(wire, answer, usize::MAX)?;
        Ok(())
    })?;
    Ok((ended, requests))
}

fn good(scene: &Scene) -> Vec<u8> {
    frame(&done(status(&scene.certificate)))
}

fn pieces(scene: &Scene) -> Found {
    let answer = good(scene);
    for piece in [1, 3, 7, 64] {
        let ended = scene.settled(scene.status(), ROTATION, |wire| {
            answered(wire, &answer, piece).map(drop)
        })?;
        ended.succeeds(&format!("an answer in pieces of {piece}"))?;
    }
    Ok(())
}

fn cut_short(scene: &Scene) -> Found {
    let answer = good(scene);
    for cut in [0, 3, 4, 100, answer.len() - 1] {
        let ended = scene.settled(scene.status(), ROTATION, |wire| {
            read_request(wire)?;
            wire.send(&answer[..cut])
        })?;
        ended.fails(&format!("{cut} bytes of an answer"))?;
    }
    Ok(())
}

/// The commands that were given, and the number of the request that each comes to.
fn commands(scene: &Scene) -> Vec<(&str, u64)> {
    let all = [
        (Ok(scene.status()), 4),
        (scene.generate(), 0),
        (scene.install(), 3),
        (scene.drop_active(), 6),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(command, kind)| Some((command.ok()?, kind)))
        .collect()
}

/// Whether the request has the certificate in it.
fn has_certificate(scene: &Scene, request: &Value) -> bool {
    let certificate = variant(request)
        .and_then(|(_, fields)| field(field(fields, 0)?, 0))
        .and_then(Value::as_bytes);
    certificate == Some(&scene.certificate.bytes())
}

fn frames(scene: &Scene) -> Found {
    for (command, kind) in commands(scene) {
        let (ended, requests) = run(scene, command, &good(scene))?;
        let found = requests.iter().find(|request| {
            let is_it = variant(request).is_some_and(|(said, _)| said == kind);
            is_it && (kind != 3 || has_certificate(scene, request))
        });
        hold(
            found.is_some(),
            format!("`{command}` does not come to request {kind}: {requests:?}"),
        )?;
        ended.succeeds(&format!("`{command}`, done"))?;
    }
    let mut two = good(scene);
    two.push(0xa0);
    let length = u32::try_from(two.len() - 4).unwrap_or(u32::MAX);
    two[..4].copy_from_slice(&length.to_be_bytes());
    run(scene, scene.status(), &two)?
        .0
        .fails("two items in a frame")
}

fn lengths(scene: &Scene) -> Found {
    for length in [0, 65_537, u32::MAX] {
        let ended = scene.settled(scene.status(), ROTATION, |wire| {
            read_request(wire)?;
            wire.send(&length.to_be_bytes())?;
            // Without waiting for what will not come.
            wire.until_closed(PATIENCE / 2).map(drop)
        })?;
        ended.fails(&format!("an answer of {length} bytes"))?;
    }
    Ok(())
}

fn one_at_a_time(scene: &Scene) -> Found {
    let answer = good(scene);
    let ended = scene.settled(scene.status(), ROTATION, |wire| {
        while read_request(wire)?.is_some() {
            wire.is_quiet(QUIET)?;
            wire.send(&answer)?;
        }
        Ok(())
    })?;
    ended.succeeds("an answer after a while")
}

fn outcomes(scene: &Scene) -> Found {
    let refusal = refused("internal", "It was refused.", "try again");
    for (command, _) in commands(scene) {
        let (ended, _) = run(scene, command, &good(scene))?;
        ended.succeeds(&format!("`{command}`, done"))?;
        let (ended, _) = run(scene, command, &frame(&refusal))?;
        ended.fails(&format!("`{command}`, refused"))?;
    }
    Ok(())
}

fn unknown_code(scene: &Scene) -> Found {
    let parts = [
        "moon-is-full",
        "The moon is full tonight.",
        "wait for the new moon",
    ];
    let refusal = frame(&refused(parts[0], parts[1], parts[2]));
    let (ended, _) = run(scene, scene.status(), &refusal)?;
    ended.fails("a refusal of an unknown code")?;
    for part in parts {
        hold(
            ended.said.contains(part),
            format!("`{part}` is not shown of a refusal of an unknown code"),
        )?;
    }
    Ok(())
}

fn unknown_keys(scene: &Scene) -> Found {
    let unknown = || (77, request(9, vec![(0, number(1))]));
    let mut odd = note("odd", "This is odd.");
    odd.push(unknown());
    let mut status = status(&scene.certificate);
    status.push((14, Value::Array(vec![map(odd.clone())])));
    status.push(unknown());
    let answer = request(
        0,
        vec![
            (0, Value::Bool(true)),
            (1, Value::Array(vec![map(odd)])),
            (2, map(status)),
            unknown(),
        ],
    );
    let (ended, _) = run(scene, scene.status(), &frame(&answer))?;
    ended.succeeds("an answer with unknown keys")
}
