//! A control client's part of the handshake.

use super::{Scene, VERSIONS};
use crate::conformance::wire::{PATIENCE, Wire, are_right_choices, id, offer};
use crate::conformance::{Check, Found, broken, does_not_apply, hold};

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
            what: "a client for which nothing will do answers 00, and fails",
            run: nothing_in_common,
        },
        Check {
            id: "HS-6",
            what: "the chosen id is repeated, in every version that the client speaks",
            run: repetition,
        },
    ]
}

fn counts(scene: &Scene) -> Found {
    for (count, ids) in [(0, Vec::new()), (65, vec![id(VERSIONS[1]); 65])] {
        let what = format!("an offer of {count}");
        let ended = scene.connected(scene.status(), |wire| {
            wire.offer_bytes(&offer(&ids));
            let said = wire.until_closed(PATIENCE)?;
            hold(
                said.first() != Some(&1),
                format!("{what}: a version is chosen"),
            )
        })?;
        ended.fails(&what)?;
    }
    Ok(())
}

/// What the client chooses from an offer; then the kit hangs up.
fn choice(scene: &Scene, ids: &[&str]) -> Found<[u8; 32]> {
    let mut chosen = None;
    scene.connected(scene.status(), |wire| {
        wire.send(&offer(&ids.iter().map(|name| id(name)).collect::<Vec<_>>()))?;
        if wire.read(1)?[0] == 1 {
            chosen = Some(crate::conformance::keys::array(&wire.read(32)?));
        }
        Ok(())
    })?;
    let none = || broken("from all versions none is chosen");
    chosen.map_or_else(none, Ok)
}

fn choices(scene: &Scene) -> Found {
    let mut reversed = VERSIONS;
    reversed.reverse();
    let (one, other) = (choice(scene, &VERSIONS)?, choice(scene, &reversed)?);
    are_right_choices(&VERSIONS, one, other)
}

fn nothing_in_common(scene: &Scene) -> Found {
    let ended = scene.connected(scene.status(), |wire| {
        wire.send(&offer(&[id("Nobody:9.9"), id("Nobody:9.8")]))?;
        let said = wire.until_closed(PATIENCE)?;
        hold(said == [0], format!("{said:02x?} in place of 00"))
    })?;
    ended.fails("no version in common")
}

fn repeats(wire: &Wire, version: &str) -> Found<bool> {
    wire.send(&offer(&[id(version)]))?;
    if wire.read(1)?[0] != 1 {
        return Ok(false);
    }
    let chosen = wire.read(32)?;
    let repeated = wire.read(32)?;
    hold(
        chosen == repeated,
        format!("{version}: another id is repeated than the chosen one"),
    )?;
    Ok(true)
}

fn repetition(scene: &Scene) -> Found {
    let mut spoken = 0;
    for version in VERSIONS {
        scene.connected(scene.status(), |wire| {
            spoken += usize::from(repeats(wire, version)?);
            Ok(())
        })?;
    }
    if spoken == 0 {
        return does_not_apply("the client speaks no control version");
    }
    Ok(())
}
