//! One function a command.

pub(crate) mod cold;
pub(crate) mod probe;
pub(crate) mod rotation;
pub(crate) mod status;

use std::future::Future;

use kes_wire::net::{ConnectError, ControlClient, ControlClientError, HandshakeFailure};
use kes_wire::protocol::control::rotation::{Answer, Note, Request, Status};
use kes_wire::protocol::handshake::HandshakeError;

use crate::arguments::{Agent, Command};
use crate::exit::Exit;
use crate::failure::Failure;

impl Command {
    /// Whether the command's result itself goes to standard output (`-`), so that sentences must
    /// not.
    pub(crate) fn takes_stdout(&self) -> bool {
        use crate::arguments::Cold;
        let path = match self {
            Self::Keygen(args) => args.kes_verification_key_file.as_deref(),
            Self::ExportVerkey(args) => Some(args.kes_verification_key_file.as_path()),
            Self::Cold(Cold::IssueOpCert(args)) => Some(args.out_file.as_path()),
            Self::Cold(Cold::NewCounter(args)) => {
                Some(args.operational_certificate_issue_counter_file.as_path())
            }
            Self::ImportOpcert(_)
            | Self::Activate(_)
            | Self::Status(_)
            | Self::DropPending(_)
            | Self::DropActive(_)
            | Self::Probe(_)
            | Self::Cold(Cold::KeyGen(_)) => None,
        };
        path.is_some_and(|path| path.as_os_str() == "-")
    }
}

/// An agent's positive answer.
pub(crate) struct Done {
    pub(crate) changed: bool,
    pub(crate) notes: Vec<Note>,
    pub(crate) status: Status,
}

/// Sends one request to the agent and waits for its answer.
pub(crate) fn call(agent: &Agent, request: &Request) -> Result<Done, Failure> {
    let path = &agent.control_address;
    let answer = block_on(async {
        let mut client = ControlClient::connect(path).await?;
        client.call(request).await
    })?
    .map_err(|error| unreachable(path, &error))?;
    match answer {
        Answer::Done {
            changed,
            notes,
            status,
        } => Ok(Done {
            changed,
            notes,
            status,
        }),
        Answer::Refused { refusal } => Err(refusal.into()),
    }
}

/// Runs one future on a runtime of its own.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Exit::Failure,
                "no-runtime",
                format!("the system refuses this program its means of waiting: {error}"),
                "check the limits on open files and try again",
            )
        })?;
    Ok(runtime.block_on(future))
}

fn unreachable(path: &std::path::Path, error: &ControlClientError) -> Failure {
    let shown = path.display();
    let start = "start the agent (systemctl start kes-agent), or name its control socket with \
                 --control-address or KES_AGENT_CONTROL_PATH";
    match error {
        ControlClientError::Connect(connect) => refused_connection(&shown, connect, start),
        ControlClientError::Handshake(HandshakeFailure::Protocol(
            HandshakeError::NothingInCommon { .. },
        )) => Failure::new(
            Exit::NotSupported,
            "nothing-in-common",
            format!("the agent at {shown} speaks none of this program's control versions: {error}"),
            "use the command line that came with that agent, or upgrade it",
        ),
        other => Failure::new(
            Exit::NotReachable,
            "connection-lost",
            format!("{shown}: {other}; whether the command was carried out is not known"),
            "look at `kes-cli status` before repeating the command, and at the agent's log",
        ),
    }
}

/// A failure to connect to one of the agent's sockets.
pub(crate) fn refused_connection(
    shown: &dyn std::fmt::Display,
    error: &ConnectError,
    start: &str,
) -> Failure {
    let sentence = format!("{shown}: {error}");
    match error {
        ConnectError::NotPermitted => Failure::new(
            Exit::NotPermitted,
            "not-permitted",
            sentence,
            "run this as root or as a member of the socket's group (ls -l shows it)",
        ),
        ConnectError::NoSuchSocket | ConnectError::NobodyListens | ConnectError::Other(_) => {
            Failure::new(Exit::NotReachable, "not-reachable", sentence, start)
        }
    }
}
