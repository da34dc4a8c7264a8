//! The control versions that are deployed.

use super::handshake::CONTROL;
use super::{Scene, not_offered};
use crate::conformance::keys::{Certificate, array};
use crate::conformance::pool::now_micros;
use crate::conformance::wire::{PATIENCE, Wire, big_endian};
use crate::conformance::{Check, Found, broken, does_not_apply, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "DEP-2",
            what: "a Maybe begins with 00 or 01, texts and lists are within bounds",
            run: |scene| each_version(scene, |_, wire, version| info(&wire, version).map(drop)),
        },
        Check {
            id: "DEP-3",
            what: "results are u16 from the table",
            run: results,
        },
        Check {
            id: "DEP-7",
            what: "several requests on a connection are each answered, in order",
            run: several,
        },
        Check {
            id: "DEP-8",
            what: "a number that the version does not have closes the connection",
            run: unknown_numbers,
        },
        Check {
            id: "DEP-9",
            what: "a key that waits is not lost by another keygen unseen, nor by a failed install",
            run: rotation,
        },
        Check {
            id: "DEP-10",
            what: "a low counter is 1, another cold key 2, no key 3, a drop of nothing 0",
            run: refusals,
        },
        Check {
            id: "DEP-11",
            what: "info has its fields, no more, and they are those of the served key",
            run: fields,
        },
        Check {
            id: "DEP-12",
            what: "after a drop info has nothing installed",
            run: dropped,
        },
    ]
}

/// What info tells.
struct Info {
    /// Evolution, start, counter, key, signature: 116 bytes.
    installed: Option<Vec<u8>>,
    clock: u64,
    period: u64,
}

fn maybe(wire: &Wire) -> Found<bool> {
    match wire.read(1)?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => broken(format!("a Maybe that begins with {other:02x}")),
    }
}

fn text(wire: &Wire) -> Found {
    let length = wire.number(4)?;
    hold(length <= 4096, format!("a text of {length} bytes"))?;
    let bytes = wire.read(usize::try_from(length).unwrap_or_default())?;
    hold(String::from_utf8(bytes).is_ok(), "a text that is not UTF-8")
}

fn info(wire: &Wire, version: &str) -> Found<Info> {
    let (is_3, is_2) = (version == "Control:3.0", version == "Control:2.0");
    wire.send(&[0, 4])?;
    if is_3 {
        text(wire)?;
    }
    let mut installed = None;
    if maybe(wire)? {
        if is_3 || is_2 {
            if maybe(wire)? {
                installed = Some(wire.read(116)?);
            }
            if maybe(wire)? {
                wire.read(8)?;
            }
        } else {
            installed = Some(wire.read(116)?);
        }
    }
    if maybe(wire)? {
        wire.read(32)?;
    }
    let clock = wire.number(8)?;
    let period = wire.number(8)?;
    if is_3 {
        wire.read(16)?;
    }
    let peers = wire.number(4)?;
    hold(peers <= 256, format!("a list of {peers} peers"))?;
    for _ in 0..peers {
        text(wire)?;
        hold(wire.number(1)? <= 2, "a peer in an unknown state")?;
    }
    Ok(Info {
        installed,
        clock,
        period,
    })
}

/// Tries something over each deployed version that is offered.
fn each_version(scene: &Scene, each: impl Fn(&Scene, Wire, &str) -> Found) -> Found {
    let offer = scene.control_socket()?.read_offer()?;
    let is_offered = |name: &&&str| offer.contains(&crate::conformance::wire::id(name));
    let offered: Vec<_> = CONTROL.iter().filter(is_offered).collect();
    if offered.is_empty() {
        return not_offered("none of the deployed versions");
    }
    for version in offered {
        each(scene, scene.control(version)?, version)?;
    }
    Ok(())
}

fn staged(wire: &Wire) -> Found<Option<[u8; 32]>> {
    Ok(match wire.read(1)?[0] {
        0 => None,
        _ => Some(array(&wire.read(32)?)),
    })
}

fn query(wire: &Wire) -> Found<Option<[u8; 32]>> {
    wire.send(&[0, 1])?;
    staged(wire)
}

fn generate(wire: &Wire) -> Found<Option<[u8; 32]>> {
    wire.send(&[0, 0])?;
    staged(wire)
}

fn drop_staged(wire: &Wire) -> Found {
    wire.send(&[0, 2])?;
    let answer = staged(wire)?;
    hold(answer.is_none(), "a key in the answer to a drop")
}

fn install(wire: &Wire, certificate: &Certificate) -> Found<u64> {
    wire.send(&[&[0, 3][..], &certificate.bytes()].concat())?;
    wire.number(2)
}

fn generated(wire: &Wire) -> Found<[u8; 32]> {
    match generate(wire)? {
        Some(vkey) => Ok(vkey),
        None => broken("no key was generated into an empty slot"),
    }
}

