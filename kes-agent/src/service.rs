//! A connection on the service socket: a node that is given the key.
//!
//! Rule: a node's queue is one mark, "there is something newer than what it was sent". The key is
//! read from the vault at the moment of one non-blocking write, which takes all of it or nothing;
//! no copy waits for a slow node. One that cannot take it, or does not answer in time, is let go.

use std::rc::Rc;
use std::time::Duration;

use kes_wire::net::{self, SendError};
use kes_wire::protocol::Reader;
use kes_wire::protocol::handshake::Kind;
use kes_wire::protocol::service::{ResultReader, ServiceResult, ServiceVersion};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::protocol::version::SERVICE_VERSIONS;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use crate::agent::Agent;
use crate::clock;
use crate::nodes::{Entry, Nodes, Peer};
use crate::vault::Newest;

/// How long a client may take over its handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a node may take to answer what it was sent.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The node closed it.
    #[error("the node closed the connection")]
    Closed,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] net::HandshakeFailure),
    /// The node could not take a key at once.
    #[error("the node does not read what it was sent; it was let go so that it connects anew")]
    NotReading,
    /// The node did not confirm in time.
    #[error("the node did not confirm within {} s; it was let go", ANSWER_DEADLINE.as_secs())]
    NotAnswering,
    /// The node spoke without having been asked.
    #[error("the node sent bytes that answer nothing")]
    Unasked,
    /// There is a newer state, which the node would not take on this connection.
    #[error("there is news, which the node takes only at a new connection")]
    Outgrown,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Serves one node until the connection ends.
///
/// # Errors
/// [`Ending`]: every connection ends in one.
pub async fn serve(agent: Rc<Agent>, stream: UnixStream, peer: Peer) -> Result<(), Ending> {
    let version =
        net::server_handshake(&stream, Kind::Service, SERVICE_VERSIONS, HANDSHAKE_DEADLINE).await?;
    let spoken = ServiceVersion::from_id(version).ok_or(Ending::Closed)?;
    let entry = Nodes::enter(agent.nodes(), peer, clock::now(), version.to_string());
    let what = if agent.nodes().borrow().is_peer(peer) {
        "peer agent"
    } else {
        "node"
    };
    tracing::info!(pid = peer.pid, uid = peer.uid, "{what} connected");
    let mut announcements = agent.announcements();
    let mut node = Node {
        stream,
        version: spoken,
        entry,
        newest_sent: None,
        awaiting: None,
        answer: ResultReader::default(),
    };
    loop {
        announcements.mark_unchanged();
        if node.awaiting.is_none() {
            node.refuse_unasked()?;
            node.send_newest(&agent)?;
        }
        let waiting_for_answer = node.awaiting;
        tokio::select! {
            answer = node.read_answer() => {
                let answer = answer?;
                tracing::info!(pid = peer.pid, %answer, "node answered");
            }
            _ = announcements.changed(), if waiting_for_answer.is_none() => {}
            () = sleep_until(waiting_for_answer.unwrap_or_else(Instant::now)),
                if waiting_for_answer.is_some() => return Err(Ending::NotAnswering),
        }
    }
}

/// Why the newest state was not sent.
enum Failed {
    /// The node would not take it on this connection.
    Outgrown,
    Send(SendError),
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// One connected node.
struct Node {
    stream: UnixStream,
    version: ServiceVersion,
    entry: Entry,
    /// The newest state it was sent, and whether that was a drop: one wins a tie.
    newest_sent: Option<(Stamp, bool)>,
    /// Until when its answer is awaited.
    awaiting: Option<Instant>,
    /// What has arrived of its answer.
    answer: ResultReader,
}

impl Node {
    /// Sends the newest state, if there is one that the node was not sent.
    fn send_newest(&mut self, agent: &Agent) -> Result<(), Ending> {
        let sent = agent.with_newest(|newest| {
            let stamp = match newest {
                Newest::Nothing => return Ok(None),
                Newest::Key { stamp, .. } | Newest::Dropped { stamp } => stamp,
            };
            let this = (stamp, matches!(newest, Newest::Dropped { .. }));
            match self.newest_sent {
                Some(sent) if this <= sent => return Ok(None),
                Some(_) if !self.version.takes_further_states() => return Err(Failed::Outgrown),
                // A drop that wins a tie. A client discards what has the stamp of what it took.
                Some((sent, _)) if sent == stamp => return Err(Failed::Outgrown),
                Some(_) | None => {}
            }
            match newest {
                Newest::Nothing => return Ok(None),
                Newest::Key { key, opcert, .. } => {
                    net::send_key(&self.stream, &self.version.key_message(stamp, key, opcert))?;
                }
                Newest::Dropped { .. } => match self.version.dropped(stamp) {
                    Some(message) => net::send_whole(&self.stream, &message)?,
                    None => return Ok(None),
                },
            }
            Ok(Some(this))
        });
        match sent {
            Ok(None) => {}
            Ok(Some((stamp, drop))) => {
                self.newest_sent = Some((stamp, drop));
                self.awaiting = Some(Instant::now() + ANSWER_DEADLINE);
                self.entry.sent(stamp);
            }
            Err(Failed::Outgrown) => return Err(Ending::Outgrown),
            Err(Failed::Send(SendError::BufferFull | SendError::Partial)) => {
                return Err(Ending::NotReading);
            }
            Err(Failed::Send(SendError::Io(error))) => return Err(error.into()),
        }
        Ok(())
    }

    /// What a node has said before it is asked must not pass for the answer to what is sent next.
    fn refuse_unasked(&self) -> Result<(), Ending> {
        match self.stream.try_read(&mut [0]) {
            Ok(0) => Err(Ending::Closed),
            Ok(_) => Err(Ending::Unasked),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the node's answer. May be abandoned at any moment: what has arrived stays in the
    /// decoder.
    async fn read_answer(&mut self) -> Result<ServiceResult, Ending> {
        loop {
            match net::read_some(&self.stream, self.answer.wants()).await? {
                0 => return Err(Ending::Closed),
                _ if self.awaiting.is_none() => return Err(Ending::Unasked),
                read => {
                    let Ok(Some(answer)) = self.answer.advance(read) else {
                        continue;
                    };
                    self.awaiting = None;
                    self.entry.answered(answer);
                    return Ok(answer);
                }
            }
        }
    }
}
