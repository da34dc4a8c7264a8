//! The KES agent: keeps a stake pool's KES key in locked memory and hands it to nodes.

pub mod state;
