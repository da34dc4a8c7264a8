//! The record of what a region holds: the state, which cell holds which key, and the time. It is
//! public. CBOR, in version 1 of the layout; `spec/kept-memory.md` specifies it.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::genesis::Network;
use kes_wire::opcert::OpCert;
use kes_wire::period::Evolution;
use kes_wire::protocol::control::rotation::TimeSource;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use kes_wire::unix_time::UnixTime;
use minicbor::{Decode, Encode};

use crate::state::{Active, Pending, State, Tombstone};
use crate::trusted_time::{Anchor, BootTime};

/// The number of a cell.
pub type CellNumber = u8;

/// What a region holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The cold key of the pool whose keys these are.
    pub cold_vkey: ColdVerificationKey,
    /// The network by whose periods they evolve.
    pub network: Network,
    /// The state.
    pub state: State,
    /// The cell of the pending key, where there is one.
    pub pending_cell: Option<CellNumber>,
    /// The cell of the active key, where there is one.
    pub active_cell: Option<CellNumber>,
    /// The trusted time.
    pub anchor: Option<KeptAnchor>,
}

/// An anchor, with the start of the machine whose boot clock it counts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnchor {
    /// The name of that start.
    pub boot_id: String,
    /// The anchor.
    pub anchor: Anchor,
}

