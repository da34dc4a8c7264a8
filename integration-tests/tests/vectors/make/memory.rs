//! The memory that outlives an agent. Records are our programs'; the heads around them are put
//! together from the specification's tables, for our programs to read.

use kes_agent::kept::layout::HEAD_BYTES;
use kes_agent::kept::record::{KeptAnchor, Record};
use kes_agent::state::{Active, Pending, State, Tombstone};
use kes_agent::trusted_time::{Anchor, BootTime};
use kes_wire::genesis::Network;
use kes_wire::period::Evolution;
use kes_wire::protocol::control::rotation::TimeSource;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sys::sodium;
use kes_wire::unix_time::UnixTime;

use super::{Kind, Made, NOW, cold_vkey, kes_vkey, opcert};

/// Where the places for records are: even numbers, odd numbers.
const PLACES: [usize; 2] = [64, 960];

fn record(pending: (Pending, Option<u8>), active: (Active, Option<u8>)) -> Record {
    Record {
        cold_vkey: cold_vkey(),
        network: Network::MAINNET,
        state: State {
            pending: pending.0,
            active: active.0,
            high_water_mark: None,
            newest_stamp: Stamp(NOW),
            tombstone: None,
        },
        pending_cell: pending.1,
        active_cell: active.1,
        anchor: None,
    }
}

/// The same with everything that need not be there.
fn whole(mut record: Record, source: TimeSource, of_whom: bool) -> Record {
    record.state.high_water_mark = Some(7);
    record.state.tombstone = Some(Tombstone {
        stamp: Stamp(NOW - 1),
        vkey: of_whom.then(kes_vkey),
    });
    record.anchor = Some(KeptAnchor {
        boot_id: "00000000-0000-4000-8000-000000000000".to_owned(),
        anchor: Anchor {
            wall: UnixTime(NOW),
            boot: BootTime(77),
            source,
        },
    });
    record
}

pub(super) fn records(made: &mut Made) {
    let (vkey, opcert, stamp) = (kes_vkey(), opcert(7), Stamp(NOW));
    let bundle = Active::Bundle {
        opcert,
        evolution: Evolution(3),
        stamp,
    };
    let expired = Active::Expired {
        opcert,
        stamp,
        since: Stamp(NOW + 1),
    };
    let dropped = |vkey| Active::Dropped { vkey, stamp };
    let empty = || (Pending::Empty, None);
    for (name, shows, record) in [
        (
            "record-empty",
            "an agent that has had no key",
            record(empty(), (Active::Empty, None)),
        ),
        (
            "record-key-dropped",
            "a key waits in cell 0; one was dropped, and by its name is a tombstone",
            whole(
                record(
                    (Pending::Key { vkey }, Some(0)),
                    (dropped(Some(vkey)), None),
                ),
                TimeSource::Synchronised,
                true,
            ),
        ),
        (
            "record-certified-expired",
            "a key with its certificate waits in cell 1; the active one has expired",
            whole(
                record((Pending::Certified { opcert }, Some(1)), (expired, None)),
                TimeSource::Confirmed,
                false,
            ),
        ),
        (
            "record-scheduled-active",
            "a key waits for its period in cell 2; one is active in cell 0",
            whole(
                record(
                    (Pending::Scheduled { opcert }, Some(2)),
                    (bundle.clone(), Some(0)),
                ),
                TimeSource::Activation,
                true,
            ),
        ),
        (
            "record-dropped-by-a-peer",
            "a peer told of a drop, and not of which key",
            whole(
                record(empty(), (dropped(None), None)),
                TimeSource::NothingBetter,
                false,
            ),
        ),
        (
            "record-unguarded",
            "the wall clock is followed",
            whole(
                record(empty(), (Active::Empty, None)),
                TimeSource::Unguarded,
                true,
            ),
        ),
    ] {
        let name = format!("kept-memory/{name}");
        let bytes = record.to_bytes().unwrap();
        let read_as = Kind::of("kept-record");
        made.add(&name, shows, &["MEM-2"], read_as, &bytes);
    }
    let twice = record((Pending::Key { vkey }, Some(0)), (bundle, Some(0)));
    let twice = twice.to_bytes().unwrap();
    made.refused(
        "contradictory",
        "kept-memory/record-one-cell-twice",
        "two keys in one cell",
        &["MEM-2"],
        Kind::of("kept-record"),
        &twice,
    );
    made.refused(
        "unreadable",
        "kept-memory/record-cut",
        "half a record",
        &["MEM-2", "MEM-5"],
        Kind::of("kept-record"),
        &twice[..twice.len() / 2],
    );
}

/// A head with a body as the record of this number in its place, in force.
fn head(number: u64, body: &[u8]) -> Vec<u8> {
    let mut head = vec![0; HEAD_BYTES];
    let mut put = |at: usize, bytes: &[u8]| head[at..][..bytes.len()].copy_from_slice(bytes);
    put(0, b"KESAGENT");
    put(8, &1u32.to_be_bytes());
    put(16, &number.to_be_bytes());
    if number > 0 {
        let place = PLACES[usize::from(number % 2 == 1)];
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let said = [&number.to_be_bytes()[..], &length, body].concat();
        let mut sum = [0; 32];
        sodium::blake2b(&said, &mut sum);
        put(place, &said[..12]);
        put(place + 12, &sum);
        put(place + 44, body);
    }
    head
}

pub(super) fn heads(made: &mut Made) {
    let body = record((Pending::Empty, None), (Active::Empty, None));
    let body = body.to_bytes().unwrap();
    let kind = || Kind::of("kept-head");
    let ids = &["MEM-1"];
    for (name, shows, number) in [
        ("head-fresh", "no record is in force yet", 0),
        (
            "head-record-1",
            "the first record, in the place for odd numbers",
            1,
        ),
        (
            "head-record-1000",
            "a record in the place for even numbers",
            1000,
        ),
    ] {
        let name = format!("kept-memory/{name}");
        made.add(&name, shows, ids, kind(), &head(number, &body));
    }
    // The record before is still there, and does not count.
    let mut two = head(2, &body);
    two[960..1856].copy_from_slice(&head(1, b"the record before")[960..1856]);
    made.add(
        "kept-memory/head-record-2-after-1",
        "the record before stands in the other place",
        ids,
        kind(),
        &two,
    );
    let with = |at: usize, byte: u8| {
        let mut changed = head(1, &body);
        changed[at] = byte;
        changed
    };
    for (reason, name, shows, bytes) in [
        (
            "foreign",
            "head-foreign",
            "memory of something else",
            with(0, b'k'),
        ),
        (
            "other-version",
            "head-version-2",
            "a later layout: it is left alone",
            with(11, 2),
        ),
        (
            "damaged",
            "head-changed-body",
            "one byte of the record is another",
            with(960 + 60, 0xff),
        ),
        (
            "damaged",
            "head-too-long",
            "a record of more than 852 bytes",
            with(960 + 10, 0x10),
        ),
        (
            "damaged",
            "head-other-number",
            "the record is not the one in force",
            with(967, 3),
        ),
    ] {
        let ids = match reason {
            "other-version" => ["MEM-1", "MEM-5"],
            _ => ["MEM-1", "MEM-4"],
        };
        let name = format!("kept-memory/{name}");
        made.refused(reason, &name, shows, &ids, kind(), &bytes);
    }
}
