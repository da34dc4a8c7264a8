//! What the KES agent, its commands, and nodes share: KES keys in locked memory, operational
//! certificates, KES periods, and the protocols spoken over the agent's sockets.

pub mod cold;
pub mod envelope;
pub mod files;
pub mod genesis;
#[cfg(feature = "hot-key")]
pub mod hot_key;
#[cfg(feature = "net")]
pub mod net;
pub mod opcert;
pub mod period;
pub mod protocol;
mod public_bytes;
pub mod sum6kes;
pub mod sys;
pub mod unix_time;
