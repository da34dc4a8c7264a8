//! What a client makes of an agent's messages.

use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::{SERVICE, Scene, send, send_drop};
use crate::conformance::keys::{Certificate, Served};
use crate::conformance::wire::{PATIENCE, QUIET, Wire, id, offer};
use crate::conformance::{Check, Finding, Found, advice, does_not_apply, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "SVC-1",
            what: "another first byte than 00 and 01 is an error",
            run: unknown_message,
        },
        Check {
            id: "SVC-5",
            what: "each message is answered with four bytes, and nothing else is said",
            run: answers,
        },
        Check {
            id: "TR-4",
            what: "a key that is cut short is not answered",
            run: cut_short,
        },
        Check {
            id: "CLI-1",
            what: "silence after the handshake is waited out",
            run: silence,
        },
        Check {
            id: "CLI-2",
            what: "the same key twice is taken, then outdated",
            run: twice,
        },
        Check {
            id: "CLI-3",
            what: "a stamp that is not newer is outdated, a newer one is taken after it",
            run: not_newer,
        },
        Check {
            id: "CLI-4",
            what: "after an end at any moment the client connects again",
            run: |scene| advice(ends(scene)),
        },
        Check {
            id: "CLI-6",
            what: "drops without a key, and of an expired one, are answered",
            run: drops,
        },
        Check {
            id: "CLI-7",
            what: "another pool's, an expired and a wrong key are refused with 2",
            run: |scene| advice(wrong_keys(scene)),
        },
        Check {
            id: "KEY-5",
            what: "a key with a damaged seed or verification key is refused",
            run: damaged_keys,
        },
        Check {
            id: "DEP-3",
            what: "results are those of the table",
            run: results,
        },
        Check {
            id: "DEP-4",
            what: "over 1.0 and 0.4 a key of 724 bytes is taken",
            run: without_stamps,
        },
        Check {
            id: "DEP-6",
            what: "over 1.0 and 0.4 further keys, and the same twice, are answered",
            run: further_keys,
        },
    ]
}

fn answered(what: &str, answer: u64, expected: u64) -> Found {
    hold(
        answer == expected,
        format!("{what} is answered with {answer}, not {expected}"),
    )
}

fn unknown_message(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    let mut message = scene.key().bytes_2_0();
    message[0] = 2;
    wire.offer_bytes(&message);
    let said = wire.until_closed(PATIENCE)?;
    hold(said.is_empty(), "it is answered")
}

fn answers(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    for _ in 0..2 {
        send(&wire, &scene.key())?;
        send_drop(&wire, scene.stamp())?;
        wire.is_quiet(QUIET)?;
    }
    Ok(())
}

fn cut_short(scene: &Scene) -> Found {
    for cut in [1, 9, 400, 732] {
        let wire = scene.settled()?;
        wire.send(&scene.key().bytes_2_0()[..cut])?;
        wire.end();
        let said = wire.until_closed(PATIENCE)?;
        hold(
            said.is_empty(),
            format!("{cut} bytes of a key are answered"),
        )?;
    }
    Ok(())
}

fn silence(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    wire.is_quiet(Duration::from_secs(2))?;
    answered("a key after a silence", send(&wire, &scene.key())?, 0)
}

fn twice(scene: &Scene) -> Found {
    let (wire, key) = (scene.settled()?, scene.key());
    answered("a key", send(&wire, &key)?, 0)?;
    answered("the same key", send(&wire, &key)?, 1)?;
    answered("the next key", send(&wire, &scene.key())?, 0)
}

fn not_newer(scene: &Scene) -> Found {
    let (wire, stamp) = (scene.settled()?, scene.stamp());
    let next = |stamp| Served {
        stamp,
        ..scene.key()
    };
    answered("a key", send(&wire, &next(stamp))?, 0)?;
    answered("an older stamp", send(&wire, &next(stamp - 1))?, 1)?;
    answered("an equal stamp", send(&wire, &next(stamp))?, 1)?;
    answered(
        "a drop with an older stamp",
        send_drop(&wire, stamp - 2)?,
        1,
    )?;
    answered("a newer stamp", send(&wire, &next(scene.stamp()))?, 0)
}

