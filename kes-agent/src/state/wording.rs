//! **Every refusal says which rule was broken, with the numbers, and the next step**: all words of
//! the state in one place, written for a tired operator at 3 a.m.
//!
//! Codes of notes are as stable as those of refusals: `counter-jump`, `counter-lowered`,
//! `counter-unknown`, `counter-unused`, `gap`, `no-gap`, `not-activated`, `other-key-waits`,
//! `scheduled`, `started-long-ago`, `starts-later`, `still-scheduled`.

use std::fmt;

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{Note, Refusal, RefusalCode};
use kes_wire::sum6kes::VerificationKey;

use super::{Active, Rules};

// Refusals of `keygen`.

pub(super) fn key_pending(vkey: &VerificationKey) -> Refusal {
    refusal(
        RefusalCode::AlreadyPending,
        format!("a key waits for its certificate already ({vkey})"),
        "go on with it: `kes-cli export-verkey`, and have its certificate issued; or insist on \
         another key, which wipes this one: `kes-cli keygen --replace`",
        [],
    )
}

pub(super) fn certified_pending(opcert: &OpCert) -> Refusal {
    let (vkey, counter) = (opcert.kes_vkey, opcert.counter);
    refusal(
        RefusalCode::AlreadyPending,
        format!("a key with its certificate waits already ({vkey}, counter {counter})"),
        "put it to use: `kes-cli activate`; or insist on another key, which wipes this one and \
         leaves its certificate useless: `kes-cli keygen --replace`",
        [("counter", counter)],
    )
}

pub(super) fn scheduled_blocks_keygen(opcert: &OpCert, now: KesPeriod) -> Refusal {
    let what = "a key that is activated for a later period is never replaced";
    scheduled_refusal(
        opcert,
        now,
        what,
        "wait for that period; or give the scheduled key up, which wipes it: \
         `kes-cli drop-pending`, then `kes-cli keygen`",
    )
}

// Refusals of `import-opcert` and `activate`.

pub(super) fn scheduled_blocks_import(opcert: &OpCert, now: KesPeriod) -> Refusal {
    let what = "no other certificate can take the place of the one that is scheduled";
    scheduled_refusal(
        opcert,
        now,
        what,
        "wait for that period; or give the scheduled key up, which wipes it: \
         `kes-cli drop-pending`, then begin again with `kes-cli keygen`",
    )
}

pub(super) fn scheduled_already(opcert: &OpCert, now: KesPeriod) -> Refusal {
    let what = "there is nothing else to activate";
    scheduled_refusal(
        opcert,
        now,
        what,
        "nothing: it becomes active by itself (`kes-cli status` shows when); to give it up, \
         `kes-cli drop-pending`",
    )
}

fn scheduled_refusal(
    opcert: &OpCert,
    now: KesPeriod,
    what: &str,
    next_step: &'static str,
) -> Refusal {
    refusal(
        RefusalCode::Scheduled,
        format!(
            "a key is scheduled to become active in period {}, {} from now, and {what}",
            opcert.start_period,
            periods(opcert.start_period.0.saturating_sub(now.0)),
        ),
        next_step,
        [
            ("counter", opcert.counter),
            ("start_period", opcert.start_period.0),
            ("current_period", now.0),
        ],
    )
}

pub(super) fn nothing_pending_for(opcert: &OpCert, active: &Active) -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        format!(
            "no key is pending that the certificate could be for{}",
            whose(opcert, active)
        ),
        "generate a key with `kes-cli keygen` and have a certificate issued for it; \
         `kes-cli status` shows what the agent holds",
        [("counter", opcert.counter)],
    )
}

pub(super) fn nothing_pending_to_activate() -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        "no key is pending, so there is nothing to activate".to_owned(),
        "begin with `kes-cli keygen`; `kes-cli status` shows what the agent holds",
        [],
    )
}

pub(super) fn nothing_imported(vkey: &VerificationKey) -> Refusal {
    refusal(
        RefusalCode::NothingImported,
        format!("the pending key ({vkey}) has no certificate yet"),
        "have one issued on the cold machine for the key of `kes-cli export-verkey`, then \
         `kes-cli activate --opcert-file FILE`",
        [],
    )
}

