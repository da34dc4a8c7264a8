//! The peer agents whose service sockets this agent follows as a client, so that they keep each
//! other's key alive.
//!
//! Rule: a peer's key is received into locked memory, handed to the vault whole or not at all, and
//! answered with what the state made of it. A peer that is away is tried again with growing,
//! jittered delays, for ever; nothing here waits busily.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use kes_wire::net::{ServiceClient, ServiceClientError};
use kes_wire::protocol::control::rotation::{Note, PeerState, PeerStatus, Status};
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::clock;
use crate::state::{Active, Awaits, State};
use crate::vault::Heard;

/// The first retry comes within this time.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No retry waits for longer.
pub const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a good one: delays begin anew after it.
const LIVED: Duration = Duration::from_secs(1);
/// How often is looked whether what was declined may be had by now, beside when a period begins,
/// the clock is set or the state changes.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What is known of the configured peers.
#[derive(Default)]
pub struct Peers {
    followed: BTreeMap<PathBuf, Peer>,
}

struct Peer {
    state: PeerState,
    since: UnixTime,
    last_key_at: Option<UnixTime>,
    last_answer: Option<Note>,
    /// What we held when we answered.
    answered_for: Option<Stamp>,
}

impl Peers {
    /// Whether no peer agent is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    /// The peers as they are shown, as many as an answer has room for, with a hint in words beside
    /// what an operator could worry about.
    #[must_use]
    pub fn list(&self, state: &State) -> Vec<PeerStatus> {
        let show = |(address, peer): (&PathBuf, &Peer)| PeerStatus {
            address: shown(address),
            state: peer.state.clone(),
            since: peer.since,
            last_key_at: peer.last_key_at,
            last_answer: peer.last_answer.clone(),
            hint: peer.hint(state),
        };
        let listed = self.followed.iter().take(Status::MOST_PEERS);
        listed.map(show).collect()
    }
}

/// Bytes of the longest path that a socket can have.
const MOST_ADDRESS_BYTES: usize = 107;

/// An address as it is shown: one that is too long for a socket, and so is never connected to, is
/// cut short.
fn shown(address: &Path) -> String {
    let whole = address.display().to_string();
    if whole.len() <= MOST_ADDRESS_BYTES {
        return whole;
    }
    let cut = whole.floor_char_boundary(MOST_ADDRESS_BYTES);
    format!("{}...", &whole[..cut])
}

impl Peer {
    fn hint(&self, state: &State) -> Option<Note> {
        let note = |code: &str, sentence: &str| Note {
            code: code.to_owned(),
            sentence: sentence.to_owned(),
        };
        let each_refuses = self
            .last_answer
            .as_ref()
            .is_some_and(|answer| answer.code == "each-refuses")
            && self.answered_for == state.active.stamp();
        if each_refuses {
            return Some(note(
                "each-refuses",
                "each holds what the other refuses, and both stay as they are; to settle it, \
                 rotate on either agent with a counter that is not below either one's, or \
                 `kes-cli drop-active` on one of them, which drops the key on both, and activate \
                 anew",
            ));
        }
        let below_mark = self
            .last_answer
            .as_ref()
            .is_some_and(|answer| answer.code == "below-mark")
            && matches!(state.active, Active::Empty);
        if below_mark {
            return Some(note(
                "below-mark",
                "the peer's key is older than one that this agent has served: rotate on either \
                 agent with a counter that is not below this one's high-water mark",
            ));
        }
        if matches!(self.state, PeerState::Up {}) {
            return None;
        }
        Some(match state.active {
            Active::Bundle { .. } => note(
                "needed-only-to-heal",
                "this agent holds the key; the peer is needed only to heal",
            ),
            Active::Dropped { .. } => note(
                "knows-the-drop",
                "this agent knows that the key was dropped; the peer is told when it is back, if \
                 it follows this agent",
            ),
            Active::Empty | Active::Expired { .. } => note(
                "no-key-from-here",
                "this agent has no key and cannot have one from this peer until it is back",
            ),
        })
    }
}

/// A peer's entry among the followed; it is removed when the peer is no longer followed.
struct Entry<'a> {
    peers: &'a RefCell<Peers>,
    address: &'a Path,
}

