//! The memory that was kept over a restart, with any bytes in it.

use kes_agent::kept::Kept;
use kes_agent::kept::layout::{HEAD_BYTES, SlotsRegion};
use kes_agent::kept::record::Record;
use kes_agent::state::{Active, Rules};
use kes_wire::cold::ColdVerificationKey;
use kes_wire::genesis::Network;
use kes_wire::sys::sodium;

/// Where place 1 begins, and a record's body in it, as the layout says.
const PLACE: usize = 960;
const BODY: usize = PLACE + 44;

pub(super) fn kept(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    record(bytes);
    let mut region = SlotsRegion::guarded().expect("memory can be locked");
    let head = region.head.expose_mut();
    if first.is_multiple_of(2) {
        let most = bytes.len().min(HEAD_BYTES);
        head[..most].copy_from_slice(&bytes[..most]);
    } else {
        with_record(head, bytes);
    }
    for (cell, bytes) in region.cells.iter_mut().zip(bytes.rchunks(608)) {
        cell.expose_mut()[..bytes.len()].copy_from_slice(bytes);
    }
    let (cold_vkey, network) =
        whose(&region).unwrap_or((ColdVerificationKey([6; 32]), Network::MAINNET));
    let rules = Rules {
        cold_vkey,
        max_evolutions: 62,
    };
    if let Ok((_, found)) = Kept::take_back(region, &rules, network) {
        let (pending, active) = (found.state.pending.vkey(), &found.state.active);
        assert_eq!(pending.is_some(), found.pending.is_some());
        let is_bundle = matches!(active, Active::Bundle { .. });
        assert_eq!(
            is_bundle,
            found.active.is_some(),
            "a key for each that is named"
        );
    }
}

/// The pool and the network that the record is of: another's would be left alone.
fn whose(region: &SlotsRegion) -> Option<(ColdVerificationKey, Network)> {
    let head = region.head.expose();
    let length = u32::from_be_bytes(*head[PLACE + 8..].first_chunk()?) as usize;
    let body = head.get(BODY..BODY.checked_add(length)?)?;
    let record = Record::from_bytes(body).ok()?;
    Some((record.cold_vkey, record.network))
}

/// A record in force whose checksum is right.
fn with_record(head: &mut [u8; HEAD_BYTES], body: &[u8]) {
    let length = body.len().min(852);
    head[..8].copy_from_slice(b"KESAGENT");
    head[11] = 1;
    head[23] = 1;
    head[PLACE + 7] = 1;
    let said = u32::try_from(length).expect("below 852").to_be_bytes();
    head[PLACE + 8..][..4].copy_from_slice(&said);
    head[BODY..][..length].copy_from_slice(&body[..length]);
    let summed = [&head[PLACE..][..12], &head[BODY..][..length]].concat();
    let mut sum = [0; 32];
    sodium::blake2b(&summed, &mut sum);
    head[PLACE + 12..][..32].copy_from_slice(&sum);
}

fn record(bytes: &[u8]) {
    let Ok(record) = Record::from_bytes(bytes) else {
        return;
    };
    let again = record.to_bytes().expect("what was read can be written");
    assert_eq!(Record::from_bytes(&again).ok(), Some(record));
}
