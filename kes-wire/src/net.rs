//! The protocols over tokio's Unix sockets.
//!
//! Secrets go straight between a socket and locked memory: there is no buffered reader, no codec,
//! and no array in a future's state between them. Every wait can be abandoned without losing what
//! has arrived: the readers own it.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::protocol::Reader;
use crate::protocol::control::frame::{self, FrameError, FrameReader};
use crate::protocol::control::rotation::{Answer, Request};
use crate::protocol::handshake::{ClientHandshake, HandshakeError, Kind, ServerHandshake, Step};
use crate::protocol::service::v2_0::{KeyMessage, MessageError, MessageReader};
use crate::protocol::service::{ServiceMessage, ServiceResult};
use crate::protocol::version::{CONTROL_VERSIONS, SERVICE_VERSIONS, VersionId};
use crate::sys::memory::LockError;

/// How long a client waits for the agent's part of a handshake, and a command for its answer.
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no such file.
    #[error("there is no socket")]
    NoSuchSocket,
    /// The socket is there, but nobody listens: the agent does not run.
    #[error("nobody listens on this socket: the agent does not run")]
    NobodyListens,
    /// This user may not.
    #[error("this user may not use the socket")]
    NotPermitted,
    /// Anything else.
    #[error("cannot connect: {0}")]
    Other(io::Error),
}

/// Connects to a Unix socket.
///
/// # Errors
/// [`ConnectError`], by reason.
pub async fn connect(path: &Path) -> Result<UnixStream, ConnectError> {
    UnixStream::connect(path)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ConnectError::NoSuchSocket,
            io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens,
            io::ErrorKind::PermissionDenied => ConnectError::NotPermitted,
            _ => ConnectError::Other(error),
        })
}

