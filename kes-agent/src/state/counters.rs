//! **A certificate whose counter is below the high-water mark is refused**, unless no key is
//! active or expired and the operator allows it: then the mark is set to that counter.
//!
//! The mark is the counter that was active last. It stands in for what the agent cannot see, the
//! last counter on the chain: the chain accepts that one or exactly that plus one, and a restored
//! counter file or an unused certificate is how operators get it wrong. So equal passes, a jump
//! passes with a note, and lower, which on the chain would end forging at once, does not.

use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::{Note, Refusal};

use super::{Active, Pending, State, wording};

/// What the gate says of a counter that it lets pass.
pub(super) struct Passed {
    /// The counter is below the mark.
    pub(super) lowers_mark: bool,
    /// What the operator should know.
    pub(super) note: Option<Note>,
}

impl State {
    /// Lets a counter pass or refuses it.
    ///
    /// # Errors
    /// `counter-too-low`; what to do next depends on whether a key is active.
    pub(super) fn counter_gate(
        &self,
        counter: u64,
        allow_lower_counter: bool,
    ) -> Result<Passed, Refusal> {
        let Some(mark) = self.high_water_mark else {
            return Ok(Passed {
                lowers_mark: false,
                note: Some(wording::counter_unknown(counter)),
            });
        };
        if counter < mark {
            let vacant = match self.active {
                Active::Empty | Active::Dropped { .. } => true,
                Active::Bundle { .. } | Active::Expired { .. } => false,
            };
            return if vacant && allow_lower_counter {
                Ok(Passed {
                    lowers_mark: true,
                    note: Some(wording::counter_lowered(counter, mark)),
                })
            } else {
                Err(wording::counter_too_low(counter, mark, vacant))
            };
        }
        let jumps = counter - mark > 1;
        Ok(Passed {
            lowers_mark: false,
            note: jumps.then(|| wording::counter_jump(counter, mark)),
        })
    }

    /// The counter of the pending certificate, if it is one that was never active: a number that
    /// the chain misses once a higher one is used.
    fn unused_pending_counter(&self) -> Option<u64> {
        let (Pending::Certified {
            opcert: OpCert { counter, .. },
        }
        | Pending::Scheduled {
            opcert: OpCert { counter, .. },
        }) = self.pending
        else {
            return None;
        };
        let never_active = self.high_water_mark.is_none_or(|mark| counter > mark);
        never_active.then_some(counter)
    }

    /// What to say where the pending certificate is thrown away.
    pub(super) fn note_of_unused_counter(&self) -> Option<Note> {
        let unused = self.unused_pending_counter()?;
        Some(wording::counter_unused(unused, self.high_water_mark))
    }

    /// What to say where the pending certificate gives way to one with the counter `next`.
    pub(super) fn note_of_skipped_counter(&self, next: u64) -> Option<Note> {
        let unused = self.unused_pending_counter()?;
        (next > unused).then(|| wording::counter_skipped(unused, next))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{opcert, vkey};
    use super::*;
    use kes_wire::period::Evolution;
    use kes_wire::protocol::control::rotation::RefusalCode;
    use kes_wire::protocol::stamp::Stamp;

    fn actives() -> [(Active, bool); 4] {
        let stamp = Stamp(1);
        let opcert = opcert(0, 1, 5, 100);
        [
            (Active::Empty, true),
            (
                Active::Dropped {
                    vkey: Some(vkey(1)),
                    stamp,
                },
                true,
            ),
            (
                Active::Bundle {
                    opcert,
                    evolution: Evolution(0),
                    stamp,
                },
                false,
            ),
            (
                Active::Expired {
                    opcert,
                    stamp,
                    since: stamp,
                },
                false,
            ),
        ]
    }

    #[test]
    fn lower_passes_only_where_nothing_is_active_and_it_is_allowed() {
        for (active, vacant) in actives() {
            for allow in [false, true] {
                for (mark, counter) in [(5, 4), (5, 0), (u64::MAX, 0), (1, 0)] {
                    let state = State {
                        active: active.clone(),
                        high_water_mark: Some(mark),
                        ..State::new()
                    };
                    match state.counter_gate(counter, allow) {
                        Ok(passed) => {
                            assert!(vacant && allow && passed.lowers_mark, "{state:?}");
                            assert_eq!(passed.note.unwrap().code, "counter-lowered");
                        }
                        Err(refusal) => {
                            assert!(!(vacant && allow), "{state:?}");
                            assert_eq!(refusal.code, RefusalCode::CounterTooLow);
                            assert_eq!(refusal.numbers["counter"], counter);
                            assert_eq!(refusal.numbers["high_water_mark"], mark);
                            assert_eq!(!vacant, refusal.next_step.contains("drop-active"));
                            assert!(refusal.next_step.contains("--allow-lower-counter"));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn equal_and_one_more_pass_and_a_jump_is_told() {
        for (active, _) in actives() {
            for allow in [false, true] {
                for (mark, counter, note) in [
                    (Some(5), 5, None),
                    (Some(5), 6, None),
                    (Some(5), 7, Some("counter-jump")),
                    (Some(0), u64::MAX, Some("counter-jump")),
                    (Some(u64::MAX), u64::MAX, None),
                    (Some(u64::MAX - 1), u64::MAX, None),
                    (None, 0, Some("counter-unknown")),
                    (None, u64::MAX, Some("counter-unknown")),
                ] {
                    let state = State {
                        active: active.clone(),
                        high_water_mark: mark,
                        ..State::new()
                    };
                    let passed = state.counter_gate(counter, allow).unwrap();
                    assert!(!passed.lowers_mark);
                    assert_eq!(passed.note.map(|n| n.code).as_deref(), note, "{state:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_number_that_was_never_active_is_missed() {
        let unused = |mark, counter| {
            State {
                pending: Pending::Certified {
                    opcert: opcert(0, 1, counter, 100),
                },
                high_water_mark: mark,
                ..State::new()
            }
            .unused_pending_counter()
        };
        assert_eq!(unused(Some(5), 5), None);
        assert_eq!(unused(Some(5), 4), None);
        assert_eq!(unused(Some(5), 6), Some(6));
        assert_eq!(unused(None, 0), Some(0));
        let key = State {
            pending: Pending::Key { vkey: vkey(1) },
            ..State::new()
        };
        assert_eq!(key.unused_pending_counter(), None);
    }
}
