//! The vectors, made by our programs.
//!
//! No secret in them is one: the KES seed is that of the reference's own test vector, the cold
//! seed says in ASCII that it is for tests.

mod control;
mod keys;
mod memory;
mod rotation;
mod service;

use kes_wire::cold::{ColdSignKey, ColdVerificationKey};
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::sum6kes::{SignKey, VerificationKey};
use kes_wire::sys::memory::LockedBytes;
use serde_json::{Map, Value};

use crate::file::{Vector, Vectors};
use crate::ours;

/// `test string of 32 byte of lenght`: the reference's test vector begins with it.
const KES_SEED: &[u8; 32] = b"test string of 32 byte of lenght";
const COLD_SEED: &[u8; 32] = b"TEST COLD SEED: NOT FOR ANY POOL";
const OTHER_COLD_SEED: &[u8; 32] = b"TEST COLD SEED: OF ANOTHER POOL!";

/// The first period of the certificates.
const START: u64 = 1572;
/// 2026-11-23T00:18:52Z in microseconds.
const NOW: u64 = 1_795_393_132_000_000;

/// Every vector.
pub(crate) fn vectors() -> Vectors {
    let mut made = Made::default();
    service::handshakes(&mut made);
    keys::keys(&mut made);
    keys::certificates(&mut made);
    keys::envelopes(&mut made);
    service::messages(&mut made);
    control::requests(&mut made);
    control::answers(&mut made);
    rotation::requests(&mut made);
    rotation::answers(&mut made);
    memory::records(&mut made);
    memory::heads(&mut made);
    made.0
}

#[derive(Default)]
struct Made(Vectors);

impl Made {
    /// Adds a vector. What it says, or why it is refused, is what our programs make of it.
    fn add(&mut self, name: &str, shows: &str, requirements: &[&str], of: Kind, bytes: &[u8]) {
        let list = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect();
        let mut vector = Vector {
            shows: shows.to_owned(),
            requirements: list(requirements),
            versions: list(of.versions),
            read_as: of.read_as.to_owned(),
            given: of.given,
            bytes: bytes.to_vec(),
            outcome: Err(String::new()),
        };
        vector.outcome = ours::read(&vector, of.versions.first().copied());
        let before = self.0.insert(name.to_owned(), vector);
        assert!(before.is_none(), "{name} twice");
    }

    /// Adds a vector that must be refused, and for this reason.
    fn refused(&mut self, reason: &str, name: &str, shows: &str, ids: &[&str], of: Kind, b: &[u8]) {
        self.add(name, shows, ids, of, b);
        assert_eq!(self.0[name].outcome, Err(reason.to_owned()), "{name}");
    }
}

/// What a vector's bytes are to be read as.
struct Kind {
    read_as: &'static str,
    versions: &'static [&'static str],
    given: Map<String, Value>,
}

impl Kind {
    fn of(read_as: &'static str) -> Self {
        Self {
            read_as,
            versions: &[],
            given: Map::new(),
        }
    }

    fn versions(mut self, versions: &'static [&'static str]) -> Self {
        self.versions = versions;
        self
    }

    fn given(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.given.insert(name.to_owned(), value.into());
        self
    }
}

/// The test key at an evolution.
fn key_at(evolution: u32) -> SignKey {
    let mut seed = LockedBytes::zeroed().unwrap();
    seed.expose_mut().copy_from_slice(KES_SEED);
    let mut key = SignKey::from_seed(seed).unwrap();
    key.evolve_to(Evolution(evolution)).unwrap();
    key
}

fn kes_vkey() -> VerificationKey {
    key_at(0).verification_key()
}

fn cold_key(seed: &[u8; 32]) -> ColdSignKey {
    let mut locked = LockedBytes::zeroed().unwrap();
    locked.expose_mut().copy_from_slice(seed);
    ColdSignKey::from_seed(locked).unwrap()
}

fn cold_vkey() -> ColdVerificationKey {
    cold_key(COLD_SEED).verification_key()
}

/// The test key's certificate with this counter.
fn opcert(counter: u64) -> OpCert {
    let cold = cold_key(COLD_SEED);
    cold.issue(&kes_vkey(), counter, KesPeriod(START)).unwrap()
}