/// Waits for bytes and reads them straight into `into`; 0 where the other side has closed. May be
/// abandoned at any moment: then nothing was read.
///
/// # Errors
/// What the system says.
pub async fn read_some(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes all of `bytes`, waiting for room. For what is not secret.
async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why nothing more can be read from a connection.
#[derive(Debug)]
enum ReadError<E> {
    /// The other side closed it between two items.
    Closed,
    /// The other side closed it in the middle of one.
    CutShort,
    Io(io::Error),
    Content(E),
}

/// Reads the next item.
async fn read_item<R: Reader>(
    stream: &UnixStream,
    reader: &mut R,
) -> Result<R::Item, ReadError<R::Error>> {
    loop {
        match read_some(stream, reader.wants())
            .await
            .map_err(ReadError::Io)?
        {
            0 if reader.is_between_items() => return Err(ReadError::Closed),
            0 => return Err(ReadError::CutShort),
            count => {
                if let Some(item) = reader.advance(count).map_err(ReadError::Content)? {
                    return Ok(item);
                }
            }
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFailure {
    /// The other side closed the connection.
    #[error("the other side closed the connection during the handshake")]
    Closed,
    /// It took too long.
    #[error("the other side did not finish the handshake within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// What it said cannot be.
    #[error(transparent)]
    Protocol(#[from] HandshakeError),
    /// The connection failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError<HandshakeError>> for HandshakeFailure {
    fn from(error: ReadError<HandshakeError>) -> Self {
        match error {
            ReadError::Closed | ReadError::CutShort => Self::Closed,
            ReadError::Io(error) => Self::Io(error),
            ReadError::Content(error) => Self::Protocol(error),
        }
    }
}

/// The agent's side of a handshake.
///
/// # Errors
/// [`HandshakeFailure`]
pub async fn server_handshake(
    stream: &UnixStream,
    kind: Kind,
    offered: &'static [VersionId],
    deadline: Duration,
) -> Result<VersionId, HandshakeFailure> {
    let (machine, offer) = ServerHandshake::begin(kind, offered);
    let shaken = async {
        write_all(stream, &offer).await?;
        shake(stream, machine).await
    };
    timeout(deadline, shaken)
        .await
        .unwrap_or(Err(HandshakeFailure::TooSlow(deadline)))
}

/// The client's side of a handshake.
///
/// # Errors
/// [`HandshakeFailure`]
pub async fn client_handshake(
    stream: &UnixStream,
    kind: Kind,
    spoken: &'static [VersionId],
    deadline: Duration,
) -> Result<VersionId, HandshakeFailure> {
    let shaken = shake(stream, ClientHandshake::begin(kind, spoken));
    timeout(deadline, shaken)
        .await
        .unwrap_or(Err(HandshakeFailure::TooSlow(deadline)))
}

async fn shake(
    stream: &UnixStream,
    mut machine: impl Reader<Item = Step, Error = HandshakeError>,
) -> Result<VersionId, HandshakeFailure> {
    loop {
        match read_item(stream, &mut machine).await? {
            Step::Send(bytes) => write_all(stream, &bytes).await?,
            Step::Finish(version, bytes) => {
                write_all(stream, &bytes).await?;
                return Ok(version);
            }
            Step::GiveUp(error, bytes) => {
                write_all(stream, &bytes).await?;
                return Err(error.into());
            }
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The other side's buffer cannot take all of it now.
    #[error("the other side's buffer is full")]
    BufferFull,
    /// Only a part went out: the connection is of no use any more.
    #[error("only a part of the message went out")]
    Partial,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Sends a key in one non-blocking write from where it stands: all of it, or nothing.
///
/// # Errors
/// [`SendError`]
pub fn send_key(stream: &UnixStream, message: &KeyMessage<'_>) -> Result<(), SendError> {
    let pieces = message.pieces();
    let slices = pieces.map(io::IoSlice::new);
    sent(
        stream.try_write_vectored(&slices),
        pieces.iter().map(|piece| piece.len()).sum(),
    )
}

/// Sends `bytes` in one non-blocking write: all of them, or nothing.
///
/// # Errors
/// [`SendError`]
pub fn send_whole(stream: &UnixStream, bytes: &[u8]) -> Result<(), SendError> {
    sent(stream.try_write(bytes), bytes.len())
}

fn sent(outcome: io::Result<usize>, length: usize) -> Result<(), SendError> {
    match outcome {
        Ok(written) if written == length => Ok(()),
        Ok(_) => Err(SendError::Partial),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SendError::BufferFull),
        Err(error) => Err(error.into()),
    }
}

/// Why a service connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceClientError {
    /// It could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeFailure),
    /// Memory for a key cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The agent closed the connection between two messages.
    #[error("the agent closed the connection")]
    Closed,
    /// The agent closed the connection in the middle of a message.
    #[error("the agent closed the connection in the middle of a message")]
    CutShort,
    /// The agent sent something else than messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError<MessageError>> for ServiceClientError {
    fn from(error: ReadError<MessageError>) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            ReadError::CutShort => Self::CutShort,
            ReadError::Io(error) => Self::Io(error),
            ReadError::Content(error) => Self::Message(error),
        }
    }
}

/// A node's end of a service connection.
pub struct ServiceClient {
    stream: UnixStream,
    reader: MessageReader,
}

impl ServiceClient {
    /// Connects and settles the version.
    ///
    /// # Errors
    /// [`ServiceClientError`]
    pub async fn connect(path: &Path) -> Result<Self, ServiceClientError> {
        let reader = MessageReader::new()?;
        let stream = connect(path).await?;
        client_handshake(&stream, Kind::Service, SERVICE_VERSIONS, CLIENT_DEADLINE).await?;
        Ok(Self { stream, reader })
    }

    /// Waits for the next message. May be abandoned at any moment and asked again.
    ///
    /// # Errors
    /// [`ServiceClientError`]
    pub async fn next(&mut self) -> Result<ServiceMessage, ServiceClientError> {
        Ok(read_item(&self.stream, &mut self.reader).await?)
    }

    /// Answers a message; the agent waits for it.
    ///
    /// # Errors
    /// Where the connection failed.
    pub async fn answer(&mut self, result: ServiceResult) -> io::Result<()> {
        write_all(&self.stream, &result.to_u32().to_be_bytes()).await
    }
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlClientError {
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeFailure),
    /// The agent closed the connection instead of answering.
    #[error("the agent closed the connection without an answer")]
    Closed,
    /// No answer in time.
    #[error("the agent did not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The answer is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The answer is not one.
    #[error("the agent's answer cannot be read: {0}")]
    Answer(minicbor::decode::Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError<FrameError>> for ControlClientError {
    fn from(error: ReadError<FrameError>) -> Self {
        match error {
            ReadError::Closed | ReadError::CutShort => Self::Closed,
            ReadError::Io(error) => Self::Io(error),
            ReadError::Content(error) => Self::Frame(error),
        }
    }
}

/// A command's end of a control connection.
pub struct ControlClient {
    stream: UnixStream,
    reader: FrameReader,
}

impl ControlClient {
    /// Connects and settles the version.
    ///
    /// # Errors
    /// [`ControlClientError`]
    pub async fn connect(path: &Path) -> Result<Self, ControlClientError> {
        let stream = connect(path).await?;
        client_handshake(&stream, Kind::Control, CONTROL_VERSIONS, CLIENT_DEADLINE).await?;
        Ok(Self {
            stream,
            reader: FrameReader::default(),
        })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`ControlClientError`]; whether the request was carried out is not known then.
    pub async fn call(&mut self, request: &Request) -> Result<Answer, ControlClientError> {
        let bytes = frame::frame(request).expect("requests are small");
        let answered = async {
            write_all(&self.stream, &bytes).await?;
            let content = read_item(&self.stream, &mut self.reader).await?;
            frame::parse(&content).map_err(ControlClientError::Answer)
        };
        let late = Err(ControlClientError::TooSlow(CLIENT_DEADLINE));
        timeout(CLIENT_DEADLINE, answered).await.unwrap_or(late)
    }
}

/// Why a request cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ControlServerError {
    /// The client closed the connection in the middle of a request.
    #[error("the client closed the connection in the middle of a request")]
    CutShort,
    /// What came is no frame: nothing after it can be read either.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame holds no request that is known here. The connection goes on.
    #[error("{0}")]
    NotUnderstood(minicbor::decode::Error),
    /// The answer does not fit a frame.
    #[error(transparent)]
    TooLarge(#[from] frame::TooLarge),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The agent's end of a control connection, after the handshake.
pub struct ControlServer {
    stream: UnixStream,
    reader: FrameReader,
}

impl ControlServer {
    /// Goes on with a connection whose handshake is done.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            reader: FrameReader::default(),
        }
    }

    /// Waits for the next request; `None` where the client closed the connection. May be abandoned
    /// at any moment and asked again.
    ///
    /// # Errors
    /// [`ControlServerError`]
    pub async fn next_request(&mut self) -> Result<Option<Request>, ControlServerError> {
        match read_item(&self.stream, &mut self.reader).await {
            Ok(content) => frame::parse(&content)
                .map(Some)
                .map_err(ControlServerError::NotUnderstood),
            Err(ReadError::Closed) => Ok(None),
            Err(ReadError::CutShort) => Err(ControlServerError::CutShort),
            Err(ReadError::Io(error)) => Err(error.into()),
            Err(ReadError::Content(error)) => Err(error.into()),
        }
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// [`ControlServerError`]
    pub async fn reply(&mut self, answer: &Answer) -> Result<(), ControlServerError> {
        Ok(write_all(&self.stream, &frame::frame(answer)?).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcert::{ColdSignature, OpCert};
    use crate::period::KesPeriod;
    use crate::protocol::service::v2_0;
    use crate::protocol::stamp::Stamp;
    use crate::sum6kes::SignKey;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn sample() -> (SignKey, OpCert) {
        let key = SignKey::generate().unwrap();
        let opcert = OpCert {
            kes_vkey: key.verification_key(),
            counter: 5,
            start_period: KesPeriod(1572),
            cold_signature: ColdSignature([4; 64]),
        };
        (key, opcert)
    }

    fn client(stream: UnixStream) -> ServiceClient {
        ServiceClient {
            stream,
            reader: MessageReader::new().unwrap(),
        }
    }

    #[test]
    fn handshakes_settle_over_a_socket() {
        run(async {
            for (kind, versions) in [
                (Kind::Service, SERVICE_VERSIONS),
                (Kind::Control, CONTROL_VERSIONS),
            ] {
                let (server, client) = UnixStream::pair().unwrap();
                let (at_server, at_client) = tokio::join!(
                    server_handshake(&server, kind, versions, CLIENT_DEADLINE),
                    client_handshake(&client, kind, versions, CLIENT_DEADLINE),
                );
                assert_eq!(at_server.unwrap(), versions[0]);
                assert_eq!(at_client.unwrap(), versions[0]);
            }
        });
    }

    #[test]
    fn a_silent_or_closing_peer_ends_the_handshake() {
        run(async {
            let (server, client) = UnixStream::pair().unwrap();
            let soon = Duration::from_millis(1);
            let slow = server_handshake(&server, Kind::Service, SERVICE_VERSIONS, soon).await;
            assert!(matches!(slow, Err(HandshakeFailure::TooSlow(_))));
            drop(client);
            let closed =
                server_handshake(&server, Kind::Service, SERVICE_VERSIONS, CLIENT_DEADLINE).await;
            assert!(matches!(
                closed,
                Err(HandshakeFailure::Io(_) | HandshakeFailure::Closed)
            ));
        });
    }

    #[test]
    fn a_key_sent_at_once_or_byte_by_byte_arrives_whole() {
        run(async {
            let (key, opcert) = sample();
            let message = v2_0::KeyMessage::new(Stamp(9), &key, &opcert);
            let (server, node) = UnixStream::pair().unwrap();
            let mut node = client(node);
            send_key(&server, &message).unwrap();
            let slowly = async {
                for byte in message.pieces().concat() {
                    write_all(&server, &[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let receive = async {
                for _ in 0..2 {
                    let Ok(ServiceMessage::Key(received)) = node.next().await else {
                        panic!("a key")
                    };
                    assert!(received.secret.expose() == key.expose());
                    assert_eq!(received.opcert, opcert);
                }
            };
            tokio::join!(slowly, receive);
        });
    }

    #[test]
    fn a_connection_that_ends_is_told_apart_by_where() {
        run(async {
            let (key, opcert) = sample();
            let bytes = v2_0::KeyMessage::new(Stamp(9), &key, &opcert)
                .pieces()
                .concat();
            for cut in [0, 1, 9, 300, 732] {
                let (server, node) = UnixStream::pair().unwrap();
                write_all(&server, &bytes[..cut]).await.unwrap();
                drop(server);
                let ended = client(node).next().await.err().expect("an end");
                match cut {
                    0 => assert!(matches!(ended, ServiceClientError::Closed)),
                    _ => assert!(matches!(ended, ServiceClientError::CutShort)),
                }
            }
        });
    }

    #[test]
    fn a_reader_that_never_reads_gets_whole_messages_and_then_none() {
        run(async {
            let (key, opcert) = sample();
            let message = v2_0::KeyMessage::new(Stamp(9), &key, &opcert);
            let (server, node) = UnixStream::pair().unwrap();
            let mut whole = 0;
            loop {
                server.writable().await.unwrap();
                match send_key(&server, &message) {
                    Ok(()) => whole += 1,
                    Err(SendError::BufferFull) => break,
                    Err(error) => panic!("{error}"),
                }
                assert!(whole < 100_000, "the buffer has an end");
            }
            drop(server);
            let mut node = client(node);
            for _ in 0..whole {
                assert!(matches!(node.next().await, Ok(ServiceMessage::Key(_))));
            }
            assert!(matches!(node.next().await, Err(ServiceClientError::Closed)));
        });
    }
}
