//! The network's parameters, from the Shelley genesis file, and the KES period of a moment.
//!
//! A KES period is counted in slots of the real chain. On a network that began with a Byron era
//! (20-second slots) the slot is not `(now - systemStart) / slotLength`: the Shelley era began at
//! a slot and a moment of its own, which decide everything after. They are built in for mainnet,
//! preprod and preview, by their magic; any other network's may be given.

use serde::Deserialize;

use crate::period::KesPeriod;
use crate::sum6kes::EVOLUTIONS;
use crate::unix_time::{NotATime, UnixTime};

/// Bytes that a genesis file may have: real ones list initial funds.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The parameters of a network that decide KES periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The network's magic number.
    pub magic: u32,
    /// Slots in a KES period, at least 1.
    pub slots_per_kes_period: u64,
    /// Length of a slot in nanoseconds, at least 1.
    pub slot_length_ns: u64,
    /// How many evolutions of a key are accepted: the ledger's `maxKESEvolutions`, at most the
    /// algorithm's 64, at least 1.
    pub max_evolutions: u32,
    /// The first slot of the Shelley era.
    pub shelley_start_slot: u64,
    /// When that slot began.
    pub shelley_start_time: UnixTime,
}

/// Where the Shelley era begins, as far as it is given beside the genesis file.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShelleyStart {
    /// Its first slot.
    pub slot: Option<u64>,
    /// When that slot began.
    pub time: Option<UnixTime>,
}

/// Why a genesis file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// It is not JSON, or a parameter is missing or of another type.
    #[error("this is not a Shelley genesis file: {0}")]
    Unreadable(String),
    /// `slotsPerKESPeriod` is 0.
    #[error("slotsPerKESPeriod is 0: a KES period must have at least one slot")]
    NoSlots,
    /// `maxKESEvolutions` is 0.
    #[error("maxKESEvolutions is 0: no key could ever sign")]
    NoEvolutions,
    /// `slotLength` is not a length of time this program can count in.
    #[error("slotLength is {0} seconds: it must lie between a nanosecond and a year")]
    SlotLength(String),
    /// `systemStart` is not a time.
    #[error("systemStart: {0}")]
    SystemStart(#[from] NotATime),
}

/// The parts of a Shelley genesis file that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Genesis {
    system_start: String,
    slot_length: f64,
    #[serde(rename = "slotsPerKESPeriod")]
    slots_per_kes_period: u64,
    #[serde(rename = "maxKESEvolutions")]
    max_kes_evolutions: u64,
    network_magic: u32,
}

/// A network whose Shelley start is known.
struct Known {
    name: &'static str,
    magic: u32,
    system_start: UnixTime,
    shelley_start_slot: u64,
    shelley_start_time: UnixTime,
}

const fn seconds(seconds: u64) -> UnixTime {
    UnixTime(seconds * 1_000_000)
}

/// Measured on the chains themselves; the tests compare them with real blocks.
const KNOWN: [Known; 3] = [
    Known {
        name: "mainnet",
        magic: 764_824_073,
        system_start: seconds(1_506_203_091),
        shelley_start_slot: 4_492_800,
        shelley_start_time: seconds(1_596_059_091),
    },
    Known {
        name: "preprod",
        magic: 1,
        system_start: seconds(1_654_041_600),
        shelley_start_slot: 86_400,
        shelley_start_time: seconds(1_655_769_600),
    },
    Known {
        name: "preview",
        magic: 2,
        system_start: seconds(1_666_656_000),
        shelley_start_slot: 0,
        shelley_start_time: seconds(1_666_656_000),
    },
];

impl Network {
    /// Mainnet.
    pub const MAINNET: Self = Self {
        magic: KNOWN[0].magic,
        slots_per_kes_period: 129_600,
        slot_length_ns: 1_000_000_000,
        max_evolutions: 62,
        shelley_start_slot: KNOWN[0].shelley_start_slot,
        shelley_start_time: KNOWN[0].shelley_start_time,
    };

