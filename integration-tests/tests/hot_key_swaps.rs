//! Certificate and signature come from one bundle, whatever is swapped meanwhile: forging threads
//! sign without a pause while keys are replaced as fast as they can be checked, and periods turn.
//!
//! `KES_HOT_KEY_SIGNATURES` says how many signatures there are at the least (`make soak`: millions).
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::cold::ColdSignKey;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions, SignError, Signed};
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::{self, SignKey};
use kes_wire::sys::sodium;
use kes_wire::unix_time::UnixTime;

const PERIOD: u64 = 1000;
const PERIOD_US: u64 = 1_000_000_000;
/// How often the period turns.
const TURNS: u64 = 12;
/// One signature in so many is verified whole.
const WHOLE: u64 = 256;

/// The keys begin so many periods back and later: late enough that a check of one is quick, early
/// enough that each lasts over all turns.
const BACK: u64 = 49;

fn wanted_signatures() -> u64 {
    let wanted = std::env::var("KES_HOT_KEY_SIGNATURES");
    wanted.map_or(60_000, |n| n.parse().expect("a number of signatures"))
}

/// Whether the signature is one of the key that the certificate names, by the path to its root.
fn belongs_to(signed: &Signed) -> bool {
    let mut root = [0; 32];
    let outermost: &[u8; 64] = signed.signature.0.last_chunk().unwrap();
    sodium::blake2b(outermost, &mut root);
    root == signed.opcert.kes_vkey.0
}

fn forge(
    hot_key: &HotKey,
    cold: &ColdSignKey,
    period: &AtomicU64,
    stop: &AtomicBool,
    signatures: &AtomicU64,
) {
    let message = [0x5a; 500];
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let period = KesPeriod(period.load(Ordering::SeqCst));
        let signed = match hot_key.sign(period, &message) {
            Ok(signed) => signed,
            // The other thread, which looked after this one did, asked for the next period.
            Err(SignError::LetGo { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        assert!(belongs_to(&signed));
        let evolution = period.evolution_since(signed.opcert.start_period);
        assert_eq!(evolution, Some(signed.evolution));
        if number % WHOLE == 0 {
            let root = &signed.opcert.kes_vkey;
            sum6kes::verify(root, signed.evolution, &message, &signed.signature).unwrap();
            assert!(signed.opcert.is_signed_by(&cold.verification_key()));
        }
        signatures.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keys that began one after the other, with their certificates, at their evolutions for
/// [`PERIOD`].
fn keys(cold: &ColdSignKey) -> Vec<(SignKey, OpCert)> {
    let begun = (0..6).map(|n| PERIOD - BACK + n);
    begun
        .map(|start| {
            let mut key = SignKey::generate().unwrap();
            let evolution = u32::try_from(PERIOD - start).unwrap();
            key.evolve_to(Evolution(evolution)).unwrap();
            let vkey = key.verification_key();
            let opcert = cold.issue(&vkey, 0, KesPeriod(start)).unwrap();
            (key, opcert)
        })
        .collect()
}

#[test]
fn certificate_and_signature_always_match() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("service.socket");
    let mut agent = PretendedAgent::new(&socket);
    let cold = Arc::new(ColdSignKey::generate().unwrap());
    let network = Network {
        slots_per_kes_period: PERIOD_US / 1_000_000,
        shelley_start_slot: 0,
        shelley_start_time: UnixTime(0),
        ..Network::MAINNET
    };
    let period = Arc::new(AtomicU64::new(PERIOD));
    let clock = Arc::clone(&period);
    let options = HotKeyOptions::new(&socket, network, cold.verification_key())
        .clock(move || UnixTime(clock.load(Ordering::SeqCst) * PERIOD_US + 1));
    let (hot_key, receiving) = HotKey::new(options).unwrap();
    let receiving = receiving.on_thread().unwrap();
    agent.accept();
    let mut keys = keys(&cold);
    let (first, opcert) = &keys[0];
    assert_eq!(agent.send(first, opcert), ServiceResult::Ok);

    let stop = Arc::new(AtomicBool::new(false));
    let signatures = Arc::new(AtomicU64::new(0));
    let forging: Vec<_> = (0..2)
        .map(|_| {
            let (hot_key, cold) = (hot_key.clone(), Arc::clone(&cold));
            let (period, stop) = (Arc::clone(&period), Arc::clone(&stop));
            let signatures = Arc::clone(&signatures);
            thread::spawn(move || forge(&hot_key, &cold, &period, &stop, &signatures))
        })
        .collect();
    let wanted = wanted_signatures();
    let mut swaps = 0u64;
    for turn in 1..=TURNS {
        while signatures.load(Ordering::Relaxed) < turn * wanted / TURNS || swaps < turn * 200 {
            let place = usize::try_from(swaps + 1).unwrap() % keys.len();
            let (key, opcert) = &keys[place];
            assert_eq!(agent.send(key, opcert), ServiceResult::Ok);
            swaps += 1;
            assert!(forging.iter().all(|thread| !thread.is_finished()));
        }
        let evolve = |(key, _): &mut (SignKey, OpCert)| {
            let next = Evolution(key.evolution().0 + 1);
            key.evolve_to(next).unwrap();
        };
        keys.iter_mut().for_each(evolve);
        period.fetch_add(1, Ordering::SeqCst);
    }
    stop.store(true, Ordering::Relaxed);
    for thread in forging {
        thread.join().unwrap();
    }
    drop(hot_key);
    receiving.join().unwrap();
    println!(
        "{} signatures, {swaps} swaps, {TURNS} turns",
        signatures.load(Ordering::Relaxed)
    );
}
