//! Sequences of inputs and times.

use kes_wire::protocol::control::rotation::IfPending;
use proptest::prelude::*;

/// An input, put in relation to the state in which it arrives, so that deep states are reached.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Told whether another step comes between asking for a key and having it.
    Keygen(IfPending, bool),
    Import(Cert, bool),
    Activate(Option<Cert>, bool),
    DropPending,
    DropActive,
    PeerKey(PeerKey),
    PeerDropped(Number),
    Tick,
}

/// A key that a peer sends.
#[derive(Debug, Clone)]
pub(super) struct PeerKey {
    pub(super) cold: u8,
    pub(super) key: u8,
    /// With the certificate that is held here.
    pub(super) held: bool,
    pub(super) counter: Number,
    pub(super) start: Number,
    /// In relation to what the period asks for.
    pub(super) evolution: Number,
    /// In relation to the newest known.
    pub(super) stamp: Number,
}

#[derive(Debug, Clone)]
pub(super) struct Cert {
    pub(super) which: Which,
    pub(super) file_cold_vkey: Option<u8>,
    pub(super) replace: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Which {
    /// The one in the pending slot, or else in the active one.
    HeldPending,
    HeldActive,
    New {
        cold: u8,
        for_pending: bool,
        counter: Number,
        start: Number,
        damaged: bool,
    },
}

/// A number, near the one that matters or far from it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Near(i64),
    Far(u64),
}

impl Number {
    pub(super) fn from(self, centre: u64) -> u64 {
        match self {
            Self::Near(offset) => centre.saturating_add_signed(offset),
            Self::Far(n) => n,
        }
    }
}

/// How time passes before a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passes {
    pub(super) period: Number,
    pub(super) micros: i64,
}

fn numbers(near: std::ops::RangeInclusive<i64>) -> impl Strategy<Value = Number> {
    prop_oneof![
        12 => near.prop_map(Number::Near),
        1 => prop_oneof![Just(0), Just(1), Just(u64::MAX - 1), Just(u64::MAX)].prop_map(Number::Far),
    ]
}

fn certs() -> impl Strategy<Value = Cert> {
    let new = (
        prop_oneof![12 => Just(0), 1 => Just(9)],
        prop::bool::weighted(0.9),
        numbers(-1..=2),
        prop_oneof![4 => numbers(-3..=3), 1 => numbers(-70..=70)],
        prop::bool::weighted(0.05),
    )
        .prop_map(|(cold, for_pending, counter, start, damaged)| Which::New {
            cold,
            for_pending,
            counter,
            start,
            damaged,
        });
    let which = prop_oneof![8 => new, 1 => Just(Which::HeldPending), 1 => Just(Which::HeldActive)];
    let file = prop_oneof![Just(None), Just(Some(0)), Just(Some(9))];
    (which, file, any::<bool>()).prop_map(|(which, file_cold_vkey, replace)| Cert {
        which,
        file_cold_vkey,
        replace,
    })
}

fn peer_keys() -> impl Strategy<Value = PeerKey> {
    (
        prop_oneof![12 => Just(0), 1 => Just(9)],
        0..40u8,
        prop::bool::weighted(0.2),
        numbers(-1..=2),
        prop_oneof![4 => numbers(-3..=3), 1 => numbers(-70..=70)],
        numbers(-3..=1),
        numbers(-2..=5),
    )
        .prop_map(
            |(cold, key, held, counter, start, evolution, stamp)| PeerKey {
                cold,
                key,
                held,
                counter,
                start,
                evolution,
                stamp,
            },
        )
}

pub(super) fn steps() -> impl Strategy<Value = Vec<(Passes, Step)>> {
    let if_pending = prop_oneof![
        3 => Just(IfPending::Refuse),
        1 => Just(IfPending::Replace),
        1 => Just(IfPending::Keep),
    ];
    let step = prop_oneof![
        4 => (if_pending, prop::bool::weighted(0.2)).prop_map(|(i, late)| Step::Keygen(i, late)),
        3 => (certs(), any::<bool>()).prop_map(|(c, allow)| Step::Import(c, allow)),
        5 => (prop::option::of(certs()), any::<bool>()).prop_map(|(c, a)| Step::Activate(c, a)),
        1 => Just(Step::DropPending),
        1 => Just(Step::DropActive),
        3 => peer_keys().prop_map(Step::PeerKey),
        1 => numbers(-2..=5).prop_map(Step::PeerDropped),
        4 => Just(Step::Tick),
    ];
    let period = prop_oneof![
        8 => Just(Number::Near(0)),
        6 => (0..=3i64).prop_map(Number::Near),
        2 => (-3..=0i64).prop_map(Number::Near),
        1 => (-80..=80i64).prop_map(Number::Near),
    ];
    let period =
        prop_oneof![40 => period, 1 => Just(Number::Far(u64::MAX)), 1 => Just(Number::Far(100))];
    let passes = (period, -50..=200i64).prop_map(|(period, micros)| Passes { period, micros });
    prop::collection::vec((passes, step), 1..60)
}