pub(super) fn already_imported(held: &OpCert, offered: &OpCert) -> Refusal {
    refusal(
        RefusalCode::AlreadyImported,
        format!(
            "another certificate was imported for the pending key already (counter {}, from \
             period {}; this one: counter {}, from period {})",
            held.counter, held.start_period, offered.counter, offered.start_period,
        ),
        "to use the imported one, `kes-cli activate`; to use this one instead, \
         `kes-cli import-opcert --replace --opcert-file FILE`, then `kes-cli activate`",
        [
            ("imported_counter", held.counter),
            ("imported_start_period", held.start_period.0),
            ("counter", offered.counter),
            ("start_period", offered.start_period.0),
        ],
    )
}

pub(super) fn other_kes_key(wanted: &VerificationKey, opcert: &OpCert, active: &Active) -> Refusal {
    refusal(
        RefusalCode::OtherKesKey,
        format!(
            "the certificate is for another KES key ({}) than the pending one ({wanted}){}",
            opcert.kes_vkey,
            whose(opcert, active),
        ),
        "bring the certificate that was issued for the pending key; if there is none, issue one \
         for the key that `kes-cli export-verkey` writes",
        [("counter", opcert.counter)],
    )
}

pub(super) fn other_cold_key(ours: &ColdVerificationKey, theirs: &ColdVerificationKey) -> Refusal {
    refusal(
        RefusalCode::OtherColdKey,
        format!(
            "the certificate was issued with another cold key ({theirs}) than this agent's pool \
             has ({ours})"
        ),
        "issue it with this pool's cold.skey; if the agent is configured for the wrong pool, \
         correct its cold verification key and restart it",
        [],
    )
}

pub(super) fn damaged() -> Refusal {
    refusal(
        RefusalCode::BadSignature,
        "the certificate names this pool's cold key, but its signature does not hold: it was \
         damaged or altered after it was issued"
            .to_owned(),
        "carry the certificate's file over again, or issue it again with the same counter",
        [],
    )
}

pub(super) fn other_cold_key_or_damaged(ours: &ColdVerificationKey) -> Refusal {
    refusal(
        RefusalCode::BadSignature,
        format!(
            "the certificate's signature is not by this pool's cold key ({ours}): either it was \
             issued with another cold key, or it was damaged"
        ),
        "check that it was issued with this pool's cold.skey and that the agent is configured \
         with the same pool's cold verification key, then carry the file over again",
        [],
    )
}

pub(super) fn expired(rules: &Rules, opcert: &OpCert, now: KesPeriod) -> Refusal {
    let (start, expiry) = (opcert.start_period, rules.expiry(opcert));
    refusal(
        RefusalCode::Expired,
        format!(
            "the certificate has expired: it starts in period {start} and lasts {}, so its key \
             cannot sign from period {expiry} on, and now is period {now}",
            periods(u64::from(rules.evolutions())),
        ),
        format!(
            "issue a certificate for the same key with `--kes-period {now}`, and import that one \
             (over this one, if it was imported already: `--replace`)"
        ),
        [
            ("current_period", now.0),
            ("start_period", start.0),
            ("expiry_period", expiry.0),
            ("max_evolutions", u64::from(rules.evolutions())),
        ],
    )
}

pub(super) fn counter_too_low(counter: u64, mark: u64, vacant: bool) -> Refusal {
    let way_out = if vacant {
        "`--allow-lower-counter`"
    } else {
        "`kes-cli drop-active`, which stops forging until the next activation, then \
         `--allow-lower-counter`"
    };
    refusal(
        RefusalCode::CounterTooLow,
        format!(
            "the certificate's counter {counter} is below {mark}, the counter that was active \
             last: the chain rejects blocks of a counter lower than the last it saw"
        ),
        format!(
            "issue the certificate again with counter {}; only if the chain itself is at a lower \
             counter (`cardano-cli query kes-period-info`): {way_out}",
            or_next(mark)
        ),
        [("counter", counter), ("high_water_mark", mark)],
    )
}

// Refusals of the drops.

pub(super) fn nothing_pending_to_drop() -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        "no key is pending, so there is nothing to drop".to_owned(),
        "nothing; the active key is dropped with `kes-cli drop-active`, and `kes-cli status` shows \
         what the agent holds",
        [],
    )
}

pub(super) fn nothing_active() -> Refusal {
    refusal(
        RefusalCode::NothingActive,
        "no key is active, so there is nothing to drop".to_owned(),
        "nothing; `kes-cli status` shows what the agent holds",
        [],
    )
}

