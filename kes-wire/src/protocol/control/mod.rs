//! The control socket: commands of operators and their scripts.

pub mod deployed;
pub mod frame;
pub mod rotation;
