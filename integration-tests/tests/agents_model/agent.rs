//! One agent of the model: the agent's own state and trusted time, what stands on its disk, its
//! machine's clock, and what a witness remembers of it.

use std::collections::BTreeSet;

use kes_agent::marks::Marks;
use kes_agent::state::{Active, Now, Rules, State};
use kes_agent::trusted_time::{BootTime, Reading, TrustedTime};
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::{ClockMode, IfPending};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;

use super::bugs::Bug;
use super::certificates::{Cold, Key, cold_vkey};

/// Microseconds of a step of time: five minutes, after which patience is over and a stamp is in
/// the far future.
pub const STEP: u64 = 300_000_000;
/// Microseconds of a KES period of the model: two steps.
pub const PERIOD: u64 = 2 * STEP;
/// The period in which the model begins.
pub const FIRST_PERIOD: u64 = 1_000;
/// Periods in which a key signs.
pub const EVOLUTIONS: u32 = 2;

/// A pool's rules.
pub fn rules(cold: Cold) -> Rules {
    Rules {
        cold_vkey: cold_vkey(cold),
        max_evolutions: EVOLUTIONS,
    }
}

/// The time after so many steps.
pub fn time_after(steps: u8) -> u64 {
    FIRST_PERIOD * PERIOD + u64::from(steps) * STEP
}

/// A machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    /// By how many periods it is ahead of the time.
    pub ahead: i8,
    /// Whether the kernel calls it synchronised: then it is right.
    pub is_synchronised: bool,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    /// Of which pool it is.
    pub cold: Cold,
    pub state: State,
    pub time: TrustedTime,
    pub clock: Clock,
    /// A key is being generated.
    pub generating: Option<IfPending>,
    /// What stands on its disk.
    pub disk: Option<Marks>,
    /// What it has seen, as a witness remembers it.
    pub seen: Seen,
    /// The same, of when the disk was written.
    pub seen_on_disk: Seen,
}

/// What an agent has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The keys of which it saw a drop.
    pub drops: BTreeSet<Key>,
    /// The keys that the drop it holds is of.
    pub last_drop: BTreeSet<Key>,
    /// The counter that was active last, or that an operator allowed.
    pub counter: Option<u64>,
}

impl Agent {
    pub fn new() -> Self {
        Self {
            cold: Cold::Ours,
            state: State::new(),
            time: TrustedTime::new(ClockMode::Guard, None),
            clock: Clock {
                ahead: 0,
                is_synchronised: true,
            },
            generating: None,
            disk: None,
            seen: Seen::default(),
            seen_on_disk: Seen::default(),
        }
    }

    pub fn reading(&self, steps: u8) -> Reading {
        let ahead = i64::from(self.clock.ahead) * PERIOD.cast_signed();
        Reading {
            wall: UnixTime(time_after(steps).saturating_add_signed(ahead)),
            boot: BootTime(u64::from(steps) * STEP),
            is_synchronised: self.clock.is_synchronised,
        }
    }

    /// Looks at the clocks.
    pub fn look(&mut self, steps: u8) -> Now {
        let believed = self.time.look(self.reading(steps));
        Now {
            stamp: Stamp(believed.time.0),
            period: KesPeriod(believed.time.0 / PERIOD),
            is_trusted: believed.is_trusted,
        }
    }

    /// The marks reach the disk.
    pub fn write_disk(&mut self) {
        self.disk = Some(Marks::of(cold_vkey(self.cold), &self.state));
        self.seen_on_disk = self.seen.clone();
    }

    /// The process dies and finds its memory again.
    pub fn restart_with_memory(&mut self) {
        self.time = TrustedTime::new(ClockMode::Guard, self.time.anchor());
        self.generating = None;
    }

    /// The machine restarts: there is only the disk.
    pub fn restart_without_memory(&mut self, bug: Option<Bug>) {
        let mut disk = self.disk.clone();
        if let Some(marks) = &mut disk {
            match bug {
                Some(Bug::TombstoneNotOnDisk) => marks.tombstone = None,
                Some(Bug::MarkNotOnDisk) => marks.counter_high_water_mark = None,
                _ => {}
            }
        }
        *self = Self {
            cold: self.cold,
            state: disk.as_ref().map(Marks::state).unwrap_or_default(),
            time: TrustedTime::new(ClockMode::Guard, None),
            clock: Clock {
                is_synchronised: false,
                ..self.clock
            },
            generating: None,
            disk,
            seen: self.seen_on_disk.clone(),
            seen_on_disk: self.seen_on_disk.clone(),
        };
    }

    /// Whether it trusts a time that is not the time.
    pub fn is_misled(&self, steps: u8) -> bool {
        let boot = self.reading(steps).boot;
        self.time
            .anchor()
            .is_some_and(|anchor| anchor.time_at(boot).0 != time_after(steps))
    }

    /// What it holds, to be compared with what another holds.
    pub fn held(&self) -> Option<(Stamp, Option<(Key, u64)>)> {
        let stamp = self.state.active.stamp()?;
        let certificate = self.state.active.certificate();
        let key = certificate.map(|it| (Key::of(&it.kes_vkey), it.counter));
        Some((stamp, key))
    }

    pub fn holds_key(&self) -> bool {
        matches!(self.state.active, Active::Bundle { .. })
    }
}
