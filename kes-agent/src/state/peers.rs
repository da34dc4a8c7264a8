//! **A peer's state replaces ours only if it is newer and no step back**: its stamp is newer (a
//! drop also wins a tie), its counter is not below that of the key we hold, its certificate is
//! this pool's and signs in this period, its key is not ahead of it. All else is declined, and
//! what we hold stays.
//!
//! This is the deployed rule, a partial order: of two agents each may hold what the other refuses.
//! They are left alone and an operator is told ([`Declined::EachRefuses`]). What is taken keeps its
//! stamp, so that a loop of agents settles: the state that comes back is an equal one, which is
//! answered as outdated and goes no further. A key dropped at a stamp never comes back with that
//! stamp or an older one.

use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::stamp::Stamp;

use super::certificate::Phase;
use super::{
    Active, Declined, Effect, FUTURE_TOLERANCE, Now, Outcome, PeerAnswer, Rules, State, Tombstone,
};

impl State {
    pub(super) fn peer_key(
        &self,
        rules: &Rules,
        now: Now,
        stamp: Stamp,
        opcert: &OpCert,
        held: Evolution,
    ) -> Outcome {
        if self.active.certificate() == Some(opcert) && self.active.stamp() == Some(stamp) {
            return self.answered(PeerAnswer::Equal);
        }
        let evolution = match self.check_peer_key(rules, now, stamp, opcert, held) {
            Ok(evolution) => evolution,
            Err(declined) => return self.answered(PeerAnswer::Declined(declined)),
        };
        let state = Self {
            active: Active::Bundle {
                opcert: *opcert,
                evolution,
                stamp,
            },
            high_water_mark: self.high_water_mark.max(Some(opcert.counter)),
            newest_stamp: self.newest_stamp.max(stamp),
            ..self.clone()
        };
        let mut effects = vec![Effect::MoveReceivedToActive];
        if evolution > held {
            effects.push(Effect::EvolveActive { to: evolution });
        }
        effects.push(Effect::Announce);
        self.taken(state, effects)
    }

    /// Every rule, those that only time can change last: what breaks one of them breaks no other.
    fn check_peer_key(
        &self,
        rules: &Rules,
        now: Now,
        stamp: Stamp,
        opcert: &OpCert,
        held: Evolution,
    ) -> Result<Evolution, Declined> {
        if !opcert.is_signed_by(&rules.cold_vkey) {
            return Err(Declined::Foreign);
        }
        let phase = rules.phase(opcert, now.period);
        if phase != Phase::Expired {
            self.check_order(stamp, opcert)?;
            check_future(now, stamp)?;
        }
        match phase {
            Phase::Expired => Err(Declined::Expired {
                expiry: rules.expiry(opcert),
                now: now.period,
                is_trusted: now.is_trusted,
            }),
            Phase::Early { .. } => Err(Declined::Early {
                start: opcert.start_period,
                now: now.period,
            }),
            Phase::Signing { evolution: wanted } if held > wanted => Err(Declined::Ahead {
                period: KesPeriod(opcert.start_period.0.saturating_add(held.0.into())),
                held,
                wanted,
            }),
            Phase::Signing { evolution } if now.is_trusted => Ok(evolution),
            // It is evolved by the first tick of a time that is trusted.
            Phase::Signing { .. } => Ok(held),
        }
    }

    /// Whether the key comes after what we hold, by stamp and counter, and after what we know to
    /// have been dropped.
    fn check_order(&self, theirs: Stamp, opcert: &OpCert) -> Result<(), Declined> {
        match &self.active {
            Active::Empty | Active::Dropped { .. } => {
                self.check_drop(theirs, opcert)?;
                self.check_known(theirs, opcert)
            }
            Active::Bundle {
                opcert: our_opcert,
                stamp: ours,
                ..
            }
            | Active::Expired {
                opcert: our_opcert,
                stamp: ours,
                ..
            } => {
                let (their_counter, our_counter) = (opcert.counter, our_opcert.counter);
                let ours = *ours;
                let newer = theirs > ours;
                if newer && their_counter >= our_counter {
                    self.check_drop(theirs, opcert)
                } else if newer || theirs == ours || their_counter > our_counter {
                    Err(Declined::EachRefuses {
                        their_counter,
                        our_counter,
                        theirs,
                        ours,
                    })
                } else {
                    Err(Declined::Older { theirs, ours })
                }
            }
        }
    }

