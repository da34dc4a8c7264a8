//! The keeper's rules at moments of a test network whose KES periods last 1000 s.

use std::sync::mpsc;

use kes_summed_ed25519::PublicKey;
use kes_summed_ed25519::kes::Sum6KesSig;
use kes_summed_ed25519::traits::KesSig;
use proptest::prelude::*;

use super::*;
use crate::cold::ColdSignKey;
use crate::hot_key::{ForgingState, HotKey, HotKeyOptions, Receiving, SignError};
use crate::protocol::service::ServiceResult as Answer;
use crate::sum6kes::EVOLUTIONS;
use crate::sys::memory::LockedBytes;

const PERIOD_S: u64 = 1000;

fn network(max_evolutions: u32) -> Network {
    Network {
        magic: 42,
        slots_per_kes_period: PERIOD_S,
        slot_length_ns: 1_000_000_000,
        max_evolutions,
        shelley_start_slot: 0,
        shelley_start_time: UnixTime(0),
    }
}

/// So many seconds after the start of a period.
fn at(period: u64, seconds: u64) -> UnixTime {
    UnixTime((period * PERIOD_S + seconds) * 1_000_000)
}

/// A pool, its node, and a pretended agent.
struct Bench {
    cold: ColdSignKey,
    hot_key: HotKey,
    receiving: Receiving,
    events: mpsc::Receiver<Event>,
    stamp: u64,
}

/// A key with its certificate, as an agent holds it.
struct Served {
    key: SignKey,
    opcert: OpCert,
}

impl Bench {
    fn new() -> Self {
        Self::on(network(62))
    }

    fn on(network: Network) -> Self {
        let cold = ColdSignKey::generate().unwrap();
        let options = HotKeyOptions::new("/nowhere", network, cold.verification_key());
        let (hot_key, receiving) = HotKey::new(options).unwrap();
        let events = hot_key.subscribe();
        Self {
            cold,
            hot_key,
            receiving,
            events,
            stamp: 0,
        }
    }

    fn key(&self, counter: u64, start: u64) -> Served {
        let key = SignKey::generate().unwrap();
        let vkey = key.verification_key();
        let opcert = self.cold.issue(&vkey, counter, KesPeriod(start)).unwrap();
        Served { key, opcert }
    }

    fn send(&mut self, served: &Served, now: UnixTime) -> Answer {
        self.stamp += 1;
        let stamp = Some(Stamp(self.stamp));
        let message = ServiceMessage::Key(served.received(stamp));
        self.receiving.keeper.receive(message, now)
    }

    fn send_drop(&mut self, now: UnixTime) -> Answer {
        self.stamp += 1;
        let stamp = Stamp(self.stamp);
        let message = ServiceMessage::Dropped { stamp };
        self.receiving.keeper.receive(message, now)
    }

    fn settle(&mut self, now: UnixTime) {
        self.receiving.keeper.settle(now);
    }

    fn sign(&self, period: u64) -> Result<(OpCert, Evolution), SignError> {
        let message = [7; 500];
        let signed = self.hot_key.sign(KesPeriod(period), &message)?;
        assert_eq!(
            signed.opcert.start_period.0 + u64::from(signed.evolution.0),
            period
        );
        // By an independent implementation, with the certificate that came with the signature.
        let root = PublicKey::from_bytes(&signed.opcert.kes_vkey.0).unwrap();
        Sum6KesSig::from_bytes(&signed.signature.0)
            .unwrap()
            .verify(signed.evolution.0, &root, &message)
            .unwrap();
        Ok((signed.opcert, signed.evolution))
    }

    fn declined(&self) -> Decline {
        self.events
            .try_iter()
            .find_map(|event| match event {
                Event::DeclinedKey { reason } => Some(reason),
                _ => None,
            })
            .expect("a refusal is told")
    }
}

impl Served {
    fn received(&self, stamp: Option<Stamp>) -> ReceivedKey {
        let mut secret = LockedBytes::zeroed().unwrap();
        *secret.expose_mut() = *self.key.expose();
        ReceivedKey {
            stamp,
            secret,
            evolution: self.key.evolution(),
            opcert: self.opcert,
        }
    }
}

