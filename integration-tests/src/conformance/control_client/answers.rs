//! What the kit says as an agent on its control socket.

use ciborium::Value;

use crate::conformance::keys::Certificate;
use crate::conformance::rotation::{map, number, request};

/// The pending key's verification key.
pub(super) const VKEY: [u8; 32] = [0x5a; 32];
/// The current period.
pub(super) const PERIOD: u64 = 1000;
/// When it began, in seconds since 1970, and how long it takes.
const BEGAN: u64 = 1_800_000_000;
const LASTS: u64 = 129_600;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn vkey() -> Value {
    Value::Bytes(VKEY.to_vec())
}

fn time(seconds: u64) -> Value {
    number(seconds * 1_000_000)
}

/// A note, a refusal without numbers.
pub(super) fn note(code: &str, sentence: &str) -> Vec<(u64, Value)> {
    vec![(0, text(code)), (1, text(sentence))]
}

/// The fields of a status with a pending and an active key; those that may be absent are.
pub(super) fn status(certificate: &Certificate) -> Vec<(u64, Value)> {
    let end = certificate.start + 62;
    let opcert = map(vec![
        (0, number(certificate.counter)),
        (1, number(certificate.start)),
        (2, number(end)),
        (3, time(BEGAN)),
        (4, time(BEGAN + 62 * LASTS)),
        (5, number(62)),
    ]);
    let network = vec![
        (0, number(42)),
        (1, number(LASTS)),
        (2, number(1_000_000_000)),
        (3, number(62)),
    ];
    let active = vec![
        (0, vkey()),
        (1, opcert),
        (2, number(0)),
        (3, time(BEGAN + 1)),
    ];
    vec![
        (0, text("0.0.0")),
        (1, time(BEGAN + 5)),
        (2, number(PERIOD)),
        (3, time(BEGAN)),
        (4, time(BEGAN + LASTS)),
        (5, map(network)),
        (6, Value::Bytes(vec![1; 32])),
        (7, text("pool1")),
        (8, request(1, vec![(0, vkey())])),
        (9, request(1, active)),
        (11, number(1)),
        (
            13,
            map(vec![(0, text("memory")), (1, Value::Array(Vec::new()))]),
        ),
    ]
}

/// *done* with this status.
pub(super) fn done(status: Vec<(u64, Value)>) -> Value {
    request(0, vec![(0, Value::Bool(true)), (2, map(status))])
}

/// *refused*.
pub(super) fn refused(code: &str, sentence: &str, next_step: &str) -> Value {
    let mut fields = note(code, sentence);
    fields.push((2, text(next_step)));
    request(1, vec![(0, map(fields))])
}

/// What is installed, by an info of a deployed agent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Installed {
    Nothing,
    Key,
    /// In the form of 3.0 and 2.0 that agents do not send.
    Drop,
}

/// An AgentInfo in a deployed version, with one peer in this state.
pub(super) fn info(
    version: &str,
    certificate: &Certificate,
    installed: Installed,
    peer: u8,
) -> Vec<u8> {
    let is_3_0 = version == "Control:3.0";
    let has_times = is_3_0 || version == "Control:2.0";
    let key = [
        &0u32.to_be_bytes()[..],
        &certificate.start.to_be_bytes(),
        &certificate.counter.to_be_bytes(),
        &certificate.vkey,
        &certificate.signature,
    ]
    .concat();
    let when = [&[1][..], &BEGAN.to_be_bytes()].concat();
    let mut info = Vec::new();
    if is_3_0 {
        info.extend(long_text("0.0.0"));
    }
    match installed {
        Installed::Nothing => info.push(0),
        Installed::Key if has_times => info.extend([&[1, 1][..], &key, &when].concat()),
        Installed::Key => info.extend([&[1][..], &key].concat()),
        Installed::Drop => info.extend([&[1, 0][..], &when].concat()),
    }
    info.extend([&[1][..], &VKEY].concat());
    info.extend((BEGAN + 5).to_be_bytes());
    info.extend(PERIOD.to_be_bytes());
    if is_3_0 {
        info.extend([BEGAN, BEGAN + LASTS].map(u64::to_be_bytes).concat());
    }
    info.extend(1u32.to_be_bytes());
    info.extend(long_text("/run/peer.socket"));
    info.push(peer);
    info
}

fn long_text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}
