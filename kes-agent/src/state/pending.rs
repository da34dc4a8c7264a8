//! **Nothing in the pending slot is lost by a mistake**: a key is replaced only where the operator
//! asked for it, a scheduled one not even then, and a certificate only by `replace`.

use kes_wire::protocol::control::rotation::{IfPending, ImportedOpCert, Note, Refusal};
use kes_wire::sum6kes::VerificationKey;

use super::certificate::Checked;
use super::{Effect, Now, Outcome, Pending, Rules, State, wording};

/// What the rule of `keygen` says where it does not refuse.
enum MayGenerate {
    /// Generate. The note tells what is lost by replacing, as the operator asked.
    Yes { lost: Option<Note> },
    /// A key waits and the operator wants to keep it.
    KeepPending,
}

impl State {
    /// The pending key's verification key, for the cold machine.
    ///
    /// # Errors
    /// The refusal where nothing is pending.
    pub fn exported(&self) -> Result<&VerificationKey, Refusal> {
        self.pending
            .vkey()
            .ok_or_else(wording::nothing_pending_to_export)
    }

    /// Whether a key may be generated into the pending slot.
    fn may_generate(&self, now: Now, if_pending: IfPending) -> Result<MayGenerate, Refusal> {
        match (&self.pending, if_pending) {
            (Pending::Empty, _) => Ok(MayGenerate::Yes { lost: None }),
            (_, IfPending::Keep) => Ok(MayGenerate::KeepPending),
            (Pending::Scheduled { opcert }, IfPending::Refuse | IfPending::Replace) => {
                Err(wording::scheduled_blocks_keygen(opcert, now.period))
            }
            (Pending::Key { .. } | Pending::Certified { .. }, IfPending::Replace) => {
                Ok(MayGenerate::Yes {
                    lost: self.note_of_unused_counter(),
                })
            }
            (Pending::Key { vkey }, IfPending::Refuse) => Err(wording::key_pending(vkey)),
            (Pending::Certified { opcert }, IfPending::Refuse) => {
                Err(wording::certified_pending(opcert))
            }
        }
    }

    pub(super) fn keygen(&self, now: Now, if_pending: IfPending) -> Result<Outcome, Refusal> {
        Ok(match self.may_generate(now, if_pending)? {
            // The waiting key stays until the new one is there: generating may fail.
            MayGenerate::Yes { .. } => {
                self.becomes(self.clone(), vec![Effect::Generate], Vec::new())
            }
            MayGenerate::KeepPending => self.unchanged(Vec::new()),
        })
    }

    pub(super) fn generated(
        &self,
        now: Now,
        vkey: VerificationKey,
        if_pending: IfPending,
    ) -> Result<Outcome, Refusal> {
        Ok(match self.may_generate(now, if_pending)? {
            MayGenerate::Yes { lost } => {
                let state = Self {
                    pending: Pending::Key { vkey },
                    ..self.clone()
                };
                let notes = lost.into_iter().collect();
                self.becomes(state, vec![Effect::MoveGeneratedToPending], notes)
            }
            MayGenerate::KeepPending => self.unchanged(Vec::new()),
        })
    }

    pub(super) fn import_opcert(
        &self,
        rules: &Rules,
        now: Now,
        import: &ImportedOpCert,
        allow_lower_counter: bool,
    ) -> Result<Outcome, Refusal> {
        if self.pending
            == (Pending::Scheduled {
                opcert: import.opcert,
            })
        {
            return Ok(self.unchanged(vec![wording::scheduled(&import.opcert, now.period)]));
        }
        let checked = self.check_import(rules, now, import, allow_lower_counter)?;
        let state = Self {
            pending: Pending::Certified {
                opcert: checked.opcert(),
            },
            ..self.clone()
        };
        Ok(self.becomes(state, Vec::new(), checked.into_notes()))
    }

