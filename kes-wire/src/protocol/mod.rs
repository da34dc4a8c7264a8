//! The protocols of the agent's sockets, without I/O.

pub mod control;
pub mod stamp;
