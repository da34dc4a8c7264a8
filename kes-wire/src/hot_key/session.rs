//! One connection to the agent, without I/O: handshake, messages, answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::event::Event;
use super::keeper::Keeper;
use crate::protocol::Reader;
use crate::protocol::handshake::{ClientHandshake, HandshakeError, Kind, Step};
use crate::protocol::service::{MessageError, MessageReader, ServiceVersion};
use crate::protocol::version::SERVICE_VERSIONS;
use crate::unix_time::UnixTime;

/// How long the agent may take for its part of the handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const TOO_SLOW: &str = "the agent did not finish the handshake within 10 s";

/// A connection: what arrives goes in, answers come out. Secrets land in locked memory.
pub(super) struct Session {
    socket: PathBuf,
    phase: Phase,
    /// Whether the agent has sent a message.
    has_served: bool,
}

enum Phase {
    Handshake(ClientHandshake),
    Messages(MessageReader),
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// What the agent is to be sent.
pub(super) enum Reply {
    Bytes(Vec<u8>),
    /// These bytes, and then the connection is of no use.
    Last(Vec<u8>, HandshakeError),
}

impl Session {
    pub(super) fn new(socket: &Path) -> Self {
        let handshake = ClientHandshake::begin(Kind::Service, SERVICE_VERSIONS);
        Self {
            socket: socket.to_owned(),
            phase: Phase::Handshake(handshake),
            has_served: false,
        }
    }

    /// Whether the version is settled.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Messages(_))
    }

    /// Whether the agent has sent a message.
    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    /// Where the next bytes go.
    pub(super) fn wants(&mut self) -> &mut [u8] {
        match &mut self.phase {
            Phase::Handshake(reader) => reader.wants(),
            Phase::Messages(reader) => reader.wants(),
        }
    }

    /// Takes note of `count` bytes that have arrived there.
    pub(super) fn advance(
        &mut self,
        count: usize,
        keeper: &mut Keeper,
        now: UnixTime,
    ) -> Result<Option<Reply>, Ended> {
        match &mut self.phase {
            Phase::Handshake(reader) => match reader.advance(count)? {
                None => Ok(None),
                Some(Step::Send(bytes)) => Ok(Some(Reply::Bytes(bytes))),
                Some(Step::GiveUp(error, bytes)) => Ok(Some(Reply::Last(bytes, error))),
                Some(Step::Finish(version, bytes)) => {
                    let settled = ServiceVersion::from_id(version).expect("one of those listed");
                    let reader = settled.reader().map_err(MessageError::Lock)?;
                    self.phase = Phase::Messages(reader);
                    let socket = self.socket.clone();
                    keeper.connected(Event::Connected { socket, version });
                    Ok(Some(Reply::Bytes(bytes)))
                }
            },
            Phase::Messages(reader) => Ok(reader.advance(count)?.map(|message| {
                self.has_served = true;
                let answer = keeper.receive(message, now);
                Reply::Bytes(answer.to_u32().to_be_bytes().to_vec())
            })),
        }
    }

    /// How the end of the stream is told.
    pub(super) fn at_the_end(&self) -> &'static str {
        match &self.phase {
            Phase::Handshake(_) => "the agent closed the connection during the handshake",
            Phase::Messages(reader) if reader.is_between_items() => {
                "the agent closed the connection"
            }
            Phase::Messages(_) => "the agent closed the connection in the middle of a message",
        }
    }

    /// The event of an end for this reason.
    pub(super) fn ended(&self, reason: String) -> Event {
        if self.is_settled() {
            Event::Disconnected { reason }
        } else {
            Event::HandshakeFailed { reason }
        }
    }
}

/// Why a connection could not be made, in words.
pub(super) fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no socket: is the agent's service socket elsewhere?".to_owned()
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens on the socket: the agent does not run".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not use the socket: see its mode and group".to_owned()
        }
        io::ErrorKind::WouldBlock => "the agent does not take connections".to_owned(),
        _ => format!("cannot connect: {error}"),
    }
}
