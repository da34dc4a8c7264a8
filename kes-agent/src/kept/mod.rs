//! What the agent keeps: the keys' cells and the record of what is in them, in a region that
//! outlives the process where the system lets it.
//!
//! Rule: **what the record in force does not name is wiped**, after every change and at every
//! start, before anything else happens. A new key, or a key's next evolution, is complete in a
//! cell of its own before the record that names it is put into force; so a change is done or not
//! done, and nothing of before it is left.

pub mod layout;
pub mod record;

use kes_wire::genesis::Network;
use kes_wire::period::Evolution;
use kes_wire::sum6kes::{SIGN_KEY_BYTES, SignKey, VerificationKey};
use kes_wire::sys::memory::{LockError, SecretBytes};
use kes_wire::sys::region::{RegionBytes, RegionKind};

use crate::state::{Active, Pending, Rules, State};

use layout::{Head, SlotsRegion, Unreadable};
use record::{BadRecord, CellNumber, KeptAnchor, Record};

/// A cell of the region.
pub struct Cell {
    number: CellNumber,
    bytes: RegionBytes<SIGN_KEY_BYTES>,
}

impl SecretBytes<SIGN_KEY_BYTES> for Cell {
    fn expose(&self) -> &[u8; SIGN_KEY_BYTES] {
        self.bytes.expose()
    }

    fn expose_mut(&mut self) -> &mut [u8; SIGN_KEY_BYTES] {
        self.bytes.expose_mut()
    }
}

/// A sign key in a cell.
pub struct KeptKey {
    number: CellNumber,
    key: SignKey<Cell>,
}

impl KeptKey {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &SignKey<Cell> {
        &self.key
    }

    /// The number of its cell.
    #[must_use]
    pub fn cell(&self) -> CellNumber {
        self.number
    }
}

/// The record and the cells that no key is in.
pub struct Kept {
    head: Head,
    free: Vec<Cell>,
    kind: RegionKind,
    network: Network,
}

/// What was found in a region that was kept.
pub struct Found {
    /// Whether there was a record.
    pub is_blank: bool,
    /// The state.
    pub state: State,
    /// The pending key.
    pub pending: Option<KeptKey>,
    /// The active key.
    pub active: Option<KeptKey>,
    /// The trusted time.
    pub anchor: Option<KeptAnchor>,
    /// What was not as it should be, and was given up.
    pub given_up: Vec<String>,
}

impl Found {
    /// Nothing was kept.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            is_blank: true,
            state: State::new(),
            pending: None,
            active: None,
            anchor: None,
            given_up: Vec::new(),
        }
    }
}

/// Why a region that was kept is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUsed {
    /// It holds what a newer program wrote: it is left as it is.
    #[error("kept by a newer version (layout {0}): upgrade again, or stop the service to forget")]
    Newer(u32),
    /// It has a size that this program does not know: it is left as it is.
    #[error(
        "kept by another version ({0} bytes): upgrade or downgrade again, or stop the service to \
         forget"
    )]
    OtherSize(u64),
    /// It holds what a program wrote that has the same layout and says more.
    #[error(
        "kept by another version ({0}): upgrade or downgrade again, or stop the service to forget"
    )]
    OtherRecord(String),
    /// It holds keys that evolve by another network's periods: it is left as it is.
    #[error(
        "kept for another network (magic {0}): configure the genesis that it was kept with again \
         and restart, or stop the service to forget"
    )]
    OtherNetwork(u32),
    /// It holds another pool's keys: it is left as it is.
    #[error(
        "kept for another pool (cold verification key {0}): configure that pool's cold \
         verification key again and restart, or stop the service to forget"
    )]
    OtherPool(kes_wire::cold::ColdVerificationKey),
    /// The system does not let this process have it: it is left as it is.
    #[error("kept, but out of reach ({0}): restart the service, or stop it to forget")]
    OutOfReach(String),
    /// It is damaged or not ours: it is wiped.
    #[error("{0}")]
    Damaged(String),
}

impl Kept {
    /// Everything fresh: no record, every cell free.
    #[must_use]
    pub fn fresh(region: SlotsRegion, network: Network) -> Self {
        Self {
            network,
            head: Head::format(region.head),
            free: Cell::numbered(region.cells),
            kind: region.kind,
        }
    }

    /// Everything fresh, in memory that ends with this process.
    ///
    /// # Errors
    /// [`LockError`] where it cannot be locked.
    pub fn guarded(network: Network) -> Result<Self, LockError> {
        SlotsRegion::guarded().map(|region| Self::fresh(region, network))
    }

