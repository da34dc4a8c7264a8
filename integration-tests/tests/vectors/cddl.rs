//! `spec/control-rotation.cddl`, line by line, as what turns an item into JSON.

use std::collections::BTreeSet;

use ciborium::Value as Item;
use serde_json::{Map, Value, json};

use crate::second::{Outcome, opcert_says, refused};

/// What stands at a place.
enum Shape {
    Bool,
    Uint,
    Text,
    Bytes(usize),
    Opcert,
    Time,
    /// An enumeration without fields, by number.
    Name(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// Names and numbers.
    Numbers,
    Structure(&'static [Field]),
    /// An enumeration with fields: what tells them apart, and each by number.
    Choice(&'static str, &'static [(&'static str, &'static [Field])]),
}

/// A key, its name, whether it may be absent and what it is then, and what stands there.
type Field = (u64, &'static str, If, Shape);

/// What an absent field stands for.
enum If {
    /// It may not be absent.
    Must,
    Nothing,
    False,
    Refuse,
    NoEntries,
    NoNumbers,
}

use If::{False, Must, NoEntries, NoNumbers, Nothing, Refuse};
use Shape::{Bool, Bytes, Choice, List, Name, Numbers, Opcert, Structure, Text, Time, Uint};

const VKEY: Shape = Bytes(32);

const IMPORT: Shape = Structure(&[
    (0, "certificate", Must, Opcert),
    (1, "cold_vkey", Nothing, VKEY),
    (2, "replace", False, Bool),
]);
const REQUEST: Shape = Choice(
    "request",
    &[
        (
            "keygen",
            &[(
                0,
                "if_pending",
                Refuse,
                Name(&["refuse", "replace", "keep"]),
            )],
        ),
        ("export-verkey", &[]),
        (
            "import-opcert",
            &[
                (0, "import", Must, IMPORT),
                (1, "allow_lower_counter", False, Bool),
            ],
        ),
        (
            "activate",
            &[
                (0, "import", Nothing, IMPORT),
                (1, "allow_lower_counter", False, Bool),
            ],
        ),
        ("status", &[]),
        ("drop-pending", &[]),
        ("drop-active", &[]),
        ("confirm-clock", &[(0, "synchronised", False, Bool)]),
    ],
);
const NOTE: Shape = Structure(&[(0, "code", Must, Text), (1, "sentence", Must, Text)]);
const REFUSAL: Shape = Structure(&[
    (0, "code", Must, Text),
    (1, "sentence", Must, Text),
    (2, "next_step", Must, Text),
    (3, "numbers", NoNumbers, Numbers),
]);
const OPCERT_STATUS: Shape = Structure(&[
    (0, "counter", Must, Uint),
    (1, "start_period", Must, Uint),
    (2, "expiry_period", Must, Uint),
    (3, "starts_at", Must, Time),
    (4, "expires_at", Must, Time),
    (5, "periods_left", Must, Uint),
]);
const NETWORK: Shape = Structure(&[
    (0, "magic", Must, Uint),
    (1, "slots_per_kes_period", Must, Uint),
    (2, "slot_length_ns", Must, Uint),
    (3, "max_kes_evolutions", Must, Uint),
]);
const KEY_AND_CERTIFICATE: &[Field] =
    &[(0, "vkey", Must, VKEY), (1, "opcert", Must, OPCERT_STATUS)];
const PENDING: Shape = Choice(
    "state",
    &[
        ("empty", &[]),
        ("key", &[(0, "vkey", Must, VKEY)]),
        ("certified", KEY_AND_CERTIFICATE),
        ("scheduled", KEY_AND_CERTIFICATE),
    ],
);
const ACTIVE: Shape = Choice(
    "state",
    &[
        ("empty", &[]),
        (
            "serving",
            &[
                (0, "vkey", Must, VKEY),
                (1, "opcert", Must, OPCERT_STATUS),
                (2, "evolution", Must, Uint),
                (3, "since", Must, Time),
            ],
        ),
        ("expired", KEY_AND_CERTIFICATE),
        (
            "dropped",
            &[(0, "vkey", Nothing, VKEY), (1, "since", Must, Time)],
        ),
    ],
);
const NODE: Shape = Structure(&[
    (0, "pid", Nothing, Uint),
    (1, "uid", Must, Uint),
    (2, "connected_since", Must, Time),
    (3, "version", Must, Text),
    (
        4,
        "state",
        Must,
        Name(&[
            "nothing-sent",
            "awaiting",
            "confirmed",
            "declined",
            "has-it-already",
        ]),
    ),
    (5, "is_peer", False, Bool),
]);
const PEER: Shape = Structure(&[
    (0, "address", Must, Text),
    (
        1,
        "state",
        Must,
        Choice(
            "state",
            &[
                ("up", &[]),
                ("connecting", &[(0, "why", Nothing, Text)]),
                ("down", &[(0, "why", Must, Text)]),
            ],
        ),
    ),
    (2, "since", Must, Time),
    (3, "last_key_at", Nothing, Time),
    (4, "last_answer", Nothing, NOTE),
    (5, "hint", Nothing, NOTE),
]);
const PROTECTION: Shape = Structure(&[
    (0, "name", Must, Text),
    (1, "in_force", Must, Bool),
    (2, "meaning", Must, Text),
]);
const MEMORY: Shape = Structure(&[
    (0, "kind", Must, Text),
    (1, "protections", Must, List(&PROTECTION)),
]);
const CLOCK: Shape = Structure(&[
    (0, "mode", Must, Name(&["guard", "strict", "trust"])),
    (
        1,
        "source",
        Nothing,
        Name(&[
            "synchronised",
            "confirmed",
            "activation",
            "nothing-better",
            "unguarded",
        ]),
    ),
    (2, "wall_clock", Must, Time),
    (3, "synchronised", Must, Bool),
    (4, "ahead_us", Must, Uint),
    (5, "behind_us", Must, Uint),
    (6, "disagrees", Must, Bool),
]);
const STATUS: Shape = Structure(&[
    (0, "agent_version", Must, Text),
    (1, "now", Must, Time),
    (2, "current_period", Must, Uint),
    (3, "period_started_at", Must, Time),
    (4, "period_ends_at", Must, Time),
    (5, "network", Must, NETWORK),
    (6, "cold_vkey", Must, VKEY),
    (7, "pool_id", Must, Text),
    (8, "pending", Must, PENDING),
    (9, "active", Must, ACTIVE),
    (10, "counter_high_water_mark", Nothing, Uint),
    (11, "connected_nodes", Must, Uint),
    (12, "nodes", NoEntries, List(&NODE)),
    (13, "memory", Must, MEMORY),
    (14, "warnings", NoEntries, List(&NOTE)),
    (15, "peers", NoEntries, List(&PEER)),
    (16, "clock", Nothing, CLOCK),
]);
const ANSWER: Shape = Choice(
    "answer",
    &[
        (
            "done",
            &[
                (0, "changed", Must, Bool),
                (1, "notes", NoEntries, List(&NOTE)),
                (2, "status", Must, STATUS),
            ],
        ),
        ("refused", &[(0, "refusal", Must, REFUSAL)]),
    ],
);

const CELL: Shape = Uint;
const KEPT_CERTIFIED: &[Field] = &[(0, "certificate", Must, Opcert), (1, "cell", Must, CELL)];
const KEPT_RECORD: Shape = Structure(&[
    (0, "cold_vkey", Must, VKEY),
    (
        1,
        "pending",
        Must,
        Choice(
            "state",
            &[
                ("empty", &[]),
                ("key", &[(0, "vkey", Must, VKEY), (1, "cell", Must, CELL)]),
                ("certified", KEPT_CERTIFIED),
                ("scheduled", KEPT_CERTIFIED),
            ],
        ),
    ),
    (
        2,
        "active",
        Must,
        Choice(
            "state",
            &[
                ("empty", &[]),
                (
                    "active",
                    &[
                        (0, "certificate", Must, Opcert),
                        (1, "cell", Must, CELL),
                        (2, "evolution", Must, Uint),
                        (3, "stamp", Must, Uint),
                    ],
                ),
                (
                    "expired",
                    &[
                        (0, "certificate", Must, Opcert),
                        (1, "stamp", Must, Uint),
                        (2, "since", Must, Uint),
                    ],
                ),
                (
                    "dropped",
                    &[(0, "vkey", Nothing, VKEY), (1, "stamp", Must, Uint)],
                ),
            ],
        ),
    ),
    (3, "high_water_mark", Nothing, Uint),
    (4, "newest_stamp", Must, Uint),
    (
        5,
        "tombstone",
        Nothing,
        Structure(&[(0, "stamp", Must, Uint), (1, "vkey", Nothing, VKEY)]),
    ),
    (
        6,
        "anchor",
        Nothing,
        Structure(&[
            (0, "boot_id", Must, Text),
            (1, "wall", Must, Uint),
            (2, "boot", Must, Uint),
            (
                3,
                "source",
                Must,
                Name(&[
                    "synchronised",
                    "confirmed",
                    "activation",
                    "nothing-better",
                    "unguarded",
                ]),
            ),
        ]),
    ),
    (
        7,
        "network",
        Must,
        Structure(&[
            (0, "magic", Must, Uint),
            (1, "slots_per_kes_period", Must, Uint),
            (2, "slot_length_ns", Must, Uint),
            (3, "max_kes_evolutions", Must, Uint),
            (4, "shelley_start_slot", Must, Uint),
            (5, "shelley_start_time", Must, Uint),
        ]),
    ),
]);

/// What a record of kept memory says.
pub(crate) fn kept_record(item: &Item) -> Outcome {
    let says = says(&KEPT_RECORD, item, "record", &mut Numbered::new());
    says.map_or_else(|| refused("unreadable"), Ok)
}

/// The numbers that an item has, keys and enumerations, each with the way to it.
pub(crate) type Numbered = BTreeSet<String>;

/// What a request says.
pub(crate) fn request(item: &Item) -> Outcome {
    let says = says(&REQUEST, item, "request", &mut Numbered::new());
    says.map_or_else(|| refused("not-understood"), Ok)
}

/// What an answer says.
pub(crate) fn answer(item: &Item) -> Outcome {
    let says = says(&ANSWER, item, "answer", &mut Numbered::new());
    says.map_or_else(|| refused("not-understood"), Ok)
}

/// The numbers that a request or an answer has.
pub(crate) fn numbers_of(item: &Item) -> Numbered {
    let mut seen = Numbered::new();
    for (shape, name) in [(&REQUEST, "request"), (&ANSWER, "answer")] {
        let mut these = Numbered::new();
        if says(shape, item, name, &mut these).is_some() {
            seen.extend(these);
        }
    }
    seen
}

/// The numbers that the version has.
pub(crate) fn all_numbers() -> Numbered {
    let mut all = Numbered::new();
    list(&REQUEST, "request", &mut all);
    list(&ANSWER, "answer", &mut all);
    all
}

fn list(shape: &Shape, at: &str, all: &mut Numbered) {
    match shape {
        Bool | Uint | Text | Bytes(_) | Opcert | Time | Numbers => {}
        Name(names) => all.extend((0..names.len()).map(|number| format!("{at} = {number}"))),
        List(of) => list(of, at, all),
        Structure(fields) => list_fields(fields, at, all),
        Choice(_, kinds) => {
            for (number, (_, fields)) in kinds.iter().enumerate() {
                let at = format!("{at} [{number}]");
                list_fields(fields, &at, all);
                all.insert(at);
            }
        }
    }
}

fn list_fields(fields: &[Field], at: &str, all: &mut Numbered) {
    for (key, _, _, shape) in fields {
        let at = format!("{at} {key}:");
        list(shape, &at, all);
        all.insert(at);
    }
}

fn uint(item: &Item) -> Option<u64> {
    u64::try_from(item.as_integer()?).ok()
}

fn says(shape: &Shape, item: &Item, at: &str, seen: &mut Numbered) -> Option<Value> {
    Some(match shape {
        Bool => item.as_bool()?.into(),
        Uint => uint(item)?.into(),
        Text => item.as_text()?.into(),
        Bytes(count) => {
            let bytes = item.as_bytes().filter(|bytes| bytes.len() == *count)?;
            hex::encode(bytes).into()
        }
        Opcert => opcert_says(item.as_bytes().filter(|bytes| bytes.len() == 112)?),
        Time => time(uint(item)?).into(),
        Name(names) => {
            let number = uint(item)?;
            seen.insert(format!("{at} = {number}"));
            (*names.get(usize::try_from(number).ok()?)?).into()
        }
        List(of) => {
            let entries = item.as_array()?.iter();
            let entries = entries.map(|entry| says(of, entry, at, seen));
            Value::Array(entries.collect::<Option<_>>()?)
        }
        Numbers => {
            let entries = item.as_map()?.iter();
            let number = |(name, number): &(Item, Item)| {
                Some((name.as_text()?.to_owned(), uint(number)?.into()))
            };
            Value::Object(entries.map(number).collect::<Option<_>>()?)
        }
        Structure(fields) => Value::Object(structure(fields, item, at, seen)?),
        Choice(tag, kinds) => match &item.as_array()?[..] {
            [number, item] => {
                let number = uint(number)?;
                let (name, fields) = kinds.get(usize::try_from(number).ok()?)?;
                let at = format!("{at} [{number}]");
                let mut object = structure(fields, item, &at, seen)?;
                object.insert((*tag).to_owned(), (*name).into());
                seen.insert(at);
                Value::Object(object)
            }
            _ => return None,
        },
    })
}

/// The fields that are known; others are skipped.
fn structure(
    fields: &[Field],
    item: &Item,
    at: &str,
    seen: &mut Numbered,
) -> Option<Map<String, Value>> {
    let entries = item.as_map()?;
    let keys = entries.iter().map(|(key, _)| key.as_integer());
    let keys: Vec<_> = keys.collect::<Option<_>>()?;
    // Each once.
    if (1..keys.len()).any(|at| keys[..at].contains(&keys[at])) {
        return None;
    }
    let mut object = Map::new();
    for (key, name, or, shape) in fields {
        let found = entries.iter().find(|(other, _)| uint(other) == Some(*key));
        let value = match (found, or) {
            (Some((_, value)), _) => {
                let at = format!("{at} {key}:");
                let value = says(shape, value, &at, seen)?;
                seen.insert(at);
                value
            }
            (None, Must) => return None,
            (None, Nothing) => Value::Null,
            (None, False) => false.into(),
            (None, Refuse) => "refuse".into(),
            (None, NoEntries) => json!([]),
            (None, NoNumbers) => json!({}),
        };
        object.insert((*name).to_owned(), value);
    }
    Some(object)
}

/// Microseconds since 1970 in RFC 3339, by the calendar's arithmetic: years of 365 days begin in
/// March, and every 400 of them have 146,097 days.
fn time(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
