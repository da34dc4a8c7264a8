//! Handshakes over a socket.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{ReadError, read_item, write_all};
use crate::protocol::Reader;
use crate::protocol::handshake::{ClientHandshake, HandshakeError, Kind, ServerHandshake, Step};
use crate::protocol::version::VersionId;

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

#[cfg(test)]
mod tests {
    use super::super::CLIENT_DEADLINE;
    use super::super::testing::run;
    use super::*;
    use crate::protocol::version::{CONTROL_VERSIONS, SERVICE_VERSIONS};

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
}
