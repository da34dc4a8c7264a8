//! Every recording of the reference put to our running programs, each direction, in pieces: the
//! same bytes where the rules agree, and one table of where they differ on purpose.
#![allow(missing_docs, clippy::unwrap_used)]

mod clients;
mod control;
mod differences;
mod service;

use integration_tests::pool::{Pool, TestNetwork};
use integration_tests::shared;

/// Sizes of pieces in which a running program is given what was recorded.
const PIECES: [usize; 6] = [1, 2, 7, 33, 64, usize::MAX];

/// The period in which everything was recorded.
const PERIOD: u64 = 2231;

/// A pool with the cold key of the recordings, in the period of the recordings; `None` where there
/// are none.
fn pool() -> Option<Pool> {
    let cold = shared::text("files/cold.vkey")?;
    let pool = Pool::new(TestNetwork {
        past_periods: PERIOD,
        ..TestNetwork::default()
    });
    std::fs::write(pool.path("cold.vkey"), cold).unwrap();
    Some(pool)
}

/// Splits what an agent said in a handshake from what it said afterwards.
fn split_offer(from_agent: &[u8]) -> (&[u8], &[u8]) {
    let offered = u32::from_be_bytes(*from_agent.first_chunk().unwrap());
    from_agent.split_at(4 + 32 * usize::try_from(offered).unwrap())
}
