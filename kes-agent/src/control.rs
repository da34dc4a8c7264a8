//! A connection on the control socket: an operator's commands.

use std::rc::Rc;
use std::time::Duration;

use kes_wire::net::{
    self, ControlServer, ControlServerError, DeployedControlError, DeployedControlServer,
};
use kes_wire::protocol::control::deployed;
use kes_wire::protocol::control::rotation::{Answer, Request};
use kes_wire::protocol::handshake::Kind;
use kes_wire::protocol::version::CONTROL_VERSIONS;
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::agent::{Agent, not_understood};
use crate::deployed_control;
use crate::nodes::Peer;
use crate::service::HANDSHAKE_DEADLINE;

/// How long a client may take over a request, or leave between two.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a client may take to read an answer.
pub const REPLY_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection ended, where the client did not simply close it.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] net::HandshakeFailure),
    /// The client sent something that is no request.
    #[error(transparent)]
    Request(#[from] ControlServerError),
    /// A client of a deployed version sent something that is no request of it.
    #[error(transparent)]
    Deployed(#[from] DeployedControlError),
    /// The client did not send a request, or read an answer, in time.
    #[error("the client was silent for too long")]
    Silent,
}

/// Carries out the commands of one client until it closes the connection.
///
/// # Errors
/// [`Ending`] where it ended otherwise.
pub async fn serve(agent: Rc<Agent>, stream: UnixStream, peer: Peer) -> Result<(), Ending> {
    let version =
        net::server_handshake(&stream, Kind::Control, CONTROL_VERSIONS, HANDSHAKE_DEADLINE).await?;
    if let Some(layout) = deployed::layout(version) {
        return deployed_control::serve(agent, DeployedControlServer::new(stream, layout), peer)
            .await;
    }
    let mut client = ControlServer::new(stream);
    loop {
        // One request a turn: who has sent many does not hold up nodes.
        yield_now().await;
        let request = match timeout(REQUEST_DEADLINE, client.next_request()).await {
            Err(_) => return Err(Ending::Silent),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(request))) => request,
            Ok(Err(ControlServerError::NotUnderstood(error))) => {
                tracing::warn!(
                    pid = peer.pid,
                    uid = peer.uid,
                    "request not understood: {error}"
                );
                reply(&mut client, &not_understood(&error)).await?;
                continue;
            }
            Ok(Err(error)) => return Err(error.into()),
        };
        let turn = agent.commands_turn().await;
        let mut answer = agent.answer(&request);
        drop(turn);
        agent.settle(&request, &mut answer).await;
        log(&request, &answer, peer);
        reply(&mut client, &answer).await?;
    }
}

async fn reply(client: &mut ControlServer, answer: &Answer) -> Result<(), Ending> {
    match timeout(REPLY_DEADLINE, client.reply(answer)).await {
        Err(_) => Err(Ending::Silent),
        Ok(sent) => Ok(sent?),
    }
}

/// Every command leaves a line: who, what, and how it ended. A status that was given is for
/// debugging: monitoring asks for one all the time.
pub(crate) fn log(request: &Request, answer: &Answer, peer: Peer) {
    let (pid, uid, command) = (peer.pid, peer.uid, request.name());
    match (answer, request) {
        (Answer::Done { .. }, Request::Status {}) => {
            tracing::debug!(pid, uid, command, "command carried out");
        }
        (Answer::Done { changed: true, .. }, _) => {
            tracing::info!(pid, uid, command, "command carried out");
        }
        // It comes every minute.
        (Answer::Done { changed: false, .. }, Request::ConfirmClock { synchronised: true }) => {
            tracing::debug!(pid, uid, command, "command carried out, nothing changed");
        }
        (Answer::Done { changed: false, .. }, _) => {
            tracing::info!(pid, uid, command, "command carried out, nothing changed");
        }
        (Answer::Refused { refusal }, _) => {
            tracing::warn!(pid, uid, command, code = %refusal.code, "command refused: {}",
                refusal.sentence);
        }
    }
}
