//! Whether a certificate is about to be issued for a period that makes sense, as far as the
//! air-gapped machine can tell. Its clock is often wrong, so nothing is refused by it: what looks
//! odd is said, before the certificate is signed.

use kes_wire::genesis::Network;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::Note;
use kes_wire::unix_time::UnixTime;

use crate::words::several;

/// Before this moment nobody can run this program: 2026-11-01, in seconds since 1970. A package is
/// made with a later one, that of the commit it was made from.
const BEFORE_THIS_PROGRAM: u64 = 1_793_491_200;

/// How many periods the clock of the air-gapped machine may be off without a word.
const TOLERANCE: u64 = 1;

/// When this program was made, as far as it is known.
pub(crate) fn made_at() -> UnixTime {
    let given = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    UnixTime(given.unwrap_or(0).max(BEFORE_THIS_PROGRAM) * 1_000_000)
}

/// What looks odd about a certificate that starts in `period`. `network` is the one of the genesis
/// file, where one is given.
pub(crate) fn doubts(
    period: KesPeriod,
    network: Option<&Network>,
    now: UnixTime,
    made_at: UnixTime,
) -> Vec<Note> {
    if now < made_at {
        return vec![note(
            "clock-implausible",
            format!(
                "this machine's clock says {now}, but this program was made later ({made_at}): the \
                 clock is wrong. The certificate does not depend on it, but period {period} cannot \
                 be checked: compare it with what the hot machine shows"
            ),
        )];
    }
    match network {
        Some(network) => on(network, period, now).into_iter().collect(),
        None => on_a_public_network(period, now).into_iter().collect(),
    }
}

fn on(network: &Network, period: KesPeriod, now: UnixTime) -> Option<Note> {
    let current = network.period_at(now);
    let expiry = period.0.saturating_add(u64::from(network.max_evolutions));
    if expiry <= current.0 {
        return Some(note(
            "period-expired",
            format!(
                "a certificate from period {period} on has expired already: by this machine's \
                 clock ({now}) it is period {current}"
            ),
        ));
    }
    if period.0 > current.0.saturating_add(TOLERANCE) {
        return Some(note(
            "period-ahead",
            format!(
                "period {period} begins at {}, by this machine's clock ({now}) it is period \
                 {current}: the key cannot sign before",
                network.period_start(period)
            ),
        ));
    }
    let lost = current.0.saturating_sub(period.0);
    (lost > TOLERANCE).then(|| {
        note(
            "period-behind",
            format!(
                "by this machine's clock ({now}) it is period {current}: a certificate from period \
                 {period} on lasts {} less than it could",
                several(lost, "period")
            ),
        )
    })
}

/// Without a genesis file it may be any of the public networks.
fn on_a_public_network(period: KesPeriod, now: UnixTime) -> Option<Note> {
    let is_near = |network: &Network| network.period_at(now).0.abs_diff(period.0) <= TOLERANCE;
    if Network::public().any(|(_, network)| is_near(&network)) {
        return None;
    }
    let each = Network::public()
        .map(|(name, network)| format!("{} on {name}", network.period_at(now)))
        .collect::<Vec<_>>();
    Some(note(
        "period-unknown",
        format!(
            "by this machine's clock ({now}) the current KES period is {}, not {period}: compare it \
             with what the hot machine shows (for another network, --genesis-file lets it be checked)",
            each.join(", ")
        ),
    ))
}

fn note(code: &str, sentence: String) -> Note {
    Note {
        code: code.to_owned(),
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixTime {
        UnixTime::parse(text).unwrap()
    }

    fn codes(period: u64, network: Option<&Network>, now: &str) -> Vec<String> {
        let made_at = at("2022-01-01T00:00:00Z");
        let notes = doubts(KesPeriod(period), network, at(now), made_at);
        notes.into_iter().map(|note| note.code).collect()
    }

    #[test]
    fn the_period_is_held_against_the_clock() {
        // A mainnet block of that moment was made in period 646.
        let now = "2023-02-02T01:51:34Z";
        let mainnet = Some(&Network::MAINNET);
        for (period, expected) in [
            (646, None),
            (645, None),
            (647, None),
            (648, Some("period-ahead")),
            (644, Some("period-behind")),
            (585, Some("period-behind")),
            (584, Some("period-expired")),
            (0, Some("period-expired")),
            (u64::MAX, Some("period-ahead")),
        ] {
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(codes(period, mainnet, now), expected, "{period}");
        }
    }

    #[test]
    fn without_a_genesis_file_it_may_be_any_public_network() {
        let now = "2023-02-02T01:51:34Z";
        for (_, network) in Network::public() {
            let period = network.period_at(at(now)).0;
            assert_eq!(codes(period, None, now), [""; 0]);
        }
        assert_eq!(codes(100_000, None, now), ["period-unknown"]);
    }

    #[test]
    fn a_clock_before_the_program_itself_is_wrong() {
        for network in [None, Some(&Network::MAINNET)] {
            assert_eq!(
                codes(646, network, "1970-01-01T00:10:00Z"),
                ["clock-implausible"]
            );
        }
        assert!(made_at() >= at("2026-11-01T00:00:00Z"));
    }
}
