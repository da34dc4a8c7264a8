//! **A key becomes active whole or not at all**: its certificate is checked anew, everything that
//! can refuse comes first, and then the slot, the mark and the stamp change together.

use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::{ImportedOpCert, Note, Refusal};

use super::certificate::{Begins, Checked};
use super::{Active, Effect, Now, Outcome, Pending, Rules, State, Tombstone, wording};

impl State {
    pub(super) fn activate(
        &self,
        rules: &Rules,
        now: Now,
        import: Option<&ImportedOpCert>,
        allow_lower_counter: bool,
    ) -> Result<Outcome, Refusal> {
        let checked = match import {
            Some(import) => {
                if let Some(notes) = self.is_activated(now, &import.opcert) {
                    return Ok(self.unchanged(notes));
                }
                self.check_import(rules, now, import, allow_lower_counter)?
            }
            None => self.check_imported(rules, now, allow_lower_counter)?,
        };
        Ok(self.install(rules, now, checked))
    }

    /// What to say where the certificate is the active or the scheduled one already; `None` where
    /// it is neither.
    fn is_activated(&self, now: Now, opcert: &OpCert) -> Option<Vec<Note>> {
        if matches!(&self.pending, Pending::Scheduled { opcert: held } if held == opcert) {
            return Some(vec![wording::scheduled(opcert, now.period)]);
        }
        if matches!(&self.active, Active::Bundle { opcert: held, .. } if held == opcert) {
            // Another key waits: perhaps this is the old certificate's file by mistake.
            let waiting = self.pending.vkey();
            return Some(waiting.map(wording::other_key_waits).into_iter().collect());
        }
        None
    }

    /// Checks once more the certificate that was imported before.
    fn check_imported(
        &self,
        rules: &Rules,
        now: Now,
        allow_lower_counter: bool,
    ) -> Result<Checked, Refusal> {
        match &self.pending {
            Pending::Empty => Err(wording::nothing_pending_to_activate()),
            Pending::Key { vkey } => Err(wording::nothing_imported(vkey)),
            Pending::Scheduled { opcert } => Err(wording::scheduled_already(opcert, now.period)),
            Pending::Certified { opcert } => self.check(
                rules,
                now,
                &opcert.kes_vkey,
                opcert,
                None,
                allow_lower_counter,
            ),
        }
    }

    /// Why the pending certificate would not be activated now, if a rule is against it: a key with
    /// a higher counter has come meanwhile, or its last period has passed.
    #[must_use]
    pub fn pending_is_refused(&self, rules: &Rules, now: Now) -> Option<Refusal> {
        let Pending::Certified { .. } = self.pending else {
            return None;
        };
        let allow_lower_counter = false;
        self.check_imported(rules, now, allow_lower_counter).err()
    }

    /// Makes the pending key active with its checked certificate, or schedules it.
    pub(super) fn install(&self, rules: &Rules, now: Now, checked: Checked) -> Outcome {
        let opcert = checked.opcert();
        let mut state = self.clone();
        let mut effects = Vec::new();
        match checked.begins() {
            Begins::Now { evolution } => {
                let stamp = self.next_stamp(now);
                state.pending = Pending::Empty;
                state.active = Active::Bundle {
                    opcert,
                    evolution,
                    stamp,
                };
                state.newest_stamp = stamp;
                // Never below the mark: the gate let it pass, or the operator lowers the mark.
                state.high_water_mark = Some(opcert.counter);
                effects.push(Effect::MovePendingToActive);
                if evolution.0 > 0 {
                    effects.push(Effect::EvolveActive { to: evolution });
                }
                effects.push(Effect::Announce);
                self.becomes(state, effects, checked.into_notes())
            }
            Begins::Later { periods_to_go } => {
                state.pending = Pending::Scheduled { opcert };
                if checked.lowers_mark() {
                    // The operator's word is kept for the day when the period begins.
                    state.high_water_mark = Some(opcert.counter);
                }
                let mut notes = checked.into_notes();
                notes.push(wording::scheduled(&opcert, now.period));
                notes.push(self.note_of_gap(rules, &opcert, periods_to_go));
                self.becomes(state, effects, notes)
            }
        }
    }

    /// Whether the active key lasts until the scheduled one begins.
    fn note_of_gap(&self, rules: &Rules, next: &OpCert, periods_to_go: u64) -> Note {
        match &self.active {
            Active::Bundle { opcert, .. } => {
                let expiry = rules.expiry(opcert);
                match next.start_period.0.checked_sub(expiry.0) {
                    Some(periods) if periods > 0 => wording::gap(next, expiry, periods),
                    Some(_) | None => wording::no_gap(next, expiry),
                }
            }
            Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => {
                wording::gap_without_active(next, periods_to_go)
            }
        }
    }

