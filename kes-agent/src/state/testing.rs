//! What the tests of the state share: a cold key of real Ed25519, certificates, moments.

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::{ColdSignature, OpCert};
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{ImportedOpCert, Refusal};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use kes_wire::sys::sodium;

use super::{Active, Input, Now, Outcome, Pending, Rules, State};

/// A cold key made of a number: a test key, not a secret.
pub(super) struct Cold {
    pub(super) vkey: ColdVerificationKey,
    secret: [u8; 64],
}

pub(super) fn cold(n: u8) -> Cold {
    let (mut secret, mut public) = ([0; 64], [0; 32]);
    sodium::ed25519_keypair(&[n; 32], &mut secret, &mut public);
    Cold {
        vkey: ColdVerificationKey(public),
        secret,
    }
}

pub(super) fn vkey(n: u8) -> VerificationKey {
    VerificationKey([n; 32])
}

/// The certificate of cold key `of` for KES key `n`.
pub(super) fn opcert(of: u8, n: u8, counter: u64, start: u64) -> OpCert {
    let kes_vkey = vkey(n);
    let start_period = KesPeriod(start);
    let mut signature = [0; 64];
    let signed = OpCert::signed_bytes(&kes_vkey, counter, start_period);
    sodium::ed25519_sign(&cold(of).secret, &signed, &mut signature);
    OpCert {
        kes_vkey,
        counter,
        start_period,
        cold_signature: ColdSignature(signature),
    }
}

pub(super) fn rules() -> Rules {
    Rules {
        cold_vkey: cold(0).vkey,
        max_evolutions: 62,
    }
}

pub(super) fn now(stamp: u64, period: u64) -> Now {
    Now {
        stamp: Stamp(stamp),
        period: KesPeriod(period),
        is_trusted: true,
    }
}

pub(super) fn at(state: &State, period: u64, input: Input) -> Result<Outcome, Refusal> {
    state.apply(&rules(), now(1, period), &input)
}

pub(super) fn import(opcert: OpCert) -> ImportedOpCert {
    ImportedOpCert {
        opcert,
        cold_vkey: None,
        replace: false,
    }
}

pub(super) fn replacing(opcert: OpCert) -> ImportedOpCert {
    ImportedOpCert {
        replace: true,
        ..import(opcert)
    }
}

pub(super) fn activate(import: Option<ImportedOpCert>) -> Input {
    Input::Activate {
        import,
        allow_lower_counter: false,
    }
}

/// KES key 1 in each state: empty, key, certified from period 100, scheduled for period 110, with
/// counter 5.
pub(super) fn pendings() -> [Pending; 4] {
    [
        Pending::Empty,
        Pending::Key { vkey: vkey(1) },
        Pending::Certified {
            opcert: opcert(0, 1, 5, 100),
        },
        Pending::Scheduled {
            opcert: opcert(0, 1, 5, 110),
        },
    ]
}

pub(super) fn bundle(n: u8, counter: u64, start: u64, evolution: u32) -> Active {
    Active::Bundle {
        opcert: opcert(0, n, counter, start),
        evolution: Evolution(evolution),
        stamp: Stamp(900),
    }
}

pub(super) fn codes(outcome: &Outcome) -> Vec<&str> {
    outcome.notes.iter().map(|note| &*note.code).collect()
}