impl KeptAnchor {
    /// The anchor, where the machine was not started anew since: another start's boot clock counts
    /// from another moment.
    #[must_use]
    pub fn of_this_boot(&self, boot_id: Option<&str>) -> Option<Anchor> {
        (Some(&*self.boot_id) == boot_id).then_some(self.anchor)
    }
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// They are not the CBOR of one.
    #[error("its record cannot be read: {0}")]
    Unreadable(String),
    /// It names a key without a cell, or a cell without a key, or one cell twice.
    #[error("its record contradicts itself")]
    Contradictory,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Body {
    #[n(0)]
    cold_vkey: ColdVerificationKey,
    #[n(1)]
    pending: PendingBody,
    #[n(2)]
    active: ActiveBody,
    #[n(3)]
    high_water_mark: Option<u64>,
    #[n(4)]
    newest_stamp: u64,
    #[n(5)]
    tombstone: Option<TombstoneBody>,
    #[n(6)]
    anchor: Option<AnchorBody>,
    #[n(7)]
    network: NetworkBody,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct NetworkBody {
    #[n(0)]
    magic: u32,
    #[n(1)]
    slots_per_kes_period: u64,
    #[n(2)]
    slot_length_ns: u64,
    #[n(3)]
    max_evolutions: u32,
    #[n(4)]
    shelley_start_slot: u64,
    #[n(5)]
    shelley_start_time: UnixTime,
}

#[derive(Encode, Decode)]
#[cbor(map)]
enum PendingBody {
    #[n(0)]
    Empty {},
    #[n(1)]
    Key {
        #[n(0)]
        vkey: VerificationKey,
        #[n(1)]
        cell: CellNumber,
    },
    #[n(2)]
    Certified {
        #[n(0)]
        opcert: OpCert,
        #[n(1)]
        cell: CellNumber,
    },
    #[n(3)]
    Scheduled {
        #[n(0)]
        opcert: OpCert,
        #[n(1)]
        cell: CellNumber,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
enum ActiveBody {
    #[n(0)]
    Empty {},
    #[n(1)]
    Bundle {
        #[n(0)]
        opcert: OpCert,
        #[n(1)]
        cell: CellNumber,
        #[n(2)]
        evolution: Evolution,
        #[n(3)]
        stamp: u64,
    },
    #[n(2)]
    Expired {
        #[n(0)]
        opcert: OpCert,
        #[n(1)]
        stamp: u64,
        #[n(2)]
        since: u64,
    },
    #[n(3)]
    Dropped {
        #[n(0)]
        vkey: Option<VerificationKey>,
        #[n(1)]
        stamp: u64,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct TombstoneBody {
    #[n(0)]
    stamp: u64,
    #[n(1)]
    vkey: Option<VerificationKey>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct AnchorBody {
    #[n(0)]
    boot_id: String,
    #[n(1)]
    wall: UnixTime,
    #[n(2)]
    boot: u64,
    #[n(3)]
    source: TimeSource,
}

impl Record {
    /// The record's CBOR.
    ///
    /// # Errors
    /// [`BadRecord::Contradictory`] where the state names a key that has no cell or the other way
    /// round.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadRecord> {
        let body = Body {
            cold_vkey: self.cold_vkey,
            pending: PendingBody::of(&self.state.pending, self.pending_cell)?,
            active: ActiveBody::of(&self.state.active, self.active_cell)?,
            high_water_mark: self.state.high_water_mark,
            newest_stamp: self.state.newest_stamp.0,
            tombstone: self.state.tombstone.map(|tombstone| TombstoneBody {
                stamp: tombstone.stamp.0,
                vkey: tombstone.vkey,
            }),
            anchor: self.anchor.as_ref().map(|kept| AnchorBody {
                boot_id: kept.boot_id.clone(),
                wall: kept.anchor.wall,
                boot: kept.anchor.boot.0,
                source: kept.anchor.source,
            }),
            network: NetworkBody {
                magic: self.network.magic,
                slots_per_kes_period: self.network.slots_per_kes_period,
                slot_length_ns: self.network.slot_length_ns,
                max_evolutions: self.network.max_evolutions,
                shelley_start_slot: self.network.shelley_start_slot,
                shelley_start_time: self.network.shelley_start_time,
            },
        };
        minicbor::to_vec(body).map_err(|error| BadRecord::Unreadable(error.to_string()))
    }

    /// Reads a record's CBOR. What it says of keys and certificates has not been checked.
    ///
    /// # Errors
    /// [`BadRecord`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let body: Body =
            minicbor::decode(bytes).map_err(|error| BadRecord::Unreadable(error.to_string()))?;
        let (pending, pending_cell) = body.pending.into_slot();
        let (active, active_cell) = body.active.into_slot();
        if pending_cell.is_some() && pending_cell == active_cell {
            return Err(BadRecord::Contradictory);
        }
        Ok(Self {
            cold_vkey: body.cold_vkey,
            network: Network {
                magic: body.network.magic,
                slots_per_kes_period: body.network.slots_per_kes_period,
                slot_length_ns: body.network.slot_length_ns,
                max_evolutions: body.network.max_evolutions,
                shelley_start_slot: body.network.shelley_start_slot,
                shelley_start_time: body.network.shelley_start_time,
            },
            state: State {
                pending,
                active,
                high_water_mark: body.high_water_mark,
                newest_stamp: Stamp(body.newest_stamp),
                tombstone: body.tombstone.map(|tombstone| Tombstone {
                    stamp: Stamp(tombstone.stamp),
                    vkey: tombstone.vkey,
                }),
            },
            pending_cell,
            active_cell,
            anchor: body.anchor.map(|kept| KeptAnchor {
                boot_id: kept.boot_id,
                anchor: Anchor {
                    wall: kept.wall,
                    boot: BootTime(kept.boot),
                    source: kept.source,
                },
            }),
        })
    }
}

impl PendingBody {
    fn of(pending: &Pending, cell: Option<CellNumber>) -> Result<Self, BadRecord> {
        Ok(match (pending.clone(), cell) {
            (Pending::Empty, None) => Self::Empty {},
            (Pending::Key { vkey }, Some(cell)) => Self::Key { vkey, cell },
            (Pending::Certified { opcert }, Some(cell)) => Self::Certified { opcert, cell },
            (Pending::Scheduled { opcert }, Some(cell)) => Self::Scheduled { opcert, cell },
            (Pending::Empty, Some(_))
            | (Pending::Key { .. } | Pending::Certified { .. } | Pending::Scheduled { .. }, None) =>
            {
                return Err(BadRecord::Contradictory);
            }
        })
    }

    fn into_slot(self) -> (Pending, Option<CellNumber>) {
        match self {
            Self::Empty {} => (Pending::Empty, None),
            Self::Key { vkey, cell } => (Pending::Key { vkey }, Some(cell)),
            Self::Certified { opcert, cell } => (Pending::Certified { opcert }, Some(cell)),
            Self::Scheduled { opcert, cell } => (Pending::Scheduled { opcert }, Some(cell)),
        }
    }
}

impl ActiveBody {
    fn of(active: &Active, cell: Option<CellNumber>) -> Result<Self, BadRecord> {
        Ok(match (active.clone(), cell) {
            (Active::Empty, None) => Self::Empty {},
            (
                Active::Bundle {
                    opcert,
                    evolution,
                    stamp: Stamp(stamp),
                },
                Some(cell),
            ) => Self::Bundle {
                opcert,
                cell,
                evolution,
                stamp,
            },
            (
                Active::Expired {
                    opcert,
                    stamp: Stamp(stamp),
                    since: Stamp(since),
                },
                None,
            ) => Self::Expired {
                opcert,
                stamp,
                since,
            },
            (
                Active::Dropped {
                    vkey,
                    stamp: Stamp(stamp),
                },
                None,
            ) => Self::Dropped { vkey, stamp },
            (Active::Bundle { .. }, None)
            | (Active::Empty | Active::Expired { .. } | Active::Dropped { .. }, Some(_)) => {
                return Err(BadRecord::Contradictory);
            }
        })
    }

    fn into_slot(self) -> (Active, Option<CellNumber>) {
        match self {
            Self::Empty {} => (Active::Empty, None),
            Self::Bundle {
                opcert,
                cell,
                evolution,
                stamp,
            } => {
                let stamp = Stamp(stamp);
                let bundle = Active::Bundle {
                    opcert,
                    evolution,
                    stamp,
                };
                (bundle, Some(cell))
            }
            Self::Expired {
                opcert,
                stamp,
                since,
            } => {
                let (stamp, since) = (Stamp(stamp), Stamp(since));
                let expired = Active::Expired {
                    opcert,
                    stamp,
                    since,
                };
                (expired, None)
            }
            Self::Dropped { vkey, stamp } => {
                let stamp = Stamp(stamp);
                (Active::Dropped { vkey, stamp }, None)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kes_wire::opcert::ColdSignature;
    use kes_wire::period::KesPeriod;

    fn opcert(n: u8) -> OpCert {
        OpCert {
            kes_vkey: VerificationKey([n; 32]),
            counter: u64::MAX,
            start_period: KesPeriod(u64::MAX),
            cold_signature: ColdSignature([n; 64]),
        }
    }

    /// Records of every kind of slot; the last is of the longest.
    pub(in super::super) fn records() -> Vec<Record> {
        let vkey = VerificationKey([1; 32]);
        let stamp = Stamp(u64::MAX);
        let pendings = [
            (Pending::Empty, None),
            (Pending::Key { vkey }, Some(0)),
            (Pending::Certified { opcert: opcert(2) }, Some(1)),
            (Pending::Scheduled { opcert: opcert(3) }, Some(2)),
        ];
        let actives = [
            (Active::Empty, None),
            (
                Active::Dropped {
                    vkey: Some(vkey),
                    stamp,
                },
                None,
            ),
            (
                Active::Expired {
                    opcert: opcert(4),
                    stamp,
                    since: stamp,
                },
                None,
            ),
            (
                Active::Bundle {
                    opcert: opcert(5),
                    evolution: Evolution(63),
                    stamp,
                },
                Some(0),
            ),
        ];
        let join = |((pending, pending_cell), (active, active_cell))| Record {
            cold_vkey: ColdVerificationKey([6; 32]),
            network: Network {
                magic: u32::MAX,
                slots_per_kes_period: u64::MAX,
                slot_length_ns: u64::MAX,
                max_evolutions: u32::MAX,
                shelley_start_slot: u64::MAX,
                shelley_start_time: UnixTime(u64::MAX),
            },
            state: State {
                pending,
                active,
                high_water_mark: Some(u64::MAX),
                newest_stamp: stamp,
                tombstone: Some(Tombstone {
                    stamp,
                    vkey: Some(vkey),
                }),
            },
            pending_cell,
            active_cell,
            anchor: Some(KeptAnchor {
                boot_id: "b".repeat(36),
                anchor: Anchor {
                    wall: UnixTime(u64::MAX),
                    boot: BootTime(u64::MAX),
                    source: TimeSource::Unguarded,
                },
            }),
        };
        pendings.into_iter().zip(actives).map(join).collect()
    }

    #[test]
    fn the_time_goes_on_only_by_the_same_boot_clock() {
        let record = records().pop().unwrap();
        let kept = record.anchor.unwrap();
        assert_eq!(kept.of_this_boot(Some(&kept.boot_id)), Some(kept.anchor));
        assert_eq!(kept.of_this_boot(Some("another start")), None);
        assert_eq!(kept.of_this_boot(None), None);
    }

    #[test]
    fn every_record_is_read_as_it_was_written_and_not_cut_short() {
        for record in records() {
            let bytes = record.to_bytes().unwrap();
            assert_eq!(Record::from_bytes(&bytes).unwrap(), record);
            for cut in 0..bytes.len() {
                assert!(Record::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_key_needs_a_cell_of_its_own_and_nothing_else_has_one() {
        for record in records() {
            let other = |cell: Option<u8>| if cell.is_some() { None } else { Some(1) };
            let wrong = Record {
                pending_cell: other(record.pending_cell),
                ..record.clone()
            };
            assert_eq!(wrong.to_bytes(), Err(BadRecord::Contradictory));
            let wrong = Record {
                active_cell: other(record.active_cell),
                ..record
            };
            assert_eq!(wrong.to_bytes(), Err(BadRecord::Contradictory));
        }
        let last = records().pop().unwrap();
        let shared = Record {
            pending_cell: last.active_cell,
            ..last
        };
        let bytes = shared.to_bytes().unwrap();
        assert_eq!(Record::from_bytes(&bytes), Err(BadRecord::Contradictory));
    }
}