impl<'a> Entry<'a> {
    fn enter(peers: &'a RefCell<Peers>, address: &'a Path) -> Self {
        let peer = Peer {
            state: PeerState::Connecting { why: None },
            since: clock::now(),
            last_key_at: None,
            last_answer: None,
            answered_for: None,
        };
        peers.borrow_mut().followed.insert(address.to_owned(), peer);
        Self { peers, address }
    }

    fn update<R>(&self, change: impl FnOnce(&mut Peer) -> R) -> Option<R> {
        let mut peers = self.peers.borrow_mut();
        peers.followed.get_mut(self.address).map(change)
    }

    fn up(&self) {
        self.update(|peer| {
            peer.state = PeerState::Up {};
            peer.since = clock::now();
        });
    }

    /// Notes why there is no connection; tells whether that is new.
    fn away(&self, why: String) -> bool {
        self.update(|peer| {
            let (next, still) = match &peer.state {
                PeerState::Connecting { .. } => {
                    let why = Some(why);
                    (PeerState::Connecting { why }, true)
                }
                PeerState::Down { .. } => (PeerState::Down { why }, true),
                PeerState::Up {} => (PeerState::Down { why }, false),
            };
            if !still {
                peer.since = clock::now();
            }
            let news = next != peer.state;
            peer.state = next;
            news
        })
        .unwrap_or(false)
    }

