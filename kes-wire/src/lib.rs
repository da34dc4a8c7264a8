//! What the KES agent, its commands, and nodes share: KES keys in locked memory, operational
//! certificates, KES periods, and the protocols spoken over the agent's sockets.

pub mod sys;
