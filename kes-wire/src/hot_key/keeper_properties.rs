//! Whatever may happen to a node, by chance.

use proptest::prelude::*;

use super::tests::{Answer, Bench, PERIOD_S, Served, at, network};
use crate::opcert::OpCert;
use crate::unix_time::UnixTime;

/// Something that may happen to a node.
#[derive(Debug, Clone)]
enum Happening {
    /// A key comes that starts so many periods before (or, negative, after) the current one, with
    /// a counter that is so much higher (or lower) than the last.
    Key {
        back: i64,
        counter: i64,
    },
    /// The last key comes once more.
    Again,
    Dropped,
    /// Time passes, with or without the receiving side noticing.
    Time {
        seconds: u64,
        settles: bool,
    },
    /// A block is asked for, so many periods from the current one.
    Sign {
        ahead: i64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (-3i64..12, -1i64..2).prop_map(|(back, counter)| Happening::Key { back, counter }),
        1 => Just(Happening::Again),
        1 => Just(Happening::Dropped),
        6 => (0u64..1500, any::<bool>())
            .prop_map(|(seconds, settles)| Happening::Time { seconds, settles }),
        8 => (-1i64..2).prop_map(|ahead| Happening::Sign { ahead }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens: a signature is by an accepted key at the period asked for (`Bench::sign`
    /// checks it), no key ever goes back to a period before one it was asked for, and the newest
    /// key signs in the current period.
    #[test]
    fn whatever_happens(happenings in proptest::collection::vec(happening(), 1..40)) {
        let mut bench = Bench::on(network(10));
        let (mut now, mut counter) = (at(100, 0), 5i64);
        let mut last: Option<Served> = None;
        // The certificates accepted since the last drop, with the last period each signed at.
        let mut accepted: Vec<(OpCert, u64)> = Vec::new();
        for happening in happenings {
            let period = now.0 / 1_000_000 / PERIOD_S;
            match happening {
                Happening::Key { back, counter: more } => {
                    let served = bench.key(
                        (counter + more).unsigned_abs(),
                        period.checked_add_signed(-back).unwrap(),
                    );
                    if bench.send(&served, now) == Answer::Ok {
                        counter = served.opcert.counter.cast_signed();
                        accepted.push((served.opcert, 0));
                        last = Some(served);
                    }
                }
                Happening::Again => if let Some(served) = &last {
                    let answer = bench.send(served, now);
                    let is_spent = period >= served.opcert.start_period.0 + 10;
                    prop_assert_eq!(answer, if is_spent { Answer::InvalidOpCert } else { Answer::Ok });
                },
                Happening::Dropped => {
                    prop_assert_eq!(bench.send_drop(now), Answer::Ok);
                    accepted.clear();
                    last = None;
                }
                Happening::Time { seconds, settles } => {
                    now = UnixTime(now.0 + seconds * 1_000_000);
                    if settles {
                        bench.settle(now);
                    }
                }
                Happening::Sign { ahead } => {
                    let wanted = period.checked_add_signed(ahead).unwrap();
                    if let Ok((opcert, _)) = bench.sign(wanted) {
                        let by = accepted.iter_mut().find(|one| one.0 == opcert);
                        let (_, latest) = by.expect("an accepted certificate");
                        prop_assert!(*latest <= wanted, "back from {latest} to {wanted}");
                        *latest = wanted;
                    }
                }
            }
            bench.settle(now);
            // Where the newest key was not asked for a later period, it signs now.
            let period = now.0 / 1_000_000 / PERIOD_S;
            if let Some((newest, latest)) = accepted.last_mut()
                && (newest.start_period.0..newest.start_period.0 + 10).contains(&period)
                && *latest <= period
            {
                let signed = bench.sign(period);
                prop_assert_eq!(signed.as_ref().map(|signed| signed.0), Ok(*newest));
                *latest = period;
            }
        }
    }
}
