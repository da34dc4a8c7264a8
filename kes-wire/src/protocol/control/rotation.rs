//! The messages of our own control version, `Control:Rotation:1.0`.
//!
//! One request, one answer, any number of them on a connection. Each message is one CBOR item in
//! a length-prefixed frame; enums are `[number, { fields }]`, so that a later version adds fields
//! and an earlier one skips what it does not know. Nothing here is secret: keys are named by
//! their verification keys. `spec/control-rotation.cddl` specifies it.

mod clock;
mod status;

use core::fmt;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::cold::ColdVerificationKey;
use crate::opcert::OpCert;

pub use clock::{ClockMode, ClockStatus, TimeSource};
pub use status::{
    ActiveStatus, MemoryStatus, NetworkStatus, NodeState, NodeStatus, OpCertStatus, PeerState,
    PeerStatus, PendingStatus, Protection, Status,
};

/// What to do with a key that waits in the pending slot already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
#[cbor(index_only)]
pub enum IfPending {
    /// Refuse: nothing is lost by a mistake.
    #[default]
    #[n(0)]
    Refuse,
    /// Wipe the waiting key and generate another.
    #[n(1)]
    Replace,
    /// Keep the waiting key and answer with it.
    #[n(2)]
    Keep,
}

/// A certificate as it is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct ImportedOpCert {
    /// The certificate, in the 112 bytes of the wire.
    #[n(0)]
    pub opcert: OpCert,
    /// The cold verification key that stands in the certificate's file, if any: with it a refusal
    /// can tell "issued with another cold key" from "damaged".
    #[n(1)]
    pub cold_vkey: Option<ColdVerificationKey>,
    /// Replace another certificate that was imported for the pending key.
    #[n(2)]
    #[cbor(default)]
    pub replace: bool,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Request {
    /// Generate a key pair into the pending slot.
    #[n(0)]
    Keygen {
        /// What to do where a key waits there already.
        #[n(0)]
        #[cbor(default)]
        if_pending: IfPending,
    },
    /// Tell the pending key's verification key.
    #[n(1)]
    ExportVkey {},
    /// Check a certificate and keep it beside the pending key.
    #[n(2)]
    ImportOpcert {
        /// The certificate.
        #[n(0)]
        import: ImportedOpCert,
        /// Accept a counter below the high-water mark (only where no key is active).
        #[n(1)]
        #[cbor(default)]
        allow_lower_counter: bool,
    },
    /// Make the pending key the active one, now or when its first period begins.
    #[n(3)]
    Activate {
        /// A certificate to import first. Either both happen or neither.
        #[n(0)]
        import: Option<ImportedOpCert>,
        /// Accept a counter below the high-water mark (only where no key is active).
        #[n(1)]
        #[cbor(default)]
        allow_lower_counter: bool,
    },
    /// Tell the agent's state.
    #[n(4)]
    Status {},
    /// Wipe the pending key and its certificate; cancels a scheduled activation.
    #[n(5)]
    DropPending {},
    /// Wipe the active key and tell the nodes to stop using it.
    #[n(6)]
    DropActive {},
    /// Take the wall clock's time for right from now on.
    #[n(7)]
    ConfirmClock {
        /// The kernel says so, which the caller has asked: an agent in a sandbox cannot.
        #[n(0)]
        #[cbor(default)]
        synchronised: bool,
    },
}

impl Request {
    /// The command's name on the command line, in logs and in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keygen { .. } => "keygen",
            Self::ExportVkey {} => "export-verkey",
            Self::ImportOpcert { .. } => "import-opcert",
            Self::Activate { .. } => "activate",
            Self::Status {} => "status",
            Self::DropPending {} => "drop-pending",
            Self::DropActive {} => "drop-active",
            Self::ConfirmClock { .. } => "confirm-clock",
        }
    }
}

/// The agent's word on a request.
// A status is large, but an answer is made once a command and moved about, never stored.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub enum Answer {
    /// Done, or found done already.
    #[n(0)]
    Done {
        /// Whether the command changed anything.
        #[n(0)]
        changed: bool,
        /// What the operator should know beside it.
        #[n(1)]
        #[cbor(default)]
        notes: Vec<Note>,
        /// The state after the command. Connected nodes are listed only for [`Request::Status`].
        #[n(2)]
        status: Status,
    },
    /// Not done; pending and active are as they were.
    #[n(1)]
    Refused {
        /// Why, and what to do next.
        #[n(0)]
        refusal: Refusal,
    },
}