    /// Checks a certificate that an operator brings for the pending key. It changes nothing: what
    /// becomes of the certificate is the caller's.
    pub(super) fn check_import(
        &self,
        rules: &Rules,
        now: Now,
        import: &ImportedOpCert,
        allow_lower_counter: bool,
    ) -> Result<Checked, Refusal> {
        let check = |wanted| {
            self.check(
                rules,
                now,
                wanted,
                &import.opcert,
                import.cold_vkey.as_ref(),
                allow_lower_counter,
            )
        };
        match &self.pending {
            Pending::Empty => Err(wording::nothing_pending_for(&import.opcert, &self.active)),
            Pending::Key { vkey } => check(vkey),
            Pending::Scheduled { opcert } => {
                Err(wording::scheduled_blocks_import(opcert, now.period))
            }
            Pending::Certified { opcert: held } => {
                let checked = check(&held.kes_vkey)?;
                if *held == import.opcert {
                    Ok(checked)
                } else if import.replace {
                    Ok(checked.with_note(self.note_of_skipped_counter(import.opcert.counter)))
                } else {
                    Err(wording::already_imported(held, &import.opcert))
                }
            }
        }
    }

    pub(super) fn drop_pending(&self) -> Result<Outcome, Refusal> {
        if self.pending == Pending::Empty {
            return Err(wording::nothing_pending_to_drop());
        }
        let state = Self {
            pending: Pending::Empty,
            ..self.clone()
        };
        let notes = self.note_of_unused_counter().into_iter().collect();
        Ok(self.becomes(state, vec![Effect::WipePending], notes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::testing::{at, import, now, opcert, pendings, replacing, rules, vkey};
    use super::*;
    use kes_wire::protocol::control::rotation::RefusalCode;

    const REFUSE: IfPending = IfPending::Refuse;
    const REPLACE: IfPending = IfPending::Replace;
    const KEEP: IfPending = IfPending::Keep;

    #[test]
    fn keygen_replaces_only_what_it_may() {
        let [empty, key, certified, scheduled] = pendings();
        for (pending, if_pending, expected) in [
            (&empty, REFUSE, Ok(true)),
            (&empty, REPLACE, Ok(true)),
            (&empty, KEEP, Ok(true)),
            (&key, REFUSE, Err(RefusalCode::AlreadyPending)),
            (&key, REPLACE, Ok(true)),
            (&key, KEEP, Ok(false)),
            (&certified, REFUSE, Err(RefusalCode::AlreadyPending)),
            (&certified, REPLACE, Ok(true)),
            (&certified, KEEP, Ok(false)),
            (&scheduled, REFUSE, Err(RefusalCode::Scheduled)),
            (&scheduled, REPLACE, Err(RefusalCode::Scheduled)),
            (&scheduled, KEEP, Ok(false)),
        ] {
            let state = State {
                pending: pending.clone(),
                ..State::new()
            };
            let asked = at(&state, 100, Input::Keygen { if_pending });
            let vkey = vkey(7);
            let done = at(&state, 100, Input::Generated { vkey, if_pending });
            match expected {
                Ok(true) => {
                    let asked = asked.unwrap();
                    assert_eq!(asked.effects, [Effect::Generate]);
                    assert_eq!(asked.state, state, "nothing happens before there is a key");
                    let done = done.unwrap();
                    assert_eq!(done.effects, [Effect::MoveGeneratedToPending]);
                    assert_eq!(done.state.pending, Pending::Key { vkey });
                }
                Ok(false) => {
                    for outcome in [asked.unwrap(), done.unwrap()] {
                        assert_eq!(outcome, state.unchanged(Vec::new()));
                    }
                }
                Err(code) => {
                    assert_eq!(asked.unwrap_err().code, code);
                    assert_eq!(done.unwrap_err().code, code);
                }
            }
        }
    }

    #[test]
    fn a_scheduled_key_is_given_up_by_drop_pending_alone() {
        let [.., scheduled] = pendings();
        let state = State {
            pending: scheduled,
            ..State::new()
        };
        let if_pending = REPLACE;
        let refusal = at(&state, 100, Input::Keygen { if_pending }).unwrap_err();
        assert!(refusal.next_step.contains("kes-cli drop-pending"));
        let dropped = at(&state, 100, Input::DropPending).unwrap();
        assert_eq!(dropped.state.pending, Pending::Empty);
        assert_eq!(dropped.effects, [Effect::WipePending]);
    }

    #[test]
    fn throwing_a_number_away_is_told() {
        let state = |mark| State {
            pending: Pending::Certified {
                opcert: opcert(0, 1, 6, 100),
            },
            high_water_mark: mark,
            ..State::new()
        };
        let vkey = vkey(7);
        let if_pending = REPLACE;
        for input in [Input::DropPending, Input::Generated { vkey, if_pending }] {
            for (mark, noted) in [(None, true), (Some(5), true), (Some(6), false)] {
                let outcome = at(&state(mark), 100, input.clone()).unwrap();
                let told = outcome.notes.iter().any(|n| n.code == "counter-unused");
                assert_eq!(told, noted, "{input:?} with mark {mark:?}");
            }
        }
    }

    #[test]
    fn drop_pending_needs_something() {
        let refusal = at(&State::new(), 100, Input::DropPending).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NothingPending);
    }

    fn import_into(
        pending: &Pending,
        mark: Option<u64>,
        import: ImportedOpCert,
    ) -> Result<Outcome, Refusal> {
        let state = State {
            pending: pending.clone(),
            high_water_mark: mark,
            ..State::new()
        };
        let allow_lower_counter = false;
        state.apply(
            &rules(),
            now(1, 100),
            &Input::ImportOpcert {
                import,
                allow_lower_counter,
            },
        )
    }

    #[test]
    fn import_into_each_pending() {
        let [empty, key, certified, scheduled] = pendings();
        let held = opcert(0, 1, 5, 100);
        let other = opcert(0, 1, 6, 100);
        let waiting = opcert(0, 1, 5, 110);
        for (case, pending, import, expected) in [
            (
                "empty",
                &empty,
                import(held),
                Err(RefusalCode::NothingPending),
            ),
            ("key", &key, import(held), Ok(true)),
            ("same", &certified, import(held), Ok(false)),
            ("same, replacing", &certified, replacing(held), Ok(false)),
            (
                "other",
                &certified,
                import(other),
                Err(RefusalCode::AlreadyImported),
            ),
            ("other, replacing", &certified, replacing(other), Ok(true)),
            ("scheduled, same", &scheduled, import(waiting), Ok(false)),
            (
                "scheduled, other",
                &scheduled,
                import(other),
                Err(RefusalCode::Scheduled),
            ),
            (
                "scheduled, replacing",
                &scheduled,
                replacing(other),
                Err(RefusalCode::Scheduled),
            ),
            (
                "an invalid one is called so first",
                &certified,
                import(opcert(9, 1, 6, 100)),
                Err(RefusalCode::BadSignature),
            ),
        ] {
            match import_into(pending, None, import) {
                Ok(outcome) => {
                    assert_eq!(Ok(outcome.changed), expected, "{case}");
                    assert!(outcome.effects.is_empty(), "{case}");
                    if outcome.changed {
                        let opcert = import.opcert;
                        assert_eq!(
                            outcome.state.pending,
                            Pending::Certified { opcert },
                            "{case}"
                        );
                    }
                }
                Err(refusal) => assert_eq!(Err(refusal.code), expected, "{case}"),
            }
        }
    }

    #[test]
    fn a_replaced_certificate_may_leave_a_gap_in_the_numbers() {
        let certified = Pending::Certified {
            opcert: opcert(0, 1, 6, 100),
        };
        for (mark, next, noted) in [
            (Some(5), 7, true),
            (Some(5), 6, false),
            (Some(5), 5, false),
            (Some(6), 7, false),
            (None, 7, true),
        ] {
            let outcome =
                import_into(&certified, mark, replacing(opcert(0, 1, next, 101))).unwrap();
            let told = outcome.notes.iter().any(|n| n.code == "counter-unused");
            assert_eq!(told, noted, "{next} over 6 with mark {mark:?}");
        }
    }

    #[test]
    fn a_lower_counter_is_imported_only_where_it_is_allowed() {
        for (allow_lower_counter, expected) in
            [(false, Err(RefusalCode::CounterTooLow)), (true, Ok(()))]
        {
            let [_, pending, ..] = pendings();
            let state = State {
                pending,
                high_water_mark: Some(9),
                ..State::new()
            };
            let import = import(opcert(0, 1, 5, 100));
            let input = Input::ImportOpcert {
                import,
                allow_lower_counter,
            };
            let outcome = at(&state, 100, input);
            assert_eq!(
                outcome.as_ref().map(|_| ()).map_err(|r| r.code.clone()),
                expected
            );
            if let Ok(outcome) = outcome {
                assert_eq!(
                    outcome.state.high_water_mark,
                    Some(9),
                    "not before it is activated"
                );
            }
        }
    }
}
