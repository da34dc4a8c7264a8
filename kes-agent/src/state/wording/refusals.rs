//! What a command is refused with.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::{Refusal, RefusalCode};
use kes_wire::sum6kes::VerificationKey;

use super::super::{Active, Rules};
use super::periods;

// Of `keygen`.

pub(in super::super) fn key_pending(vkey: &VerificationKey) -> Refusal {
    refusal(
        RefusalCode::AlreadyPending,
        format!("a key waits for its certificate already ({vkey})"),
        "go on with it: `kes-cli export-verkey`, and have its certificate issued; or insist on \
         another key, which wipes this one: `kes-cli keygen --replace`",
        [],
    )
}

pub(in super::super) fn certified_pending(opcert: &OpCert) -> Refusal {
    let (vkey, counter) = (opcert.kes_vkey, opcert.counter);
    refusal(
        RefusalCode::AlreadyPending,
        format!("a key with its certificate waits already ({vkey}, counter {counter})"),
        "put it to use: `kes-cli activate`; or insist on another key, which wipes this one and \
         leaves its certificate useless: `kes-cli keygen --replace`",
        [("counter", counter)],
    )
}

pub(in super::super) fn scheduled_blocks_keygen(opcert: &OpCert, now: KesPeriod) -> Refusal {
    let what = "a key that is activated for a later period is never replaced";
    scheduled_refusal(
        opcert,
        now,
        what,
        "wait for that period; or give the scheduled key up, which wipes it: \
         `kes-cli drop-pending`, then `kes-cli keygen`",
    )
}

// Of `import-opcert` and `activate`.

pub(in super::super) fn scheduled_blocks_import(opcert: &OpCert, now: KesPeriod) -> Refusal {
    let what = "no other certificate can take the place of the one that is scheduled";
    scheduled_refusal(
        opcert,
        now,
        what,
        "wait for that period; or give the scheduled key up, which wipes it: \
         `kes-cli drop-pending`, then begin again with `kes-cli keygen`",
    )
}

pub(in super::super) fn scheduled_already(opcert: &OpCert, now: KesPeriod) -> Refusal {
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

pub(in super::super) fn nothing_pending_for(opcert: &OpCert, active: &Active) -> Refusal {
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

pub(in super::super) fn nothing_pending_to_activate() -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        "no key is pending, so there is nothing to activate".to_owned(),
        "begin with `kes-cli keygen`; `kes-cli status` shows what the agent holds",
        [],
    )
}

pub(in super::super) fn nothing_imported(vkey: &VerificationKey) -> Refusal {
    refusal(
        RefusalCode::NothingImported,
        format!("the pending key ({vkey}) has no certificate yet"),
        "have one issued on the cold machine for the key of `kes-cli export-verkey`, then \
         `kes-cli activate --opcert-file FILE`",
        [],
    )
}

pub(in super::super) fn already_imported(held: &OpCert, offered: &OpCert) -> Refusal {
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

pub(in super::super) fn other_kes_key(
    wanted: &VerificationKey,
    opcert: &OpCert,
    active: &Active,
) -> Refusal {
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

pub(in super::super) fn other_cold_key(
    ours: &ColdVerificationKey,
    theirs: &ColdVerificationKey,
) -> Refusal {
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

pub(in super::super) fn damaged() -> Refusal {
    refusal(
        RefusalCode::BadSignature,
        "the certificate names this pool's cold key, but its signature does not hold: it was \
         damaged or altered after it was issued"
            .to_owned(),
        "carry the certificate's file over again, or issue it again with the same counter",
        [],
    )
}

pub(in super::super) fn other_cold_key_or_damaged(ours: &ColdVerificationKey) -> Refusal {
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

pub(in super::super) fn expired(rules: &Rules, opcert: &OpCert, now: KesPeriod) -> Refusal {
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

pub(in super::super) fn counter_too_low(counter: u64, mark: u64, vacant: bool) -> Refusal {
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

// Of the drops.

pub(in super::super) fn nothing_pending_to_drop() -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        "no key is pending, so there is nothing to drop".to_owned(),
        "nothing; the active key is dropped with `kes-cli drop-active`, and `kes-cli status` shows \
         what the agent holds",
        [],
    )
}

pub(in super::super) fn nothing_pending_to_export() -> Refusal {
    refusal(
        RefusalCode::NothingPending,
        "no key is pending, so there is no verification key to export".to_owned(),
        "generate one with `kes-cli keygen`; the active key's verification key stands in \
         `kes-cli status`",
        [],
    )
}

pub(in super::super) fn nothing_active() -> Refusal {
    refusal(
        RefusalCode::NothingActive,
        "no key is active, so there is nothing to drop".to_owned(),
        "nothing; `kes-cli status` shows what the agent holds",
        [],
    )
}

pub(in super::super) fn dropped_already() -> Refusal {
    refusal(
        RefusalCode::NothingActive,
        "the active key was dropped already, and nodes are told so".to_owned(),
        "nothing; to forge again, begin with `kes-cli keygen`",
        [],
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
        Active::Dropped { vkey, .. } if *vkey == Some(opcert.kes_vkey) => {
            "; it is for the key that was dropped, which is wiped"
        }
        Active::Empty | Active::Bundle { .. } | Active::Expired { .. } | Active::Dropped { .. } => {
            ""
        }
    }
}

/// "5 or 6".
fn or_next(mark: u64) -> String {
    mark.checked_add(1)
        .map_or(mark.to_string(), |next| format!("{mark} or {next}"))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{opcert, rules};
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
    }
}
