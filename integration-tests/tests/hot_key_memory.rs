//! After a turn nothing in a node's process can sign for the period before: at every boundary the
//! whole memory is searched for the old leaf's seed and for every seed it could be derived from.
//!
//! One test, so that nothing else runs in the process. What is searched for is kept masked, so
//! that the search does not find itself.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::pool::until;
use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::cold::ColdSignKey;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions, SignError};
use kes_wire::period::KesPeriod;
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::{DEPTH, EVOLUTIONS, SignKey};
use kes_wire::sys::memory::LockedBytes;
use kes_wire::sys::{sodium, stack};
use kes_wire::unix_time::UnixTime;

const START: u64 = 100;
const PERIOD_US: u64 = 1_000_000_000;
const MASK: u8 = 0xA7;

/// The seed of a node of the tree, every byte masked.
#[derive(Clone, Copy)]
struct Masked([u8; 32]);

impl Masked {
    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.len() >= 32 && self.0.iter().zip(bytes).all(|(m, b)| m ^ MASK == *b)
    }
}

/// The masked seeds of all nodes, as a heap: the root is 1, leaf `t` is `64 + t`.
fn masked_seeds(seed: &LockedBytes<32>) -> Vec<Masked> {
    let mut masked = vec![Masked([0; 32]); 2 * EVOLUTIONS as usize];
    // On the secret stack, which is wiped.
    stack::run(|| descend(seed.expose(), 1, &mut masked)).unwrap();
    masked
}

fn descend(seed: &[u8; 32], node: usize, masked: &mut [Masked]) {
    masked[node] = Masked(seed.map(|byte| byte ^ MASK));
    if node < EVOLUTIONS as usize {
        for side in [1, 2] {
            let (mut prefixed, mut child) = ([side; 33], [0; 32]);
            prefixed[1..].copy_from_slice(seed);
            sodium::blake2b(&prefixed, &mut child);
            descend(&child, 2 * node + usize::from(side) - 1, masked);
        }
    }
}

/// What evolution `t` could be had from: its leaf and all nodes above it.
fn path(seeds: &[Masked], t: u32) -> Vec<Masked> {
    let leaf = (EVOLUTIONS + t) as usize;
    (0..=DEPTH).map(|level| seeds[leaf >> level]).collect()
}

/// How often any of `wanted` stands in this process's memory.
fn found(wanted: &[Masked]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // What is read is kept off the ordinary memory that is searched as well.
    let mut window = LockedBytes::<{ 256 * 1024 }>::zeroed().unwrap();
    let own = window.expose().as_ptr() as u64;
    let firsts: Vec<u8> = wanted.iter().map(|masked| masked.0[0] ^ MASK).collect();
    let mut count = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let from = u64::from_str_radix(from, 16).unwrap();
        let to = u64::from_str_radix(to, 16).unwrap();
        if !rest.starts_with("rw") || (from..to).contains(&own) {
            continue;
        }
        let mut at = from;
        while at < to {
            let window = window.expose_mut();
            let length = window.len().min(usize::try_from(to - at).unwrap());
            let Ok(read @ 1..) = memory.read_at(&mut window[..length], at) else {
                break;
            };
            let window = &window[..read];
            for (seed, first) in wanted.iter().zip(&firsts) {
                count += memchr::memchr_iter(*first, window)
                    .filter(|&place| seed.is_at(&window[place..]))
                    .count();
            }
            // Windows overlap, so that none is missed at a border.
            at += u64::try_from(read).unwrap();
            if at < to {
                at -= 31;
            }
        }
    }
    count
}

#[test]
fn at_every_boundary_the_past_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("service.socket");
    let mut agent = PretendedAgent::new(&socket);
    let cold = ColdSignKey::generate().unwrap();
    let network = Network {
        slots_per_kes_period: PERIOD_US / 1_000_000,
        max_evolutions: EVOLUTIONS,
        shelley_start_slot: 0,
        shelley_start_time: UnixTime(0),
        ..Network::MAINNET
    };
    let now = Arc::new(AtomicU64::new(START * PERIOD_US));
    let clock = Arc::clone(&now);
    let options = HotKeyOptions::new(&socket, network, cold.verification_key())
        .clock(move || UnixTime(clock.load(Ordering::Relaxed)));
    let (hot_key, receiving) = HotKey::new(options).unwrap();
    let receiving = receiving.on_thread().unwrap();

    let seeds = {
        let seed = LockedBytes::<32>::random().unwrap();
        let masked = masked_seeds(&seed);
        let key = SignKey::from_seed(seed).unwrap();
        let vkey = key.verification_key();
        let opcert = cold.issue(&vkey, 0, KesPeriod(START)).unwrap();
        agent.accept();
        assert_eq!(agent.send(&key, &opcert), ServiceResult::Ok);
        masked
        // The agent's copy ends here; from now on the node's is the only one.
    };
    for t in 0..EVOLUTIONS - 1 {
        let period = START + u64::from(t);
        hot_key.sign(KesPeriod(period), b"the last block").unwrap();
        let leaf = &path(&seeds, t)[..1];
        assert!(found(leaf) > 0, "evolution {t} is there while it signs");
        // Half of the turns by request, half by the clock.
        if t % 2 == 0 {
            until("the first block", || {
                hot_key.sign(KesPeriod(period + 1), b"the first block").ok()
            });
            // The request itself has wiped it: the receiving side sleeps, and has not put anything
            // else in its place. It may just be looking at the stage, once a second.
            let is_gone = (0..3).any(|_| found(&path(&seeds, t)) == 0);
            assert!(
                is_gone,
                "evolution {t} after the first request for the next"
            );
        }
        now.store((period + 1) * PERIOD_US + 5_000_000, Ordering::Relaxed);
        hot_key.look_at_the_clock();
        until("the turn", || {
            let refused = hot_key.sign(KesPeriod(period), b"too late");
            matches!(refused, Err(SignError::LetGo { .. })).then_some(())
        });
        // The receiving side may be looking at the stage for a moment more.
        until(&format!("evolution {t} to be gone"), || {
            (found(&path(&seeds, t)) == 0).then_some(())
        });
    }
    // And in the end, everything.
    drop(hot_key);
    receiving.join().unwrap();
    assert_eq!(found(&seeds[1..]), 0);
}
