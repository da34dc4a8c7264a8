//! The KES agent: keeps a stake pool's KES key in locked memory, evolves it, and hands it to
//! nodes.
//!
//! A key's path: generated into the pending slot, certified, activated, evolved, sent, confirmed,
//! wiped. [`state`] decides, [`vault`] holds the keys and does what the state says, [`agent`] adds
//! the time, [`service`] and [`control`] speak to nodes and operators, [`peers`] follows other agents, [`run`] ties them to the
//! system.

pub mod agent;
pub mod check_host;
pub mod clock;
pub mod config;
pub mod control;
pub mod deployed_control;
pub mod door;
pub mod folders;
pub mod identity;
pub mod listener;
pub mod logging;
pub mod nodes;
pub mod peers;
pub mod process;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod sockets;
pub mod state;
pub mod status;
pub mod vault;
