//! Whole Praos headers, forged with the hot key, are accepted by Amaru's header validation: VRF
//! proof, leadership, operational certificate and its counter, KES period and signature.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../kes-wire/examples/forging_node/header.rs"]
mod header;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amaru_kernel::{ConsensusParameters, Hasher, Header, Nonce, PREPROD_ERA_HISTORY, PoolId, Slot};
use amaru_ouroboros::has_stake_distribution::mock_ledger_state::MockLedgerState;
use amaru_ouroboros::praos::header::{
    AssertHeaderError, AssertKesSignatureError, AssertOperationalCertificateError, assert_all,
};
use amaru_ouroboros::{ed25519, issuer_to_pool_id, vrf};
use header::HeaderBody;
use integration_tests::pretended_agent::PretendedAgent;
use kes_wire::cold::ColdSignKey;
use kes_wire::genesis::Network;
use kes_wire::hot_key::{HotKey, HotKeyOptions};
use kes_wire::opcert::OpCert;
use kes_wire::period::KesPeriod;
use kes_wire::protocol::service::ServiceResult;
use kes_wire::sum6kes::{SignKey, Signature};
use kes_wire::unix_time::UnixTime;
use pallas_codec::minicbor as pallas_cbor;

const SLOTS_PER_PERIOD: u64 = 100;
const FIRST_PERIOD: u64 = 1000;
const MAX_EVOLUTIONS: u32 = 62;
/// The share of slots that the pool, which has all stake, leads.
const ACTIVE_SLOTS: f64 = 0.5;

/// A pool with its VRF key, and the chain's view of it.
struct Chain {
    cold: ColdSignKey,
    vrf: vrf::SecretKey,
    nonce: Nonce,
    pool: PoolId,
    /// The last certificate number seen on the chain.
    counter: u64,
}

impl Chain {
    fn new() -> Self {
        let cold = ColdSignKey::generate().unwrap();
        let issuer = ed25519::PublicKey::from(cold.verification_key().0);
        Self {
            pool: issuer_to_pool_id(&issuer),
            vrf: vrf::SecretKey::from(&[7; 32]),
            nonce: Nonce::from([9; 32]),
            cold,
            counter: 0,
        }
    }

    fn header_body(&self, slot: u64, opcert: &OpCert) -> HeaderBody {
        let proof = self
            .vrf
            .prove(&vrf::Input::new(Slot::from(slot), &self.nonce));
        let output = proof
            .verify(
                &vrf::PublicKey::from(&self.vrf),
                &vrf::Input::new(Slot::from(slot), &self.nonce),
            )
            .unwrap();
        HeaderBody {
            block_number: slot,
            slot,
            previous: Some([1; 32]),
            issuer: self.cold.verification_key(),
            vrf_vkey: *vrf::PublicKey::from(&self.vrf),
            vrf_output: *output,
            vrf_proof: <[u8; 80]>::from(&proof),
            body_size: 2000,
            body_hash: [2; 32],
            opcert: *opcert,
            protocol_version: (10, 0),
        }
    }

    /// What Amaru says of a header with this body and signature.
    fn validate(&self, body: &[u8], signature: &Signature) -> Result<(), AssertHeaderError> {
        let mut cbor = Vec::new();
        let mut encoder = minicbor::Encoder::new(&mut cbor);
        encoder.array(2).unwrap().writer_mut().extend(body);
        encoder.bytes(&signature.0).unwrap();
        let header: Header = pallas_cbor::decode(&cbor).unwrap();
        let parameters = ConsensusParameters::create(
            0,
            SLOTS_PER_PERIOD,
            MAX_EVOLUTIONS.into(),
            ACTIVE_SLOTS,
            &PREPROD_ERA_HISTORY,
            BTreeMap::from([(self.pool, self.counter)]),
        );
        let vrf_hash = Hasher::<256>::hash(vrf::PublicKey::from(&self.vrf).as_ref());
        let stake = MockLedgerState::new(&vrf_hash.to_string(), 1, 1);
        let assertions = assert_all(
            Arc::new(parameters),
            &header,
            body,
            Arc::new(stake),
            &self.nonce,
        )?;
        assertions.iter().try_for_each(|assertion| assertion())
    }
}

fn network() -> Network {
    Network {
        slots_per_kes_period: SLOTS_PER_PERIOD,
        max_evolutions: MAX_EVOLUTIONS,
        shelley_start_slot: 0,
        shelley_start_time: UnixTime(0),
        ..Network::MAINNET
    }
}

