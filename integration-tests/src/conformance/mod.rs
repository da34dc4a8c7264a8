//! The conformance kit: the numbered requirements of `spec/`, each tried on the sockets of an agent
//! or of a client of either socket, whoever wrote it.
//!
//! It speaks from the specification alone: bytes are put together and taken apart here, CBOR is
//! ciborium's, Ed25519 is dalek's and Sum6KES is kes-summed-ed25519's. What the project's own
//! encoders and decoders got wrong would so be seen. It keeps the keys that it is served in
//! ordinary memory: it is for throw-away keys.

pub mod agent;
pub mod client;
pub mod control_client;
pub mod keys;
pub mod pool;
pub mod report;
pub mod requirements;
pub mod rotation;
pub mod wire;

use std::io;

/// What a check has found, where the requirement does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The requirement is broken, and how.
    DoesNotHold(String),
    /// What the requirement says that the peer SHOULD do was not done, and how.
    NotFollowed(String),
    /// The requirement cannot be tried on this peer, and why.
    DoesNotApply(String),
}

/// What a check, or a step of one, gives.
pub type Found<T = ()> = Result<T, Finding>;

impl From<io::Error> for Finding {
    fn from(error: io::Error) -> Self {
        Self::DoesNotHold(match error.kind() {
            io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
            io::ErrorKind::WouldBlock => "the other side said nothing in time".to_owned(),
            _ => format!("the connection failed: {error}"),
        })
    }
}

/// A requirement is broken.
///
/// # Errors
/// Always.
pub fn broken<T>(how: impl Into<String>) -> Found<T> {
    Err(Finding::DoesNotHold(how.into()))
}

/// A requirement does not apply.
///
/// # Errors
/// Always.
pub fn does_not_apply<T>(why: impl Into<String>) -> Found<T> {
    Err(Finding::DoesNotApply(why.into()))
}

/// A requirement holds only if this is so.
///
/// # Errors
/// Where it is not.
pub fn hold(is_so: bool, otherwise: impl Into<String>) -> Found {
    if is_so { Ok(()) } else { broken(otherwise) }
}

/// What was found by something that a peer SHOULD do: where it is not done, it is no worse than those
/// that are deployed.
///
/// # Errors
/// What was found.
pub fn advice<T>(found: Found<T>) -> Found<T> {
    found.map_err(|finding| match finding {
        Finding::DoesNotHold(how) => Finding::NotFollowed(how),
        other => other,
    })
}

/// One requirement and how it is tried on a peer.
pub struct Check<Scene> {
    /// The requirement's number.
    pub id: &'static str,
    /// What is tried.
    pub what: &'static str,
    /// Tries it.
    pub run: fn(&Scene) -> Found,
}
