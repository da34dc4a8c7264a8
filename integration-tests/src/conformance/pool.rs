//! The pool whose keys the kit certifies: a throw-away cold key and the network's periods.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use kes_wire::unix_time::UnixTime;
use serde_json::Value;

/// A network's periods, for networks that began with the Shelley era.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    start_micros: u64,
    period_micros: u64,
    /// Evolutions that the ledger accepts.
    pub most_evolutions: u64,
}

impl Periods {
    /// Reads a Shelley genesis file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let genesis = json(path)?;
        let number = |name: &str| {
            let value = genesis[name].as_u64();
            value.ok_or_else(|| format!("{}: no {name}", path.display()))
        };
        let start = genesis["systemStart"].as_str().unwrap_or_default();
        let start =
            UnixTime::parse(start).map_err(|_| format!("{}: no systemStart", path.display()))?;
        let slot = genesis["slotLength"].as_f64().unwrap_or_default();
        let slot = u64::try_from(Duration::from_secs_f64(slot).as_micros()).unwrap_or(u64::MAX);
        let period_micros = slot.saturating_mul(number("slotsPerKESPeriod")?);
        if period_micros == 0 {
            return Err(format!("{}: no slotLength", path.display()));
        }
        Ok(Self {
            start_micros: start.0,
            period_micros,
            most_evolutions: number("maxKESEvolutions")?.min(64),
        })
    }

    /// The current period.
    #[must_use]
    pub fn now(&self) -> u64 {
        now_micros().saturating_sub(self.start_micros) / self.period_micros
    }

    /// How long until the next begins.
    #[must_use]
    pub fn until_next(&self) -> Duration {
        let passed = now_micros().saturating_sub(self.start_micros) % self.period_micros;
        Duration::from_micros(self.period_micros - passed)
    }
}

/// Microseconds since 1970.
#[must_use]
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Reads a cold signing key from cardano-cli's file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn cold_key(path: &Path) -> Result<SigningKey, String> {
    let file = json(path)?;
    file["cborHex"]
        .as_str()
        .and_then(|text| text.strip_prefix("5820"))
        .and_then(|text| hex::decode(text).ok())
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .map(|seed| SigningKey::from_bytes(&seed))
        .ok_or_else(|| format!("{}: not a cold signing key", path.display()))
}

fn json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path);
    text.map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .map_err(|error| format!("{}: {error}", path.display()))
}
