//! The key that a node is served, looked at as it comes.

use super::{Scene, take};
use crate::conformance::keys::{Message, Served};
use crate::conformance::pool::now_micros;
use crate::conformance::wire::QUIET;
use crate::conformance::{Check, Found, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "TR-2",
            what: "a served stamp and evolution are what they are in big endian alone",
            run: big_endian,
        },
        Check {
            id: "KEY-1",
            what: "a served key has its parts in place, up to the certificate's key",
            run: |scene| scene.served()?.1.layout(),
        },
        Check {
            id: "KEY-2",
            what: "each seed in a served key gives the verification key beside it",
            run: |scene| scene.served()?.1.seeds(),
        },
        Check {
            id: "KEY-3",
            what: "a served key signs, and another implementation takes the signature",
            run: |scene| scene.served()?.1.signs(),
        },
        Check {
            id: "KEY-4",
            what: "a served key that was evolved has no seed of before",
            run: |scene| scene.served()?.1.forgets(),
        },
        Check {
            id: "KEY-6",
            what: "the cold key signed the first 48 bytes of the served certificate",
            run: cold_signature,
        },
        Check {
            id: "KEY-7",
            what: "the evolution is the current period minus the certificate's start",
            run: evolution,
        },
        Check {
            id: "SVC-1",
            what: "a key is 733 bytes after 00, and nothing follows",
            run: messages,
        },
        Check {
            id: "SVC-2",
            what: "a stamp is microseconds, and each install's is newer",
            run: stamps,
        },
    ]
}

/// No stamp is older than the protocol.
const YEAR_2020: u64 = 1_577_836_800_000_000;
const DAY: u64 = 86_400_000_000;

fn is_a_time(stamp: u64) -> bool {
    (YEAR_2020..now_micros() + DAY).contains(&stamp)
}

fn big_endian(scene: &Scene) -> Found {
    let (_, served) = scene.served()?;
    hold(
        is_a_time(served.stamp) || is_a_time(served.stamp / 1000),
        "the stamp is no time",
    )?;
    hold(served.evolution < 64, "the evolution is 64 or more")
}

fn cold_signature(scene: &Scene) -> Found {
    let cold = scene.cold()?.verifying_key();
    let (_, served) = scene.served()?;
    hold(
        served.certificate.is_signed_by(&cold),
        "the certificate is not the cold key's",
    )
}

/// Asked twice at the turn of a period, which may come in between.
fn evolution(scene: &Scene) -> Found {
    let periods = scene.periods()?;
    let is_right = |served: &Served| {
        let start = served.certificate.start;
        periods.now().checked_sub(start) == Some(u64::from(served.evolution))
            && u64::from(served.evolution) < periods.most_evolutions
    };
    if is_right(&scene.served()?.1) {
        return Ok(());
    }
    let (_, served) = scene.served()?;
    let (at, start, now) = (served.evolution, served.certificate.start, periods.now());
    hold(
        is_right(&served),
        format!("evolution {at} in period {now} of a certificate from {start}"),
    )
}

fn messages(scene: &Scene) -> Found {
    let (wire, served) = scene.served()?;
    hold(
        served.tag == 0,
        format!("a first byte of {:02x}", served.tag),
    )?;
    wire.is_quiet(QUIET)?;
    take(&wire)?;
    wire.is_quiet(QUIET)
}

fn stamps(scene: &Scene) -> Found {
    let (_, first) = scene.served()?;
    hold(is_a_time(first.stamp), "the stamp is not microseconds")?;
    if scene.cold().is_err() {
        return Ok(());
    }
    let operator = scene.operator()?;
    let installed = operator.install(3)?;
    let (wire, second) = scene.served()?;
    hold(
        second.certificate == installed,
        "the installed key is not served",
    )?;
    hold(
        second.stamp > first.stamp,
        "a later install's stamp is not newer",
    )?;
    take(&wire)?;
    operator.drop_active()?;
    match Message::read(&wire)? {
        Message::Drop(stamp) => hold(stamp > second.stamp, "a drop's stamp is not newer"),
        Message::Key(_) => hold(false, "a key, where it was dropped"),
    }
}
