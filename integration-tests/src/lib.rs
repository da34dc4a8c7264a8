//! What the whole-system tests share.

pub mod pool;
pub mod session;
pub mod shared;
