//! For each check of an agent a fault that it finds.

use std::collections::BTreeSet;

use ciborium::Value;
use integration_tests::conformance::rotation::number;
use integration_tests::conformance::wire::id;

use crate::wrong_agent::Fault::{self, *};
use crate::wrong_agent::{field, in_status};

fn say(frame: &mut [u8], word: &str, other: &str) {
    let mut at = 0;
    while let Some(found) = frame[at..]
        .windows(word.len())
        .position(|part| part == word.as_bytes())
    {
        at += found;
        frame[at..at + word.len()].copy_from_slice(other.as_bytes());
    }
}

fn set(answer: &mut Value, key: u64, to: u64) {
    if let Some(value) = in_status(answer, key) {
        *value = number(to);
    }
}

fn changed(answer: &mut Value) {
    if is_done(answer)
        && let Some(value) = field(&mut answer.as_array_mut().unwrap()[1], 0)
    {
        *value = Value::Bool(true);
    }
}

fn is_done(answer: &Value) -> bool {
    answer
        .as_array()
        .is_some_and(|answer| answer[0] == number(0))
}

/// The state of the active slot.
fn active(answer: &mut Value, state: u64) {
    if let Some(slot) = in_status(answer, 9) {
        slot.as_array_mut().unwrap()[0] = number(state);
    }
}

fn without(answer: &mut Value, key: u64) {
    if let Some(value) = in_status(answer, key) {
        *value = Value::Null;
    }
}

fn flip(message: &mut [u8], at: usize) {
    if message.len() > at {
        message[at] ^= 1;
    }
}

/// The faults on a network whose periods are long.
pub(crate) const FAULTS: &[(&str, Fault)] = &[
    (
        "TR-1",
        Offer(|ids| ids.iter_mut().for_each(|id| id[0] = b'X')),
    ),
    ("TR-2", Message(|bytes| bytes[1..9].reverse())),
    (
        "TR-3",
        Told(|_, bytes| {
            if bytes.len() == 1 {
                bytes[0] = 2
            }
        }),
    ),
    ("TR-4", CompletedBy(&[0])),
    ("TR-5", LetsIn(14)),
    ("HS-1", Offer(|ids| ids.push([b' '; 32]))),
    ("HS-2", Offer(|ids| ids.extend([id("More:1"); 62]))),
    ("HS-3", Offer(|ids| ids.push(id("Never:1")))),
    ("HS-4", KeepsOpen),
    ("HS-4", ClosesLate),
    ("HS-5", KeepsOpen),
    ("HS-5", ClosesLate),
    ("HS-6", Repetition(|id| id[0] = b'X')),
    ("HS-6", ClosesLate),
    ("DEP-1", Offer(|ids| ids.reverse())),
    ("VER-3", Offer(|ids| ids.truncate(2))),
    ("SEC-5", DiesOf(5000)),
    ("KEY-1", Message(|bytes| flip(bytes, 9))),
    ("KEY-2", Message(|bytes| flip(bytes, 9 + 32 + 96 * 5))),
    ("KEY-3", Message(|bytes| flip(bytes, 9))),
    ("KEY-4", Message(|bytes| flip(bytes, 9 + 32))),
    ("KEY-6", Message(|bytes| flip(bytes, 732))),
    ("KEY-7", Message(|bytes| flip(bytes, 620))),
    ("SVC-1", Message(|bytes| bytes[0] = 2)),
    ("SVC-2", Message(|bytes| bytes[1..4].fill(0))),
    ("SVC-3", Later(Vec::clear)),
    ("SVC-5", Message(|bytes| bytes.extend(bytes.clone()))),
    ("SVC-6", ServesTheFirst),
    ("SVC-6", KeepsOpen),
    ("SVC-6", Message(|bytes| bytes.extend(bytes.clone()))),
    ("SVC-7", WaitsForRoom),
    ("SVC-9", KeepsOpen),
    (
        "SVC-9",
        Told(|_, bytes| {
            if bytes.len() < 4 {
                bytes.clear()
            }
        }),
    ),
    ("SVC-10", Message(|bytes| flip(bytes, 620))),
    ("SVC-10", ServesAnyCertificate),
    (
        "TOMB-1",
        Message(|bytes| {
            if bytes.len() == 9 {
                bytes.clear()
            }
        }),
    ),
    ("DEP-2", Deployed(4, |bytes| *bytes.last_mut().unwrap() = 9)),
    ("DEP-3", Deployed(3, |bytes| *bytes = vec![0, 9])),
    ("DEP-4", OlderKey(|bytes| bytes.push(0))),
    ("DEP-5", KeepsOpen),
    ("DEP-7", Deployed(1, |bytes| flip(bytes, 20))),
    (
        "DEP-8",
        Told(|before, bytes| {
            let at = 65usize.saturating_sub(before);
            if bytes.len() == at + 2 {
                bytes[at..].copy_from_slice(&[0, 1]);
            }
        }),
    ),
    ("DEP-9", Deployed(1, |bytes| *bytes = vec![0])),
    ("DEP-10", Deployed(3, |bytes| bytes[1] = 1)),
    ("DEP-11", Deployed(4, |bytes| bytes.push(0))),
    (
        "DEP-12",
        Deployed(4, |bytes| {
            // A key where there is none, in the version that has it first.
            if bytes.starts_with(&[0; 4]) {
                bytes.splice(..1, [&[1][..], &[0; 116]].concat());
            }
        }),
    ),
    (
        "ROT-1",
        Frame(|bytes| {
            bytes.push(0xa0);
            let length = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }),
    ),
    ("ROT-2", KeepsOpen),
    (
        "ROT-3",
        Frame(|bytes| say(bytes, "not-understood", "not-understand")),
    ),
    (
        "ROT-3",
        Told(|_, bytes| {
            // As who reads one of two keys that are the same.
            if bytes.ends_with(&[0xa2, 9, 0, 9, 0]) {
                let last = bytes.len() - 2;
                bytes[last] = 8;
            }
        }),
    ),
    (
        "ROT-4",
        Frame(|bytes| {
            if bytes[5] == 1 {
                bytes[5] = 2
            }
        }),
    ),
    ("ROT-5", Answer(|answer| without(answer, 11))),
    ("ROT-6", EmptiesAfterRefusals),
    ("ROT-7", Answer(changed)),
    (
        "ROT-8",
        Frame(|bytes| say(bytes, "already-pending", "already-present")),
    ),
    (
        "VER-1",
        Told(|_, bytes| {
            // The unknown key, 77, cannot be read any more.
            if let Some(at) = bytes.windows(2).position(|key| key == [0x18, 77]) {
                bytes[at] = 0xff;
            }
        }),
    ),
    (
        "ST-1",
        Frame(|bytes| say(bytes, "already-pending", "already-present")),
    ),
    ("ST-2", EmptiesAfterRefusals),
    (
        "ST-3",
        Frame(|bytes| say(bytes, "other-kes-key", "other-kes-kex")),
    ),
    (
        "ST-4",
        Frame(|bytes| say(bytes, "already-imported", "already-pending!")),
    ),
    (
        "ST-5",
        Answer(|answer| {
            if let Some(evolution) =
                in_status(answer, 9).and_then(|slot| field(&mut slot.as_array_mut()?[1], 2))
            {
                *evolution = number(0);
            }
        }),
    ),
    ("ST-7", Answer(|answer| active(answer, 0))),
    ("ST-8", Message(|bytes| bytes[6..9].fill(0))),
    ("SCH-1", Message(|bytes| flip(bytes, 660))),
    ("CNT-1", Answer(|answer| set(answer, 10, 0))),
    (
        "CNT-2",
        Answer(|answer| {
            if is_done(answer)
                && let Some(notes) = field(&mut answer.as_array_mut().unwrap()[1], 1)
            {
                *notes = Value::Array(Vec::new());
            }
        }),
    ),
    (
        "CNT-3",
        Frame(|bytes| say(bytes, "counter-too-low", "counter-too-odd")),
    ),
    ("TIME-8", Answer(|answer| set(answer, 2, 7))),
    ("PEER-1", PeerAnswer(|_| 0)),
    ("PEER-1", ServesTheFirst),
    ("PEER-2", PeerAnswer(|_| 0)),
    ("PEER-2", ServesTheFirst),
    ("PEER-3", PeerAnswer(|_| 0)),
    ("PEER-3", Message(|bytes| flip(bytes, 8))),
    ("PEER-4", PeerAnswer(|_| 0)),
    (
        "PEER-5",
        PeerAnswer(|answer| if answer == 2 { 1 } else { answer }),
    ),
    ("PEER-6", Message(|bytes| flip(bytes, 8))),
    ("PEER-8", Answer(|answer| without(answer, 15))),
    ("PEER-9", FollowsOnce),
    ("TOMB-2", PeerAnswer(|_| 0)),
];