fn ends(scene: &Scene) -> Found {
    let offered = offer(&[id(SERVICE[0])]);
    for cut in [0, 3, offered.len()] {
        scene.accept()?.send(&offered[..cut])?;
    }
    scene.settled()?;
    scene.settled()?.send(&scene.key().bytes_2_0()[..100])?;
    let wire = scene.settled()?;
    answered("a key after ends", send(&wire, &scene.key())?, 0)
}

fn drops(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    answered("a drop without a key", send_drop(&wire, scene.stamp())?, 0)?;
    answered("a second drop", send_drop(&wire, scene.stamp())?, 0)?;
    send(&wire, &expired(scene))?;
    answered("an expired key's drop", send_drop(&wire, scene.stamp())?, 0)
}

fn expired(scene: &Scene) -> Served {
    let lived = scene.periods.most_evolutions;
    let start = scene.periods.now().saturating_sub(lived);
    scene.key_of(&scene.cold, start, u32::try_from(lived - 1).unwrap_or(63))
}

fn foreign(scene: &Scene) -> Served {
    let cold = SigningKey::from_bytes(&[7; 32]);
    scene.key_of(&cold, scene.periods.now(), 0)
}

/// A certificate of the pool, with the key of another.
fn another_key(scene: &Scene) -> Served {
    Served {
        key: scene.key().key,
        ..scene.key()
    }
}

fn wrong_keys(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    answered("another pool's key", send(&wire, &foreign(scene))?, 2)?;
    answered("an expired key", send(&wire, &expired(scene))?, 2)?;
    answered("a wrong key", send(&wire, &another_key(scene))?, 2)?;
    let mut unsigned = scene.key();
    unsigned.certificate = Certificate {
        counter: unsigned.certificate.counter + 1,
        ..unsigned.certificate
    };
    answered("a changed certificate", send(&wire, &unsigned)?, 2)
}

/// Where the leaf's seed is, and the seeds and verification keys above it.
const PARTS: [(usize, &str); 6] = [
    (0, "the leaf's seed"),
    (32, "the seed of level 1"),
    (64, "the left verification key of level 1"),
    (32 + 96 * 2 + 64, "the right verification key of level 3"),
    (32 + 96 * 5, "the seed of level 6"),
    (607, "the last byte"),
];

fn damaged_keys(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    if send(&wire, &another_key(scene))? == 0 {
        return does_not_apply("the client does not check keys (CLI-7)");
    }
    for (at, what) in PARTS {
        let mut key = scene.key();
        key.key[at] ^= 1;
        let answer = send(&wire, &key)?;
        hold(
            answer != 0,
            format!("{what} was changed, and the key taken"),
        )?;
    }
    answered("a whole key", send(&wire, &scene.key())?, 0)
}

fn results(scene: &Scene) -> Found {
    let wire = scene.settled()?;
    let key = scene.key();
    let answers = [
        send(&wire, &key)?,
        send(&wire, &key)?,
        send(&wire, &foreign(scene))?,
        send_drop(&wire, scene.stamp())?,
    ];
    let is_known = |answer: &u64| *answer <= 4 || *answer == 65_535;
    hold(answers.iter().all(is_known), format!("{answers:?}"))
}

/// Tries something over each of the two older versions, or the one that the client speaks.
fn over_the_older(scene: &Scene, each: impl Fn(&Wire) -> Found) -> Found {
    let over = |version: &str| each(&scene.settled_on(&[version])?.0);
    match over(SERVICE[1]) {
        Ok(()) => over(SERVICE[2]).or_else(|finding| match finding {
            Finding::DoesNotApply(_) => Ok(()),
            broken => Err(broken),
        }),
        Err(Finding::DoesNotApply(_)) => over(SERVICE[2]),
        broken => broken,
    }
}

fn send_without_stamp(wire: &Wire, key: &Served) -> Found<u64> {
    wire.send(&key.bytes_1_0())?;
    wire.number(4)
}

fn without_stamps(scene: &Scene) -> Found {
    over_the_older(scene, |wire| {
        answered("a key", send_without_stamp(wire, &scene.key())?, 0)
    })
}

fn further_keys(scene: &Scene) -> Found {
    over_the_older(scene, |wire| {
        let key = scene.key();
        for key in [&key, &key, &scene.key()] {
            let answer = send_without_stamp(wire, key)?;
            hold(
                answer <= 1,
                format!("a further key has the answer {answer}"),
            )?;
        }
        wire.is_quiet(QUIET)
    })
}
