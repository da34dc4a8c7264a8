//! How long before a key expires something is to be said: `14d`, `36h`, `10p`.

use core::fmt;
use core::str::FromStr;

use kes_wire::unix_time::UnixTime;

/// A margin before expiry, as a length of time or in KES periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Margin {
    /// Seconds.
    Seconds(u64),
    /// KES periods, the current one counted.
    Periods(u64),
}

/// A text is no margin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a length such as 14d (days), 36h (hours), 90m (minutes), 30s (seconds) or 10p \
     (KES periods)"
)]
pub(crate) struct NotAMargin(String);

impl Margin {
    /// Whether a key is that near to its end.
    pub(crate) fn is_reached(self, expires_at: UnixTime, periods_left: u64, now: UnixTime) -> bool {
        match self {
            Self::Seconds(seconds) => {
                expires_at.0.saturating_sub(now.0) <= seconds.saturating_mul(1_000_000)
            }
            Self::Periods(periods) => periods_left <= periods,
        }
    }
}

impl FromStr for Margin {
    type Err = NotAMargin;

    fn from_str(text: &str) -> Result<Self, NotAMargin> {
        let not_a_margin = || NotAMargin(text.to_owned());
        let unit = text.chars().next_back().ok_or_else(not_a_margin)?;
        let number = &text[..text.len() - unit.len_utf8()];
        // `parse` takes a sign, which has no sense here.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(not_a_margin());
        }
        let number: u64 = number.parse().map_err(|_| not_a_margin())?;
        let seconds = match unit {
            'p' => return Ok(Self::Periods(number)),
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(not_a_margin()),
        };
        number
            .checked_mul(seconds)
            .map(Self::Seconds)
            .ok_or_else(not_a_margin)
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
            Self::Periods(periods) => write!(f, "{periods}p"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_read() {
        for (text, margin) in [
            ("14d", Margin::Seconds(14 * 24 * 60 * 60)),
            ("36h", Margin::Seconds(129_600)),
            ("90m", Margin::Seconds(5_400)),
            ("0s", Margin::Seconds(0)),
            ("10p", Margin::Periods(10)),
        ] {
            assert_eq!(text.parse(), Ok(margin), "{text}");
            assert_eq!(margin.to_string().parse(), Ok(margin));
        }
        for text in [
            "",
            "d",
            "14",
            "14w",
            "-1d",
            "+1d",
            "1.5d",
            "1 d",
            "14é",
            "99999999999999999d",
        ] {
            assert!(text.parse::<Margin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_margin_is_reached_at_its_edge() {
        let at = |seconds: u64| UnixTime(seconds * 1_000_000);
        let day = Margin::Seconds(86_400);
        assert!(!day.is_reached(at(86_401), 1, at(0)));
        assert!(day.is_reached(at(86_400), 1, at(0)));
        assert!(day.is_reached(at(0), 1, at(5)), "expired is reached too");
        let ten = Margin::Periods(10);
        assert!(!ten.is_reached(at(1), 11, at(0)));
        assert!(ten.is_reached(at(1), 10, at(0)));
    }
}
