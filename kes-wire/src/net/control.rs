//! The control socket in our own version: a command's end and the agent's.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{
    CLIENT_DEADLINE, ConnectError, HandshakeFailure, ReadError, client_handshake, connect,
    read_item, write_all,
};
use crate::protocol::control::frame::{self, FrameError, FrameReader};
use crate::protocol::control::rotation::{Answer, Request};
use crate::protocol::handshake::Kind;
use crate::protocol::version::CONTROL_ROTATION_1_0;

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
    /// An earlier call has no answer: this one could be given that one's, late.
    #[error("an earlier request on this connection was not answered: connect again")]
    OutOfStep,
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
    /// A call was begun and its answer was not read.
    is_out_of_step: bool,
}

impl ControlClient {
    /// Connects and settles the version.
    ///
    /// # Errors
    /// [`ControlClientError`]
    pub async fn connect(path: &Path) -> Result<Self, ControlClientError> {
        let stream = connect(path).await?;
        client_handshake(
            &stream,
            Kind::Control,
            &[CONTROL_ROTATION_1_0],
            CLIENT_DEADLINE,
        )
        .await?;
        Ok(Self::new(stream))
    }

    /// Goes on with a connection whose handshake is done.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            reader: FrameReader::default(),
            is_out_of_step: false,
        }
    }

    /// Sends a request and waits for its answer. Where it is abandoned before, the connection is
    /// of no further use.
    ///
    /// # Errors
    /// [`ControlClientError`]; whether the request was carried out is not known then.
    pub async fn call(&mut self, request: &Request) -> Result<Answer, ControlClientError> {
        if self.is_out_of_step {
            return Err(ControlClientError::OutOfStep);
        }
        let bytes = frame::frame(request).expect("requests are small");
        self.is_out_of_step = true;
        let answered = async {
            write_all(&self.stream, &bytes).await?;
            Ok(read_item(&self.stream, &mut self.reader).await?)
        };
        let late = Err(ControlClientError::TooSlow(CLIENT_DEADLINE));
        let content = timeout(CLIENT_DEADLINE, answered).await.unwrap_or(late)?;
        self.is_out_of_step = false;
        frame::parse(&content).map_err(ControlClientError::Answer)
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
    use crate::protocol::control::rotation::{Refusal, RefusalCode};

    fn refused() -> Answer {
        Answer::Refused {
            refusal: Refusal {
                code: RefusalCode::NothingPending,
                sentence: "nothing waits".to_owned(),
                next_step: "run keygen".to_owned(),
                numbers: [("counter".to_owned(), 7)].into(),
            },
        }
    }

    #[tokio::test]
    async fn a_late_answer_is_not_taken_for_the_next_requests() {
        let (client, server) = UnixStream::pair().unwrap();
        let (mut client, mut server) = (ControlClient::new(client), ControlServer::new(server));
        tokio::select! {
            biased;
            _ = client.call(&Request::Status {}) => panic!("nobody has answered"),
            () = tokio::task::yield_now() => {}
        }
        server.reply(&refused()).await.unwrap();
        let error = client.call(&Request::DropActive {}).await.unwrap_err();
        assert!(matches!(error, ControlClientError::OutOfStep), "{error}");
    }

    #[tokio::test]
    async fn answered_calls_leave_the_connection_in_step() {
        let (client, server) = UnixStream::pair().unwrap();
        let (mut client, mut server) = (ControlClient::new(client), ControlServer::new(server));
        for request in [Request::ExportVkey {}, Request::DropPending {}] {
            let agent = async {
                assert_eq!(server.next_request().await.unwrap(), Some(request));
                server.reply(&refused()).await.unwrap();
            };
            let (answer, ()) = tokio::join!(client.call(&request), agent);
            assert_eq!(answer.unwrap(), refused());
        }
    }
}
