//! Our commands with an agent of another make, which speaks the deployed control versions: what
//! can be done there is done, what cannot is said, with the way to do it instead.

use kes_wire::net::{DeployedControlClient, DeployedControlError};
use kes_wire::protocol::control::deployed::{AgentInfo, DeployedAnswer, DeployedRequest};
use kes_wire::protocol::control::rotation::{IfPending, ImportedOpCert, Request};
use kes_wire::protocol::result::ResultCode;
use kes_wire::sum6kes::VerificationKey;
use serde_json::json;

use crate::exit::Exit;
use crate::failure::Failure;

/// What an agent of another make has done.
pub(crate) enum Done {
    /// To keygen and export-verkey: the staged key.
    Staged {
        /// Whether it was generated now.
        changed: bool,
        /// Its verification key.
        vkey: VerificationKey,
    },
    /// To activate.
    Installed,
    /// To the drops.
    Dropped,
    /// To status.
    Info(Box<AgentInfo>),
}

/// Carries a request out in the settled version.
pub(crate) async fn carry_out(
    client: &mut DeployedControlClient,
    request: &Request,
) -> Result<Result<Done, Failure>, DeployedControlError> {
    let (deployed, if_pending) = match request {
        Request::Keygen { if_pending } => (DeployedRequest::GenStagedKey, Some(*if_pending)),
        Request::ExportVkey {} => (DeployedRequest::QueryStagedKey, None),
        Request::Activate {
            import: Some(ImportedOpCert { opcert, .. }),
            ..
        } => (DeployedRequest::InstallKey(*opcert), None),
        Request::ImportOpcert { .. } | Request::Activate { import: None, .. } => {
            return Ok(Err(unsupported(
                client,
                "keep a certificate without activating it",
                "do both in one step: kes-cli activate --opcert-file FILE",
            )));
        }
        Request::Status {} => (DeployedRequest::Info, None),
        Request::DropPending {} => (DeployedRequest::DropStagedKey, None),
        Request::DropActive {} if client.layout().has_drop_key => (DeployedRequest::DropKey, None),
        Request::DropActive {} => {
            let next = "stop the agent: its key is gone then, and nodes that hold it keep it";
            return Ok(Err(unsupported(client, "drop the active key", next)));
        }
        Request::ConfirmClock { .. } => {
            let next = "nothing: that agent always acts by the machine's clock";
            return Ok(Err(unsupported(
                client,
                "be told that the clock is right",
                next,
            )));
        }
    };
    // That agent replaces a staged key without a word: it is looked for first.
    if let Some(if_pending) = if_pending
        && let DeployedAnswer::StagedKey(Some(vkey)) =
            client.call(DeployedRequest::QueryStagedKey).await?
    {
        match if_pending {
            IfPending::Keep => {
                return Ok(Ok(Done::Staged {
                    changed: false,
                    vkey,
                }));
            }
            IfPending::Refuse => return Ok(Err(already_staged())),
            IfPending::Replace => {}
        }
    }
    // Nor does it tell whether there was one to drop.
    if deployed == DeployedRequest::DropStagedKey
        && let DeployedAnswer::StagedKey(None) =
            client.call(DeployedRequest::QueryStagedKey).await?
    {
        return Ok(Err(nothing_staged(
            "nothing; `kes-cli status` shows what the agent holds",
        )));
    }
    let changed = if_pending.is_some();
    Ok(match client.call(deployed).await? {
        DeployedAnswer::StagedKey(_) if deployed == DeployedRequest::DropStagedKey => {
            Ok(Done::Dropped)
        }
        DeployedAnswer::StagedKey(Some(vkey)) => Ok(Done::Staged { changed, vkey }),
        DeployedAnswer::StagedKey(None) => {
            Err(nothing_staged("generate one with `kes-cli keygen`"))
        }
        DeployedAnswer::Result(ResultCode::Ok) if deployed == DeployedRequest::DropKey => {
            Ok(Done::Dropped)
        }
        DeployedAnswer::Result(ResultCode::Ok) => Ok(Done::Installed),
        DeployedAnswer::Result(code) => Err(refused(code)),
        DeployedAnswer::Info(info) => Ok(Done::Info(info)),
    })
}

/// The agent's state, as far as these versions tell it.
pub(crate) fn info_fields(info: &AgentInfo) -> serde_json::Value {
    let bundle = info
        .installed
        .as_ref()
        .and_then(|installed| installed.bundle);
    json!({
        "agent_version": info.version,
        "current_period": info.period,
        "pending": { "state": if info.staged.is_some() { "key" } else { "empty" },
                     "vkey": info.staged },
        "active": bundle.map_or_else(|| json!({ "state": "empty" }), |bundle| json!({
            "state": "serving",
            "vkey": bundle.opcert.kes_vkey,
            "evolution": bundle.evolution,
            "opcert": { "counter": bundle.opcert.counter,
                        "start_period": bundle.opcert.start_period },
        })),
    })
}

fn unsupported(client: &DeployedControlClient, what: &str, next: &str) -> Failure {
    Failure::new(
        Exit::NotSupported,
        "not-supported",
        format!(
            "this agent speaks {}, in which it cannot {what}",
            client.version()
        ),
        next,
    )
}

fn already_staged() -> Failure {
    Failure::new(
        Exit::AlreadyPending,
        "already-pending",
        "a key is staged in the agent already",
        "go on with it (kes-cli export-verkey), or replace it with `kes-cli keygen --replace`",
    )
}

fn nothing_staged(next_step: &str) -> Failure {
    Failure::new(
        Exit::NothingThere,
        "nothing-pending",
        "the agent has no staged key",
        next_step,
    )
}

fn refused(code: ResultCode) -> Failure {
    let (exit, name, sentence) = match code {
        ResultCode::KeyOutdated => (
            Exit::CounterTooLow,
            "counter-too-low",
            "the agent holds a key whose certificate has a higher counter",
        ),
        ResultCode::NoKey => (
            Exit::NothingThere,
            "nothing-pending",
            "the agent has no staged key",
        ),
        ResultCode::InvalidOpCert => (
            Exit::CertificateInvalid,
            "certificate-invalid",
            "the agent refuses the certificate",
        ),
        ResultCode::UnsupportedOperation => (
            Exit::NotSupported,
            "not-supported",
            "the agent does not do this",
        ),
        ResultCode::Ok | ResultCode::Unknown => (
            Exit::Failure,
            "unknown",
            "the agent failed in a way that it does not name",
        ),
    };
    Failure::new(
        exit,
        name,
        sentence,
        "look at `kes-cli status`: an agent of that make may have lost its staged key by this; \
         if so, begin with `kes-cli keygen`",
    )
}
