//! The KES agent: keeps a stake pool's KES key in locked memory, evolves it, and hands it to
//! nodes.
//!
//! A key's path: generated into the pending slot, certified, activated, evolved, sent, confirmed,
//! wiped. [`state`] decides, [`vault`] holds the keys and does what the state says, in memory that
//! [`kept`] lays out and [`store`] hands to the service manager; [`trusted_time`] says what time it
//! is, [`agent`] joins them, [`service`] and [`control`] speak to nodes and operators, [`peers`]
//! follows other agents, [`run`] ties them to the system.

/// A point at which a test can let the process die; nothing in a shipped program.
macro_rules! crash_point {
    () => {
        #[cfg(feature = "for-tests")]
        $crate::for_tests::crash_point();
    };
}

pub mod agent;
pub mod check_host;
pub mod clock;
pub mod config;
pub mod control;
pub mod deployed_control;
pub mod door;
pub mod folders;
#[cfg(feature = "for-tests")]
pub mod for_tests;
pub mod identity;
pub mod kept;
pub mod listener;
pub mod logging;
pub mod manager;
pub mod marks;
pub mod nodes;
pub mod peers;
pub mod process;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod sockets;
pub mod state;
pub mod status;
pub mod store;
pub mod trusted_time;
pub mod vault;
pub mod watchdog;
