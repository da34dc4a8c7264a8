//! The service socket: sending keys, and a node's end.

use std::io;
use std::path::Path;

use tokio::net::UnixStream;

use super::{
    CLIENT_DEADLINE, ConnectError, HandshakeFailure, ReadError, client_handshake, connect,
    read_item, write_all,
};
use crate::protocol::handshake::Kind;
use crate::protocol::service::{
    KeyMessage, MessageError, MessageReader, ServiceMessage, ServiceResult, ServiceVersion,
};
use crate::protocol::version::SERVICE_VERSIONS;
use crate::sys::memory::LockError;

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
    version: ServiceVersion,
    reader: MessageReader,
}

impl ServiceClient {
    /// Connects and settles the version.
    ///
    /// # Errors
    /// [`ServiceClientError`]
    pub async fn connect(path: &Path) -> Result<Self, ServiceClientError> {
        let stream = connect(path).await?;
        let settled =
            client_handshake(&stream, Kind::Service, SERVICE_VERSIONS, CLIENT_DEADLINE).await?;
        let version = ServiceVersion::from_id(settled).expect("one of those listed");
        Ok(Self::new(stream, version)?)
    }

    /// Goes on with a connection whose handshake is done.
    ///
    /// # Errors
    /// [`LockError`] where memory cannot be locked.
    pub fn new(stream: UnixStream, version: ServiceVersion) -> Result<Self, LockError> {
        let reader = version.reader()?;
        Ok(Self {
            stream,
            version,
            reader,
        })
    }

    /// The version that was settled.
    #[must_use]
    pub fn version(&self) -> ServiceVersion {
        self.version
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

#[cfg(test)]
mod tests {
    use super::super::testing::run;
    use super::*;
    use crate::opcert::{ColdSignature, OpCert};
    use crate::period::KesPeriod;
    use crate::protocol::service::v2_0;
    use crate::protocol::stamp::Stamp;
    use crate::sum6kes::SignKey;

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
        ServiceClient::new(stream, ServiceVersion::V2_0).unwrap()
    }

    #[test]
    fn a_key_sent_at_once_or_byte_by_byte_arrives_whole() {
        run(async {
            let (key, opcert) = sample();
            let message = v2_0::key_message(Stamp(9), &key, &opcert);
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
            let bytes = v2_0::key_message(Stamp(9), &key, &opcert).pieces().concat();
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
            let message = v2_0::key_message(Stamp(9), &key, &opcert);
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
