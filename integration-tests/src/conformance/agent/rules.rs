//! The rules of the slots, through `Control:Rotation:1.0`.

use super::operator::Operator;
use super::{Scene, take};
use crate::conformance::keys::{Certificate, Message};
use crate::conformance::rotation::{
    Answer, activate, active, field, import, keygen, number_at, pending, plain,
};
use crate::conformance::{Check, Found, broken, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "ST-1",
            what: "keygen refuses, replaces or keeps a key that waits, as it is asked to",
            run: keygens,
        },
        Check {
            id: "ST-2",
            what: "a scheduled key is given up by drop-pending alone",
            run: scheduled,
        },
        Check {
            id: "ST-3",
            what: "of several rules that a certificate breaks the first is told",
            run: rules_in_order,
        },
        Check {
            id: "ST-4",
            what: "an imported certificate gives way with replace alone",
            run: imports,
        },
        Check {
            id: "ST-5",
            what: "activate moves the key, its mark and its stamp, evolved to the present",
            run: activations,
        },
        Check {
            id: "ST-7",
            what: "a drop wipes the active key; a drop of nothing is refused",
            run: drops,
        },
        Check {
            id: "ST-8",
            what: "each install and drop has a newer stamp than the one before",
            run: stamps,
        },
        Check {
            id: "SCH-1",
            what: "a key for a later period waits, and the active one is served meanwhile",
            run: waits,
        },
        Check {
            id: "CNT-1",
            what: "the mark is the counter that was active last, and outlives a drop",
            run: mark,
        },
        Check {
            id: "CNT-2",
            what: "an equal counter passes, and a jump with a note",
            run: equal_and_jump,
        },
        Check {
            id: "CNT-3",
            what: "a lower counter passes only where nothing is active and it is allowed",
            run: lower,
        },
    ]
}

fn keygens(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let first = pending(&operator.call(&keygen(0))?.changed(true)?)?;
    operator.call(&keygen(0))?.refused("already-pending")?;
    let kept = pending(&operator.call(&keygen(2))?.changed(false)?)?;
    hold(kept == first, "keep did not keep the key")?;
    let replaced = pending(&operator.call(&keygen(1))?.changed(true)?)?;
    hold(replaced.1 != first.1, "replace did not replace the key")
}

/// Schedules a key for so many periods ahead.
fn schedule(operator: &Operator<'_>) -> Found<Certificate> {
    let start = operator.period()? + 1000;
    let certificate = operator.certify(operator.generate()?, start)?;
    let status = operator.call(&activate(&certificate, false))?.done()?;
    hold(
        pending(&status)?.0 == 3,
        "a key for a later period is not scheduled",
    )?;
    Ok(certificate)
}

fn scheduled(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let certificate = schedule(&operator)?;
    let other = operator.certify(certificate.vkey, certificate.start + 1)?;
    for request in [
        keygen(0),
        keygen(1),
        import(&other, true),
        activate(&other, false),
    ] {
        operator.call(&request)?.refused("scheduled")?;
    }
    operator.call(&keygen(2))?.changed(false)?;
    let dropped = operator.call(&plain(5))?.changed(true)?;
    hold(pending(&dropped)?.0 == 0, "drop-pending left it")
}

fn rules_in_order(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let foreign = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let cold = scene.cold()?;
    let period = operator.period()?;
    let vkey = operator.generate()?;
    let high = scene.next_counter();
    let past = period.saturating_sub(64);
    let cases = [
        (
            "other-kes-key",
            Certificate::issue(&foreign, [9; 32], 0, past),
        ),
        (
            "other-cold-key",
            Certificate::issue(&foreign, vkey, 0, past),
        ),
        ("expired", Certificate::issue(cold, vkey, 0, past)),
    ];
    for (expected, certificate) in cases {
        let answer = operator.call(&import(&certificate, false))?;
        // Without the file's cold key, whose signature it is cannot be said.
        if expected == "other-cold-key" && answer == Answer::Refused("bad-signature".to_owned()) {
            continue;
        }
        answer.refused(expected)?;
    }
    let right = Certificate::issue(cold, vkey, high, period);
    operator.call(&import(&right, false))?.done().map(drop)
}

