//! What the whole-system tests share.

pub mod peers_harness;
pub mod shared;
