//! One function a command.

pub(crate) mod check;
pub(crate) mod cold;
pub(crate) mod deployed;
pub(crate) mod probe;
pub(crate) mod rotation;
pub(crate) mod status;
mod watch;

use std::future::Future;
use std::path::Path;

use kes_wire::files;
use kes_wire::genesis::{self, Network, ShelleyStart};
use kes_wire::net::{
    AnyControlClient, ConnectError, ControlClientError, DeployedControlError, HandshakeFailure,
};
use kes_wire::protocol::control::rotation::{Answer, Note, Refusal, Request, Status};
use kes_wire::protocol::handshake::HandshakeError;
use kes_wire::unix_time::UnixTime;

use crate::arguments::{Agent, Command, NetworkOptions};
use crate::exit::Exit;
use crate::failure::Failure;

impl Command {
    /// Whether a file goes to standard output (`-`), so that sentences must not. The files that may
    /// not go there have names, or are refused.
    pub(crate) fn takes_stdout(&self) -> bool {
        use crate::arguments::Cold;
        let path = match self {
            Self::Keygen(args) => args.kes_verification_key_file.as_deref(),
            Self::ExportVerkey(args) => Some(args.kes_verification_key_file.as_path()),
            Self::Cold(Cold::KeyGen(args)) => Some(args.cold_verification_key_file.as_path()),
            Self::Cold(Cold::IssueOpCert(args)) => Some(args.out_file.as_path()),
            Self::Cold(Cold::NewCounter(args)) => {
                Some(args.operational_certificate_issue_counter_file.as_path())
            }
            Self::Status(args) => args.out_file.as_deref(),
            Self::ImportOpcert(_)
            | Self::Activate(_)
            | Self::Check(_)
            | Self::DropPending(_)
            | Self::DropActive(_)
            | Self::ConfirmClock(_)
            | Self::Probe(_) => None,
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

// A status is large, but an outcome is made once a command and moved about, never stored.
#[allow(clippy::large_enum_variant)]
/// What became of a request, by the kind of the agent.
pub(crate) enum Outcome {
    /// Our own kind.
    Ours(Done),
    /// An agent of another make.
    Deployed(deployed::Done),
}

/// Sends one request to the agent and waits for its answer.
pub(crate) fn call(agent: &Agent, request: &Request) -> Result<Outcome, Failure> {
    block_on(call_async(agent, request))?
}

/// Sends one request to the agent and waits for its answer, on a runtime that is there.
pub(crate) async fn call_async(agent: &Agent, request: &Request) -> Result<Outcome, Failure> {
    let path = &agent.control_address;
    exchange(path, request).await.map_err(|error| match error {
        CallError::Failed(failure) => failure,
        CallError::Rotation(error) => unreachable(path, &error),
        CallError::Deployed(error) => unreachable(path, &error.into()),
    })
}

async fn exchange(path: &Path, request: &Request) -> Result<Outcome, CallError> {
    match AnyControlClient::connect(path).await? {
        AnyControlClient::Rotation(mut client) => match client.call(request).await? {
            Answer::Done {
                changed,
                notes,
                status,
            } => Ok(Outcome::Ours(Done {
                changed,
                notes,
                status,
            })),
            Answer::Refused { refusal } => Err(refusal.into()),
        },
        AnyControlClient::Deployed(mut client) => Ok(Outcome::Deployed(
            deployed::carry_out(&mut client, request).await??,
        )),
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
enum CallError {
    Failed(Failure),
    Rotation(ControlClientError),
    Deployed(DeployedControlError),
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal.into())
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ControlClientError> for CallError {
    fn from(error: ControlClientError) -> Self {
        Self::Rotation(error)
    }
}

impl From<DeployedControlError> for CallError {
    fn from(error: DeployedControlError) -> Self {
        Self::Deployed(error)
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

fn unreachable(path: &Path, error: &ControlClientError) -> Failure {
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
        ControlClientError::Answer(_) | ControlClientError::Frame(_) => Failure::new(
            Exit::NotSupported,
            "answer-unreadable",
            format!("{shown}: {error}; whether the command was carried out is not known"),
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

/// The network of the genesis file, where one is given.
pub(crate) fn network(options: &NetworkOptions) -> Result<Option<Network>, Failure> {
    let Some(path) = &options.genesis_file else {
        return Ok(None);
    };
    let time = match &options.shelley_start_time {
        None => None,
        Some(text) => Some(UnixTime::parse(text).map_err(|_| {
            Failure::new(
                Exit::Usage,
                "shelley-start-time",
                format!("{text} is not a time like 2022-06-21T00:00:00Z"),
                "give --shelley-start-time in that form",
            )
        })?),
    };
    let bytes = files::read_limited(path, genesis::MOST_BYTES)?;
    let start = ShelleyStart {
        slot: options.shelley_start_slot,
        time,
    };
    let (network, _) = genesis::network(&bytes, start)
        .map_err(|error| Failure::content(&path.display().to_string(), &error))?;
    Ok(Some(network))
}
