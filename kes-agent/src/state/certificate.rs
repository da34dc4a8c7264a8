//! **A certificate becomes active only if it is for the pending key, signed by this pool's cold
//! key, not expired, and of a counter that the gate lets pass.** Asked at import, at activation and
//! when a schedule begins, each time by [`State::check`]; it alone makes a [`Checked`], and
//! nothing but a `Checked` can be activated.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{Note, Refusal};
use kes_wire::sum6kes::{EVOLUTIONS, VerificationKey};

use super::{Now, Rules, State, wording};

/// A start more than this many periods ago is worth a note. Carrying a certificate from one
/// machine to another takes a day or two, and a period of the public networks is 36 hours.
const LATE_PERIODS: u64 = 3;

/// Where a period lies within a certificate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before the start period: the key must not be used yet.
    Early {
        /// Periods until the start.
        periods_to_go: u64,
    },
    /// The key signs at this evolution.
    Signing {
        /// The period minus the start period.
        evolution: Evolution,
    },
    /// The last period has passed: the chain accepts no signature of the key.
    Expired,
}

impl Rules {
    /// How many periods a key signs: `min(64, maxKESEvolutions)`.
    #[must_use]
    pub fn evolutions(&self) -> u32 {
        self.max_evolutions.min(EVOLUTIONS)
    }

    /// Where `period` lies within the certificate's periods. Counted as a difference from the
    /// start, which no start period can make overflow.
    #[must_use]
    pub fn phase(&self, opcert: &OpCert, period: KesPeriod) -> Phase {
        if let Some(periods_to_go) = opcert.start_period.0.checked_sub(period.0)
            && periods_to_go > 0
        {
            return Phase::Early { periods_to_go };
        }
        match period.evolution_since(opcert.start_period) {
            Some(evolution) if evolution.0 < self.evolutions() => Phase::Signing { evolution },
            Some(_) | None => Phase::Expired,
        }
    }

    /// The first period in which the certificate's key does not sign any more. A start at the end
    /// of a u64 never expires.
    #[must_use]
    pub fn expiry(&self, opcert: &OpCert) -> KesPeriod {
        KesPeriod(
            opcert
                .start_period
                .0
                .saturating_add(u64::from(self.evolutions())),
        )
    }

    /// How many periods the key can still sign in, `period` counted; 0 once it has expired.
    #[must_use]
    pub fn periods_left(&self, opcert: &OpCert, period: KesPeriod) -> u64 {
        match self.phase(opcert, period) {
            Phase::Early { .. } => u64::from(self.evolutions()),
            Phase::Signing { evolution } => u64::from(self.evolutions() - evolution.0),
            Phase::Expired => 0,
        }
    }
}

/// A certificate that has passed [`State::check`] at this moment, in this state.
pub(super) struct Checked {
    opcert: OpCert,
    begins: Begins,
    lowers_mark: bool,
    notes: Vec<Note>,
}

/// When a checked certificate begins.
#[derive(Clone, Copy)]
pub(super) enum Begins {
    /// It has begun: the key signs at this evolution.
    Now { evolution: Evolution },
    /// It begins so many periods from now.
    Later { periods_to_go: u64 },
}

impl Checked {
    pub(super) fn opcert(&self) -> OpCert {
        self.opcert
    }

    pub(super) fn begins(&self) -> Begins {
        self.begins
    }

    /// Whether its counter is below the high-water mark, as the operator allowed.
    pub(super) fn lowers_mark(&self) -> bool {
        self.lowers_mark
    }

    /// With something more to say.
    pub(super) fn with_note(mut self, note: Option<Note>) -> Self {
        self.notes.extend(note);
        self
    }

    pub(super) fn into_notes(self) -> Vec<Note> {
        self.notes
    }
}