#[test]
fn without_a_key_nothing_is_signed() {
    let bench = Bench::new();
    assert_eq!(bench.sign(100), Err(SignError::NoKey));
    let status = bench.hot_key.status();
    assert_eq!(status.state, ForgingState::NotConnectedNoKey);
    assert_eq!((status.key, status.waiting), (None, None));
    assert_eq!(ForgingState::of(None), ForgingState::NotABlockProducer);
}

#[test]
fn a_current_key_signs_and_a_past_one_is_brought_forward() {
    let mut bench = Bench::new();
    let current = bench.key(0, 100);
    assert_eq!(bench.send(&current, at(100, 1)), Answer::Ok);
    assert_eq!(bench.sign(100), Ok((current.opcert, Evolution(0))));
    let key = bench.hot_key.status().key.unwrap();
    assert_eq!((key.start_period.0, key.end_period.0), (100, 162));
    assert_eq!(key.expires_at, at(162, 0));
    assert_eq!(
        key.metrics(),
        [
            ("currentKESPeriod", 100),
            ("remainingKESPeriods", 62),
            ("operationalCertificateStartKESPeriod", 100),
            ("operationalCertificateExpiryKESPeriod", 162),
        ]
    );
    let past = bench.key(1, 60);
    assert_eq!(bench.send(&past, at(100, 2)), Answer::Ok);
    assert_eq!(bench.sign(100), Ok((past.opcert, Evolution(40))));
}

#[test]
fn at_every_boundary_the_period_asked_for_decides() {
    let mut bench = Bench::on(network(EVOLUTIONS));
    let key = bench.key(0, 100);
    assert_eq!(bench.send(&key, at(100, 1)), Answer::Ok);
    for period in 100..163 {
        let evolution = |p: u64| Evolution(u32::try_from(p - 100).unwrap());
        // After the turn by the clock the old period is still signed for, until the new one is.
        bench.settle(at(period + 1, 1));
        assert_eq!(bench.sign(period), Ok((key.opcert, evolution(period))));
        let next = bench.sign(period + 1);
        assert_eq!(next, Ok((key.opcert, evolution(period + 1))));
        let let_go = Err(SignError::LetGo {
            present: KesPeriod(period + 1),
            period: KesPeriod(period),
        });
        assert_eq!(bench.sign(period), let_go);
        bench.settle(at(period + 1, 2));
    }
    let spent = SignError::Spent {
        expiry: KesPeriod(164),
        period: KesPeriod(164),
    };
    assert_eq!(bench.sign(164), Err(spent.clone()));
    assert!(
        bench.sign(163).is_ok(),
        "a request beyond the end costs nothing"
    );
    bench.settle(at(164, 10));
    assert_eq!(bench.sign(164), Err(spent));
    assert!(matches!(bench.sign(163), Err(SignError::LetGo { .. })));
    assert!(bench.hot_key.status().key.is_none());
    let told: Vec<_> = bench.events.try_iter().collect();
    let kinds = |kind| told.iter().filter(|e| e.kind() == Some(kind)).count();
    assert_eq!((kinds("KESInfo"), kinds("ExpiryLogMessage")), (57, 7));
    assert_eq!(kinds("KESCouldNotEvolve"), 1);
}

#[test]
fn without_a_request_the_old_period_goes_after_the_grace() {
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.send(&key, at(100, 1));
    bench.settle(at(101, 4));
    assert!(bench.sign(100).is_ok());
    bench.settle(at(101, 5));
    assert!(matches!(bench.sign(100), Err(SignError::LetGo { .. })));
    assert_eq!(bench.sign(101), Ok((key.opcert, Evolution(1))));
    assert_eq!(bench.receiving.keeper.settle(at(101, 6)), at(102, 5));
}

