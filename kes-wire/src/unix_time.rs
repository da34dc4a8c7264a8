//! Moments of the wall clock.

use core::fmt;
use std::time::SystemTime;

/// A moment: microseconds since 1970-01-01T00:00:00Z. The unit is that of the stamps on the wire.
///
/// Shown as `2026-11-23 00:18:52 UTC`; in JSON as `2026-11-23T00:18:52Z` (RFC 3339).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct UnixTime(#[n(0)] pub u64);

/// A text is not a time in RFC 3339, or lies before 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 2022-06-21T00:00:00Z")]
pub struct NotATime(pub String);

impl UnixTime {
    /// The wall clock of this machine. A clock before 1970 is taken as 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Reads a time in RFC 3339.
    ///
    /// # Errors
    /// [`NotATime`] where the text is none, or one before 1970.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        let not_a_time = || NotATime(text.to_owned());
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| not_a_time())?;
        u64::try_from(timestamp.as_microsecond())
            .map(Self)
            .map_err(|_| not_a_time())
    }

    /// Whole seconds and the nanoseconds beyond them.
    #[must_use]
    pub fn as_timespec(self) -> (u64, u32) {
        let nanoseconds = (self.0 % 1_000_000) * 1_000;
        (
            self.0 / 1_000_000,
            u32::try_from(nanoseconds).expect("under a second"),
        )
    }

    /// To whole seconds; `None` beyond the year 9999, which no form of writing has.
    fn to_second(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(i64::try_from(self.0 / 1_000_000).ok()?).ok()
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_second() {
            Some(moment) => write!(f, "{} UTC", moment.strftime("%Y-%m-%d %H:%M:%S")),
            None => f.write_str("after the year 9999"),
        }
    }
}

impl serde::Serialize for UnixTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_second() {
            Some(moment) => serializer.collect_str(&moment),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // date -u -d @1596059091 (GNU coreutils)
        let shelley = UnixTime(1_596_059_091_000_000);
        assert_eq!(shelley.to_string(), "2020-07-29 21:44:51 UTC");
        assert_eq!(UnixTime::parse("2020-07-29T21:44:51Z"), Ok(shelley));
        assert_eq!(UnixTime::parse("2020-07-29T23:44:51+02:00"), Ok(shelley));
        assert_eq!(
            serde_json::to_string(&shelley).unwrap(),
            "\"2020-07-29T21:44:51Z\""
        );
        assert_eq!(UnixTime(1_500_000).as_timespec(), (1, 500_000_000));
    }

    #[test]
    fn odd_texts_and_moments_are_survived() {
        for text in [
            "",
            "yesterday",
            "2020-07-29",
            "1960-01-01T00:00:00Z",
            "2020-13-01T00:00:00Z",
        ] {
            assert!(UnixTime::parse(text).is_err(), "{text}");
        }
        assert_eq!(UnixTime(u64::MAX).to_string(), "after the year 9999");
        assert_eq!(serde_json::to_string(&UnixTime(u64::MAX)).unwrap(), "null");
    }
}
