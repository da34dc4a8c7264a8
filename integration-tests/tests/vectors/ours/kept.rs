//! The memory that outlives an agent.

use kes_agent::kept::layout::{Head, SlotsRegion, Unreadable};
use kes_agent::kept::record::{BadRecord, Record};
use kes_agent::state::{Active, Pending};
use serde_json::{Value, json};

use super::{Outcome, opcert_says, refused};

pub(super) fn head(bytes: &[u8]) -> Outcome {
    let mut region = SlotsRegion::guarded().unwrap();
    region.head.expose_mut().copy_from_slice(bytes);
    match Head::read(region.head) {
        Ok((_, body)) => Ok(json!({ "body": body.map(hex::encode) })),
        Err(Unreadable::Foreign) => refused("foreign"),
        Err(Unreadable::OtherVersion(_)) => refused("other-version"),
        Err(Unreadable::Damaged) => refused("damaged"),
    }
}

pub(super) fn record(bytes: &[u8]) -> Outcome {
    match Record::from_bytes(bytes) {
        Ok(record) => Ok(says(&record)),
        Err(BadRecord::Unreadable(_)) => refused("unreadable"),
        Err(BadRecord::Contradictory) => refused("contradictory"),
    }
}

fn says(record: &Record) -> Value {
    let (state, network) = (&record.state, &record.network);
    json!({
        "cold_vkey": record.cold_vkey,
        "pending": pending(&state.pending, record.pending_cell),
        "active": active(&state.active, record.active_cell),
        "high_water_mark": state.high_water_mark,
        "newest_stamp": state.newest_stamp.0,
        "tombstone": state.tombstone.map(|tombstone| json!({
            "stamp": tombstone.stamp.0,
            "vkey": tombstone.vkey,
        })),
        "anchor": record.anchor.as_ref().map(|kept| json!({
            "boot_id": kept.boot_id,
            "wall": kept.anchor.wall.0,
            "boot": kept.anchor.boot.0,
            "source": kept.anchor.source,
        })),
        "network": {
            "magic": network.magic,
            "slots_per_kes_period": network.slots_per_kes_period,
            "slot_length_ns": network.slot_length_ns,
            "max_kes_evolutions": network.max_evolutions,
            "shelley_start_slot": network.shelley_start_slot,
            "shelley_start_time": network.shelley_start_time.0,
        },
    })
}

fn pending(pending: &Pending, cell: Option<u8>) -> Value {
    match pending {
        Pending::Empty => json!({ "state": "empty" }),
        Pending::Key { vkey } => json!({ "state": "key", "vkey": vkey, "cell": cell }),
        Pending::Certified { opcert } => {
            json!({ "state": "certified", "certificate": opcert_says(opcert), "cell": cell })
        }
        Pending::Scheduled { opcert } => {
            json!({ "state": "scheduled", "certificate": opcert_says(opcert), "cell": cell })
        }
    }
}

fn active(active: &Active, cell: Option<u8>) -> Value {
    match active {
        Active::Empty => json!({ "state": "empty" }),
        Active::Bundle {
            opcert,
            evolution,
            stamp,
        } => json!({
            "state": "active",
            "certificate": opcert_says(opcert),
            "cell": cell,
            "evolution": evolution,
            "stamp": stamp.0,
        }),
        Active::Expired {
            opcert,
            stamp,
            since,
        } => json!({
            "state": "expired",
            "certificate": opcert_says(opcert),
            "stamp": stamp.0,
            "since": since.0,
        }),
        Active::Dropped { vkey, stamp } => {
            json!({ "state": "dropped", "vkey": vkey, "stamp": stamp.0 })
        }
    }
}
