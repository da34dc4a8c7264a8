//! A block producer to run beside an agent: slots pass, chance makes it the leader, a header body
//! as on the chain is assembled, signed with the hot key, verified as a receiver would, counted.
//!
//! ```sh
//! cargo run --example forging_node -- --service-address service.socket \
//!     --cold-verification-key cold.vkey --genesis-file genesis.json
//! ```
//!
//! What is not real: the VRF's output and proof, and the hashes of blocks, are drawn by chance.
//! It survives restarts of the agent, rotations and the turns of periods. It ends by itself after
//! `--slots`; every refusal to sign, and every signature that does not verify, is told, and the
//! latter makes the exit code 1.

#[path = "forging_node/header.rs"]
mod header;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kes_wire::cold::{ColdVerificationKey, PoolId};
use kes_wire::envelope;
use kes_wire::files;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::hot_key::{Event, HotKey, HotKeyOptions, SignError, Signed};
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::sys::sodium;
use kes_wire::unix_time::UnixTime;
use kes_wire::verification::Claim;

use header::HeaderBody;

/// A block producer that forges with the agent's key.
#[derive(Parser)]
struct Arguments {
    /// The agent's service socket.
    #[arg(long, env = "KES_AGENT_SERVICE_PATH")]
    service_address: PathBuf,
    /// The pool's cold verification key.
    #[arg(long, env = "KES_AGENT_COLD_VK")]
    cold_verification_key: PathBuf,
    /// The Shelley genesis; mainnet's parameters without one.
    #[arg(long, env = "KES_AGENT_GENESIS_FILE")]
    genesis_file: Option<PathBuf>,
    /// The chance to lead a slot, in percent.
    #[arg(long, default_value_t = 50)]
    leads: u32,
    /// How many times faster than real the clock runs.
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// End after so many slots.
    #[arg(long)]
    slots: Option<u64>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let arguments = Arguments::parse();
    let mut node = Node::new(&arguments)?;
    node.hot_key.prepare_this_thread()?;
    let mut slot = node.network.slot_at((node.clock)());
    let end = arguments.slots.map(|slots| slot.saturating_add(slots));
    while end.is_none_or(|end| slot < end) {
        if chance(100) < arguments.leads {
            node.forge(slot);
        }
        slot = node.next_slot(slot);
    }
    say(&format!(
        "{} blocks forged and verified, {} slots led without a key, {} signatures refused",
        node.forged, node.missed, node.wrong
    ));
    Ok(if node.wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

struct Node {
    hot_key: HotKey,
    network: Network,
    cold_vkey: ColdVerificationKey,
    vrf_vkey: [u8; 32],
    clock: Clock,
    speed: u32,
    /// Why the last slot that was led was missed.
    refused: Option<SignError>,
    forged: u64,
    missed: u64,
    wrong: u64,
}

impl Node {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let network = match &arguments.genesis_file {
            None => Network::MAINNET,
            Some(path) => {
                let bytes = files::read_limited(path, genesis::MOST_BYTES)?;
                genesis::network(&bytes, ShelleyStart::default())?.0
            }
        };
        let path = &arguments.cold_verification_key;
        let cold_vkey = envelope::read_file(path, envelope::read_cold_vkey)?;
        let clock = clock(arguments.speed);
        let for_the_key = Arc::clone(&clock);
        let options = HotKeyOptions::new(&arguments.service_address, network.clone(), cold_vkey)
            .clock(move || for_the_key())
            .observer(show_event);
        let (hot_key, receiving) = HotKey::new(options)?;
        receiving.on_thread()?;
        say(&format!("block producer of {}", PoolId::of(&cold_vkey)));
        let mut vrf_vkey = [0; 32];
        sodium::fill_random(&mut vrf_vkey);
        Ok(Self {
            hot_key,
            network,
            cold_vkey,
            vrf_vkey,
            clock,
            speed: arguments.speed,
            refused: None,
            forged: 0,
            missed: 0,
            wrong: 0,
        })
    }

    /// Assembles, signs, verifies and counts a block header.
    fn forge(&mut self, slot: u64) {
        let period = self.network.period_of_slot(slot);
        let forged = self
            .hot_key
            .sign_with(period, |opcert| self.header(slot, opcert).to_cbor());
        match forged {
            Ok((signed, body)) => self.check(slot, period, &signed, &body),
            Err(refusal) => {
                self.missed += 1;
                if self.refused.as_ref() != Some(&refusal) {
                    say(&format!("slot {slot} not forged: {refusal}"));
                    self.refused = Some(refusal);
                }
            }
        }
    }

    fn check(&mut self, slot: u64, period: KesPeriod, signed: &Signed, body: &[u8]) {
        let claim = Claim {
            message: body,
            signature: &signed.signature,
            opcert: &signed.opcert,
            cold_vkey: &self.cold_vkey,
            period,
        };
        let vkey = signed.opcert.kes_vkey.to_string();
        match claim.verify(self.network.max_evolutions) {
            Ok(evolution) => {
                self.forged += 1;
                self.refused = None;
                say(&format!(
                    "slot {slot} forged at period {period}, evolution {evolution}, with {}..., \
                     certificate number {}: {} bytes, verifies",
                    &vkey[..16],
                    signed.opcert.counter,
                    body.len()
                ));
            }
            Err(refusal) => {
                self.wrong += 1;
                say(&format!("slot {slot} DOES NOT VERIFY: {refusal}"));
            }
        }
    }

    /// What a block of this slot could look like.
    fn header(&self, slot: u64, opcert: &OpCert) -> HeaderBody {
        HeaderBody {
            block_number: self.forged,
            slot,
            previous: Some(random()),
            issuer: self.cold_vkey,
            vrf_vkey: self.vrf_vkey,
            vrf_output: random(),
            vrf_proof: random(),
            body_size: u64::from(chance(90_000)),
            body_hash: random(),
            opcert: *opcert,
            protocol_version: (10, 0),
        }
    }

    /// Waits for the slot after `slot`, or the present one where that is later.
    fn next_slot(&self, slot: u64) -> u64 {
        loop {
            let now = self.network.slot_at((self.clock)());
            if now > slot {
                return now;
            }
            // A twentieth of a slot is soon enough.
            let step = self.network.slot_length_ns / 20 / u64::from(self.speed.max(1));
            std::thread::sleep(Duration::from_nanos(step));
        }
    }
}

fn show_event(event: &Event) {
    let kind = event.kind().map(|kind| format!(" {kind}"));
    say(&format!(
        "[{}{}] {event}",
        event.name(),
        kind.unwrap_or_default()
    ));
}

/// A line with the time.
fn say(sentence: &str) {
    println!("{}  {sentence}", UnixTime::now());
}

/// The wall clock, or one that runs faster from now on.
fn clock(speed: u32) -> Clock {
    let begin = UnixTime::now();
    Arc::new(move || {
        let passed = UnixTime::now().0.saturating_sub(begin.0);
        UnixTime(begin.0 + passed.saturating_mul(u64::from(speed)))
    })
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    sodium::fill_random(&mut bytes);
    bytes
}

/// A number below `limit`, by chance.
fn chance(limit: u32) -> u32 {
    u32::from_be_bytes(random()) % limit
}
