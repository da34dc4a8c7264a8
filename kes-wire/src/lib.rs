//! KES keys for Cardano in Rust: received from a KES agent, kept in locked memory, evolved, signed
//! with and verified.
//!
//! A stake pool signs its blocks with a KES key, which evolves every KES period (36 hours on
//! mainnet), and whose earlier evolutions nobody may be able to get back. An agent generates that
//! key, keeps it in memory, and hands it over a Unix socket to the block producer. This crate has
//! the block producer's side ([`hot_key`]), what receivers of blocks need ([`verification`]), and
//! what both are made of, which the agent itself and its commands use as well.
//!
//! # A block producer
//!
//! ```no_run
#![doc = include_str!("../examples/front_page.rs")]
//! ```
//!
//! [`HotKey::sign_with`](hot_key::HotKey::sign_with) takes no lock and waits for nobody: not while
//! the agent replaces the key, not at the turn of a period, not while the agent is away.
//! `examples/forging_node.rs` is a whole node to run.
//!
//! # A receiver
//!
//! [`verification::Claim`] checks a signature with its certificate, the pool's cold key and the
//! period, and tells every reason for refusal apart.
//!
//! # What is where
//!
//! | module | what it has |
//! | --- | --- |
//! | [`hot_key`] | a node's key: receives, verifies, holds, evolves, signs |
//! | [`verification`] | signatures of others, with certificate and period |
//! | [`sum6kes`] | the key-evolving signature itself (Ed25519, Blake2b-256, depth 6) |
//! | [`opcert`], [`cold`] | operational certificates and the cold keys that sign them |
//! | [`genesis`], [`period`], [`unix_time`] | the network's parameters, KES periods, moments |
//! | [`protocol`] | the agent's protocols without I/O, to the byte |
//! | `net` | the same over tokio's Unix sockets |
//! | [`envelope`], [`files`] | cardano-cli's files, read into locked memory, written whole or not at all |
//! | [`sys`] | locked memory, libsodium: the only place with `unsafe` |
//!
//! # Features
//!
//! | feature | default | what it adds | what it pulls in |
//! | --- | --- | --- | --- |
//! | `hot-key` | yes | [`hot_key`], with a receiving side on a plain thread | arc-swap |
//! | `net` | yes | `net`, and the hot key's receiving side as a tokio task | tokio |
//!
//! A program that only verifies takes the crate with `default-features = false`, and with it
//! neither tokio nor a call that makes a socket.
//!
//! # What is protected against what
//!
//! Secrets stand in memory that is locked (never swapped), guarded by inaccessible pages and left
//! out of core dumps; a page that cannot be locked is an error, and nothing secret is written to
//! it. They arrive there straight from the socket. What computes with them runs on a stack of its
//! own that is locked as well and wiped after each call. What has been evolved past is
//! overwritten. None of the types that hold a secret can be cloned, compared, printed or
//! serialised.
//!
//! - **Swap, core dumps, a stolen disk, other users**: they see no key.
//! - **Somebody who takes over the process later**: gets the present evolution and those after it
//!   until the certificate ends, but none before: blocks of the past cannot be rewritten.
//! - **Somebody who can read the process's memory now** (root, a debugger of the same user where
//!   the system permits it, code in this process): gets the key. A program should switch off its
//!   dumps and tracing (`PR_SET_DUMPABLE`), and rotate the key after a compromise: a certificate
//!   with a higher number makes the old key worthless.
//! - **Whoever listens at the socket's path**: can hand over a key only with a certificate signed
//!   by the pool's cold key; it is checked whole, so that a damaged or foreign key is refused.
//!   It can withhold keys, or say that the key was dropped: the folder of the socket has to belong
//!   to somebody who may do that.
//! - **Hibernation and copies of a running virtual machine** contain all memory, locked or not.
//! - **A wrong clock** cannot make a wrong signature, since the period that is asked for decides.
//!   It can let an evolution go too early; what is let go is gone until the next key.

pub mod cold;
pub mod envelope;
pub mod files;
pub mod genesis;
#[cfg(feature = "hot-key")]
pub mod hot_key;
#[cfg(feature = "net")]
pub mod net;
pub mod opcert;
pub mod period;
pub mod process;
pub mod protocol;
mod public_bytes;
pub mod sum6kes;
pub mod sys;
pub mod unix_time;
pub mod verification;
