//! The control socket in the deployed versions: a client's end and the agent's.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    CLIENT_DEADLINE, ConnectError, ControlClient, ControlClientError, HandshakeFailure, ReadError,
    client_handshake, connect, read_item, write_all,
};
use crate::protocol::control::deployed::{
    self, AnswerReader, DeployedAnswer, DeployedError, DeployedRequest, Layout, RequestReader,
};
use crate::protocol::handshake::Kind;
use crate::protocol::version::{CONTROL_VERSIONS, DEPLOYED_CONTROL_VERSIONS, VersionId};

/// Why a command to a deployed agent has no answer, or a deployed client's request cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeployedControlError {
    /// The connection could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeFailure),
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// No answer in time.
    #[error("the agent did not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// What came cannot be read.
    #[error(transparent)]
    Content(#[from] DeployedError),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl From<ReadError<DeployedError>> for DeployedControlError {
    fn from(error: ReadError<DeployedError>) -> Self {
        match error {
            ReadError::Closed | ReadError::CutShort => Self::Closed,
            ReadError::Io(error) => Self::Io(error),
            ReadError::Content(error) => Self::Content(error),
        }
    }
}

impl From<DeployedControlError> for ControlClientError {
    /// The same in the words of our own version's client.
    fn from(error: DeployedControlError) -> Self {
        match error {
            DeployedControlError::Connect(error) => Self::Connect(error),
            DeployedControlError::Handshake(error) => Self::Handshake(error),
            DeployedControlError::Closed => Self::Closed,
            DeployedControlError::TooSlow(deadline) => Self::TooSlow(deadline),
            DeployedControlError::Content(error) => {
                Self::Answer(minicbor::decode::Error::message(error))
            }
            DeployedControlError::Io(error) => Self::Io(error),
        }
    }
}

/// A client's end of a control connection in a deployed version.
pub struct DeployedControlClient {
    stream: UnixStream,
    version: VersionId,
    layout: Layout,
}

impl DeployedControlClient {
    /// Connects and settles the best deployed version.
    ///
    /// # Errors
    /// [`DeployedControlError`]
    pub async fn connect(path: &Path) -> Result<Self, DeployedControlError> {
        let stream = connect(path).await?;
        let spoken = DEPLOYED_CONTROL_VERSIONS;
        let version = client_handshake(&stream, Kind::Control, spoken, CLIENT_DEADLINE).await?;
        Ok(Self::new(stream, version))
    }

    fn new(stream: UnixStream, version: VersionId) -> Self {
        let layout = deployed::layout(version).expect("one of those that were offered");
        Self {
            stream,
            version,
            layout,
        }
    }

    /// The version that was settled.
    #[must_use]
    pub fn version(&self) -> VersionId {
        self.version
    }

    /// What that version has.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`DeployedControlError`]; whether the request was carried out is not known then.
    pub async fn call(
        &mut self,
        request: DeployedRequest,
    ) -> Result<DeployedAnswer, DeployedControlError> {
        let answered = async {
            write_all(&self.stream, &request.to_wire()).await?;
            let mut reader = AnswerReader::new(self.layout, request);
            Ok(read_item(&self.stream, &mut reader).await?)
        };
        let late = Err(DeployedControlError::TooSlow(CLIENT_DEADLINE));
        timeout(CLIENT_DEADLINE, answered).await.unwrap_or(late)
    }
}

/// A client's end of a control connection in whatever version was settled.
pub enum AnyControlClient {
    /// Our own version.
    Rotation(ControlClient),
    /// A deployed one: an agent of another make.
    Deployed(DeployedControlClient),
}

impl AnyControlClient {
    /// Connects and settles the best version that both speak.
    ///
    /// # Errors
    /// [`DeployedControlError`]
    pub async fn connect(path: &Path) -> Result<Self, DeployedControlError> {
        let stream = connect(path).await?;
        let spoken = CONTROL_VERSIONS;
        let version = client_handshake(&stream, Kind::Control, spoken, CLIENT_DEADLINE).await?;
        Ok(match deployed::layout(version) {
            None => Self::Rotation(ControlClient::new(stream)),
            Some(_) => Self::Deployed(DeployedControlClient::new(stream, version)),
        })
    }
}

/// The agent's end of a control connection in a deployed version, after the handshake.
pub struct DeployedControlServer {
    stream: UnixStream,
    layout: Layout,
    reader: RequestReader,
}

impl DeployedControlServer {
    /// Goes on with a connection whose handshake is done.
    #[must_use]
    pub fn new(stream: UnixStream, layout: Layout) -> Self {
        Self {
            stream,
            layout,
            reader: RequestReader::new(layout),
        }
    }

    /// Waits for the next request; `None` where the client closed the connection.
    ///
    /// # Errors
    /// [`DeployedControlError`]
    pub async fn next_request(&mut self) -> Result<Option<DeployedRequest>, DeployedControlError> {
        match read_item(&self.stream, &mut self.reader).await {
            Ok(request) => Ok(Some(request)),
            Err(ReadError::Closed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends an answer.
    ///
    /// # Errors
    /// Where the connection failed.
    pub async fn reply(&mut self, answer: &DeployedAnswer) -> Result<(), DeployedControlError> {
        Ok(write_all(&self.stream, &answer.to_wire(self.layout)).await?)
    }
}
