//! Commands of the deployed control versions, carried out by our rules.
//!
//! Where the reference loses keys, ours does not: a failed install leaves the staged (pending)
//! key; generating over one is refused by the means that these versions have, an answer without a
//! key, unless `replace-staged` allows it; counters, periods and expiry are checked and answered with the nearest code.

use std::rc::Rc;

use kes_wire::net::DeployedControlServer;
use kes_wire::protocol::control::deployed::{
    AgentInfo, BundleInfo, DeployedAnswer, DeployedRequest, InstalledInfo, PeerConnection, PeerInfo,
};
use kes_wire::protocol::control::rotation::{
    ImportedOpCert, PeerState, PeerStatus, PendingStatus, RefusalCode, Request,
};
use kes_wire::protocol::result::ResultCode;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use kes_wire::unix_time::UnixTime;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::control::{Ending, REPLY_DEADLINE, REQUEST_DEADLINE};
use crate::nodes::Peer;
use crate::state::{Active, State};

/// Carries out the commands of one client until it closes the connection.
///
/// # Errors
/// [`Ending`] where it ended otherwise.
pub async fn serve(
    agent: Rc<Agent>,
    mut client: DeployedControlServer,
    peer: Peer,
) -> Result<(), Ending> {
    loop {
        // One request a turn: who has sent many does not hold up nodes.
        yield_now().await;
        let request = match timeout(REQUEST_DEADLINE, client.next_request()).await {
            Err(_) => return Err(Ending::Silent),
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(request))) => request,
            Ok(Err(error)) => return Err(error.into()),
        };
        let answer = carry_out(&agent, request, peer).await;
        match timeout(REPLY_DEADLINE, client.reply(&answer)).await {
            Err(_) => return Err(Ending::Silent),
            Ok(sent) => sent?,
        }
    }
}

/// Carries out one command as the command of ours that it amounts to.
async fn carry_out(agent: &Agent, request: DeployedRequest, peer: Peer) -> DeployedAnswer {
    let ours = async |request: Request| agent.carry_out_logged(&request, peer).await;
    match request {
        DeployedRequest::GenStagedKey => {
            let done = ours(Request::Keygen {
                if_pending: agent.if_staged(),
            })
            .await;
            DeployedAnswer::StagedKey(done.ok().and_then(|status| staged(&status.pending)))
        }
        DeployedRequest::QueryStagedKey => {
            let (pid, uid, command) = (peer.pid, peer.uid, "export-verkey");
            tracing::info!(pid, uid, command, "command carried out, nothing changed");
            DeployedAnswer::StagedKey(agent.pending_vkey())
        }
        DeployedRequest::DropStagedKey => {
            // The answer is the same whether there was one or not.
            let _ = ours(Request::DropPending {}).await;
            DeployedAnswer::StagedKey(None)
        }
        DeployedRequest::InstallKey(opcert) => {
            let import = ImportedOpCert {
                opcert,
                cold_vkey: None,
                replace: true,
            };
            let done = ours(Request::Activate {
                import: Some(import),
                allow_lower_counter: false,
            })
            .await;
            DeployedAnswer::Result(done.map_or_else(|code| nearest(&code), |_| ResultCode::Ok))
        }
        DeployedRequest::DropKey => {
            let code = match ours(Request::DropActive {}).await {
                // Deployed clients expect a drop of nothing to succeed.
                Ok(_) | Err(RefusalCode::NothingActive) => ResultCode::Ok,
                Err(code) => nearest(&code),
            };
            DeployedAnswer::Result(code)
        }
        DeployedRequest::Info => {
            let (pid, uid, command) = (peer.pid, peer.uid, "status");
            tracing::debug!(pid, uid, command, "command carried out");
            DeployedAnswer::Info(Box::new(info(agent)))
        }
    }
}

fn staged(pending: &PendingStatus) -> Option<VerificationKey> {
    match pending {
        PendingStatus::Empty {} => None,
        PendingStatus::Key { vkey }
        | PendingStatus::Certified { vkey, .. }
        | PendingStatus::Scheduled { vkey, .. } => Some(*vkey),
    }
}

/// The result code that says nearest what a refusal says.
fn nearest(code: &RefusalCode) -> ResultCode {
    match code {
        RefusalCode::CounterTooLow => ResultCode::KeyOutdated,
        RefusalCode::NothingPending | RefusalCode::NothingImported | RefusalCode::NothingActive => {
            ResultCode::NoKey
        }
        RefusalCode::OtherKesKey
        | RefusalCode::OtherColdKey
        | RefusalCode::BadSignature
        | RefusalCode::Expired => ResultCode::InvalidOpCert,
        RefusalCode::AlreadyPending | RefusalCode::AlreadyImported | RefusalCode::Scheduled => {
            ResultCode::UnsupportedOperation
        }
        RefusalCode::KeptUnread
        | RefusalCode::NotUnderstood
        | RefusalCode::NoLockedMemory
        | RefusalCode::Internal
        | RefusalCode::Other(_) => ResultCode::Unknown,
    }
}

fn info(agent: &Agent) -> AgentInfo {
    let status = agent.status();
    agent.with_state(|state| AgentInfo {
        version: Some(status.agent_version.clone()),
        installed: installed(state),
        staged: state.pending.vkey().copied(),
        now: seconds(status.now),
        period: status.current_period,
        period_times: Some((
            seconds(status.period_started_at),
            seconds(status.period_ends_at),
        )),
        peers: peers(&agent.peers().borrow().list(state)),
    })
}

fn installed(state: &State) -> Option<InstalledInfo> {
    let time = |stamp: Stamp| Some(seconds(UnixTime(stamp.0)));
    match &state.active {
        // The reference shows nothing after a drop either, as recorded.
        Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => None,
        Active::Bundle {
            opcert,
            evolution,
            stamp,
        } => {
            let bundle = Some(BundleInfo {
                evolution: *evolution,
                opcert: *opcert,
            });
            Some(InstalledInfo {
                bundle,
                time: time(*stamp),
            })
        }
    }
}

fn peers(peers: &[PeerStatus]) -> Vec<PeerInfo> {
    let show = |peer: &PeerStatus| PeerInfo {
        address: peer.address.clone(),
        connection: match peer.state {
            PeerState::Up {} => PeerConnection::Up,
            PeerState::Connecting { .. } => PeerConnection::Connecting,
            PeerState::Down { .. } => PeerConnection::Down,
        },
    };
    peers.iter().map(show).collect()
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the table of DEP-10.
    #[test]
    fn each_refusal_has_the_nearest_result() {
        for code in RefusalCode::ALL {
            let expected = match code.name() {
                "counter-too-low" => 1,
                "other-kes-key" | "other-cold-key" | "bad-signature" | "expired" => 2,
                name if name.starts_with("nothing-") => 3,
                name if name.starts_with("already-") || name == "scheduled" => 4,
                _ => 5,
            };
            assert_eq!(nearest(code).to_u16(), expected, "{code}");
        }
        assert_eq!(nearest(&RefusalCode::Other("new".to_owned())).to_u16(), 5);
    }
}