    /// What was dropped does not return, whatever stamp it comes with.
    fn check_drop(&self, theirs: Stamp, opcert: &OpCert) -> Result<(), Declined> {
        match self.tombstone {
            Some(drop) if theirs <= drop.stamp || drop.vkey == Some(opcert.kes_vkey) => {
                Err(Declined::DroppedSince {
                    key: theirs,
                    drop: drop.stamp,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An agent that has lost its key but knows how far it had come takes no key of before that
    /// with a lower counter: the chain would not take its blocks.
    fn check_known(&self, theirs: Stamp, opcert: &OpCert) -> Result<(), Declined> {
        // One that came without a stamp is of before everything.
        let is_of_before = theirs < self.newest_stamp || theirs == Stamp::default();
        match self.high_water_mark {
            Some(mark) if opcert.counter < mark && is_of_before => Err(Declined::BelowMark {
                their_counter: opcert.counter,
                mark,
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn peer_dropped(&self, now: Now, stamp: Stamp) -> Outcome {
        let (vkey, effects) = match &self.active {
            Active::Empty => (None, vec![Effect::Announce]),
            Active::Dropped { stamp: ours, .. } if *ours == stamp => {
                return self.answered(PeerAnswer::Equal);
            }
            Active::Dropped { .. } => (None, vec![Effect::Announce]),
            // Its secret is wiped already, but nodes may still hold theirs.
            Active::Expired { opcert, .. } => (Some(opcert.kes_vkey), vec![Effect::Announce]),
            Active::Bundle { opcert, .. } => (
                Some(opcert.kes_vkey),
                vec![Effect::WipeActive, Effect::Announce],
            ),
        };
        let newer = match self.active.stamp() {
            Some(ours) if stamp < ours => Err(Declined::Older {
                theirs: stamp,
                ours,
            }),
            // What was active is gone, and this drop was not meant for it.
            None if stamp < self.newest_stamp => Err(Declined::Older {
                theirs: stamp,
                ours: self.newest_stamp,
            }),
            Some(_) | None => check_future(now, stamp),
        };
        if let Err(declined) = newer {
            return self.answered(PeerAnswer::Declined(declined));
        }
        let state = Self {
            active: Active::Dropped { vkey, stamp },
            newest_stamp: self.newest_stamp.max(stamp),
            tombstone: Some(Tombstone { stamp, vkey }),
            ..self.clone()
        };
        self.taken(state, effects)
    }

    fn taken(&self, state: Self, effects: Vec<Effect>) -> Outcome {
        Outcome {
            answer: Some(PeerAnswer::Taken),
            ..self.becomes(state, effects, Vec::new())
        }
    }

    fn answered(&self, answer: PeerAnswer) -> Outcome {
        Outcome {
            answer: Some(answer),
            ..self.unchanged(Vec::new())
        }
    }
}

impl Active {
    /// When it became what it is; `None` where nothing ever was.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Empty => None,
            Self::Bundle { stamp, .. }
            | Self::Expired { stamp, .. }
            | Self::Dropped { stamp, .. } => Some(*stamp),
        }
    }

    /// The certificate of a key that is held or has expired.
    #[must_use]
    pub fn certificate(&self) -> Option<&OpCert> {
        match self {
            Self::Empty | Self::Dropped { .. } => None,
            Self::Bundle { opcert, .. } | Self::Expired { opcert, .. } => Some(opcert),
        }
    }
}

fn check_future(now: Now, stamp: Stamp) -> Result<(), Declined> {
    if stamp.0 > now.stamp.0.saturating_add(FUTURE_TOLERANCE) {
        return Err(Declined::FutureStamp {
            stamp,
            now: now.stamp,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bundle, now, opcert, pendings, rules, vkey};
    use kes_wire::protocol::service::ServiceResult;

    use super::super::{Awaits, Input};
    use super::*;

    /// Holds `active` of stamp 900, with a key scheduled beside it; hears of a key in period 103.
    fn hear(active: Active, input: Input) -> Outcome {
        let [.., pending] = pendings();
        let before = State {
            pending,
            high_water_mark: Some(5),
            newest_stamp: active.stamp().unwrap_or(Stamp(0)),
            tombstone: match active {
                Active::Dropped { vkey, stamp } => Some(Tombstone { stamp, vkey }),
                Active::Empty | Active::Bundle { .. } | Active::Expired { .. } => None,
            },
            active,
        };
        let outcome = before.apply(&rules(), now(1_000, 103), &input).unwrap();
        assert_eq!(
            outcome.state.pending, before.pending,
            "pending is no matter of peers"
        );
        if outcome.answer != Some(PeerAnswer::Taken) {
            assert_eq!(outcome.state, before);
            assert!(!outcome.changed && outcome.effects.is_empty());
        }
        outcome
    }

    fn key(stamp: u64, counter: u64, start: u64, evolution: u32) -> Input {
        Input::PeerKey {
            stamp: Stamp(stamp),
            opcert: opcert(0, 7, counter, start),
            evolution: Evolution(evolution),
        }
    }

    fn drop(stamp: u64) -> Input {
        let stamp = Stamp(stamp);
        Input::PeerDropped { stamp }
    }

    fn name(active: Active, input: Input) -> &'static str {
        hear(active, input).answer.unwrap().name()
    }

    fn dropped() -> Active {
        Active::Dropped {
            vkey: Some(vkey(2)),
            stamp: Stamp(900),
        }
    }

    fn expired() -> Active {
        Active::Expired {
            opcert: opcert(0, 2, 5, 40),
            stamp: Stamp(900),
            since: Stamp(950),
        }
    }

    #[test]
    fn a_key_against_each_state_held() {
        let held = || bundle(2, 5, 60, 43);
        for (case, active, input, expected) in [
            ("first", Active::Empty, key(1, 0, 100, 3), "taken"),
            ("newer, same counter", held(), key(901, 5, 100, 3), "taken"),
            ("newer, higher", held(), key(901, 9, 100, 3), "taken"),
            ("newer, lower", held(), key(901, 4, 100, 3), "each-refuses"),
            ("same stamp", held(), key(900, 9, 100, 3), "each-refuses"),
            ("older, higher", held(), key(899, 6, 100, 3), "each-refuses"),
            ("older, same counter", held(), key(899, 5, 100, 3), "older"),
            ("older, lower", held(), key(899, 4, 100, 3), "older"),
            ("after a drop", dropped(), key(901, 0, 100, 3), "taken"),
            ("at a drop", dropped(), key(900, 9, 100, 3), "dropped-since"),
            (
                "before a drop",
                dropped(),
                key(899, 9, 100, 3),
                "dropped-since",
            ),
            ("over an expired", expired(), key(901, 5, 100, 3), "taken"),
            (
                "lower than an expired",
                expired(),
                key(901, 4, 100, 3),
                "each-refuses",
            ),
            ("expired", held(), key(901, 6, 41, 62), "expired"),
            ("its last period", held(), key(901, 6, 42, 61), "taken"),
            ("early", held(), key(901, 6, 104, 0), "early"),
            ("early and older", held(), key(899, 5, 104, 0), "older"),
            ("ahead", held(), key(901, 6, 100, 4), "ahead"),
            (
                "beyond any key",
                held(),
                key(901, 6, 100, u32::MAX),
                "ahead",
            ),
            (
                "5 minutes ahead",
                held(),
                key(300_001_000, 6, 100, 3),
                "taken",
            ),
            (
                "further ahead",
                held(),
                key(300_001_001, 6, 100, 3),
                "future-stamp",
            ),
            ("for ever", held(), key(u64::MAX, 6, 100, 3), "future-stamp"),
        ] {
            assert_eq!(name(active, input), expected, "{case}");
        }
        let equal = || Input::PeerKey {
            stamp: Stamp(900),
            opcert: opcert(0, 2, 5, 60),
            evolution: Evolution(0),
        };
        assert_eq!(name(held(), equal()), "equal");
        let foreign = Input::PeerKey {
            stamp: Stamp(950),
            opcert: opcert(9, 7, 6, 100),
            evolution: Evolution(3),
        };
        assert_eq!(name(held(), foreign), "foreign");
    }

    #[test]
    fn a_taken_key_keeps_its_stamp_and_is_evolved() {
        for (held, evolves) in [(3, false), (0, true)] {
            let outcome = hear(Active::Empty, key(777, 4, 100, held));
            let mut effects = vec![Effect::MoveReceivedToActive];
            effects.extend(evolves.then_some(Effect::EvolveActive { to: Evolution(3) }));
            effects.push(Effect::Announce);
            assert_eq!(outcome.effects, effects);
            let Active::Bundle {
                stamp, evolution, ..
            } = outcome.state.active
            else {
                panic!("a key")
            };
            assert_eq!((stamp, evolution), (Stamp(777), Evolution(3)));
            assert_eq!(
                outcome.state.high_water_mark,
                Some(5),
                "the mark only rises"
            );
        }
        let raised = hear(Active::Empty, key(777, 8, 100, 3));
        assert_eq!(raised.state.high_water_mark, Some(8));
    }

    /// What an agent knows that has lost its key: the counter 5 was active, at 900, after key 7 had
    /// been dropped at 700.
    fn lost_its_key() -> State {
        State::from_marks(
            Some(5),
            Stamp(900),
            Some(Tombstone {
                stamp: Stamp(700),
                vkey: Some(vkey(7)),
            }),
        )
    }

    #[test]
    fn what_was_dropped_never_returns_and_neither_does_a_lower_counter_of_before() {
        let other = |stamp, counter| Input::PeerKey {
            stamp: Stamp(stamp),
            opcert: opcert(0, 2, counter, 100),
            evolution: Evolution(3),
        };
        for (case, input, expected) in [
            (
                "the dropped key, from before",
                key(600, 6, 100, 3),
                "dropped-since",
            ),
            (
                "the dropped key, stamped anew",
                key(950, 6, 100, 3),
                "dropped-since",
            ),
            (
                "another, of before the drop",
                other(700, 6),
                "dropped-since",
            ),
            ("another, of before, lower", other(800, 4), "below-mark"),
            ("the very one that was active", other(900, 5), "taken"),
            ("another, of before, not lower", other(800, 5), "taken"),
            // It may be the key that had the newest stamp: the mark stays where it is when a newer
            // key with a lower counter comes from a peer.
            ("one of the newest stamp, lower", other(900, 4), "taken"),
            ("word of a drop as new as that", drop(900), "taken"),
            (
                "without a stamp, after a drop",
                other(0, 9),
                "dropped-since",
            ),
            (
                "a newer one, lower: after a drop elsewhere",
                other(901, 4),
                "taken",
            ),
            ("word of the drop that is known", drop(700), "older"),
            ("word of a later one", drop(901), "taken"),
        ] {
            let before = lost_its_key();
            assert_eq!(before.active, Active::Empty, "{case}");
            let outcome = before.apply(&rules(), now(1_000, 103), &input).unwrap();
            assert_eq!(outcome.answer.unwrap().name(), expected, "{case}");
        }
        let last_word = lost_its_key().apply(&rules(), now(1_000, 103), &drop(901));
        let State {
            high_water_mark,
            newest_stamp,
            tombstone,
            active,
            ..
        } = last_word.unwrap().state;
        let restarted = State::from_marks(high_water_mark, newest_stamp, tombstone);
        assert_eq!(
            restarted.active, active,
            "a drop that was the last word stays"
        );
    }

    #[test]
    fn a_key_without_a_stamp_comes_into_an_empty_slot_alone() {
        // It counts as stamped 0, and so may what is known.
        let before = |mark, newest| State::from_marks(mark, Stamp(newest), None);
        for (case, before, counter, expected) in [
            ("nothing is known", State::new(), 0, "taken"),
            ("the mark", before(Some(5), 900), 5, "taken"),
            ("below it", before(Some(5), 900), 4, "below-mark"),
            (
                "below one that had none either",
                before(Some(5), 0),
                4,
                "below-mark",
            ),
        ] {
            let outcome = before.apply(&rules(), now(1_000, 103), &key(0, counter, 100, 3));
            let outcome = outcome.unwrap();
            assert_eq!(outcome.answer.unwrap().name(), expected, "{case}");
            let taken = expected == "taken";
            let stamp = outcome.state.active.stamp();
            assert_eq!(stamp, taken.then_some(Stamp(0)), "{case}");
        }
        for (case, active) in [
            ("a key", bundle(2, 5, 60, 43)),
            ("an expired one", expired()),
            ("a drop", dropped()),
        ] {
            let answer = hear(active, key(0, 9, 100, 3)).answer.unwrap();
            assert_eq!(answer.result(), ServiceResult::KeyOutdated, "{case}");
        }
    }

    #[test]
    fn by_an_untrusted_time_a_key_is_taken_as_it_is_and_an_expired_one_is_asked_for_again() {
        let hear = |period, input| {
            let untrusted = Now {
                is_trusted: false,
                ..now(1_000, period)
            };
            State::new().apply(&rules(), untrusted, &input).unwrap()
        };
        let taken = hear(110, key(777, 4, 100, 3));
        assert_eq!(
            taken.effects,
            [Effect::MoveReceivedToActive, Effect::Announce],
            "not evolved"
        );
        let answer = hear(500, key(777, 4, 100, 3)).answer.unwrap();
        assert_eq!(answer.name(), "expired");
        let awaits = answer.awaits().unwrap();
        assert!(awaits.has_come(now(0, 0), &Active::Empty));
    }

    #[test]
    fn a_drop_against_each_state_held() {
        let held = || bundle(2, 5, 60, 43);
        for (case, active, stamp, expected) in [
            ("nothing here", Active::Empty, 1, "taken"),
            ("newer", held(), 901, "taken"),
            ("a tie", held(), 900, "taken"),
            ("older", held(), 899, "older"),
            ("same drop", dropped(), 900, "equal"),
            ("later drop", dropped(), 901, "taken"),
            ("earlier drop", dropped(), 899, "older"),
            ("after an expired", expired(), 901, "taken"),
            ("far ahead", held(), 300_001_001, "future-stamp"),
            (
                "far ahead, nothing here",
                Active::Empty,
                u64::MAX,
                "future-stamp",
            ),
        ] {
            let outcome = hear(active.clone(), drop(stamp));
            assert_eq!(outcome.answer.unwrap().name(), expected, "{case}");
            if expected == "taken" {
                let vkey = active.certificate().map(|opcert| opcert.kes_vkey);
                let stamp = Stamp(stamp);
                assert_eq!(outcome.state.active, Active::Dropped { vkey, stamp });
                assert_eq!(outcome.state.newest_stamp, stamp);
                assert_eq!(outcome.state.high_water_mark, Some(5));
                assert_eq!(outcome.effects.last(), Some(&Effect::Announce));
            }
        }
    }

    #[test]
    fn what_is_only_too_soon_says_when() {
        let awaits = |input| hear(bundle(2, 5, 60, 43), input).answer.unwrap().awaits();
        assert_eq!(
            awaits(key(901, 6, 110, 0)),
            Some(Awaits::Period(KesPeriod(110)))
        );
        assert_eq!(
            awaits(key(901, 6, 100, 9)),
            Some(Awaits::Period(KesPeriod(109)))
        );
        assert_eq!(
            awaits(drop(400_000_000)),
            Some(Awaits::Time(Stamp(100_000_000)))
        );
        assert_eq!(awaits(key(899, 5, 110, 0)), None);
        let change = awaits(key(901, 4, 100, 3)).unwrap();
        assert_eq!(change, Awaits::Change(Stamp(900)));
        assert!(!change.has_come(now(0, 110), &bundle(2, 5, 60, 43)));
        assert!(change.has_come(now(0, 110), &Active::Empty));
        assert!(
            change.has_come(now(0, 110), &dropped()),
            "a drop at the same stamp"
        );
        assert!(Awaits::Period(KesPeriod(110)).has_come(now(0, 110), &Active::Empty));
        assert!(!Awaits::Period(KesPeriod(110)).has_come(now(0, 109), &Active::Empty));
        assert!(!Awaits::Time(Stamp(5)).has_come(now(4, 0), &Active::Empty));
        assert!(Awaits::Memory.has_come(now(0, 0), &Active::Empty));
    }
}