fn imports(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let first = operator.prepare(0)?;
    operator.call(&import(&first, false))?.changed(true)?;
    let second = operator.certify(first.vkey, first.start)?;
    let without = operator.call(&import(&second, false))?;
    without.refused("already-imported")?;
    let status = operator.call(&import(&second, true))?.changed(true)?;
    hold(pending(&status)?.0 == 2, "the pending key is not certified")?;
    operator
        .call(&import(&second, false))?
        .changed(false)
        .map(drop)
}

/// The evolution of the active key, by a status.
fn evolution(status: &ciborium::Value) -> Option<u64> {
    let (_, fields) = crate::conformance::rotation::variant(field(status, 9)?)?;
    number_at(fields, 2)
}

fn activations(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let certificate = operator.prepare(5)?;
    let request = activate(&certificate, false);
    let status = operator.call(&request)?.changed(true)?;
    let is_moved = active(&status)? == (1, Some(certificate.vkey.to_vec()));
    hold(
        is_moved && pending(&status)?.0 == 0,
        "the key has not moved",
    )?;
    hold(
        number_at(&status, 10) == Some(certificate.counter),
        "the mark is not the certificate's counter",
    )?;
    let expected = number_at(&status, 2).map(|period| period - certificate.start);
    hold(evolution(&status) == expected, "it was not evolved")
}

fn drops(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    operator.installed()?;
    let status = operator.call(&plain(6))?.changed(true)?;
    hold(active(&status)?.0 == 3, "the active slot is not dropped")?;
    operator.call(&plain(6))?.refused("nothing-active")?;
    operator.install(3).map(drop)
}

fn stamps(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let mut newest = 0;
    let mut is_newer = |stamp| {
        let was = std::mem::replace(&mut newest, stamp);
        hold(stamp > was, format!("stamp {stamp} after {was}"))
    };
    for _ in 0..5 {
        operator.install(3)?;
        is_newer(scene.served()?.1.stamp)?;
    }
    let (wire, _) = scene.served()?;
    take(&wire)?;
    operator.drop_active()?;
    match Message::read(&wire)? {
        Message::Drop(stamp) => is_newer(stamp),
        Message::Key(_) => broken("a key, where it was dropped"),
    }
}

fn waits(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let installed = operator.install(3)?;
    let certificate = schedule(&operator)?;
    let wire = scene.service("Service:2.0")?;
    let Message::Key(served) = Message::read(&wire)? else {
        return broken("a drop, where a key is active");
    };
    operator.call(&plain(5))?.done()?;
    hold(
        served.certificate != certificate,
        "a key is served before its first period",
    )?;
    hold(
        served.certificate == installed,
        "the active key is not served while another waits",
    )
}

fn mark(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let certificate = operator.install(3)?;
    let expected = Some(certificate.counter);
    let told = number_at(&operator.status()?, 10);
    hold(told == expected, format!("the mark is {told:?}"))?;
    operator.drop_active()?;
    let told = number_at(&operator.status()?, 10);
    hold(
        told == expected,
        format!("after a drop the mark is {told:?}"),
    )
}

fn equal_and_jump(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    let active = operator.install(3)?;
    let (cold, start) = (scene.cold()?, active.start);
    let vkey = operator.generate()?;
    let equal = Certificate::issue(cold, vkey, active.counter, start);
    operator.call(&import(&equal, false))?.done()?;
    scene.next_counter();
    scene.next_counter();
    let jump = operator.certify(vkey, start)?;
    match operator.call(&import(&jump, true))? {
        Answer::Done { notes, .. } => hold(!notes.is_empty(), "a jump passes without a note"),
        Answer::Refused(code) => broken(format!("a jump is refused with {code}")),
    }
}

fn lower(scene: &Scene) -> Found {
    let operator = scene.operator()?;
    // Two installs, so that there is a lower counter.
    let low = operator.install(3)?.counter;
    operator.install(3)?;
    let (cold, start) = (scene.cold()?, operator.period()?);
    let lower = Certificate::issue(cold, operator.generate()?, low, start);
    for allow in [false, true] {
        let answer = operator.call(&activate(&lower, allow))?;
        answer.refused("counter-too-low")?;
    }
    operator.drop_active()?;
    let answer = operator.call(&activate(&lower, false))?;
    answer.refused("counter-too-low")?;
    let status = operator.call(&activate(&lower, true))?.done()?;
    hold(number_at(&status, 10) == Some(low), "the mark is another")?;
    operator.install(3).map(drop)
}
