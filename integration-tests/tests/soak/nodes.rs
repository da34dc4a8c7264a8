//! Nodes: hot keys that sign in every period.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use integration_tests::pool::until;
use kes_summed_ed25519::PublicKey;
use kes_summed_ed25519::kes::Sum6KesSig;
use kes_summed_ed25519::traits::KesSig;
use kes_wire::envelope;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::hot_key::{HotKey, HotKeyOptions, Signed};
use kes_wire::period::KesPeriod;
use kes_wire::unix_time::UnixTime;

use crate::pool::{Site, Which};

/// A node signs so often: several times a period.
const EVERY: Duration = Duration::from_millis(100);

/// What became of the periods that a node lived through, from its first key on.
#[derive(Debug, Default)]
pub(crate) struct Periods {
    /// In so many it signed, and the signature is valid.
    pub(crate) signed: u64,
    /// In so many it could not.
    pub(crate) missed: u64,
    /// Why not.
    pub(crate) why: Vec<String>,
}

pub(crate) struct Forger {
    shared: Arc<Shared>,
    thread: JoinHandle<Periods>,
}

struct Shared {
    hot_key: HotKey,
    network: Network,
    stop: AtomicBool,
    signatures: AtomicU64,
    /// The key that signed last.
    newest: Mutex<Option<String>>,
}

impl Forger {
    /// Starts a node of this agent.
    pub(crate) fn start(site: &Site, which: Which) -> Self {
        let genesis = std::fs::read(site.pool.path("genesis.json")).unwrap();
        let (network, _) = genesis::network(&genesis, ShelleyStart::default()).unwrap();
        let cold = std::fs::read(site.pool.path("cold.vkey")).unwrap();
        let cold = envelope::read_cold_vkey(&cold).unwrap();
        let options = HotKeyOptions::new(site.service(which), network.clone(), cold);
        let (hot_key, receiving) = HotKey::new(options).unwrap();
        std::thread::spawn(move || receiving.run_blocking());
        let shared = Arc::new(Shared {
            hot_key,
            network,
            stop: AtomicBool::new(false),
            signatures: AtomicU64::new(0),
            newest: Mutex::new(None),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.forge()
        });
        Self { shared, thread }
    }

    /// How many valid signatures there were.
    pub(crate) fn signatures(&self) -> u64 {
        self.shared.signatures.load(Ordering::Relaxed)
    }

    /// Waits until it signs with this key.
    pub(crate) fn await_key(&self, wanted: Option<&str>) {
        until("a node to sign with the key that is active", || {
            assert!(!self.thread.is_finished(), "a node has failed: see above");
            let newest = self.shared.newest.lock().unwrap();
            (wanted.is_none() || newest.as_deref() == wanted).then_some(())
        });
    }

    pub(crate) fn end(self) -> Periods {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Shared {
    fn forge(&self) -> Periods {
        let (mut periods, mut current) = (Periods::default(), None);
        let (mut signed, mut refused) = (false, String::new());
        while !self.stop.load(Ordering::Relaxed) {
            let period = self.network.period_at(UnixTime::now());
            if current != Some(period) {
                let counts = periods.signed > 0 || signed;
                if current.is_some() && counts {
                    if signed {
                        periods.signed += 1;
                    } else if !refused.contains("was dropped") {
                        periods.missed += 1;
                        periods.why.push(format!("{current:?}: {refused}"));
                    }
                }
                (current, signed) = (Some(period), false);
            }
            let message = period.0.to_be_bytes();
            match self.hot_key.sign(period, &message) {
                Ok(made) => {
                    verify(&made, period, &message);
                    *self.newest.lock().unwrap() = Some(hex::encode(made.opcert.kes_vkey.0));
                    self.signatures.fetch_add(1, Ordering::Relaxed);
                    signed = true;
                }
                Err(error) => refused = error.to_string(),
            }
            std::thread::sleep(EVERY);
        }
        periods
    }
}

/// By another implementation.
fn verify(signed: &Signed, period: KesPeriod, message: &[u8]) {
    let evolution = period.0 - signed.opcert.start_period.0;
    assert_eq!(u64::from(signed.evolution.0), evolution);
    let root = PublicKey::from_bytes(&signed.opcert.kes_vkey.0).unwrap();
    Sum6KesSig::from_bytes(&signed.signature.0)
        .unwrap()
        .verify(signed.evolution.0, &root, message)
        .unwrap();
}