    /// The networks that are built in, by name. They share mainnet's parameters.
    pub fn public() -> impl Iterator<Item = (&'static str, Self)> {
        KNOWN.iter().map(|known| {
            let network = Self {
                magic: known.magic,
                shelley_start_slot: known.shelley_start_slot,
                shelley_start_time: known.shelley_start_time,
                ..Self::MAINNET
            };
            (known.name, network)
        })
    }

    /// The slot at `time`; the first Shelley slot for moments before it.
    #[must_use]
    pub fn slot_at(&self, time: UnixTime) -> u64 {
        let passed = u128::from(time.0.saturating_sub(self.shelley_start_time.0)) * 1_000;
        let slots = passed / u128::from(self.slot_length_ns);
        self.shelley_start_slot
            .saturating_add(u64::try_from(slots).unwrap_or(u64::MAX))
    }

    /// The KES period of a slot.
    #[must_use]
    pub fn period_of_slot(&self, slot: u64) -> KesPeriod {
        KesPeriod(slot / self.slots_per_kes_period)
    }

    /// The KES period at `time`. Before the Shelley era begins it is the period that it begins
    /// in: a test network is often set up some seconds ahead of its start.
    #[must_use]
    pub fn period_at(&self, time: UnixTime) -> KesPeriod {
        self.period_of_slot(self.slot_at(time))
    }

    /// When `period` begins: the moment its first slot does, rounded up to a microsecond. A
    /// period that began before the Shelley era is said to begin with that era; one beyond all
    /// counting begins at the end of time.
    #[must_use]
    pub fn period_start(&self, period: KesPeriod) -> UnixTime {
        let first_slot = u128::from(period.0) * u128::from(self.slots_per_kes_period);
        let slots = first_slot.saturating_sub(u128::from(self.shelley_start_slot));
        let passed = slots
            .saturating_mul(u128::from(self.slot_length_ns))
            .div_ceil(1_000);
        let start = passed.saturating_add(u128::from(self.shelley_start_time.0));
        UnixTime(u64::try_from(start).unwrap_or(u64::MAX))
    }

    /// When `period` ends: when the next one begins.
    #[must_use]
    pub fn period_end(&self, period: KesPeriod) -> UnixTime {
        self.period_start(KesPeriod(period.0.saturating_add(1)))
    }
}

/// Reads a Shelley genesis file. With the parameters come warnings: sentences about what is odd
/// but does not change the answer.
///
/// # Errors
/// [`GenesisError`], naming the parameter at fault.
pub fn network(text: &[u8], start: ShelleyStart) -> Result<(Network, Vec<String>), GenesisError> {
    let genesis: Genesis =
        serde_json::from_slice(text).map_err(|e| GenesisError::Unreadable(e.to_string()))?;
    if genesis.slots_per_kes_period == 0 {
        return Err(GenesisError::NoSlots);
    }
    if genesis.max_kes_evolutions == 0 {
        return Err(GenesisError::NoEvolutions);
    }
    let system_start = UnixTime::parse(&genesis.system_start)?;
    let mut warnings = Vec::new();
    let (slot, time) = match KNOWN
        .iter()
        .find(|known| known.magic == genesis.network_magic)
    {
        Some(known) => {
            if system_start != known.system_start {
                warnings.push(format!(
                    "The genesis file has the magic of {} but another systemStart ({system_start}, \
                     not {}): the periods of {} are used. Is it the right file?",
                    known.name, known.system_start, known.name
                ));
            }
            if start.slot.is_some() || start.time.is_some() {
                warnings.push(format!(
                    "The start of the Shelley era is known for {}: the one given is not used.",
                    known.name
                ));
            }
            (known.shelley_start_slot, known.shelley_start_time)
        }
        None => (start.slot.unwrap_or(0), start.time.unwrap_or(system_start)),
    };
    let max_evolutions = u32::try_from(genesis.max_kes_evolutions).unwrap_or(u32::MAX);
    let network = Network {
        magic: genesis.network_magic,
        slots_per_kes_period: genesis.slots_per_kes_period,
        slot_length_ns: slot_length_ns(genesis.slot_length)?,
        max_evolutions: max_evolutions.min(EVOLUTIONS),
        shelley_start_slot: slot,
        shelley_start_time: time,
    };
    Ok((network, warnings))
}