/// A sentence with a stable name, for a person and for a script.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Note {
    /// The stable name, such as `counter-jump`.
    #[n(0)]
    pub code: String,
    /// The sentence.
    #[n(1)]
    pub sentence: String,
}

impl Note {
    /// Whether this warning of a status says that a key is held back: nodes are not served.
    #[must_use]
    pub fn holds_key_back(&self) -> bool {
        matches!(
            &*self.code,
            "before-start" | "ahead-of-time" | "clock-not-trusted"
        )
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct Refusal {
    /// The rule that was broken.
    #[n(0)]
    pub code: RefusalCode,
    /// What happened, in a sentence.
    #[n(1)]
    pub sentence: String,
    /// What to do next, in a sentence.
    #[n(2)]
    pub next_step: String,
    /// The numbers that matter, by name (for example `counter`, `high_water_mark`).
    #[n(3)]
    #[cbor(default)]
    pub numbers: BTreeMap<String, u64>,
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The rules a command can break, with their stable names.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum RefusalCode {
            $($(#[$doc])* $variant,)*
            /// A code that this version does not know, from a newer agent.
            Other(String),
        }

        impl RefusalCode {
            /// The stable name, as it stands on the wire and in JSON.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name,
                }
            }

            /// The code of a stable name.
            #[must_use]
            pub fn from_name(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }

            /// Every code that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

refusal_codes! {
    /// A key waits in the pending slot already.
    AlreadyPending = "already-pending",
    /// Another certificate was imported for the pending key already.
    AlreadyImported = "already-imported",
    /// The pending key is activated for a later period and waits for it.
    Scheduled = "scheduled",
    /// The pending slot is empty.
    NothingPending = "nothing-pending",
    /// The pending key has no certificate yet.
    NothingImported = "nothing-imported",
    /// The active slot is empty.
    NothingActive = "nothing-active",
    /// The certificate is for another KES key than the pending one.
    OtherKesKey = "other-kes-key",
    /// The certificate was issued with another pool's cold key.
    OtherColdKey = "other-cold-key",
    /// The certificate's signature does not hold.
    BadSignature = "bad-signature",
    /// The certificate's counter is below the high-water mark.
    CounterTooLow = "counter-too-low",
    /// The certificate's last period has passed.
    Expired = "expired",
    /// What was kept over a restart cannot be read by this agent, so it does nothing.
    KeptUnread = "kept-unread",
    /// The request cannot be read, or this agent does not know it.
    NotUnderstood = "not-understood",
    /// The agent could not do it for want of locked memory.
    NoLockedMemory = "no-locked-memory",
    /// The agent could not do it for a fault of its own.
    Internal = "internal",
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for RefusalCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<C> Encode<C> for RefusalCode {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.name())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RefusalCode {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str().map(Self::from_name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{frame, parse};
    use super::*;
    use crate::opcert::{ColdSignature, OpCert};
    use crate::period::{Evolution, KesPeriod};
    use crate::sum6kes::VerificationKey;
    use crate::unix_time::UnixTime;

    fn opcert() -> OpCertStatus {
        OpCertStatus {
            counter: 5,
            start_period: KesPeriod(1572),
            expiry_period: KesPeriod(1634),
            starts_at: UnixTime(1),
            expires_at: UnixTime(u64::MAX),
            periods_left: 62,
        }
    }

    fn note() -> Note {
        Note {
            code: "code".to_owned(),
            sentence: "a sentence".to_owned(),
        }
    }

    fn status(pending: PendingStatus, active: ActiveStatus, state: PeerState) -> Status {
        let states = [
            NodeState::NothingSent,
            NodeState::Awaiting,
            NodeState::Confirmed,
            NodeState::Declined,
            NodeState::HasItAlready,
        ];
        let node = |state| NodeStatus {
            pid: Some(7),
            uid: 1000,
            connected_since: UnixTime(3),
            version: "Service:2.0".to_owned(),
            state,
            is_peer: state == NodeState::HasItAlready,
        };
        Status {
            agent_version: "1".to_owned(),
            now: UnixTime(9),
            current_period: KesPeriod(1573),
            period_started_at: UnixTime(8),
            period_ends_at: UnixTime(10),
            network: NetworkStatus {
                magic: 1,
                slots_per_kes_period: 129_600,
                slot_length_ns: 1,
                max_kes_evolutions: 62,
            },
            cold_vkey: ColdVerificationKey([1; 32]),
            pool_id: "pool1".to_owned(),
            pending,
            active,
            counter_high_water_mark: Some(u64::MAX),
            connected_nodes: 5,
            nodes: states.map(node).to_vec(),
            memory: MemoryStatus {
                kind: "kind".to_owned(),
                protections: vec![Protection {
                    name: "locked".to_owned(),
                    in_force: true,
                    meaning: "never swapped".to_owned(),
                }],
            },
            warnings: vec![note()],
            peers: vec![PeerStatus {
                address: "/a".to_owned(),
                state,
                since: UnixTime(2),
                last_key_at: Some(UnixTime(1)),
                last_answer: Some(note()),
                hint: None,
            }],
            clock: Some(ClockStatus {
                mode: ClockMode::Strict,
                source: Some(TimeSource::NothingBetter),
                wall_clock: UnixTime(u64::MAX),
                synchronised: false,
                ahead_us: u64::MAX - 9,
                behind_us: 0,
                disagrees: true,
            }),
        }
    }

    fn answers() -> Vec<Answer> {
        let vkey = VerificationKey([2; 32]);
        let pending = [
            PendingStatus::Empty {},
            PendingStatus::Key { vkey },
            PendingStatus::Certified {
                vkey,
                opcert: opcert(),
            },
            PendingStatus::Scheduled {
                vkey,
                opcert: opcert(),
            },
        ];
        let since = UnixTime(4);
        let evolution = Evolution(1);
        let active = [
            ActiveStatus::Empty {},
            ActiveStatus::Serving {
                vkey,
                opcert: opcert(),
                evolution,
                since,
            },
            ActiveStatus::Expired {
                vkey,
                opcert: opcert(),
            },
            ActiveStatus::Dropped { vkey: None, since },
        ];
        let peers = [
            PeerState::Up {},
            PeerState::Connecting { why: None },
            PeerState::Connecting {
                why: Some("why".to_owned()),
            },
            PeerState::Down {
                why: "why".to_owned(),
            },
        ];
        let mut answers: Vec<Answer> = pending
            .into_iter()
            .zip(active)
            .zip(peers)
            .map(|((pending, active), peer)| Answer::Done {
                changed: true,
                notes: vec![note()],
                status: status(pending, active, peer),
            })
            .collect();
        let codes = RefusalCode::ALL
            .iter()
            .cloned()
            .chain([RefusalCode::Other("new".to_owned())]);
        answers.extend(codes.map(|code| Answer::Refused {
            refusal: Refusal {
                code,
                sentence: "what".to_owned(),
                next_step: "next".to_owned(),
                numbers: BTreeMap::from([("counter".to_owned(), 4)]),
            },
        }));
        answers
    }

    #[test]
    fn every_answer_survives_a_frame_and_is_refused_cut_anywhere() {
        for answer in answers() {
            let content = frame(&answer).unwrap().split_off(4);
            assert_eq!(parse::<Answer>(&content).unwrap(), answer);
            for cut in 0..content.len() {
                assert!(
                    parse::<Answer>(&content[..cut]).is_err(),
                    "{answer:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_status_with_the_most_nodes_and_peers_fits_a_frame() {
        let mut full = status(
            PendingStatus::Empty {},
            ActiveStatus::Empty {},
            PeerState::Up {},
        );
        full.nodes = vec![full.nodes[0].clone(); Status::MOST_NODES];
        // More than an agent says of one (`words_of_a_peer_are_bounded`, in its peers.rs).
        let words = |count: usize| "w".repeat(count);
        let note = Some(Note {
            code: words(30),
            sentence: words(450),
        });
        let peer = PeerStatus {
            address: words(120),
            state: PeerState::Down { why: words(250) },
            since: full.now,
            last_key_at: Some(full.now),
            last_answer: note.clone(),
            hint: note,
        };
        full.peers = vec![peer; Status::MOST_PEERS];
        frame(&Answer::Done {
            changed: false,
            notes: Vec::new(),
            status: full,
        })
        .unwrap();
    }

    #[test]
    fn a_certificate_is_its_112_bytes() {
        let opcert = OpCert {
            kes_vkey: VerificationKey([1; 32]),
            counter: 2,
            start_period: KesPeriod(3),
            cold_signature: ColdSignature([4; 64]),
        };
        let bytes = minicbor::to_vec(opcert).unwrap();
        // 0x58 0x70: a byte string of 112 bytes (RFC 8949).
        assert_eq!(bytes[..2], [0x58, 112]);
        assert_eq!(bytes[2..], opcert.to_wire());
    }
}
