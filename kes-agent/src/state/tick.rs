//! **A key is never behind its period, and never un-evolved**: what time brings about, begun,
//! evolved and expired in one step, so that a second tick at the same moment changes nothing.

use kes_wire::protocol::control::rotation::Refusal;

use super::certificate::{Checked, Phase};
use super::{Active, Effect, Now, Outcome, Pending, Rules, State, wording};

impl State {
    pub(super) fn tick(&self, rules: &Rules, now: Now) -> Outcome {
        if !now.is_trusted {
            // What a wrong clock would evolve or wipe cannot be had back.
            return self.unchanged(Vec::new());
        }
        // A scheduled key takes the active one's place; only a key that stays has to age.
        let begun = self.begin_scheduled(rules, now);
        let aged = begun.state.age_active(rules, now);
        self.becomes(
            aged.state,
            [begun.effects, aged.effects].concat(),
            [begun.notes, aged.notes].concat(),
        )
    }

    /// Installs the scheduled key where its first period has begun. Every rule is asked once more:
    /// a key that breaks one by now stays, as one that is only certified, and the operator is told.
    fn begin_scheduled(&self, rules: &Rules, now: Now) -> Outcome {
        let Pending::Scheduled { opcert } = self.pending else {
            return self.unchanged(Vec::new());
        };
        match rules.phase(&opcert, now.period) {
            Phase::Early { .. } => return self.unchanged(Vec::new()),
            Phase::Signing { .. } | Phase::Expired => {}
        }
        let allow_lower_counter = false;
        let checked: Result<Checked, Refusal> = self.check(
            rules,
            now,
            &opcert.kes_vkey,
            &opcert,
            None,
            allow_lower_counter,
        );
        match checked {
            Ok(checked) => self.install(rules, now, checked),
            Err(refusal) => {
                let state = Self {
                    pending: Pending::Certified { opcert },
                    ..self.clone()
                };
                let note = wording::not_activated(&opcert, &refusal);
                self.becomes(state, Vec::new(), vec![note])
            }
        }
    }

