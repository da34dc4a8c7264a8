//! The keeper's rules at moments of a test network whose KES periods last 1000 s.

use std::sync::mpsc;

use kes_summed_ed25519::PublicKey;
use kes_summed_ed25519::kes::Sum6KesSig;
use kes_summed_ed25519::traits::KesSig;

use super::*;
use crate::cold::ColdSignKey;
use crate::hot_key::{ForgingState, HotKey, HotKeyOptions, Receiving, SignError};
pub(super) use crate::protocol::service::ServiceResult as Answer;
use crate::sum6kes::EVOLUTIONS;
use crate::sys::memory::LockedBytes;

pub(super) const PERIOD_S: u64 = 1000;

pub(super) fn network(max_evolutions: u32) -> Network {
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
pub(super) fn at(period: u64, seconds: u64) -> UnixTime {
    UnixTime((period * PERIOD_S + seconds) * 1_000_000)
}

/// A pool, its node, and a pretended agent.
pub(super) struct Bench {
    cold: ColdSignKey,
    hot_key: HotKey,
    receiving: Receiving,
    events: mpsc::Receiver<Event>,
    stamp: u64,
}

/// A key with its certificate, as an agent holds it.
pub(super) struct Served {
    key: SignKey,
    pub(super) opcert: OpCert,
}

impl Bench {
    fn new() -> Self {
        Self::on(network(62))
    }

    pub(super) fn on(network: Network) -> Self {
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

    pub(super) fn key(&self, counter: u64, start: u64) -> Served {
        let key = SignKey::generate().unwrap();
        let vkey = key.verification_key();
        let opcert = self.cold.issue(&vkey, counter, KesPeriod(start)).unwrap();
        Served { key, opcert }
    }

    pub(super) fn send(&mut self, served: &Served, now: UnixTime) -> Answer {
        self.stamp += 1;
        let stamp = Some(Stamp(self.stamp));
        let message = ServiceMessage::Key(served.received(stamp));
        self.receiving.keeper.receive(message, now)
    }

    pub(super) fn send_drop(&mut self, now: UnixTime) -> Answer {
        self.stamp += 1;
        let stamp = Stamp(self.stamp);
        let message = ServiceMessage::Dropped { stamp };
        self.receiving.keeper.receive(message, now)
    }

    fn asks_again(&self, now: UnixTime) -> bool {
        self.receiving.keeper.is_to_ask_again(now)
    }

    pub(super) fn settle(&mut self, now: UnixTime) {
        self.receiving.keeper.settle(now);
    }

    pub(super) fn sign(&self, period: u64) -> Result<(OpCert, Evolution), SignError> {
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
    assert_eq!(bench.send(&six, at(100, 3)), Answer::InvalidOpCert);
    let lower = Decline::LowerCounter {
        received: 6,
        held: 7,
    };
    assert_eq!(bench.declined(), lower);
    assert!(lower.to_string().contains("restart this node"), "{lower}");
    assert_eq!(bench.hot_key.status().refused, Some(lower));
    assert_eq!(
        bench.sign(100).unwrap().0,
        again.opcert,
        "what is held stays"
    );
    assert_eq!(bench.send_drop(at(100, 4)), Answer::Ok);
    assert_eq!(bench.sign(100), Err(SignError::Dropped));
    assert_eq!(bench.hot_key.status().refused, None);
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
fn a_drop_is_taken_without_a_key_and_of_one_that_has_expired() {
    let mut bench = Bench::new();
    assert_eq!(bench.send_drop(at(100, 0)), Answer::Ok);
    assert_eq!(bench.sign(100), Err(SignError::Dropped));
    let key = bench.key(0, 100);
    assert_eq!(bench.send(&key, at(161, 0)), Answer::Ok);
    bench.settle(at(162, 500));
    assert!(matches!(bench.sign(162), Err(SignError::Spent { .. })));
    assert_eq!(bench.send_drop(at(162, 501)), Answer::Ok);
    assert_eq!(bench.sign(162), Err(SignError::Dropped));
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
    assert!(!bench.asks_again(at(100, 1)), "it is so by any clock");
}

#[test]
fn a_key_that_has_expired_by_a_wrong_clock_alone_is_asked_for_again() {
    let mut bench = Bench::new();
    let key = bench.key(0, 38);
    assert_eq!(bench.send(&key, at(100, 0)), Answer::InvalidOpCert);
    assert!(!bench.asks_again(at(100, 1)) && !bench.asks_again(at(500, 0)));
    assert!(bench.asks_again(at(99, 999)), "the clock was set back");
    // What comes after it is what counts.
    let foreign = Bench::new().key(0, 100);
    assert_eq!(bench.send(&foreign, at(100, 2)), Answer::InvalidOpCert);
    assert!(!bench.asks_again(at(99, 999)));
    // And on the next connection the agent begins anew.
    assert_eq!(bench.send(&key, at(100, 3)), Answer::InvalidOpCert);
    bench.receiving.keeper.disconnected(Event::Stopped);
    assert!(!bench.asks_again(at(99, 999)));
    bench.receiving.keeper.connected(Event::Stopped);
    assert_eq!(bench.send(&key, at(99, 999)), Answer::Ok);
    assert_eq!(bench.sign(99), Ok((key.opcert, Evolution(61))));
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
fn memory_of_stages_is_given_back() {
    let mut bench = Bench::new();
    let keys = [bench.key(0, 100), bench.key(0, 100)];
    for round in 0..100 {
        assert_eq!(bench.send(&keys[round % 2], at(100, 1)), Answer::Ok);
        bench.settle(at(100, 2));
    }
    bench.settle(at(100, 3));
    // The present stage and the next, and the present one before the next was attached.
    let made = bench.receiving.keeper.made.len();
    assert!(made <= 4, "{made}");
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
