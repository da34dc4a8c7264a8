//! What fuzzing feeds with any bytes: each target panics where something does not hold.
//!
//! `make fuzz` runs them under libFuzzer; the test `corpus` replays what it has found worth keeping.

mod decoders;
mod files;
mod machine;
mod memory;
mod seeds;

pub use seeds::seeds;

/// A target takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("handshake", decoders::handshake),
    ("service", decoders::service),
    ("deployed-requests", decoders::deployed_requests),
    ("deployed-answers", decoders::deployed_answers),
    ("rotation", decoders::rotation),
    ("certificates", decoders::certificates),
    ("envelopes", files::envelopes),
    ("genesis", files::genesis),
    ("configuration", files::configuration),
    ("kept-memory", memory::kept),
    ("live-state", machine::live_state),
];
