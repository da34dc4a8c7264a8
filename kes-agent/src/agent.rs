//! The agent: the vault, the network's time, and the connected nodes, shared by all connections.
//!
//! One thread runs everything. What connections share is borrowed for the length of one
//! synchronous call and never across an await.

use std::cell::RefCell;
use std::rc::Rc;

use kes_wire::genesis::Network;
use kes_wire::protocol::control::rotation::{Answer, Refusal, RefusalCode, Request};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::unix_time::UnixTime;
use tokio::sync::watch;

use crate::clock;
use crate::nodes::Nodes;
use crate::state::{Input, Now, Rules};
use crate::status;
use crate::vault::{Newest, Vault};

/// What all connections share.
pub struct Agent {
    network: Network,
    vault: RefCell<Vault>,
    nodes: Rc<RefCell<Nodes>>,
}

impl Agent {
    /// An agent without keys.
    #[must_use]
    pub fn new(network: Network, rules: Rules) -> Self {
        Self { network, vault: RefCell::new(Vault::new(rules)), nodes: Rc::default() }
    }

    /// The connected nodes.
    #[must_use]
    pub fn nodes(&self) -> &Rc<RefCell<Nodes>> {
        &self.nodes
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
        Now { stamp: Stamp(time.0), period: self.network.period_at(time) }
    }

    /// Brings the keys up to now and says when the current period ends.
    pub fn tick(&self) -> UnixTime {
        let now = self.now();
        self.tick_at(now);
        self.network.period_end(now.period)
    }

    /// A period has begun: brings the keys up to it and lets every connection look again.
    pub fn turn(&self) {
        self.tick();
        self.vault.borrow().wake();
    }

    fn tick_at(&self, now: Now) {
        for note in self.vault.borrow_mut().tick(now) {
            tracing::warn!(code = note.code, "{}", note.sentence);
        }
    }

    /// Shows `look` what a node may be given at this moment, at the evolution of this moment.
    pub fn with_newest<R>(&self, look: impl FnOnce(Newest<'_>) -> R) -> R {
        let now = self.now();
        self.tick_at(now);
        look(self.vault.borrow().newest(now))
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
        let status = status::assemble(&vault, &self.network, time, &nodes, listed);
        Answer::Done { changed: done.changed, notes: done.notes, status }
    }

    fn carry_out(&self, now: Now, request: &Request) -> Result<crate::vault::Done, Refusal> {
        let input = match *request {
            Request::Keygen { if_pending } => Input::Keygen { if_pending },
            Request::ImportOpcert { import, allow_lower_counter } => {
                Input::ImportOpcert { import, allow_lower_counter }
            }
            Request::Activate { import, allow_lower_counter } => {
                Input::Activate { import, allow_lower_counter }
            }
            Request::DropPending {} => Input::DropPending,
            Request::DropActive {} => Input::DropActive,
            Request::ExportVkey {} => Input::ExportVkey,
            Request::Status {} => return Ok(crate::vault::Done { changed: false, notes: vec![] }),
        };
        self.vault.borrow_mut().submit(now, &input)
    }
}

/// The answer to a request that cannot be read.
#[must_use]
pub fn not_understood(reason: &dyn std::fmt::Display) -> Answer {
    Answer::Refused {
        refusal: Refusal {
            code: RefusalCode::NotUnderstood,
            sentence: format!("The agent cannot read this request: {reason}."),
            next_step: "Use a kes-cli of the agent's version; see `kes-agent --version`."
                .to_owned(),
            numbers: std::collections::BTreeMap::new(),
        },
    }
}