#[test]
fn a_machine_that_slept_over_many_periods_catches_up() {
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.send(&key, at(100, 1));
    let not_yet = SignError::NotYet {
        prepared: KesPeriod(101),
        period: KesPeriod(120),
    };
    assert_eq!(bench.sign(120), Err(not_yet));
    bench.settle(at(120, 500));
    assert_eq!(bench.sign(120), Ok((key.opcert, Evolution(20))));
    bench.settle(at(500, 0));
    assert!(matches!(bench.sign(500), Err(SignError::Spent { .. })));
}

#[test]
fn a_key_for_a_later_period_waits_while_the_old_one_signs() {
    let mut bench = Bench::new();
    let (old, new) = (bench.key(0, 100), bench.key(1, 103));
    bench.send(&old, at(100, 1));
    assert_eq!(bench.send(&new, at(100, 2)), Answer::Ok);
    for period in 100..103 {
        assert_eq!(bench.sign(period).unwrap().0, old.opcert);
        let waiting = bench.hot_key.status().waiting.unwrap();
        assert_eq!((waiting.counter, waiting.period().0), (1, 103));
        bench.settle(at(period, 500));
    }
    // The first request for its period brings it, before the receiving side has seen the turn.
    assert_eq!(bench.sign(103), Ok((new.opcert, Evolution(0))));
    assert!(matches!(
        bench.sign(102),
        Err(SignError::StartsLater { .. })
    ));
    assert_eq!(bench.hot_key.status().waiting, None);
    bench.settle(at(104, 6));
    assert_eq!(bench.sign(104), Ok((new.opcert, Evolution(1))));
}

#[test]
fn a_key_for_a_later_period_without_an_old_one_starts_with_its_period() {
    for by_request in [true, false] {
        let mut bench = Bench::new();
        let key = bench.key(0, 105);
        assert_eq!(bench.send(&key, at(100, 1)), Answer::Ok);
        let later = SignError::StartsLater {
            start: KesPeriod(105),
            period: KesPeriod(104),
        };
        assert_eq!(bench.sign(104), Err(later));
        let status = bench.hot_key.status();
        assert_eq!(status.state, ForgingState::NotConnectedNoKey);
        assert_eq!(status.waiting.unwrap().period().0, 105);
        if !by_request {
            bench.settle(at(104, 999));
            assert!(bench.hot_key.status().key.is_none());
            // There is nothing to keep for a late block: no grace.
            bench.settle(at(105, 0));
            assert!(bench.hot_key.status().key.is_some());
        }
        assert_eq!(bench.sign(105), Ok((key.opcert, Evolution(0))));
    }
}

#[test]
fn a_key_that_comes_in_the_grace_leaves_the_old_period_to_the_old_key() {
    let mut bench = Bench::new();
    let old = bench.key(0, 100);
    bench.send(&old, at(100, 1));
    let new = bench.key(1, 101);
    assert_eq!(bench.send(&new, at(101, 2)), Answer::Ok);
    assert_eq!(bench.sign(100), Ok((old.opcert, Evolution(0))));
    assert_eq!(bench.sign(101), Ok((new.opcert, Evolution(0))));
    assert!(bench.sign(100).is_err());
}

#[test]
fn a_key_that_can_sign_takes_over_at_once_and_the_newest_counts() {
    let mut bench = Bench::new();
    let keys = [
        bench.key(0, 100),
        bench.key(1, 105),
        bench.key(2, 101),
        bench.key(3, 100),
    ];
    for key in &keys {
        assert_eq!(bench.send(key, at(100, 1)), Answer::Ok);
    }
    assert_eq!(bench.sign(100), Ok((keys[3].opcert, Evolution(0))));
    assert_eq!(bench.hot_key.status().waiting, None);
    bench.settle(at(106, 0));
    assert_eq!(bench.sign(106), Ok((keys[3].opcert, Evolution(6))));
}

#[test]
fn an_early_turn_by_a_forging_clock_does_not_stop_a_new_key() {
    let mut bench = Bench::new();
    let old = bench.key(0, 100);
    bench.send(&old, at(100, 1));
    assert_eq!(bench.sign(101), Ok((old.opcert, Evolution(1))));
    let new = bench.key(1, 100);
    assert_eq!(bench.send(&new, at(100, 998)), Answer::Ok);
    assert_eq!(bench.sign(100), Ok((new.opcert, Evolution(0))));
    assert_eq!(bench.sign(101), Ok((new.opcert, Evolution(1))));
}

