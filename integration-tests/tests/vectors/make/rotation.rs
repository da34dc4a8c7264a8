//! The messages of `Control:Rotation:1.0`.

use std::collections::BTreeMap;

use kes_wire::cold::PoolId;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::frame::frame;
use kes_wire::protocol::control::rotation::{
    ActiveStatus, Answer, ClockMode, ClockStatus, IfPending, ImportedOpCert, MemoryStatus,
    NetworkStatus, NodeState, NodeStatus, Note, OpCertStatus, PeerState, PeerStatus, PendingStatus,
    Protection, Refusal, RefusalCode, Request, Status, TimeSource,
};
use kes_wire::unix_time::UnixTime;

use super::{Kind, Made, NOW, START, cold_vkey, kes_vkey, opcert};

const VERSION: &[&str] = &["Control:Rotation:1.0"];

fn request() -> Kind {
    Kind::of("rotation-request").versions(VERSION)
}

fn answer() -> Kind {
    Kind::of("rotation-answer").versions(VERSION)
}

/// A frame around bytes.
fn framed(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_be_bytes()[..], content].concat()
}

pub(super) fn requests(made: &mut Made) {
    let import = |replace| ImportedOpCert {
        opcert: opcert(7),
        cold_vkey: Some(cold_vkey()),
        replace,
    };
    let mut add = |name: &str, shows: &str, one: Request| {
        let bytes = frame(&one).unwrap();
        made.add(
            &format!("rotation/{name}"),
            shows,
            &["ROT-1", "VER-2"],
            request(),
            &bytes,
        );
    };
    for (name, shows, if_pending) in [
        (
            "keygen",
            "generate a key where none waits",
            IfPending::Refuse,
        ),
        (
            "keygen-replace",
            "generate a key, also where one waits",
            IfPending::Replace,
        ),
        (
            "keygen-keep",
            "generate a key, or keep the one that waits",
            IfPending::Keep,
        ),
    ] {
        add(name, shows, Request::Keygen { if_pending });
    }
    add(
        "export-verkey",
        "tell the pending key",
        Request::ExportVkey {},
    );
    for (name, shows, allow_lower_counter, replace) in [
        ("import-opcert", "keep a certificate", false, false),
        (
            "import-opcert-insisting",
            "keep a certificate instead of another, with a lower counter",
            true,
            true,
        ),
    ] {
        let import = import(replace);
        add(
            name,
            shows,
            Request::ImportOpcert {
                import,
                allow_lower_counter,
            },
        );
    }
    for (name, shows, import) in [
        ("activate", "make the pending key active", None),
        (
            "activate-opcert",
            "keep a certificate and make the key active, both or neither",
            Some(import(false)),
        ),
    ] {
        add(
            name,
            shows,
            Request::Activate {
                import,
                allow_lower_counter: false,
            },
        );
    }
    add("status", "tell the state", Request::Status {});
    add(
        "drop-pending",
        "wipe the pending key",
        Request::DropPending {},
    );
    add("drop-active", "wipe the active key", Request::DropActive {});
    for (name, shows, synchronised) in [
        ("confirm-clock", "an operator calls the clock right", false),
        (
            "confirm-clock-kernel",
            "the kernel calls it synchronised",
            true,
        ),
    ] {
        add(name, shows, Request::ConfirmClock { synchronised });
    }
    by_hand(made);
}