fn several(scene: &Scene) -> Found {
    each_version(scene, |scene, wire, version| {
        if scene.cold().is_ok() {
            drop_staged(&wire)?;
            let vkey = generated(&wire)?;
            hold(
                query(&wire)? == Some(vkey),
                "another key than was generated",
            )?;
            drop_staged(&wire)?;
            hold(query(&wire)?.is_none(), "a staged key after its drop")?;
        }
        for _ in 0..2 {
            query(&wire)?;
            info(&wire, version)?;
        }
        Ok(())
    })
}

fn unknown_numbers(scene: &Scene) -> Found {
    each_version(scene, |scene, wire, version| {
        let mut unknown = vec![6u16, 99, 0xffff];
        let may_drop = scene.cold().is_ok();
        if may_drop && !["Control:3.0", "Control:2.0"].contains(&version) {
            unknown.push(5);
        }
        wire.offer_bytes(&[0, 6]);
        wire.until_closed(PATIENCE)?;
        for number in unknown {
            let wire = scene.control(version)?;
            wire.offer_bytes(&number.to_be_bytes());
            let said = wire.until_closed(PATIENCE)?;
            hold(said.is_empty(), format!("an answer to number {number}"))?;
        }
        Ok(())
    })
}

fn results(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    each_version(scene, |_, wire, version| {
        let certificate = operator.certify([0; 32], operator.period()?)?;
        drop_staged(&wire)?;
        let mut results = vec![install(&wire, &certificate)?];
        if version == "Control:3.0" || version == "Control:2.0" {
            wire.send(&[0, 5])?;
            results.push(wire.number(2)?);
        }
        let are_known = results.iter().all(|result| *result <= 5);
        hold(are_known, format!("results {results:?}"))
    })
}

fn rotation(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    each_version(scene, |_, wire, _| {
        drop_staged(&wire)?;
        let first = generated(&wire)?;
        let again = generate(&wire)?;
        let waits = query(&wire)?;
        hold(
            waits == again.or(Some(first)),
            "the key that waits is neither the first nor the one that was told",
        )?;
        let Some(vkey) = waits else {
            return broken("no key waits");
        };
        let mut certificate = operator.certify(vkey, operator.period()?)?;
        certificate.signature[0] ^= 1;
        let result = install(&wire, &certificate)?;
        hold(
            result != 0,
            "a certificate with a wrong signature was taken",
        )?;
        hold(
            query(&wire)? == waits,
            "a failed install lost the staged key",
        )?;
        certificate.signature[0] ^= 1;
        let result = install(&wire, &certificate)?;
        hold(
            result == 0,
            format!("a right install has the result {result}"),
        )?;
        hold(query(&wire)?.is_none(), "the installed key still waits")
    })
}

fn refusals(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    operator.install(3)?;
    operator.install(3)?;
    let told = |what: &str, result: u64, expected: u64| {
        hold(
            result == expected,
            format!("{what} has the result {result}, not {expected}"),
        )
    };
    each_version(scene, |scene, wire, version| {
        let period = operator.period()?;
        drop_staged(&wire)?;
        let none = operator.certify([0; 32], period)?;
        told("an install without a key", install(&wire, &none)?, 3)?;
        let vkey = generated(&wire)?;
        let foreign = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let foreign = Certificate::issue(&foreign, vkey, scene.next_counter(), period);
        told("another cold key", install(&wire, &foreign)?, 2)?;
        let old = operator.certify(vkey, period.saturating_sub(64))?;
        told("an expired certificate", install(&wire, &old)?, 2)?;
        // Two keys were installed by now: 0 is below the mark.
        let low = Certificate::issue(scene.cold()?, vkey, 0, period);
        told("a low counter", install(&wire, &low)?, 1)?;
        drop_staged(&wire)?;
        if version == "Control:3.0" || version == "Control:2.0" {
            for what in ["a drop", "a drop of nothing"] {
                wire.send(&[0, 5])?;
                told(what, wire.number(2)?, 0)?;
            }
            operator.install(3)?;
        }
        Ok(())
    })
}

fn fields(scene: &Scene) -> Found {
    let served = scene.served().map(|(_, served)| served);
    each_version(scene, |_, wire, version| {
        let told = info(&wire, version)?;
        // The next answer is in step only if nothing was left of this one.
        query(&wire)?;
        info(&wire, version)?;
        let seconds = now_micros() / 1_000_000;
        hold(
            told.clock.abs_diff(seconds) < 86_400,
            format!("a clock at {} s", told.clock),
        )?;
        if let Ok(periods) = scene.periods() {
            hold(
                told.period.abs_diff(periods.now()) <= 1,
                format!("period {}", told.period),
            )?;
        }
        let (Some(key), Ok(served)) = (told.installed, &served) else {
            return Ok(());
        };
        let numbers = (big_endian(&key[4..12]), big_endian(&key[12..20]));
        let certificate = served.certificate;
        hold(
            numbers == (certificate.start, certificate.counter)
                && key[20..52] == certificate.vkey
                && key[52..] == certificate.signature,
            "the installed key is not the served one",
        )
    })
}

fn dropped(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    operator.installed()?;
    if operator.drop_active().is_err() {
        return does_not_apply("the key cannot be dropped");
    }
    each_version(scene, |_, wire, version| {
        let told = info(&wire, version)?;
        hold(told.installed.is_none(), "a key after its drop")
    })
}
