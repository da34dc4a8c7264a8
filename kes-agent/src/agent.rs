//! The agent: the vault, the network's time, and the connected nodes, shared by all connections.
//!
//! One thread runs everything. What connections share is borrowed for the length of one
//! synchronous call and never across an await.

use std::cell::RefCell;
use std::rc::Rc;

use kes_wire::genesis::Network;
use kes_wire::protocol::control::rotation::{
    Answer, Protection, Refusal, RefusalCode, Request, Status,
};
use kes_wire::protocol::service::ServiceMessage;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use kes_wire::unix_time::UnixTime;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::clock;
use crate::control;
use crate::nodes::{Nodes, Peer};
use crate::peers::Peers;
use crate::state::{Awaits, Input, Now, Rules, State};
use crate::status;
use crate::vault::{Done, Heard, Newest, Vault};

/// What all connections share.
pub struct Agent {
    network: Network,
    vault: RefCell<Vault>,
    nodes: Rc<RefCell<Nodes>>,
    peers: RefCell<Peers>,
    /// What keeps the process and its keys from others, for the status.
    protections: Vec<Protection>,
    /// One command at a time.
    command: Semaphore,
}

impl Agent {
    /// An agent without keys.
    #[must_use]
    pub fn new(network: Network, rules: Rules, protections: Vec<Protection>) -> Self {
        Self {
            network,
            vault: RefCell::new(Vault::new(rules)),
            nodes: Rc::default(),
            peers: RefCell::default(),
            protections,
            command: Semaphore::new(1),
        }
    }

    /// The connected nodes.
    #[must_use]
    pub fn nodes(&self) -> &Rc<RefCell<Nodes>> {
        &self.nodes
    }

    /// The peer agents that are followed.
    #[must_use]
    pub fn peers(&self) -> &RefCell<Peers> {
        &self.peers
    }

    /// Wakes whenever there may be something new to send to nodes.
    #[must_use]
    pub fn announcements(&self) -> watch::Receiver<()> {
        self.vault.borrow().announcements()
    }

    fn now(&self) -> Now {
        self.at(clock::now())
    }

    fn at(&self, time: UnixTime) -> Now {
        Now {
            stamp: Stamp(time.0),
            period: self.network.period_at(time),
        }
    }

    /// A period has begun, or the clock was set: brings the keys up to it, lets every connection
    /// look again, and says when the period ends.
    pub fn turn(&self) -> UnixTime {
        let now = self.now();
        self.tick_at(now);
        for warning in self.status().warnings {
            tracing::warn!(code = warning.code, "{}", warning.sentence);
        }
        self.vault.borrow().wake();
        self.network.period_end(now.period)
    }

    /// The state as it is shown, without the list of nodes.
    #[must_use]
    pub fn status(&self) -> Status {
        let nodes = self.nodes.borrow();
        status::assemble(
            &self.vault.borrow(),
            &self.network,
            clock::now(),
            &nodes,
            false,
        )
    }

    fn tick_at(&self, now: Now) {
        match self.vault.borrow_mut().submit(now, &Input::Tick) {
            Ok(Done {
                changed: true,
                notes,
            }) => {
                tracing::info!(period = now.period.0, "the keys follow the time");
                for note in notes {
                    tracing::warn!(code = note.code, "{}", note.sentence);
                }
            }
            Ok(Done { changed: false, .. }) => {}
            Err(refusal) => tracing::error!(code = %refusal.code, "{}", refusal.sentence),
        }
    }

    /// Shows `look` what a node may be given at this moment, at the evolution of this moment.
    pub fn with_newest<R>(&self, look: impl FnOnce(Newest<'_>) -> R) -> R {
        let now = self.now();
        self.tick_at(now);
        look(self.vault.borrow().newest(now))
    }

    /// Hears what a peer agent sent; the others are told where it is news.
    pub fn hear(&self, message: ServiceMessage) -> Heard {
        let now = self.now();
        self.tick_at(now);
        self.vault.borrow_mut().hear(now, message)
    }

    /// Whether a period, a time or a change of what is held has come.
    #[must_use]
    pub fn has_come(&self, awaited: Awaits) -> bool {
        awaited.has_come(self.now(), &self.vault.borrow().state().active)
    }

    /// Carries out a command.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        let time = clock::now();
        let now = self.at(time);
        self.tick_at(now);
        let done = match self.carry_out(now, request) {
            Ok(done) => done,
            Err(refusal) => return Answer::Refused { refusal },
        };
        let vault = self.vault.borrow();
        let nodes = self.nodes.borrow();
        let listed = matches!(request, Request::Status {});
        let mut status = status::assemble(&vault, &self.network, time, &nodes, listed);
        status.peers = self.peers.borrow().list(vault.state());
        let protections = self.protections.iter().cloned();
        status.memory.protections.extend(protections);
        Answer::Done {
            changed: done.changed,
            notes: done.notes,
            status,
        }
    }

    /// Carries out a command of a deployed version, with the same line in the log.
    ///
    /// # Errors
    /// The refusal's code.
    pub fn carry_out_logged(&self, request: &Request, peer: Peer) -> Result<(), RefusalCode> {
        let answer = self.answer(request);
        control::log(request, &answer, peer);
        match answer {
            Answer::Done { .. } => Ok(()),
            Answer::Refused { refusal } => Err(refusal.code),
        }
    }

    /// Waits for a command's turn, which ends when what this gives is dropped. Each of many
    /// clients that all command at once goes to the end of the queue after its turn, so that a
    /// node waits for one command at most.
    pub async fn commands_turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.command.acquire().await.ok()
    }

    /// The pending key's verification key.
    #[must_use]
    pub fn pending_vkey(&self) -> Option<VerificationKey> {
        self.vault.borrow().state().pending.vkey().copied()
    }

    /// Shows `look` the state, brought up to now.
    pub fn with_state<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.tick_at(self.now());
        look(self.vault.borrow().state())
    }

    fn carry_out(&self, now: Now, request: &Request) -> Result<Done, Refusal> {
        let mut vault = self.vault.borrow_mut();
        let input = match *request {
            Request::Keygen { if_pending } => return vault.keygen(now, if_pending),
            Request::ImportOpcert {
                import,
                allow_lower_counter,
            } => Input::ImportOpcert {
                import,
                allow_lower_counter,
            },
            Request::Activate {
                import,
                allow_lower_counter,
            } => Input::Activate {
                import,
                allow_lower_counter,
            },
            Request::DropPending {} => Input::DropPending,
            Request::DropActive {} => Input::DropActive,
            Request::ExportVkey {} => return vault.state().exported().map(|_| Done::unchanged()),
            Request::Status {} => return Ok(Done::unchanged()),
        };
        vault.submit(now, &input)
    }
}

/// The answer to a request that cannot be read.
#[must_use]
pub fn not_understood(reason: &dyn std::fmt::Display) -> Answer {
    Answer::Refused {
        refusal: Refusal {
            code: RefusalCode::NotUnderstood,
            sentence: format!("the agent cannot read this request: {reason}"),
            next_step: "use a kes-cli of the agent's version; see `kes-agent --version`".to_owned(),
            numbers: std::collections::BTreeMap::new(),
        },
    }
}