    /// Takes back a region that was kept, and checks everything in it as if it came from a
    /// stranger. What it does not name is wiped, and so is a key that is not what it should be.
    ///
    /// # Errors
    /// [`NotUsed`], by reason. What was written by a newer program or for another pool is as it
    /// was; what is damaged is wiped.
    pub fn take_back(
        region: SlotsRegion,
        rules: &Rules,
        network: Network,
    ) -> Result<(Self, Found), NotUsed> {
        let (head, body) = match Head::read(region.head) {
            Ok(read) => read,
            Err(Unreadable::OtherVersion(version)) => return Err(NotUsed::Newer(version)),
            Err(damaged @ (Unreadable::Foreign | Unreadable::Damaged)) => {
                wipe_all(region.cells);
                return Err(NotUsed::Damaged(damaged.to_string()));
            }
        };
        let record = match body.map(|body| Record::from_bytes(&body)).transpose() {
            Ok(record) => record,
            // Its sum is right: somebody has written it so.
            Err(BadRecord::Unreadable(reason)) => return Err(NotUsed::OtherRecord(reason)),
            Err(bad @ BadRecord::Contradictory) => {
                wipe_all(region.cells);
                return Err(NotUsed::Damaged(bad.to_string()));
            }
        };
        if let Some(record) = &record
            && record.cold_vkey != rules.cold_vkey
        {
            return Err(NotUsed::OtherPool(record.cold_vkey));
        }
        if let Some(record) = &record
            && record.network != network
        {
            return Err(NotUsed::OtherNetwork(record.network.magic));
        }
        let mut kept = Self {
            head,
            free: Cell::numbered(region.cells),
            kind: region.kind,
            network,
        };
        let found = kept.find(record, rules);
        kept.wipe_free();
        Ok((kept, found))
    }

    /// The keys that a record names, out of their cells.
    fn find(&mut self, record: Option<Record>, rules: &Rules) -> Found {
        let Some(record) = record else {
            return Found::nothing();
        };
        let mut state = record.state;
        let mut given_up = Vec::new();
        let mut take = |slot: &str, certificate, cell, evolution, vkey: &VerificationKey| {
            let found = self.check(rules, certificate, cell, evolution, vkey);
            found
                .map_err(|reason| given_up.push(format!("the {slot} key was given up: {reason}")))
                .ok()
        };
        let pending = state.pending.vkey().copied().and_then(|vkey| {
            let certificate = state.pending.certificate();
            take(
                "pending",
                certificate,
                record.pending_cell,
                Evolution(0),
                &vkey,
            )
        });
        let active = match &state.active {
            Active::Bundle {
                opcert, evolution, ..
            } => take(
                "active",
                Some(opcert),
                record.active_cell,
                *evolution,
                &opcert.kes_vkey,
            ),
            Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => None,
        };
        if pending.is_none() {
            state.pending = Pending::Empty;
        }
        if active.is_none() && matches!(state.active, Active::Bundle { .. }) {
            state.active = Active::Empty;
        }
        Found {
            is_blank: false,
            state,
            pending,
            active,
            anchor: record.anchor,
            given_up,
        }
    }

    fn check(
        &mut self,
        rules: &Rules,
        certificate: Option<&kes_wire::opcert::OpCert>,
        cell: Option<CellNumber>,
        evolution: Evolution,
        vkey: &VerificationKey,
    ) -> Result<KeptKey, String> {
        if certificate.is_some_and(|opcert| !opcert.is_signed_by(&rules.cold_vkey)) {
            return Err("its certificate is not signed by this pool's cold key".to_owned());
        }
        let at = self.free.iter().position(|free| Some(free.number) == cell);
        let cell = self.free.swap_remove(at.ok_or("there is no such cell")?);
        let number = cell.number;
        match SignKey::checked(cell, evolution, vkey) {
            Ok(key) => Ok(KeptKey { number, key }),
            Err((damaged, cell)) => {
                self.free.push(cell);
                Err(damaged.to_string())
            }
        }
    }

    /// The network by whose periods the keys evolve.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Which kind of memory it is.
    #[must_use]
    pub fn kind(&self) -> RegionKind {
        self.kind
    }

    /// Puts `key`, at evolution `at` or evolved to it, into a free cell. It counts only when a
    /// record names it. `None` where no cell is free.
    ///
    /// # Errors
    /// Where the secret stack cannot be locked; the cell is wiped and free again then.
    pub fn place<S: SecretBytes<SIGN_KEY_BYTES>>(
        &mut self,
        key: &SignKey<S>,
        at: Evolution,
    ) -> Result<Option<KeptKey>, kes_wire::sum6kes::EvolveError> {
        let Some(cell) = self.free.pop() else {
            return Ok(None);
        };
        let number = cell.number;
        match key.evolved_into(cell, at) {
            Ok(key) => Ok(Some(KeptKey { number, key })),
            Err((error, cell)) => {
                self.free.push(cell);
                self.wipe_free();
                Err(error)
            }
        }
    }

    /// Puts a record into force.
    ///
    /// # Errors
    /// [`BadRecord`] where it contradicts itself; the one before stays in force then.
    pub fn commit(&mut self, record: &Record) -> Result<(), BadRecord> {
        self.head.commit(&record.to_bytes()?);
        Ok(())
    }

    /// Wipes a key that no record names any more. Its cell is free then.
    pub fn wipe(&mut self, key: Option<KeptKey>) {
        self.free.extend(key.map(|kept| kept.key.into_secret()));
        self.wipe_free();
    }

    fn wipe_free(&mut self) {
        for cell in &mut self.free {
            cell.bytes.wipe();
        }
    }
}

impl Cell {
    fn numbered<const N: usize>(cells: [RegionBytes<SIGN_KEY_BYTES>; N]) -> Vec<Self> {
        let numbered = (0..).zip(cells);
        numbered
            .map(|(number, bytes)| Self { number, bytes })
            .collect()
    }
}

fn wipe_all(cells: impl IntoIterator<Item = RegionBytes<SIGN_KEY_BYTES>>) {
    for mut cell in cells {
        cell.wipe();
    }
}