fn start(slot: u64) -> UnixTime {
    UnixTime(slot * 1_000_000)
}

#[test]
fn headers_are_accepted_over_turns_and_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("service.socket");
    let mut agent = PretendedAgent::new(&socket);
    let mut chain = Chain::new();
    let now = Arc::new(AtomicU64::new(start(FIRST_PERIOD * SLOTS_PER_PERIOD).0));
    let clock = Arc::clone(&now);
    let cold_vkey = chain.cold.verification_key();
    let options = HotKeyOptions::new(&socket, network(), cold_vkey)
        .clock(move || UnixTime(clock.load(Ordering::Relaxed)));
    let (hot_key, receiving) = HotKey::new(options).unwrap();
    receiving.on_thread().unwrap();
    agent.accept();
    let mut serve = |counter: u64, period: u64| {
        let key = SignKey::generate().unwrap();
        let vkey = key.verification_key();
        let opcert = chain.cold.issue(&vkey, counter, KesPeriod(period)).unwrap();
        assert_eq!(agent.send(&key, &opcert), ServiceResult::Ok);
    };
    serve(0, FIRST_PERIOD);

    let (mut led, mut not_led) = (0, 0);
    let slots = FIRST_PERIOD * SLOTS_PER_PERIOD..(FIRST_PERIOD + 5) * SLOTS_PER_PERIOD;
    for slot in slots {
        if slot == (FIRST_PERIOD + 3) * SLOTS_PER_PERIOD - 10 {
            serve(1, FIRST_PERIOD + 2);
        }
        now.store(start(slot).0, Ordering::Relaxed);
        if slot % SLOTS_PER_PERIOD == 50 {
            // Long before the next turn.
            hot_key.look_at_the_clock();
        }
        let period = network().period_of_slot(slot);
        let forged = integration_tests::pool::until("the key to be prepared", || {
            hot_key
                .sign_with(period, |opcert| chain.header_body(slot, opcert).to_cbor())
                .ok()
        });
        let (signed, body) = forged;
        match chain.validate(&body, &signed.signature) {
            Ok(()) => led += 1,
            Err(AssertHeaderError::LeaderStake(_)) => not_led += 1,
            Err(error) => panic!("slot {slot}: {error}"),
        }
        chain.counter = signed.opcert.counter;
    }
    assert_eq!(chain.counter, 1, "the second key signed as well");
    // 500 slots at even odds: the chance of fewer than 150 is beyond all counting.
    assert!(led > 150 && not_led > 150, "{led} led, {not_led} not");
}

#[test]
fn the_validation_refuses_what_it_should() {
    let chain = Chain::new();
    let key = SignKey::generate().unwrap();
    let vkey = key.verification_key();
    let opcert = |counter| {
        let start = KesPeriod(FIRST_PERIOD);
        chain.cold.issue(&vkey, counter, start).unwrap()
    };
    let slot = (FIRST_PERIOD * SLOTS_PER_PERIOD..)
        .find(|&slot| {
            let body = chain.header_body(slot, &opcert(0)).to_cbor();
            chain.validate(&body, &key.sign(&body).unwrap()).is_ok()
        })
        .unwrap();
    // A slot of the next period, signed with this period's evolution.
    let late = (slot + SLOTS_PER_PERIOD..)
        .step_by(1)
        .map(|slot| chain.header_body(slot, &opcert(0)).to_cbor())
        .map(|body| chain.validate(&body, &key.sign(&body).unwrap()))
        .find(|verdict| !matches!(verdict, Err(AssertHeaderError::LeaderStake(_))));
    assert!(matches!(
        late,
        Some(Err(AssertHeaderError::KesSignature(
            AssertKesSignatureError::InvalidKesSignature { .. }
        )))
    ));
    // A certificate number that jumps.
    let body = chain.header_body(slot, &opcert(2)).to_cbor();
    assert!(matches!(
        chain.validate(&body, &key.sign(&body).unwrap()),
        Err(AssertHeaderError::OperationalCertificate(
            AssertOperationalCertificateError::SequenceNumberTooFarAhead { .. }
        ))
    ));
    // Another certificate than the signature's: what a swap between the two would make.
    let body = chain.header_body(slot, &opcert(0)).to_cbor();
    let other = SignKey::generate().unwrap().sign(&body).unwrap();
    assert!(matches!(
        chain.validate(&body, &other),
        Err(AssertHeaderError::KesSignature(_))
    ));
}
