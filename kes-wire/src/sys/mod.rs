//! The only place with `unsafe`: locked memory, libsodium, the operating system.
//!
//! Everything here is a safe wrapper over one foreign call or one small group of them.
//! The rest of the project denies `unsafe_code`, so a reader who wants to check every use of it
//! reads this folder and nothing else.
#![allow(unsafe_code)]

pub mod cells;
pub mod host;
pub mod memory;
pub mod os;
pub mod region;
pub mod sodium;
pub mod stack;
