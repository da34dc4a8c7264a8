//! What happens when a period begins, on networks where one does while the kit waits.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::operator::Operator;
use super::{Scene, take};
use crate::conformance::keys::{Message, Served};
use crate::conformance::pool::Periods;
use crate::conformance::rotation::{activate, active, number_at, pending};
use crate::conformance::wire::{PATIENCE, QUIET};
use crate::conformance::{Check, Found, broken, does_not_apply, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "TIME-8",
            what: "the current period is the one that the genesis file gives",
            run: period,
        },
        Check {
            id: "SVC-4",
            what: "an evolution is not sent",
            run: evolution_is_not_sent,
        },
        Check {
            id: "EVO-1",
            what: "when a period begins the served key is evolved, and what is spent is gone",
            run: evolution,
        },
        Check {
            id: "EVO-2",
            what: "until a period begins no key is served as of it (no clock was set back)",
            run: never_ahead,
        },
        Check {
            id: "EVO-3",
            what: "after the last period the key is expired, untold, and not served",
            run: expiry,
        },
        Check {
            id: "SCH-2",
            what: "a scheduled key begins with its period, is sent then and stamped anew",
            run: begins,
        },
    ]
}

fn period(scene: &Scene) -> Found {
    let periods = scene.periods()?;
    let wire = scene.control(super::operator::ROTATION)?;
    // Asked twice, where a period begins in between.
    let mut told = None;
    for _ in 0..2 {
        let status =
            crate::conformance::rotation::call(&wire, &crate::conformance::rotation::plain(4));
        told = number_at(&status?.done()?, 2);
        if told == Some(periods.now()) {
            return Ok(());
        }
    }
    broken(format!("{told:?}, not {}", periods.now()))
}

/// Waits until a new period has begun, by the clock, and in the agent's status. Only where one
/// begins soon. The operator connects anew: a connection that is silent meanwhile may be closed.
pub(super) fn next_period(scene: &Scene) -> Found<Operator<'_>> {
    let periods = soon(scene)?;
    let before = periods.now();
    while periods.now() == before {
        sleep(periods.until_next());
    }
    let operator = Operator::connect(scene)?;
    let end = Instant::now() + PATIENCE;
    while operator.period()? == before {
        hold(Instant::now() < end, "the agent's period does not change")?;
    }
    Ok(operator)
}

pub(super) fn soon(scene: &Scene) -> Found<Periods> {
    let periods = scene.periods()?;
    scene.cold()?;
    let (left, patience) = (periods.until_next(), scene.options.patience);
    if left > patience {
        let (left, patience) = (left.as_secs(), patience.as_secs());
        return does_not_apply(format!(
            "the next period begins in {left} s, later than --patience, {patience} s"
        ));
    }
    Ok(periods)
}

fn served_key(scene: &Scene) -> Found<Served> {
    match Message::read(&scene.service("Service:2.0")?)? {
        Message::Key(served) => Ok(*served),
        Message::Drop(_) => broken("a drop, where a key is active"),
    }
}

fn evolution_is_not_sent(scene: &Scene) -> Found {
    soon(scene)?;
    let (wire, _) = scene.served()?;
    take(&wire)?;
    next_period(scene)?;
    // Who connects now is served what is new.
    served_key(scene)?;
    wire.is_quiet(QUIET)
}

fn evolution(scene: &Scene) -> Found {
    soon(scene)?;
    let operator = scene.operator()?;
    let installed = operator.install(3)?;
    let operator = next_period(scene)?;
    let served = served_key(scene)?;
    hold(served.certificate == installed, "another key is served")?;
    // A further period may have begun meanwhile.
    let evolved = u64::from(served.evolution) + installed.start;
    let now = operator.period()?;
    hold(
        evolved == now || evolved + 1 == now,
        format!("evolution {} in period {now}", served.evolution),
    )?;
    served.layout()?;
    served.forgets()
}

/// How long before a period begins it is looked whether keys are ahead.
const BEFORE: Duration = Duration::from_millis(500);

fn never_ahead(scene: &Scene) -> Found {
    let periods = soon(scene)?;
    scene.operator()?.install(3)?;
    let before = periods.now();
    sleep(periods.until_next().saturating_sub(BEFORE));
    loop {
        let served = served_key(scene)?;
        let evolved = served.certificate.start + u64::from(served.evolution);
        // Asked after it was served: a period may have begun since, and not before.
        let now = periods.now();
        hold(
            evolved <= now,
            format!("a key is served as of period {evolved} in period {now}"),
        )?;
        if now > before {
            return Ok(());
        }
    }
}

fn expiry(scene: &Scene) -> Found {
    let periods = soon(scene)?;
    let operator = scene.operator()?;
    let wire = scene.service("Service:2.0")?;
    let installed = operator.install(periods.most_evolutions - 1)?;
    loop {
        let Message::Key(served) = Message::read(&wire)? else {
            take(&wire)?;
            continue;
        };
        take(&wire)?;
        if served.certificate == installed {
            break;
        }
    }
    let operator = next_period(scene)?;
    let state = active(&operator.status()?)?.0;
    hold(state == 2, format!("the active slot is in state {state}"))?;
    wire.is_quiet(QUIET)?;
    scene.service("Service:2.0")?.is_quiet(QUIET)?;
    operator.install(3).map(drop)
}

fn begins(scene: &Scene) -> Found {
    soon(scene)?;
    let mut operator = scene.operator()?;
    operator.installed()?;
    let before = served_key(scene)?;
    let vkey = operator.generate()?;
    let certificate = operator.certify(vkey, operator.period()? + 1)?;
    let status = operator.call(&activate(&certificate, false))?.done()?;
    let begun_already = pending(&status)?.0 != 3;
    if !begun_already {
        operator = next_period(scene)?;
    }
    let status = operator.status()?;
    let is_active = active(&status)? == (1, Some(vkey.to_vec())) && pending(&status)?.0 == 0;
    hold(is_active, "the scheduled key is not active")?;
    let served = served_key(scene)?;
    hold(served.certificate == certificate, "another key is served")?;
    hold(served.stamp > before.stamp, "it was not stamped anew")
}
