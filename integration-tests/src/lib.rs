//! What the whole-system tests share.

pub mod peers_harness;
pub mod pool;
pub mod pretended_agent;
pub mod session;
pub mod shared;
