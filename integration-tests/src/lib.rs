//! What the whole-system tests share.

pub mod conformance;
pub mod for_tests;
pub mod fuzzed;
pub mod kept;
pub mod key_secrets;
pub mod link;
pub mod memory_scan;
pub mod nobody;
pub mod peers_harness;
pub mod pool;
pub mod pretended_agent;
pub mod scripted_peer;
pub mod service_manager;
pub mod session;
pub mod shared;
pub mod tools;
pub mod watcher;