#[test]
fn stamps_that_are_not_newer_are_outdated_until_the_next_connection() {
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.send(&key, at(100, 1));
    bench.stamp -= 1;
    assert_eq!(bench.send(&key, at(100, 2)), Answer::KeyOutdated);
    assert!(matches!(bench.declined(), Decline::NotNewer { .. }));
    bench.stamp -= 1;
    assert_eq!(bench.send_drop(at(100, 3)), Answer::KeyOutdated);
    assert!(bench.sign(100).is_ok(), "the key stays");
    bench.receiving.keeper.connected(Event::Stopped);
    bench.stamp -= 1;
    assert_eq!(bench.send(&key, at(100, 4)), Answer::Ok);
    let mut events = bench.events.try_iter();
    assert!(events.any(|event| matches!(event, Event::ReceivedAgain { .. })));
    assert_eq!(bench.sign(100), Ok((key.opcert, Evolution(0))));
}

#[test]
fn a_second_delivery_does_not_bring_a_let_go_period_back() {
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.send(&key, at(100, 1));
    assert!(bench.sign(101).is_ok());
    assert_eq!(bench.send(&key, at(100, 999)), Answer::Ok);
    assert!(matches!(bench.sign(100), Err(SignError::LetGo { .. })));
}

#[test]
fn messages_without_stamps_are_told_apart_by_their_keys() {
    let mut bench = Bench::new();
    let keys = [bench.key(0, 100), bench.key(1, 100)];
    for key in &keys {
        for _ in 0..2 {
            let message = ServiceMessage::Key(key.received(None));
            let answer = bench.receiving.keeper.receive(message, at(100, 1));
            assert_eq!(answer, Answer::Ok);
            assert_eq!(bench.sign(100).unwrap().0, key.opcert);
        }
    }
}

#[test]
fn counters_may_not_go_down_but_after_a_drop() {
    let mut bench = Bench::new();
    let (seven, again, six) = (bench.key(7, 100), bench.key(7, 100), bench.key(6, 100));
    bench.send(&seven, at(100, 1));
    assert_eq!(bench.send(&again, at(100, 2)), Answer::Ok, "equal is fine");
    assert_eq!(bench.send(&six, at(100, 3)), Answer::KeyOutdated);
    let lower = Decline::LowerCounter {
        received: 6,
        held: 7,
    };
    assert_eq!(bench.declined(), lower);
    assert_eq!(
        bench.sign(100).unwrap().0,
        again.opcert,
        "what is held stays"
    );
    assert_eq!(bench.send_drop(at(100, 4)), Answer::Ok);
    assert_eq!(bench.sign(100), Err(SignError::Dropped));
    assert_eq!(bench.send(&six, at(100, 5)), Answer::Ok);
    assert_eq!(bench.sign(100).unwrap().0, six.opcert);
}

#[test]
fn a_drop_removes_a_waiting_key_too() {
    let mut bench = Bench::new();
    let (old, new) = (bench.key(0, 100), bench.key(1, 102));
    bench.send(&old, at(100, 1));
    bench.send(&new, at(100, 1));
    assert_eq!(bench.send_drop(at(100, 2)), Answer::Ok);
    bench.settle(at(103, 0));
    assert_eq!(bench.sign(103), Err(SignError::Dropped));
    assert_eq!(bench.hot_key.status().waiting, None);
}

#[test]
fn an_expired_certificate_is_refused() {
    let mut bench = Bench::new();
    let key = bench.key(0, 38);
    assert_eq!(bench.send(&key, at(100, 0)), Answer::InvalidOpCert);
    assert!(matches!(bench.declined(), Decline::Spent(_)));
    assert_eq!(bench.sign(99), Err(SignError::NoKey));
    let last = bench.key(0, 39);
    assert_eq!(bench.send(&last, at(100, 0)), Answer::Ok);
    assert_eq!(bench.sign(100), Ok((last.opcert, Evolution(61))));
    assert!(matches!(bench.sign(101), Err(SignError::Spent { .. })));
}