pub(super) fn dropped_already() -> Refusal {
    refusal(
        RefusalCode::NothingActive,
        "the active key was dropped already, and nodes are told so".to_owned(),
        "nothing; to forge again, begin with `kes-cli keygen`",
        [],
    )
}

// Notes.

pub(super) fn starts_later(rules: &Rules, opcert: &OpCert, now: KesPeriod, to_go: u64) -> Note {
    let whole_life = u64::from(rules.evolutions());
    let doubt = if to_go > whole_life {
        ", which is more than a key's whole life away: was the period copied rightly?"
    } else {
        ""
    };
    note(
        "starts-later",
        format!(
            "the certificate starts in period {}, {} from now (period {now}){doubt}",
            opcert.start_period,
            periods(to_go),
        ),
    )
}

pub(super) fn started_long_ago(
    rules: &Rules,
    opcert: &OpCert,
    now: KesPeriod,
    passed: Evolution,
) -> Note {
    note(
        "started-long-ago",
        format!(
            "only {} of {} periods are left: the certificate started in period {}, {} ago; issued \
             with `--kes-period {now}` it would last longer",
            rules.periods_left(opcert, now),
            rules.evolutions(),
            opcert.start_period,
            periods(u64::from(passed.0)),
        ),
    )
}

pub(super) fn counter_unknown(counter: u64) -> Note {
    note(
        "counter-unknown",
        format!(
            "this agent has had no active key, so it cannot judge the counter {counter}: the \
             chain accepts only the last counter it saw or that plus one; compare with \
             `cardano-cli query kes-period-info`"
        ),
    )
}

pub(super) fn counter_lowered(counter: u64, mark: u64) -> Note {
    note(
        "counter-lowered",
        format!(
            "the counter {counter} is lower than {mark}, the one that was active last, as you \
             allowed; once activated, this agent counts from {counter}"
        ),
    )
}

pub(super) fn counter_jump(counter: u64, mark: u64) -> Note {
    note(
        "counter-jump",
        format!(
            "the counter jumps from {mark}, the one that was active last, to {counter}: the chain \
             accepts only the last counter it saw or that plus one, so every block will be \
             invalid unless the chain is at {} or {counter} already; compare with \
             `cardano-cli query kes-period-info` before you rely on it",
            counter.saturating_sub(1),
        ),
    )
}

pub(super) fn counter_unused(unused: u64, mark: Option<u64>) -> Note {
    // More than one over the mark, the chain would not have taken it either.
    let next = mark.map_or(unused, |mark| unused.min(mark.saturating_add(1)));
    note(
        "counter-unused",
        format!(
            "the certificate that was thrown away had the counter {unused}, which was never \
             active, so the chain will miss it: issue the next certificate with counter {next} \
             (on the cold machine: `kes-cli cold new-counter --counter-value {next}`)"
        ),
    )
}

pub(super) fn counter_skipped(unused: u64, next: u64) -> Note {
    note(
        "counter-unused",
        format!(
            "the certificate that was replaced had the counter {unused}, which was never active; \
             the chain will miss it and may reject the counter {next}: compare with \
             `cardano-cli query kes-period-info`, and if the chain is below {unused}, issue the \
             certificate again with counter {unused}"
        ),
    )
}

pub(super) fn scheduled(opcert: &OpCert, now: KesPeriod) -> Note {
    let start = opcert.start_period;
    note(
        "scheduled",
        format!(
            "the key is scheduled: it becomes active by itself when period {start} begins, {} from \
             now; until then only this agent holds it",
            periods(start.0.saturating_sub(now.0)),
        ),
    )
}

pub(super) fn no_gap(next: &OpCert, expiry: KesPeriod) -> Note {
    note(
        "no-gap",
        format!(
            "the active key lasts until then: it expires in period {expiry}, the scheduled one \
             starts in {}",
            next.start_period
        ),
    )
}

pub(super) fn gap(next: &OpCert, expiry: KesPeriod, length: u64) -> Note {
    note(
        "gap",
        format!(
            "no blocks for {}: the active key expires in period {expiry}, the scheduled one \
             starts only in {}; to close the gap, issue a certificate that starts earlier \
             (`kes-cli drop-pending`, then begin again)",
            periods(length),
            next.start_period
        ),
    )
}

pub(super) fn gap_without_active(next: &OpCert, length: u64) -> Note {
    note(
        "gap",
        format!(
            "no blocks for {}: no key is active, and the scheduled one starts only in period {}; \
             to forge sooner, issue a certificate that starts now (`kes-cli drop-pending`, then \
             begin again)",
            periods(length),
            next.start_period
        ),
    )
}