/// A slot length of the file, in seconds, as nanoseconds. It is a decimal fraction there (`0.1`):
/// rounding to the nanosecond gives back what was written.
fn slot_length_ns(seconds: f64) -> Result<u64, GenesisError> {
    const YEAR_NS: f64 = 366.0 * 86_400.0 * 1e9;
    let nanoseconds = (seconds * 1e9).round();
    if !(1.0..=YEAR_NS).contains(&nanoseconds) {
        return Err(GenesisError::SlotLength(seconds.to_string()));
    }
    // In range, checked above; a float converts by saturation.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(nanoseconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn genesis(magic: u32, start: &str, slot_length: &str, slots: u64, evolutions: u64) -> String {
        format!(
            r#"{{"systemStart":"{start}","slotLength":{slot_length},"slotsPerKESPeriod":{slots},
                "maxKESEvolutions":{evolutions},"networkMagic":{magic},"other":[1,2]}}"#
        )
    }

    fn read(text: &str) -> Result<(Network, Vec<String>), GenesisError> {
        network(text.as_bytes(), ShelleyStart::default())
    }

    fn at(text: &str) -> UnixTime {
        UnixTime::parse(text).unwrap()
    }

    #[test]
    fn mainnet_at_a_real_block() {
        // The mainnet block at slot 83736403 was made then, in KES period 646.
        let time = at("2023-02-02T01:51:34Z");
        assert_eq!(Network::MAINNET.slot_at(time), 83_736_403);
        assert_eq!(Network::MAINNET.period_at(time), KesPeriod(646));
        let (start, end) = (
            Network::MAINNET.period_start(KesPeriod(646)),
            Network::MAINNET.period_end(KesPeriod(646)),
        );
        assert!(start <= time && time < end);
        assert_eq!(end.0 - start.0, 36 * 3600 * 1_000_000);
    }

    #[test]
    fn known_networks_go_by_their_magic() {
        let (preprod, warnings) =
            read(&genesis(1, "2022-06-01T00:00:00Z", "1", 129_600, 62)).unwrap();
        assert!(warnings.is_empty());
        // Its Shelley era began at slot 86400 at 2022-06-21T00:00:00Z.
        assert_eq!(preprod.slot_at(at("2022-06-21T00:00:00Z")), 86_400);
        assert_eq!(preprod.slot_at(at("2022-06-22T00:00:00Z")), 172_800);
        assert_eq!(preprod.period_at(at("2022-06-21T11:59:59Z")), KesPeriod(0));
        assert_eq!(preprod.period_at(at("2022-06-21T12:00:00Z")), KesPeriod(1));
        let (preview, warnings) =
            read(&genesis(2, "2022-10-25T00:00:00Z", "1", 129_600, 62)).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(preview.period_at(at("2022-10-26T12:00:00Z")), KesPeriod(1));
        assert_eq!(preview.period_at(at("2022-10-26T11:59:59Z")), KesPeriod(0));

        let odd = read(&genesis(
            764_824_073,
            "2020-01-01T00:00:00Z",
            "1",
            129_600,
            62,
        ))
        .unwrap();
        assert_eq!(odd.0, Network::MAINNET);
        assert_eq!(odd.1.len(), 1);
        let given = ShelleyStart {
            slot: Some(5),
            time: None,
        };
        let text = genesis(2, "2022-10-25T00:00:00Z", "1", 129_600, 62);
        assert_eq!(
            network(text.as_bytes(), given).unwrap(),
            (
                preview,
                vec![
                    "The start of the Shelley era is known for preview: the one given is not used."
                        .to_owned()
                ]
            )
        );
    }

    #[test]
    fn a_test_network_with_short_slots_and_a_start_ahead() {
        let text = genesis(42, "2030-01-01T00:00:00Z", "0.1", 50, 100);
        let (test, _) = read(&text).unwrap();
        assert_eq!(test.slot_length_ns, 100_000_000);
        assert_eq!(test.max_evolutions, 64);
        assert_eq!(test.period_at(at("2029-12-31T23:59:59Z")), KesPeriod(0));
        assert_eq!(test.period_at(at("2030-01-01T00:00:04Z")), KesPeriod(0));
        assert_eq!(test.period_at(at("2030-01-01T00:00:05Z")), KesPeriod(1));
        assert_eq!(test.period_start(KesPeriod(1)), at("2030-01-01T00:00:05Z"));

        // The same with a Byron era of 1000 slots before.
        let given = ShelleyStart {
            slot: Some(1000),
            time: Some(at("2030-02-01T00:00:00Z")),
        };
        let (byron, _) = network(text.as_bytes(), given).unwrap();
        assert_eq!(byron.period_at(at("2030-02-01T00:00:00Z")), KesPeriod(20));
    }

    #[test]
    fn bad_parameters_are_named() {
        let start = "2030-01-01T00:00:00Z";
        assert_eq!(
            read(&genesis(9, start, "1", 0, 62)),
            Err(GenesisError::NoSlots)
        );
        assert_eq!(
            read(&genesis(9, start, "1", 5, 0)),
            Err(GenesisError::NoEvolutions)
        );
        for length in ["0", "-1", "1e-12", "1e300"] {
            let refused = read(&genesis(9, start, length, 5, 62));
            assert!(
                matches!(refused, Err(GenesisError::SlotLength(_))),
                "{length}"
            );
        }
        let refused = read(&genesis(9, "soon", "1", 5, 62));
        assert!(matches!(refused, Err(GenesisError::SystemStart(_))));
        for text in ["", "{", "[]", "{}", "\u{feff}{}", "null"] {
            assert!(
                matches!(read(text), Err(GenesisError::Unreadable(_))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn periods_and_moments_agree_and_nothing_overflows(
            slots in 1u64.., length in 1u64.., start_slot: u64, start: u64, time: u64, period: u64,
        ) {
            let any = Network {
                magic: 9,
                slots_per_kes_period: slots,
                slot_length_ns: length,
                max_evolutions: 62,
                shelley_start_slot: start_slot,
                shelley_start_time: UnixTime(start),
            };
            let now = any.period_at(UnixTime(time));
            let _ = any.period_end(KesPeriod(period));
            if any.period_end(now).0 < u64::MAX && time >= start {
                prop_assert!(any.period_start(now) <= UnixTime(time));
                prop_assert!(UnixTime(time) < any.period_end(now));
            }
        }

        #[test]
        fn a_period_begins_exactly_where_it_says(
            slots in 1u64..200_000, length in 1_000_000u64..20_000_000_000, period in 0u64..100_000,
        ) {
            let network = Network {
                slots_per_kes_period: slots,
                slot_length_ns: length,
                shelley_start_slot: 0,
                ..Network::MAINNET
            };
            let begins = network.period_start(KesPeriod(period));
            prop_assert_eq!(network.period_at(begins), KesPeriod(period));
            if period > 0 {
                prop_assert_eq!(network.period_at(UnixTime(begins.0 - 1)), KesPeriod(period - 1));
            }
        }

        #[test]
        fn garbage_is_no_genesis(bytes: Vec<u8>) {
            prop_assert!(network(&bytes, ShelleyStart::default()).is_err());
        }
    }
}
