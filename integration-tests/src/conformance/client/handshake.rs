//! A client's part of the handshake.

use super::{SERVICE, Scene, send};
use crate::conformance::wire::{AT_ONCE, PATIENCE, are_right_choices, id, offer};
use crate::conformance::{Check, Found, does_not_apply, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "HS-2",
            what: "an offer of no version, or of 65, is taken for an error",
            run: counts,
        },
        Check {
            id: "HS-3",
            what: "one of the offered ids is chosen, the same in whatever order they come",
            run: choices,
        },
        Check {
            id: "HS-4",
            what: "a client for which nothing will do answers 00",
            run: nothing_in_common,
        },
        Check {
            id: "HS-6",
            what: "a repeated id that was not chosen ends the connection",
            run: repetition,
        },
        Check {
            id: "TR-3",
            what: "an offer and a key that come in pieces of any size are put together",
            run: pieces,
        },
    ]
}

fn counts(scene: &Scene) -> Found {
    let wire = scene.accept()?;
    wire.send(&offer(&[]))?;
    let said = wire.until_closed(PATIENCE)?;
    hold(said.first() != Some(&1), "a choice from an offer of none")?;
    scene.settled()?;
    let wire = scene.accept()?;
    wire.offer_bytes(&offer(&[id(SERVICE[0]); 65]));
    let said = wire.until_closed(PATIENCE)?;
    hold(said.first() != Some(&1), "a choice from an offer of 65")
}

fn choices(scene: &Scene) -> Found {
    let (_, one) = scene.settled_on(&SERVICE)?;
    let [first, second, third] = SERVICE;
    let (_, other) = scene.settled_on(&[third, second, first])?;
    are_right_choices(&SERVICE, one, other)
}

fn nothing_in_common(scene: &Scene) -> Found {
    let wire = scene.accept()?;
    wire.send(&offer(&[id("Nobody:9.9"), id("Nobody:9.8")]))?;
    let said = wire.until_closed(PATIENCE)?;
    hold(said == [0], format!("{said:02x?} in place of 00"))?;
    scene.settled().map(drop)
}

fn repetition(scene: &Scene) -> Found {
    let wire = scene.accept()?;
    wire.send(&offer(&[id(SERVICE[0])]))?;
    if wire.read(1)?[0] != 1 {
        return does_not_apply("the client does not speak Service:2.0");
    }
    wire.read(32)?;
    wire.offer_bytes(&id("Nobody:9.9"));
    wire.offer_bytes(&scene.key().bytes_2_0());
    let said = wire.until_closed(AT_ONCE)?;
    hold(
        said.is_empty(),
        "an answer on a version that was not settled",
    )?;
    scene.settled().map(drop)
}

fn pieces(scene: &Scene) -> Found {
    for piece in [1, 7, 29, 608] {
        let wire = scene.accept()?;
        wire.send_in_pieces(&offer(&[id(SERVICE[0])]), piece)?;
        if wire.read(1)?[0] != 1 {
            return does_not_apply("the client does not speak Service:2.0");
        }
        let chosen = wire.read(32)?;
        wire.send_in_pieces(&chosen, piece)?;
        wire.send_in_pieces(&scene.key().bytes_2_0(), piece)?;
        let answer = wire.number(4)?;
        hold(
            answer == 0,
            format!("a key in pieces of {piece} is answered with {answer}"),
        )?;
        // At once, one is taken as well.
        send(&wire, &scene.key())?;
    }
    Ok(())
}
