//! The certificates of the model, each signed once.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use kes_wire::cold::{ColdSignKey, ColdVerificationKey};
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::sum6kes::VerificationKey;
use kes_wire::sys::memory::LockedBytes;

/// Whose cold key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cold {
    /// The pool's.
    Ours,
    /// Another pool's.
    Foreign,
}

/// A KES key of the model: its verification key is its number, 32 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u8);

impl Key {
    pub fn vkey(self) -> VerificationKey {
        VerificationKey([self.0; 32])
    }

    pub fn of(vkey: &VerificationKey) -> Self {
        Self(vkey.0[0])
    }
}

type Content = (Cold, Key, u64, u64);

static ISSUED: LazyLock<Mutex<HashMap<Content, OpCert>>> = LazyLock::new(Mutex::default);

fn cold_key(cold: Cold) -> ColdSignKey {
    let mut seed = LockedBytes::zeroed().unwrap();
    seed.expose_mut().fill(match cold {
        Cold::Ours => 1,
        Cold::Foreign => 2,
    });
    ColdSignKey::from_seed(seed).unwrap()
}

pub fn cold_vkey(cold: Cold) -> ColdVerificationKey {
    static OURS: LazyLock<ColdVerificationKey> =
        LazyLock::new(|| cold_key(Cold::Ours).verification_key());
    static FOREIGN: LazyLock<ColdVerificationKey> =
        LazyLock::new(|| cold_key(Cold::Foreign).verification_key());
    match cold {
        Cold::Ours => *OURS,
        Cold::Foreign => *FOREIGN,
    }
}

/// The certificate for a key.
pub fn opcert(cold: Cold, key: Key, counter: u64, start: u64) -> OpCert {
    let mut issued = ISSUED.lock().unwrap();
    *issued
        .entry((cold, key, counter, start))
        .or_insert_with(|| {
            let issuer = cold_key(cold);
            issuer
                .issue(&key.vkey(), counter, KesPeriod(start))
                .unwrap()
        })
}

/// Whether a pool issued it, by what was issued and not by its signature.
pub fn is_of(cold: Cold, opcert: &OpCert) -> bool {
    let content = (
        cold,
        Key::of(&opcert.kes_vkey),
        opcert.counter,
        opcert.start_period.0,
    );
    ISSUED.lock().unwrap().get(&content) == Some(opcert)
}