pub(super) fn other_key_waits(waiting: &VerificationKey) -> Note {
    note(
        "other-key-waits",
        format!(
            "this certificate is active already, but another key is pending ({waiting}): if you \
             meant that one, bring its certificate"
        ),
    )
}

pub(super) fn still_scheduled(opcert: &OpCert) -> Note {
    note(
        "still-scheduled",
        format!(
            "a key stays scheduled and becomes active in period {}; if it shall not, \
             `kes-cli drop-pending`",
            opcert.start_period
        ),
    )
}

pub(super) fn not_activated(opcert: &OpCert, refusal: &Refusal) -> Note {
    note(
        "not-activated",
        format!(
            "the key that was scheduled for period {} was not made active and is pending again: \
             {}; next: {}",
            opcert.start_period, refusal.sentence, refusal.next_step
        ),
    )
}

// Parts of sentences.

fn refusal<const N: usize>(
    code: RefusalCode,
    sentence: String,
    next_step: impl Into<String>,
    numbers: [(&str, u64); N],
) -> Refusal {
    Refusal {
        code,
        sentence,
        next_step: next_step.into(),
        numbers: numbers.map(|(name, n)| (name.to_owned(), n)).into(),
    }
}

fn note(code: &str, sentence: String) -> Note {
    Note {
        code: code.to_owned(),
        sentence,
    }
}

/// What the agent knows of a certificate that is not for the pending key.
fn whose(opcert: &OpCert, active: &Active) -> &'static str {
    match active {
        Active::Bundle { opcert: held, .. } if held == opcert => {
            "; it is the certificate that is active now"
        }
        Active::Bundle { opcert: held, .. } if held.kes_vkey == opcert.kes_vkey => {
            "; it is for the key that is active now"
        }
        Active::Expired { opcert: held, .. } if held.kes_vkey == opcert.kes_vkey => {
            "; it is for the key that has expired, which is wiped"
        }
        Active::Dropped { vkey, .. } if *vkey == opcert.kes_vkey => {
            "; it is for the key that was dropped, which is wiped"
        }
        Active::Empty | Active::Bundle { .. } | Active::Expired { .. } | Active::Dropped { .. } => {
            ""
        }
    }
}

/// "1 period", "2 periods".
fn periods(n: u64) -> impl fmt::Display {
    format!("{n} period{}", if n == 1 { "" } else { "s" })
}

/// "5 or 6".
fn or_next(mark: u64) -> String {
    mark.checked_add(1)
        .map_or(mark.to_string(), |next| format!("{mark} or {next}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{opcert, rules};
    use super::*;

    #[test]
    fn numbers_are_in_the_sentence_and_beside_it() {
        let refusal = expired(&rules(), &opcert(0, 1, 5, 100), KesPeriod(170));
        assert_eq!(
            refusal.sentence,
            "the certificate has expired: it starts in period 100 and lasts 62 periods, so its \
             key cannot sign from period 162 on, and now is period 170"
        );
        assert!(refusal.next_step.contains("--kes-period 170"));
        for (name, n) in &refusal.numbers {
            let n = n.to_string();
            assert!(refusal.sentence.contains(&n), "{name}");
        }
    }

    #[test]
    fn the_highest_counter_has_no_next() {
        assert_eq!(or_next(5), "5 or 6");
        assert_eq!(or_next(u64::MAX), u64::MAX.to_string());
        counter_unused(u64::MAX, Some(u64::MAX));
        counter_jump(0, 0);
    }

    #[test]
    fn the_number_to_use_next_is_one_that_the_chain_takes() {
        let next = |unused, mark| counter_unused(unused, mark).sentence;
        assert!(next(6, Some(5)).contains("with counter 6 "));
        assert!(next(9, Some(5)).contains("with counter 6 "));
        assert!(next(9, None).contains("with counter 9 "));
    }

    #[test]
    fn a_start_beyond_a_keys_life_is_doubted() {
        let doubted = |start: u64| {
            let now = KesPeriod(1572);
            let opcert = opcert(0, 1, 5, start);
            starts_later(&rules(), &opcert, now, start - 1572)
                .sentence
                .contains("copied rightly")
        };
        assert!(!doubted(1580));
        // The period of a tool that does not know of the Byron era.
        assert!(doubted(2231));
    }
}
