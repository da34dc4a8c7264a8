//! `Control:Rotation:1.0`: frames, requests, answers.

use ciborium::Value;

use super::Scene;
use super::operator::ROTATION;
use crate::conformance::rotation::{
    Answer, activate, active, call, field, frame, import, keygen, number, number_at, pending,
    plain, read_answer, request,
};
use crate::conformance::wire::PATIENCE;
use crate::conformance::{Check, Found, broken, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "ROT-1",
            what: "an answer is a frame with exactly one CBOR item",
            run: frames,
        },
        Check {
            id: "ROT-2",
            what: "lengths of 0, 65537 and 4294967295 end the connection",
            run: lengths,
        },
        Check {
            id: "ROT-3",
            what: "what is no request is refused with not-understood, and the connection goes on",
            run: nonsense,
        },
        Check {
            id: "ROT-4",
            what: "requests sent at once are answered one by one, in order",
            run: in_order,
        },
        Check {
            id: "ROT-5",
            what: "a status has every field that is not optional",
            run: whole_status,
        },
        Check {
            id: "ROT-6",
            what: "refused commands leave both slots as they were",
            run: refusals_change_nothing,
        },
        Check {
            id: "ROT-7",
            what: "what is done already is answered as done, unchanged",
            run: done_already,
        },
        Check {
            id: "ROT-8",
            what: "of commands that come at once, one generates",
            run: at_once,
        },
        Check {
            id: "VER-1",
            what: "unknown keys in a request are skipped, absent ones have their defaults",
            run: unknown_keys,
        },
        Check {
            id: "TR-4",
            what: "a request that is cut short is not carried out",
            run: cut_short,
        },
    ]
}

fn frames(scene: &Scene) -> Found {
    let wire = scene.control(ROTATION)?;
    for _ in 0..2 {
        wire.send(&frame(&plain(4)))?;
        crate::conformance::rotation::read_frame(&wire)?;
    }
    Ok(())
}

fn lengths(scene: &Scene) -> Found {
    for length in [0u32, 65_537, u32::MAX] {
        let wire = scene.control(ROTATION)?;
        wire.offer_bytes(&length.to_be_bytes());
        wire.until_closed(PATIENCE)?;
    }
    Ok(())
}

fn nonsense(scene: &Scene) -> Found {
    let wire = scene.control(ROTATION)?;
    let garbage = [&[0, 0, 0, 1, 0xff][..], &[0, 0, 0, 3, 0x9f, 0x9f, 0x9f]].map(<[u8]>::to_vec);
    let unknown = frame(&request(99, vec![]));
    // A status request with the unknown key 9 in it twice.
    let twice = [&[0, 0, 0, 7][..], &[0x82, 4, 0xa2, 9, 0, 9, 0]].concat();
    for bytes in garbage.into_iter().chain([unknown, twice]) {
        wire.send(&bytes)?;
        read_answer(&wire)?.refused("not-understood")?;
    }
    call(&wire, &plain(4))?.done().map(drop)
}

fn in_order(scene: &Scene) -> Found {
    let wire = scene.control(ROTATION)?;
    // A status, a request that there is not, a status.
    let unknown = request(99, vec![]);
    wire.send(&[frame(&plain(4)), frame(&unknown), frame(&plain(4))].concat())?;
    let answers = [(); 3].map(|()| read_answer(&wire).map(|answer| kind(&answer)));
    let expected = ["done", "refused", "done"];
    for (answer, expected) in answers.into_iter().zip(expected) {
        let answer = answer?;
        hold(
            answer == expected,
            format!("{answer} in place of {expected}"),
        )?;
    }
    Ok(())
}

fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done { .. } => "done",
        Answer::Refused(_) => "refused",
    }
}

fn whole_status(scene: &Scene) -> Found {
    let wire = scene.control(ROTATION)?;
    let status = call(&wire, &plain(4))?.done()?;
    for key in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13] {
        hold(
            field(&status, key).is_some(),
            format!("a status without its field {key}"),
        )?;
    }
    for key in [1, 2, 3, 4, 11] {
        let is_number = number_at(&status, key).is_some();
        hold(is_number, format!("field {key} of the status is no number"))?;
    }
    pending(&status)?;
    active(&status).map(drop)
}

/// Both slots and the mark.
fn slots(status: &Value) -> [Option<Value>; 3] {
    [8, 9, 10].map(|key| field(status, key).cloned())
}

fn refusals_change_nothing(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let certificate = operator.prepare(0)?;
    let before = slots(&operator.status()?);
    let mut wrong = certificate;
    wrong.signature[5] ^= 1;
    let requests = [
        keygen(0),
        import(&wrong, false),
        activate(&wrong, false),
        plain(3),
        request(99, vec![]),
    ];
    for request in requests {
        let answer = operator.call(&request)?;
        hold(
            kind(&answer) == "refused",
            "a wrong command was carried out",
        )?;
        let after = slots(&operator.status()?);
        hold(after == before, "a refused command changed a slot")?;
    }
    Ok(())
}

fn done_already(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let certificate = operator.prepare(1)?;
    operator.call(&import(&certificate, false))?.changed(true)?;
    operator
        .call(&import(&certificate, false))?
        .changed(false)?;
    operator.call(&keygen(2))?.changed(false)?;
    operator.call(&plain(3))?.changed(true)?;
    operator
        .call(&activate(&certificate, false))?
        .changed(false)?;
    Ok(())
}

fn at_once(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    for _ in 0..5 {
        let wires = [scene.control(ROTATION)?, scene.control(ROTATION)?];
        for wire in &wires {
            wire.send(&frame(&keygen(0)))?;
        }
        let [one, two] = [read_answer(&wires[0])?, read_answer(&wires[1])?];
        let done = [&one, &two].map(|answer| kind(answer) == "done");
        hold(
            done[0] != done[1],
            "both keygens, or none, were carried out",
        )?;
        let other = if done[0] { &two } else { &one };
        other.refused("already-pending")?;
        let answer = if done[0] { one } else { two };
        let told = pending(&answer.done()?)?;
        let is_held = pending(&operator.status()?)? == told;
        hold(is_held, "another key is pending than was told")?;
        operator.call(&plain(5))?.done()?;
    }
    Ok(())
}

fn unknown_keys(scene: &Scene) -> Found {
    let wire = scene.control(ROTATION)?;
    let later = || (77, Value::Text("of a later version".to_owned()));
    call(&wire, &request(4, vec![later()]))?.done()?;
    if scene.cold().is_err() {
        return Ok(());
    }
    let operator = scene.operator()?;
    // Where nothing is said of a key that waits: refuse.
    operator.call(&request(0, vec![later()]))?.changed(true)?;
    let again = operator.call(&request(0, vec![]))?;
    again.refused("already-pending")?;
    let keep = request(0, vec![later(), (0, number(2))]);
    operator.call(&keep)?.changed(false).map(drop)
}

fn cut_short(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let whole = frame(&keygen(0));
    for cut in 1..whole.len() {
        let wire = scene.control(ROTATION)?;
        wire.send(&whole[..cut])?;
        wire.end();
        wire.until_closed(PATIENCE)?;
    }
    match pending(&operator.status()?)? {
        (0, _) => Ok(()),
        _ => broken("a key was generated"),
    }
}