/// Requests that our programs do not make, by hand from RFC 8949.
fn by_hand(made: &mut Made) {
    made.add(
        "rotation/keygen-without-fields",
        "[0, {}]: what is absent stands for its default",
        &["VER-1"],
        request(),
        &framed(&[0x82, 0x00, 0xa0]),
    );
    made.add(
        "rotation/keygen-of-a-later-version",
        "[0, {0: 1, 9: [1, \"x\"]}]: a key that is not known is skipped",
        &["VER-1"],
        request(),
        &framed(&[0x82, 0x00, 0xa2, 0x00, 0x01, 0x09, 0x82, 0x01, 0x61, b'x']),
    );
    for (name, shows, length) in [
        ("frame-of-nothing", "a frame of no bytes", 0u32),
        (
            "frame-of-65537",
            "a frame of more than 65536 bytes: its length is enough",
            65_537,
        ),
    ] {
        let name = format!("rotation/{name}");
        let bytes = length.to_be_bytes();
        made.refused("frame-length", &name, shows, &["ROT-2"], request(), &bytes);
    }
    made.refused(
        "incomplete",
        "rotation/frame-cut",
        "a frame whose last byte is missing: nothing was asked",
        &["TR-4"],
        request(),
        &[0, 0, 0, 3, 0x82, 0x04],
    );
    for (name, shows, content) in [
        (
            "request-8",
            "[8, {}]: a request that this version does not have",
            &[0x82, 0x08, 0xa0][..],
        ),
        (
            "request-no-fields",
            "[4]: an enumeration without its fields",
            &[0x81, 0x04],
        ),
        ("request-text", "\"status\": no enumeration", b"\x66status"),
        (
            "request-cut",
            "[4, and no more: half an item",
            &[0x82, 0x04],
        ),
        (
            "request-and-more",
            "[4, {}] and another item in the frame",
            &[0x82, 0x04, 0xa0, 0x00],
        ),
        (
            "request-if-pending-3",
            "[0, {0: 3}]: a choice that there is not",
            &[0x82, 0, 0xa1, 0, 3],
        ),
        (
            "request-key-twice",
            "[0, {0: 1, 0: 2}]: two choices, whichever is meant",
            &[0x82, 0, 0xa2, 0, 1, 0, 2],
        ),
        (
            "request-key-twice-in-two-ways",
            "[3, {1: false, 1: true}] with the second 1 in two bytes",
            &[0x82, 3, 0xa2, 1, 0xf4, 0x18, 1, 0xf5],
        ),
        (
            "request-text-key",
            "[0, {\"0\": 1}]: a key that is no integer",
            &[0x82, 0, 0xa1, 0x61, b'0', 1],
        ),
        (
            "request-bool-is-number",
            "[7, {0: 1}]: a number for a truth",
            &[0x82, 7, 0xa1, 0, 1],
        ),
    ] {
        let name = format!("rotation/{name}");
        let bytes = framed(content);
        made.refused(
            "not-understood",
            &name,
            shows,
            &["ROT-3"],
            request(),
            &bytes,
        );
    }
    let mut short = frame(&Request::ImportOpcert {
        import: ImportedOpCert {
            opcert: opcert(7),
            cold_vkey: None,
            replace: false,
        },
        allow_lower_counter: false,
    })
    .unwrap()
    .split_off(4);
    // 58 70 is the head of 112 bytes: one less.
    let at = short
        .windows(2)
        .position(|two| two == [0x58, 0x70])
        .unwrap();
    short[at + 1] = 0x6f;
    short.remove(at + 2);
    made.refused(
        "not-understood",
        "rotation/request-short-certificate",
        "a certificate of 111 bytes",
        &["ROT-3", "KEY-6"],
        request(),
        &framed(&short),
    );
}

fn note(code: &str, sentence: &str) -> Note {
    Note {
        code: code.to_owned(),
        sentence: sentence.to_owned(),
    }
}

fn certificate() -> OpCertStatus {
    OpCertStatus {
        counter: 7,
        start_period: KesPeriod(START),
        expiry_period: KesPeriod(START + 62),
        starts_at: UnixTime(NOW - 3 * 129_600_000_000),
        expires_at: UnixTime(NOW + 59 * 129_600_000_000),
        periods_left: 59,
    }
}

/// The state of an agent that has told as little as it may.
fn status(pending: PendingStatus, active: ActiveStatus) -> Status {
    Status {
        agent_version: "0.1.0".to_owned(),
        now: UnixTime(NOW),
        current_period: KesPeriod(START + 3),
        period_started_at: UnixTime(NOW - 1_000_000),
        period_ends_at: UnixTime(NOW + 129_599_000_000),
        network: NetworkStatus {
            magic: 42,
            slots_per_kes_period: 129_600,
            slot_length_ns: 1_000_000_000,
            max_kes_evolutions: 62,
        },
        cold_vkey: cold_vkey(),
        pool_id: PoolId::of(&cold_vkey()).to_string(),
        pending,
        active,
        counter_high_water_mark: None,
        connected_nodes: 0,
        nodes: Vec::new(),
        memory: MemoryStatus {
            kind: "memsec".to_owned(),
            protections: Vec::new(),
        },
        warnings: Vec::new(),
        peers: Vec::new(),
        clock: None,
    }
}

