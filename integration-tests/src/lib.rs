//! What the whole-system tests share.

pub mod pool;
pub mod shared;