/// The faults on a network where a period begins while the kit waits.
pub(crate) const AT_A_TURN: &[(&str, Fault)] = &[
    // Whenever it is: a key that was sent is sent again.
    ("SVC-4", Message(|bytes| bytes.extend(bytes.clone()))),
    ("EVO-1", Message(|bytes| flip(bytes, 620))),
    (
        "EVO-2",
        Message(|bytes| {
            if bytes.len() > 620 {
                bytes[620] += 1
            }
        }),
    ),
    ("EVO-3", Answer(|answer| active(answer, 1))),
    ("SCH-2", ServesTheFirst),
    (
        "SCH-3",
        Answer(|answer| {
            if let Some(slot) = in_status(answer, 8) {
                let slot = slot.as_array_mut().unwrap();
                if slot[0] == number(2) {
                    slot[0] = number(1);
                }
            }
        }),
    ),
    (
        "SCH-3",
        Answer(|answer| {
            if let Some(warnings) = in_status(answer, 14) {
                *warnings = Value::Array(Vec::new());
            }
        }),
    ),
    ("PEER-7", StaysWithThePeer),
];

/// The faults that show after deadlines.
pub(crate) const SLOW: &[(&str, Fault)] = &[
    ("HS-7", KeepsOpen),
    ("SVC-8", KeepsOpen),
    ("ROT-9", KeepsOpen),
];

/// The requirements that are tried on other networks than the one whose periods are long.
pub(crate) fn later_ids() -> BTreeSet<&'static str> {
    let later = AT_A_TURN.iter().chain(SLOW);
    later.map(|(id, _)| *id).collect()
}