/// The same with a key, a node, and a peer agent that follows.
fn followed() -> Status {
    let client = |uid, is_peer| NodeStatus {
        pid: Some(4711),
        uid,
        connected_since: UnixTime(NOW),
        version: "Service:2.0".to_owned(),
        state: NodeState::Confirmed,
        is_peer,
    };
    Status {
        connected_nodes: 1,
        nodes: vec![client(990, true), client(1000, false)],
        ..status(PendingStatus::Empty {}, serving())
    }
}

fn serving() -> ActiveStatus {
    ActiveStatus::Serving {
        vkey: kes_vkey(),
        opcert: certificate(),
        evolution: Evolution(3),
        since: UnixTime(NOW - 7_000_000),
    }
}

/// The same with everything that there can be.
fn everything() -> Status {
    let nodes = [
        NodeState::NothingSent,
        NodeState::Awaiting,
        NodeState::Confirmed,
        NodeState::Declined,
        NodeState::HasItAlready,
    ];
    let peers = [
        PeerState::Up {},
        PeerState::Connecting { why: None },
        PeerState::Connecting {
            why: Some("there is no socket".to_owned()),
        },
        PeerState::Down {
            why: "it closed the connection".to_owned(),
        },
    ];
    Status {
        counter_high_water_mark: Some(u64::MAX),
        connected_nodes: 5,
        nodes: nodes
            .map(|state| NodeStatus {
                pid: (state != NodeState::Awaiting).then_some(4711),
                uid: 1000,
                connected_since: UnixTime(NOW),
                version: "Service:2.0".to_owned(),
                state,
                is_peer: false,
            })
            .to_vec(),
        memory: MemoryStatus {
            kind: "memfd_secret".to_owned(),
            protections: vec![Protection {
                name: "locked".to_owned(),
                in_force: true,
                meaning: "never swapped".to_owned(),
            }],
        },
        warnings: vec![note("expires-soon", "The key expires soon.")],
        peers: peers
            .map(|state| PeerStatus {
                address: "/run/kes-agent/peer.socket".to_owned(),
                last_key_at: (state == PeerState::Up {}).then_some(UnixTime(NOW)),
                last_answer: (state == PeerState::Up {}).then(|| note("taken", "It was taken.")),
                hint: (state == PeerState::Up {}).then(|| note("no-key-from-here", "A hint.")),
                state,
                since: UnixTime(0),
            })
            .to_vec(),
        clock: Some(ClockStatus {
            mode: ClockMode::Guard,
            source: Some(TimeSource::Synchronised),
            wall_clock: UnixTime(NOW + 1_000_000),
            synchronised: true,
            ahead_us: 1_000_000,
            behind_us: 0,
            disagrees: false,
        }),
        ..status(PendingStatus::Empty {}, serving())
    }
}