    pub(super) fn drop_active(&self, now: Now) -> Result<Outcome, Refusal> {
        let (vkey, effects) = match &self.active {
            Active::Empty => return Err(wording::nothing_active()),
            Active::Dropped { .. } => return Err(wording::dropped_already()),
            Active::Bundle { opcert, .. } => {
                (opcert.kes_vkey, vec![Effect::WipeActive, Effect::Announce])
            }
            // Its secret is wiped already, but nodes may still hold theirs.
            Active::Expired { opcert, .. } => (opcert.kes_vkey, vec![Effect::Announce]),
        };
        let stamp = self.next_stamp(now);
        let vkey = Some(vkey);
        let state = Self {
            active: Active::Dropped { vkey, stamp },
            newest_stamp: stamp,
            tombstone: Some(Tombstone { stamp, vkey }),
            ..self.clone()
        };
        let notes = match &self.pending {
            Pending::Scheduled { opcert } => vec![wording::still_scheduled(opcert)],
            Pending::Empty | Pending::Key { .. } | Pending::Certified { .. } => Vec::new(),
        };
        Ok(self.becomes(state, effects, notes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::testing::{
        activate, at, bundle, codes, import, now, opcert, pendings, replacing, rules, vkey,
    };
    use super::*;
    use kes_wire::period::{Evolution, KesPeriod};
    use kes_wire::protocol::control::rotation::RefusalCode;
    use kes_wire::protocol::stamp::Stamp;

    fn with(pending: Pending, active: Active, mark: Option<u64>) -> State {
        State {
            pending,
            active,
            high_water_mark: mark,
            newest_stamp: Stamp(1_000),
            tombstone: None,
        }
    }

    #[test]
    fn activates_at_the_evolution_of_the_day() {
        for (period, evolves) in [(100, None), (101, Some(1)), (161, Some(61))] {
            let [_, _, certified, _] = pendings();
            let before = with(certified, bundle(2, 4, 60, 40), Some(4));
            let outcome = at(&before, period, activate(None)).unwrap();
            let evolution = Evolution(evolves.unwrap_or(0));
            let mut expected = vec![Effect::MovePendingToActive];
            expected.extend(evolves.map(|e| Effect::EvolveActive { to: Evolution(e) }));
            expected.push(Effect::Announce);
            assert_eq!(outcome.effects, expected);
            assert!(outcome.changed);
            assert_eq!(
                outcome.state,
                State {
                    pending: Pending::Empty,
                    active: Active::Bundle {
                        opcert: opcert(0, 1, 5, 100),
                        evolution,
                        stamp: Stamp(1_001),
                    },
                    high_water_mark: Some(5),
                    newest_stamp: Stamp(1_001),
                    tombstone: None,
                }
            );
        }
    }

    #[test]
    fn refuses_where_there_is_nothing_to_activate() {
        let [empty, key, _, scheduled] = pendings();
        for (pending, expected) in [
            (empty, RefusalCode::NothingPending),
            (key, RefusalCode::NothingImported),
            (scheduled, RefusalCode::Scheduled),
        ] {
            let state = with(pending, Active::Empty, None);
            let refusal = at(&state, 100, activate(None)).unwrap_err();
            assert_eq!(refusal.code, expected);
        }
    }

    #[test]
    fn activation_asks_every_rule_again() {
        let [_, _, certified, _] = pendings();
        let state = with(certified.clone(), Active::Empty, None);
        let refusal = at(&state, 162, activate(None)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Expired);
        let state = with(certified.clone(), Active::Empty, Some(6));
        let refusal = at(&state, 100, activate(None)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::CounterTooLow);
        // As after a restart with another pool's cold key.
        let state = with(certified, Active::Empty, None);
        let other = Rules {
            cold_vkey: super::super::testing::cold(9).vkey,
            ..rules()
        };
        let refusal = state.apply(&other, now(1, 100), &activate(None));
        assert_eq!(refusal.unwrap_err().code, RefusalCode::BadSignature);
    }

    #[test]
    fn what_is_activated_already_is_unchanged() {
        let [empty, key, certified, scheduled] = pendings();
        let active = bundle(2, 4, 60, 40);
        let same = activate(Some(import(opcert(0, 2, 4, 60))));
        for (pending, notes) in [
            (empty, vec![]),
            (key, vec!["other-key-waits"]),
            (certified, vec!["other-key-waits"]),
            (scheduled.clone(), vec!["other-key-waits"]),
        ] {
            let outcome = at(&with(pending, active.clone(), Some(4)), 100, same.clone()).unwrap();
            assert!(!outcome.changed && outcome.effects.is_empty());
            assert_eq!(codes(&outcome), notes);
        }
        let state = with(scheduled, active, Some(4));
        let outcome = at(&state, 100, activate(Some(import(opcert(0, 1, 5, 110))))).unwrap();
        assert!(!outcome.changed && outcome.effects.is_empty());
        assert_eq!(codes(&outcome), ["scheduled"]);
    }

    #[test]
    fn with_a_certificate_it_imports_and_activates() {
        let [empty, key, certified, scheduled] = pendings();
        let held = opcert(0, 1, 5, 100);
        let other = opcert(0, 1, 6, 100);
        for (case, pending, import, expected) in [
            (
                "empty",
                &empty,
                import(held),
                Some(RefusalCode::NothingPending),
            ),
            ("key", &key, import(held), None),
            ("certified, same", &certified, import(held), None),
            (
                "certified, other",
                &certified,
                import(other),
                Some(RefusalCode::AlreadyImported),
            ),
            ("certified, replacing", &certified, replacing(other), None),
            (
                "scheduled, other",
                &scheduled,
                replacing(other),
                Some(RefusalCode::Scheduled),
            ),
            (
                "another key",
                &key,
                import(opcert(0, 2, 5, 100)),
                Some(RefusalCode::OtherKesKey),
            ),
        ] {
            let state = with(pending.clone(), Active::Empty, None);
            match at(&state, 100, activate(Some(import))) {
                Ok(outcome) => {
                    assert_eq!(expected, None, "{case}");
                    assert_eq!(outcome.state.pending, Pending::Empty, "{case}");
                    assert_eq!(outcome.state.high_water_mark, Some(import.opcert.counter));
                    assert!(
                        matches!(outcome.state.active, Active::Bundle { opcert, .. } if opcert == import.opcert),
                        "{case}"
                    );
                }
                Err(refusal) => assert_eq!(Some(refusal.code), expected, "{case}"),
            }
        }
    }

    #[test]
    fn a_later_start_is_scheduled_and_a_gap_is_told() {
        let active_until = |expiry: u64| bundle(2, 4, expiry - 62, 0);
        let stamp = Stamp(1);
        let dropped = Active::Dropped {
            vkey: Some(vkey(2)),
            stamp,
        };
        for (active, start, gap, periods) in [
            (active_until(110), 110, "no-gap", ""),
            (active_until(111), 110, "no-gap", ""),
            (active_until(109), 110, "gap", "1 period"),
            (active_until(101), 110, "gap", "9 periods"),
            (active_until(101), u64::MAX, "gap", ""),
            (Active::Empty, 110, "gap", "10 periods"),
            (dropped, 110, "gap", "10 periods"),
        ] {
            let [_, key, ..] = pendings();
            let state = with(key, active.clone(), Some(4));
            let next = opcert(0, 1, 5, start);
            let outcome = at(&state, 100, activate(Some(import(next)))).unwrap();
            assert!(outcome.effects.is_empty(), "the old key keeps forging");
            let expected = State {
                pending: Pending::Scheduled { opcert: next },
                ..state
            };
            assert_eq!(outcome.state, expected);
            assert_eq!(
                codes(&outcome),
                ["starts-later", "scheduled", gap],
                "{active:?}"
            );
            assert!(outcome.notes[2].sentence.contains(periods), "{active:?}");
        }
    }

    #[test]
    fn the_mark_is_lowered_when_the_operator_says_so() {
        let stamp = Stamp(1);
        let dropped = Active::Dropped {
            vkey: Some(vkey(2)),
            stamp,
        };
        for start in [100, 110] {
            let [_, key, ..] = pendings();
            let state = with(key, dropped.clone(), Some(9));
            let import = Some(import(opcert(0, 1, 5, start)));
            let allow_lower_counter = true;
            let input = Input::Activate {
                import,
                allow_lower_counter,
            };
            let outcome = at(&state, 100, input).unwrap();
            assert_eq!(outcome.state.high_water_mark, Some(5), "start {start}");
            assert!(codes(&outcome).contains(&"counter-lowered"));
        }
    }

    #[test]
    fn a_drop_leaves_a_tombstone_with_a_newer_stamp() {
        let active = bundle(2, 4, 60, 40);
        let expired = Active::Expired {
            opcert: opcert(0, 2, 4, 60),
            stamp: Stamp(7),
            since: Stamp(8),
        };
        for (active, effects) in [
            (active, vec![Effect::WipeActive, Effect::Announce]),
            (expired, vec![Effect::Announce]),
        ] {
            let [.., scheduled] = pendings();
            let state = with(scheduled, active, Some(4));
            for (time, stamp) in [(5, Stamp(1_001)), (9_999, Stamp(9_999))] {
                let outcome = state
                    .apply(&rules(), now(time, 100), &Input::DropActive)
                    .unwrap();
                assert_eq!(outcome.effects, effects);
                let vkey = Some(vkey(2));
                assert_eq!(outcome.state.active, Active::Dropped { vkey, stamp });
                assert_eq!(outcome.state.newest_stamp, stamp);
                assert_eq!(outcome.state.high_water_mark, Some(4));
                assert_eq!(codes(&outcome), ["still-scheduled"]);
                let again = at(&outcome.state, 100, Input::DropActive).unwrap_err();
                assert_eq!(again.code, RefusalCode::NothingActive);
            }
        }
        let refusal = at(&State::new(), 100, Input::DropActive).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NothingActive);
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let start_period = KesPeriod(u64::MAX);
        let next = opcert(0, 1, u64::MAX, start_period.0);
        for active in [Active::Empty, bundle(2, 0, u64::MAX - 3, 0)] {
            for period in [0, u64::MAX] {
                let [_, key, ..] = pendings();
                let state = with(key, active.clone(), Some(0));
                at(&state, period, activate(Some(import(next)))).unwrap();
            }
        }
    }
}