impl State {
    /// Checks a certificate for the key `wanted`. `file_cold_vkey` is the cold key that stands in
    /// the certificate's file: it only makes a refusal more exact.
    ///
    /// # Errors
    /// The first rule it breaks, in this order: another KES key, another cold key or a signature
    /// that does not hold, expired, counter too low.
    pub(super) fn check(
        &self,
        rules: &Rules,
        now: Now,
        wanted: &VerificationKey,
        opcert: &OpCert,
        file_cold_vkey: Option<&ColdVerificationKey>,
        allow_lower_counter: bool,
    ) -> Result<Checked, Refusal> {
        if opcert.kes_vkey != *wanted {
            return Err(wording::other_kes_key(wanted, opcert, &self.active));
        }
        if !opcert.is_signed_by(&rules.cold_vkey) {
            return Err(match file_cold_vkey {
                Some(theirs) if *theirs != rules.cold_vkey => {
                    wording::other_cold_key(&rules.cold_vkey, theirs)
                }
                Some(_) => wording::damaged(),
                None => wording::other_cold_key_or_damaged(&rules.cold_vkey),
            });
        }
        let mut notes = Vec::new();
        let begins = match rules.phase(opcert, now.period) {
            Phase::Expired => return Err(wording::expired(rules, opcert, now.period)),
            Phase::Early { periods_to_go } => {
                notes.push(wording::starts_later(
                    rules,
                    opcert,
                    now.period,
                    periods_to_go,
                ));
                Begins::Later { periods_to_go }
            }
            Phase::Signing { evolution } => {
                if u64::from(evolution.0) > LATE_PERIODS {
                    notes.push(wording::started_long_ago(
                        rules, opcert, now.period, evolution,
                    ));
                }
                Begins::Now { evolution }
            }
        };
        let gate = self.counter_gate(opcert.counter, allow_lower_counter)?;
        notes.extend(gate.note);
        Ok(Checked {
            opcert: *opcert,
            begins,
            lowers_mark: gate.lowers_mark,
            notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cold, now, opcert, rules, vkey};
    use super::super::{Active, Pending};
    use super::*;
    use kes_wire::protocol::control::rotation::RefusalCode;
    use kes_wire::protocol::stamp::Stamp;

    fn check(opcert: &OpCert, file: Option<u8>, period: u64) -> Result<Vec<String>, RefusalCode> {
        let file = file.map(|n| cold(n).vkey);
        State::new()
            .check(
                &rules(),
                now(1, period),
                &vkey(1),
                opcert,
                file.as_ref(),
                false,
            )
            .map(|checked| checked.into_notes().into_iter().map(|n| n.code).collect())
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn each_rule_in_its_order() {
        let good = opcert(0, 1, 5, 100);
        let mut damaged = good;
        damaged.cold_signature.0[7] ^= 1;
        let mut other_counter = good;
        other_counter.counter = 6;
        let foreign = opcert(9, 1, 5, 100);
        let other_key = opcert(0, 2, 5, 100);
        for (case, opcert, file, period, expected) in [
            (
                "another KES key",
                other_key,
                Some(0),
                100,
                Some(RefusalCode::OtherKesKey),
            ),
            (
                "another cold key, told",
                foreign,
                Some(9),
                100,
                Some(RefusalCode::OtherColdKey),
            ),
            (
                "another cold key, not told",
                foreign,
                None,
                100,
                Some(RefusalCode::BadSignature),
            ),
            (
                "the file lies",
                foreign,
                Some(0),
                100,
                Some(RefusalCode::BadSignature),
            ),
            (
                "one bit",
                damaged,
                Some(0),
                100,
                Some(RefusalCode::BadSignature),
            ),
            (
                "another counter",
                other_counter,
                None,
                100,
                Some(RefusalCode::BadSignature),
            ),
            ("last period", good, Some(0), 161, None),
            ("one later", good, Some(0), 162, Some(RefusalCode::Expired)),
            (
                "far later",
                good,
                None,
                u64::MAX,
                Some(RefusalCode::Expired),
            ),
            ("the first", good, None, 100, None),
            ("one earlier", good, None, 99, None),
            // What the chain sees is the signature; the key beside it in the file is no part of it.
            (
                "signed by ours, another in the file",
                good,
                Some(9),
                100,
                None,
            ),
        ] {
            assert_eq!(check(&opcert, file, period).err(), expected, "{case}");
        }
    }

    #[test]
    fn notes_tell_of_a_start_that_is_not_now() {
        let codes = |start| check(&opcert(0, 1, 5, start), None, 100).unwrap();
        assert_eq!(codes(100), ["counter-unknown"]);
        assert_eq!(codes(97), ["counter-unknown"]);
        assert_eq!(codes(96), ["started-long-ago", "counter-unknown"]);
        assert_eq!(codes(101), ["starts-later", "counter-unknown"]);
        assert_eq!(codes(u64::MAX), ["starts-later", "counter-unknown"]);
    }

    #[test]
    fn phases_at_their_edges() {
        let rules = rules();
        let phase = |start, period| rules.phase(&opcert(0, 1, 0, start), KesPeriod(period));
        let signing = |n| Phase::Signing {
            evolution: Evolution(n),
        };
        assert_eq!(phase(10, 9), Phase::Early { periods_to_go: 1 });
        assert_eq!(phase(10, 10), signing(0));
        assert_eq!(phase(10, 71), signing(61));
        assert_eq!(phase(10, 72), Phase::Expired);
        assert_eq!(phase(0, u64::from(u32::MAX) + 1), Phase::Expired);
        assert_eq!(phase(u64::MAX, u64::MAX), signing(0));
        assert_eq!(
            phase(u64::MAX, 0),
            Phase::Early {
                periods_to_go: u64::MAX
            }
        );
        assert_eq!(rules.expiry(&opcert(0, 1, 0, 10)), KesPeriod(72));
        assert_eq!(
            rules.expiry(&opcert(0, 1, 0, u64::MAX - 1)),
            KesPeriod(u64::MAX)
        );
        let left = |period| rules.periods_left(&opcert(0, 1, 0, 10), KesPeriod(period));
        assert_eq!(
            [left(9), left(10), left(71), left(72)],
            [62, 62, 1, 0],
            "periods left"
        );
    }

    #[test]
    fn a_key_has_no_more_than_64_evolutions() {
        let rules = Rules {
            max_evolutions: 100,
            ..rules()
        };
        let opcert = opcert(0, 1, 0, 10);
        assert_eq!(rules.expiry(&opcert), KesPeriod(74));
        assert_eq!(rules.phase(&opcert, KesPeriod(74)), Phase::Expired);
    }

    #[test]
    fn tells_whose_certificate_it_is() {
        let state = State {
            pending: Pending::Key { vkey: vkey(1) },
            active: Active::Bundle {
                opcert: opcert(0, 2, 5, 90),
                evolution: Evolution(10),
                stamp: Stamp(1),
            },
            ..State::new()
        };
        let refusal = state
            .check(
                &rules(),
                now(1, 100),
                &vkey(1),
                &opcert(0, 2, 5, 90),
                None,
                false,
            )
            .err()
            .unwrap();
        assert_eq!(refusal.code, RefusalCode::OtherKesKey);
        assert!(refusal.sentence.contains("active"), "{}", refusal.sentence);
    }
}