#[test]
fn a_key_evolved_past_the_ledgers_limit_is_spent() {
    let mut bench = Bench::on(network(10));
    let mut key = bench.key(0, 100);
    key.key.evolve_to(Evolution(10)).unwrap();
    assert_eq!(bench.send(&key, at(100, 0)), Answer::InvalidOpCert);
    assert!(matches!(bench.declined(), Decline::Spent(_)));
}

#[test]
fn a_key_evolved_ahead_of_the_clock_waits_for_its_period() {
    let mut bench = Bench::new();
    let mut key = bench.key(0, 100);
    key.key.evolve_to(Evolution(2)).unwrap();
    assert_eq!(bench.send(&key, at(100, 0)), Answer::Ok);
    assert!(bench.sign(100).is_err());
    bench.settle(at(102, 0));
    assert_eq!(bench.sign(102), Ok((key.opcert, Evolution(2))));
}

#[test]
fn what_is_not_whole_or_not_the_pools_is_refused() {
    let mut bench = Bench::new();
    let held = bench.key(0, 100);
    bench.send(&held, at(100, 0));
    let stranger = Bench::new().key(0, 100);
    assert_eq!(bench.send(&stranger, at(100, 1)), Answer::InvalidOpCert);
    assert_eq!(bench.declined(), Decline::NotOfThisPool);

    let (one, two) = (bench.key(0, 100), bench.key(0, 100));
    let mixed = Served {
        key: one.key,
        opcert: two.opcert,
    };
    assert_eq!(bench.send(&mixed, at(100, 2)), Answer::InvalidOpCert);
    let other = bench.declined();
    assert!(matches!(
        other,
        Decline::Damaged(DamagedKey::OtherKey { .. })
    ));

    let stamp = Stamp(bench.stamp + 1);
    let mut received = two.received(Some(stamp));
    received.secret.expose_mut()[40] ^= 1;
    let message = ServiceMessage::Key(received);
    let answer = bench.receiving.keeper.receive(message, at(100, 3));
    assert_eq!(answer, Answer::InvalidOpCert);
    assert!(matches!(bench.declined(), Decline::Damaged(_)));
    assert_eq!(
        bench.sign(100).unwrap().0,
        held.opcert,
        "what is held stays"
    );
}

#[test]
fn every_change_of_the_state_is_told_once() {
    use ForgingState::{ConnectedNoKey, ForgingConnected, ForgingNotConnected, NotConnectedNoKey};
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.settle(at(100, 0));
    bench.receiving.keeper.connected(Event::Stopped);
    bench.send(&key, at(100, 1));
    bench.settle(at(100, 2));
    bench.receiving.keeper.disconnected(Event::Stopped);
    bench.receiving.keeper.connected(Event::Stopped);
    bench.send_drop(at(100, 3));
    drop(bench.receiving);
    let states = bench.events.try_iter().filter_map(|event| match event {
        Event::State { state } => Some(state),
        _ => None,
    });
    let expected = [
        NotConnectedNoKey,
        ConnectedNoKey,
        ForgingConnected,
        ForgingNotConnected,
        ForgingConnected,
        ConnectedNoKey,
        NotConnectedNoKey,
    ];
    assert_eq!(states.collect::<Vec<_>>(), expected);
}

#[test]
fn when_the_receiving_side_ends_nothing_is_kept() {
    let mut bench = Bench::new();
    let key = bench.key(0, 100);
    bench.send(&key, at(100, 0));
    let Bench {
        receiving,
        hot_key,
        events,
        ..
    } = bench;
    drop(receiving);
    let signed = hot_key.sign(KesPeriod(100), b"message");
    assert_eq!(signed, Err(SignError::Stopped));
    assert_eq!(events.try_iter().last(), Some(Event::Stopped));
    assert_eq!(hot_key.status().state, ForgingState::NotConnectedNoKey);
}

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