    fn answered(&self, heard: &Heard, key: bool) {
        self.update(|peer| {
            let now = clock::now();
            if key {
                peer.last_key_at = Some(now);
            }
            peer.last_answer = Some(Note {
                code: heard.name.to_owned(),
                sentence: heard.sentence.clone(),
            });
            peer.answered_for = heard.held;
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.peers.borrow_mut().followed.remove(self.address);
    }
}

/// Why a connection to a peer ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error(transparent)]
    Connection(#[from] ServiceClientError),
    #[error("connecting anew for what was declined before")]
    AskAgain,
}

/// Follows the peer at `address` until it is abandoned.
pub async fn follow(agent: Rc<Agent>, address: PathBuf) {
    let entry = Entry::enter(agent.peers(), &address);
    let mut delays = Delays::default();
    loop {
        let (ending, lived) = connection(&agent, &entry).await;
        if lived >= LIVED {
            delays = Delays::default();
        }
        if let Ending::AskAgain = ending {
            tracing::info!(peer = %address.display(), "{ending}");
        } else if entry.away(ending.to_string()) {
            // Once for each reason: a peer that is away for a week fills no log.
            tracing::warn!(peer = %address.display(), "no connection to the peer agent: {ending}");
        }
        sleep(delays.next()).await;
    }
}

/// One connection, and how long it lasted after its handshake.
async fn connection(agent: &Agent, entry: &Entry<'_>) -> (Ending, Duration) {
    let mut client = match ServiceClient::connect(entry.address).await {
        Ok(client) => client,
        Err(error) => return (error.into(), Duration::ZERO),
    };
    let connected = Instant::now();
    tracing::info!(peer = %entry.address.display(), "connected to the peer agent");
    entry.up();
    let ending = converse(agent, entry, &mut client).await;
    (ending, connected.elapsed())
}

async fn converse(agent: &Agent, entry: &Entry<'_>, client: &mut ServiceClient) -> Ending {
    let mut awaited: Option<Awaits> = None;
    let mut turns = agent.announcements();
    loop {
        tokio::select! {
            message = client.next() => {
                let heard = match message {
                    Ok(message) => hear(agent, entry, message),
                    Err(error) => return error.into(),
                };
                awaited = heard.awaits;
                if let Err(error) = client.answer(heard.result).await {
                    return ServiceClientError::from(error).into();
                }
                // One message a turn: checking a key takes its time.
                yield_now().await;
            }
            changed = turns.changed(), if awaited.is_some() => {
                if changed.is_err() {
                    awaited = None;
                }
            }
            () = sleep(LOOK_AGAIN), if awaited.is_some() => {}
        }
        if awaited.is_some_and(|awaited| agent.has_come(awaited)) {
            return Ending::AskAgain;
        }
    }
}

fn hear(agent: &Agent, entry: &Entry<'_>, message: ServiceMessage) -> Heard {
    let key = matches!(message, ServiceMessage::Key(_));
    let what = if key { "key" } else { "drop" };
    let heard = agent.hear(message);
    entry.answered(&heard, key);
    let (peer, answer, sentence) = (entry.address.display(), heard.name, &heard.sentence);
    if heard.result == ServiceResult::Ok {
        tracing::info!(%peer, what, "taken from the peer agent: {sentence}");
    } else if answer == "equal" {
        tracing::info!(%peer, what, "the peer agent holds the same: {sentence}");
    } else {
        tracing::warn!(%peer, what, answer, "declined from the peer agent: {sentence}");
    }
    heard
}

/// Growing delays, each somewhere in the upper half of what it may be, so that agents that lost
/// each other at the same moment do not come back at the same moment.
#[derive(Default)]
struct Delays {
    doubled: u32,
}

impl Delays {
    fn next(&mut self) -> Duration {
        let most = (FIRST_DELAY * 2u32.saturating_pow(self.doubled)).min(LONGEST_DELAY);
        if most < LONGEST_DELAY {
            self.doubled += 1;
        }
        // The standard library's only randomness; this is no secret.
        let random = RandomState::new().build_hasher().finish();
        let half = most / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(random % micros.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Declined;

    #[test]
    fn delays_grow_within_their_bounds() {
        for _ in 0..50 {
            let mut delays = Delays::default();
            let mut most = FIRST_DELAY;
            for _ in 0..40 {
                let delay = delays.next();
                assert!(delay <= most && delay >= most / 2, "{delay:?} of {most:?}");
                most = (most * 2).min(LONGEST_DELAY);
            }
        }
    }

    /// What an answer's frame has room for is tried with these bounds, in kes-wire's rotation.rs.
    #[test]
    fn words_of_a_peer_are_bounded() {
        let peers = RefCell::new(Peers::default());
        let names: Vec<_> = (0..100)
            .map(|n| PathBuf::from(format!("/{n:03}{}", "\u{e9}".repeat(200))))
            .collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| Entry::enter(&peers, name))
            .collect();
        let (theirs, ours) = (Stamp(u64::MAX), Stamp(u64::MAX));
        let longest = Declined::EachRefuses {
            their_counter: u64::MAX,
            our_counter: u64::MAX,
            theirs,
            ours,
        };
        for entry in &entries {
            let heard = Heard {
                result: ServiceResult::KeyOutdated,
                name: "each-refuses",
                sentence: longest.to_string(),
                awaits: None,
                held: None,
            };
            entry.answered(&heard, true);
        }
        let listed = peers.borrow().list(&State::new());
        assert_eq!(listed.len(), Status::MOST_PEERS);
        for peer in listed {
            assert!(peer.address.len() <= 120, "{}", peer.address);
            assert!(peer.address.ends_with("..."), "{}", peer.address);
            let hint = peer.hint.unwrap();
            assert_eq!(hint.code, "each-refuses");
            for note in [hint, peer.last_answer.unwrap()] {
                assert!(note.sentence.len() <= 450, "{}", note.sentence);
            }
        }
    }

    #[test]
    fn a_reason_is_news_once_and_the_entry_goes() {
        let peers = RefCell::new(Peers::default());
        {
            let entry = Entry::enter(&peers, Path::new("/a"));
            assert!(entry.away("x".to_owned()));
            assert!(!entry.away("x".to_owned()));
            assert!(entry.away("y".to_owned()));
            let state = |peers: &RefCell<Peers>| peers.borrow().list(&State::new())[0].clone();
            assert!(matches!(
                state(&peers).state,
                PeerState::Connecting { why: Some(_) }
            ));
            entry.up();
            assert_eq!(state(&peers).hint, None);
            assert!(entry.away("y".to_owned()));
            assert!(matches!(state(&peers).state, PeerState::Down { .. }));
            assert_eq!(state(&peers).hint.unwrap().code, "no-key-from-here");
        }
        assert!(peers.borrow().list(&State::new()).is_empty());
    }
}
