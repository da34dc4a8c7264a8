//! What an operator should know beside a result.
//!
//! The codes are as stable as those of refusals: `counter-jump`, `counter-lowered`,
//! `counter-unknown`, `counter-unused`, `gap`, `no-gap`, `not-activated`, `other-key-waits`,
//! `scheduled`, `started-long-ago`, `starts-later`, `still-scheduled`.

use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{Note, Refusal};
use kes_wire::sum6kes::VerificationKey;

use super::super::Rules;
use super::periods;

pub(in super::super) fn starts_later(
    rules: &Rules,
    opcert: &OpCert,
    now: KesPeriod,
    to_go: u64,
) -> Note {
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

pub(in super::super) fn started_long_ago(
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

pub(in super::super) fn counter_unknown(counter: u64) -> Note {
    note(
        "counter-unknown",
        format!(
            "this agent has had no active key, so it cannot judge the counter {counter}: the \
             chain accepts only the last counter it saw or that plus one; compare with \
             `cardano-cli query kes-period-info`"
        ),
    )
}

pub(in super::super) fn counter_lowered(counter: u64, mark: u64) -> Note {
    note(
        "counter-lowered",
        format!(
            "the counter {counter} is lower than {mark}, the one that was active last, as you \
             allowed; once activated, this agent counts from {counter}"
        ),
    )
}

pub(in super::super) fn counter_jump(counter: u64, mark: u64) -> Note {
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

pub(in super::super) fn counter_unused(unused: u64, mark: Option<u64>) -> Note {
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

pub(in super::super) fn counter_skipped(unused: u64, next: u64) -> Note {
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

pub(in super::super) fn scheduled(opcert: &OpCert, now: KesPeriod) -> Note {
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

pub(in super::super) fn no_gap(next: &OpCert, expiry: KesPeriod) -> Note {
    note(
        "no-gap",
        format!(
            "the active key lasts until then: it expires in period {expiry}, the scheduled one \
             starts in {}",
            next.start_period
        ),
    )
}

pub(in super::super) fn gap(next: &OpCert, expiry: KesPeriod, length: u64) -> Note {
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

pub(in super::super) fn gap_without_active(next: &OpCert, length: u64) -> Note {
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

pub(in super::super) fn other_key_waits(waiting: &VerificationKey) -> Note {
    note(
        "other-key-waits",
        format!(
            "this certificate is active already, but another key is pending ({waiting}): if you \
             meant that one, bring its certificate"
        ),
    )
}

pub(in super::super) fn still_scheduled(opcert: &OpCert) -> Note {
    note(
        "still-scheduled",
        format!(
            "a key stays scheduled and becomes active in period {}; if it shall not, \
             `kes-cli drop-pending`",
            opcert.start_period
        ),
    )
}

pub(in super::super) fn not_activated(opcert: &OpCert, refusal: &Refusal) -> Note {
    note(
        "not-activated",
        format!(
            "the key that was scheduled for period {} was not made active and is pending again: \
             {}; next: {}",
            opcert.start_period, refusal.sentence, refusal.next_step
        ),
    )
}

fn note(code: &str, sentence: String) -> Note {
    Note {
        code: code.to_owned(),
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{opcert, rules};
    use super::*;

    #[test]
    fn the_highest_counter_does_not_overflow() {
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