pub(super) fn answers(made: &mut Made) {
    let (vkey, opcert) = (kes_vkey(), certificate());
    let since = UnixTime(NOW);
    let mut without_trusted_time = status(
        PendingStatus::Key { vkey },
        ActiveStatus::Expired {
            vkey,
            opcert: opcert.clone(),
        },
    );
    without_trusted_time.clock = Some(ClockStatus {
        mode: ClockMode::Strict,
        source: None,
        wall_clock: UnixTime(NOW),
        synchronised: false,
        ahead_us: 0,
        behind_us: 86_400_000_000,
        disagrees: true,
    });
    let certified = PendingStatus::Certified {
        vkey,
        opcert: opcert.clone(),
    };
    let scheduled = PendingStatus::Scheduled { vkey, opcert };
    let dropped = |vkey| ActiveStatus::Dropped { vkey, since };
    for (name, shows, changed, notes, status) in [
        (
            "done-nothing",
            "an agent that has no key and tells as little as it may",
            false,
            vec![],
            status(PendingStatus::Empty {}, ActiveStatus::Empty {}),
        ),
        (
            "done-everything",
            "a key is active; nodes, peers and clocks in every state",
            true,
            vec![note("counter-jump", "The counter jumps.")],
            everything(),
        ),
        (
            "done-followed",
            "a key is active; a peer agent follows, which is not counted among the nodes",
            false,
            vec![],
            followed(),
        ),
        (
            "done-key-expired",
            "a key waits, the active one has expired, no time is trusted",
            true,
            vec![],
            without_trusted_time,
        ),
        (
            "done-certified-dropped",
            "a key with its certificate waits, the active one was dropped",
            true,
            vec![],
            status(certified, dropped(Some(vkey))),
        ),
        (
            "done-scheduled-dropped",
            "a key waits for its period; which one was dropped is not known",
            true,
            vec![],
            status(scheduled, dropped(None)),
        ),
    ] {
        let bytes = frame(&Answer::Done {
            changed,
            notes,
            status,
        })
        .unwrap();
        let name = format!("rotation/{name}");
        made.add(&name, shows, &["ROT-5", "VER-2"], answer(), &bytes);
    }
    for (name, mode, source) in [
        ("confirmed", ClockMode::Guard, TimeSource::Confirmed),
        ("activation", ClockMode::Guard, TimeSource::Activation),
        (
            "nothing-better",
            ClockMode::Guard,
            TimeSource::NothingBetter,
        ),
        ("unguarded", ClockMode::Trust, TimeSource::Unguarded),
    ] {
        let mut status = status(PendingStatus::Empty {}, ActiveStatus::Empty {});
        status.clock = Some(ClockStatus {
            mode,
            source: Some(source),
            wall_clock: UnixTime(NOW),
            synchronised: false,
            ahead_us: 0,
            behind_us: 0,
            disagrees: false,
        });
        let (changed, notes) = (true, Vec::new());
        let bytes = frame(&Answer::Done {
            changed,
            notes,
            status,
        });
        made.add(
            &format!("rotation/done-time-{name}"),
            "why the time is trusted",
            &["ROT-5", "VER-2"],
            answer(),
            &bytes.unwrap(),
        );
    }
    for code in RefusalCode::ALL {
        let numbers = match code {
            RefusalCode::CounterTooLow => [("counter", 4), ("high_water_mark", 5)].as_slice(),
            _ => &[],
        };
        add_refusal(made, code.clone(), numbers, &["ROT-5", "ROT-6", "VER-2"]);
    }
    let later = RefusalCode::from_name("of-a-later-version");
    add_refusal(made, later, &[], &["ROT-10"]);
    made.add(
        "rotation/refused-with-more",
        "a refusal with keys of a later version: they are skipped",
        &["VER-1"],
        answer(),
        &framed(b"\x82\x01\xa2\x00\xa4\x00\x67expired\x01\x61a\x02\x61b\x18\x64\x01\x18\x65\xf5"),
    );
    made.refused(
        "not-understood",
        "rotation/answer-2",
        "[2, {}]: neither done nor refused",
        &["ROT-5"],
        answer(),
        &framed(&[0x82, 0x02, 0xa0]),
    );
    made.refused(
        "not-understood",
        "rotation/answer-without-status",
        "[0, {0: true}]: done, without the state",
        &["ROT-5"],
        answer(),
        &framed(&[0x82, 0x00, 0xa1, 0x00, 0xf5]),
    );
}

fn add_refusal(made: &mut Made, code: RefusalCode, numbers: &[(&str, u64)], ids: &[&str]) {
    let numbers: BTreeMap<String, u64> = numbers
        .iter()
        .map(|(name, number)| ((*name).to_owned(), *number))
        .collect();
    let name = format!("rotation/refused-{code}");
    let refusal = Refusal {
        code,
        sentence: "What happened.".to_owned(),
        next_step: "What to do next.".to_owned(),
        numbers,
    };
    let bytes = frame(&Answer::Refused { refusal }).unwrap();
    made.add(&name, "a refusal, with its code", ids, answer(), &bytes);
}