    /// Evolves the active key to its period or lets it expire.
    fn age_active(&self, rules: &Rules, now: Now) -> Outcome {
        let Active::Bundle {
            opcert,
            evolution: held,
            stamp,
        } = self.active
        else {
            return self.unchanged(Vec::new());
        };
        let (active, effect) = match rules.phase(&opcert, now.period) {
            Phase::Signing { evolution } if evolution > held => {
                let bundle = Active::Bundle {
                    opcert,
                    evolution,
                    stamp,
                };
                (bundle, Effect::EvolveActive { to: evolution })
            }
            // The clock went back: the evolution that it asks for cannot be had any more.
            Phase::Signing { .. } | Phase::Early { .. } => return self.unchanged(Vec::new()),
            // Not announced: nodes know the expiry from the certificate.
            Phase::Expired => {
                let since = now.stamp;
                let expired = Active::Expired {
                    opcert,
                    stamp,
                    since,
                };
                (expired, Effect::WipeActive)
            }
        };
        let state = Self {
            active,
            ..self.clone()
        };
        self.becomes(state, vec![effect], Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::testing::{at, bundle, codes, opcert, rules};
    use super::*;
    use kes_wire::period::Evolution;
    use kes_wire::protocol::stamp::Stamp;

    fn state(pending: Pending, active: Active, mark: u64) -> State {
        State {
            pending,
            active,
            high_water_mark: Some(mark),
            newest_stamp: Stamp(1_000),
            tombstone: None,
        }
    }

    #[test]
    fn an_untrusted_time_changes_nothing() {
        let scheduled = Pending::Scheduled {
            opcert: opcert(0, 1, 6, 110),
        };
        let before = state(scheduled, bundle(2, 5, 48, 50), 5);
        for period in [0, 100, 110, 1_000] {
            let untrusted = Now {
                is_trusted: false,
                ..super::super::testing::now(1, period)
            };
            let outcome = before.apply(&rules(), untrusted, &Input::Tick).unwrap();
            assert_eq!(outcome, before.unchanged(Vec::new()), "in period {period}");
        }
    }

    #[test]
    fn evolves_and_expires() {
        let before = state(Pending::Empty, bundle(1, 5, 100, 3), 5);
        for (period, expected) in [
            (0, 3),
            (99, 3),
            (100, 3),
            (102, 3),
            (103, 3),
            (104, 4),
            (161, 61),
        ] {
            let outcome = at(&before, period, Input::Tick).unwrap();
            let Active::Bundle { evolution, .. } = outcome.state.active else {
                panic!("still there in period {period}");
            };
            assert_eq!(evolution, Evolution(expected), "in period {period}");
            assert_eq!(outcome.changed, expected > 3);
            assert_eq!(outcome.effects.is_empty(), !outcome.changed);
        }
        for period in [162, 163, u64::MAX] {
            let outcome = at(&before, period, Input::Tick).unwrap();
            assert_eq!(outcome.effects, [Effect::WipeActive]);
            assert_eq!(
                outcome.state.active,
                Active::Expired {
                    opcert: opcert(0, 1, 5, 100),
                    stamp: Stamp(900),
                    since: Stamp(1),
                }
            );
            assert_eq!(outcome.state.high_water_mark, Some(5));
            // A clock set back does not bring the secret back.
            let later = at(&outcome.state, 100, Input::Tick).unwrap();
            assert!(!later.changed);
        }
    }

    #[test]
    fn a_scheduled_key_begins_with_its_period() {
        let scheduled = Pending::Scheduled {
            opcert: opcert(0, 1, 6, 110),
        };
        // The old key expires on the very day.
        let before = state(scheduled, bundle(2, 5, 48, 50), 5);
        let still = at(&before, 109, Input::Tick).unwrap();
        assert_eq!(still.effects, [Effect::EvolveActive { to: Evolution(61) }]);
        assert_eq!(still.state.pending, before.pending);
        for (period, evolved) in [(110, None), (112, Some(2))] {
            let outcome = at(&before, period, Input::Tick).unwrap();
            let mut expected = vec![Effect::MovePendingToActive];
            expected.extend(evolved.map(|e| Effect::EvolveActive { to: Evolution(e) }));
            expected.push(Effect::Announce);
            assert_eq!(outcome.effects, expected);
            assert_eq!(outcome.state.pending, Pending::Empty);
            assert_eq!(outcome.state.high_water_mark, Some(6));
            assert_eq!(
                outcome.state.active,
                Active::Bundle {
                    opcert: opcert(0, 1, 6, 110),
                    evolution: Evolution(evolved.unwrap_or(0)),
                    stamp: Stamp(1_001),
                }
            );
        }
    }

    #[test]
    fn a_scheduled_key_that_breaks_a_rule_by_now_is_kept_but_not_activated() {
        let scheduled = Pending::Scheduled {
            opcert: opcert(0, 1, 6, 110),
        };
        let active = bundle(2, 7, 60, 40);
        let foreign = Rules {
            cold_vkey: super::super::testing::cold(9).vkey,
            ..rules()
        };
        for (case, mark, period, rules, why) in [
            (
                "another key came with a higher counter",
                7,
                110,
                rules(),
                "counter",
            ),
            ("the agent slept for too long", 6, 172, rules(), "172"),
            ("another pool's agent by now", 6, 110, foreign, "cold"),
        ] {
            let before = state(scheduled.clone(), active.clone(), mark);
            let now = super::super::testing::now(1, period);
            let outcome = before.apply(&rules, now, &Input::Tick).unwrap();
            assert_eq!(codes(&outcome), ["not-activated"], "{case}");
            let sentence = &outcome.notes[0].sentence;
            assert!(sentence.contains(why), "{case}: {sentence}");
            // Not only once: it stays to be seen until the operator has done something.
            let refusal = outcome.state.pending_is_refused(&rules, now).unwrap();
            assert!(refusal.sentence.contains(why), "{case}: {refusal:?}");
            assert_eq!(before.pending_is_refused(&rules, now), None, "{case}");
            let opcert = opcert(0, 1, 6, 110);
            assert_eq!(
                outcome.state.pending,
                Pending::Certified { opcert },
                "{case}"
            );
            let aged = active_after(&active, &rules, period);
            assert_eq!(outcome.state.active, aged, "{case}: the old one goes on");
            let again = outcome.state.apply(&rules, now, &Input::Tick).unwrap();
            assert!(!again.changed && again.notes.is_empty(), "{case}");
        }
    }

    fn active_after(active: &Active, rules: &Rules, period: u64) -> Active {
        let alone = state(Pending::Empty, active.clone(), 0);
        let now = super::super::testing::now(1, period);
        alone.apply(rules, now, &Input::Tick).unwrap().state.active
    }
}
