//! The agent: the vault, the network's time, and the connected nodes, shared by all connections.
//!
//! One thread runs everything. What connections share is borrowed for the length of one
//! synchronous call and never across an await.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use kes_wire::genesis::Network;
use kes_wire::protocol::control::rotation::{
    Answer, IfPending, Note, Refusal, RefusalCode, Request, Status, TimeSource,
};
use kes_wire::protocol::service::ServiceMessage;
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::clock;
use crate::control;
use crate::kept::record::KeptAnchor;
use crate::marks::{Keeper, Marks};
use crate::nodes::{Nodes, Peer};
use crate::peers::Peers;
use crate::state::{Active, Awaits, Input, Now, State};
use crate::status::{self, Surroundings};
use crate::trusted_time::{Believed, Reading, TrustedTime};
use crate::vault::{Done, Heard, Newest, Vault};

/// How often the clocks are looked at while the wall clock is not believed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long a command waits for the disk.
pub const DISK_PATIENCE: Duration = Duration::from_secs(5);
/// A time that is kept is written again where it has come to differ by more than this, in
/// microseconds.
const KEPT_TIME_TOLERANCE: u64 = 1_000_000;

/// What all connections share.
pub struct Agent {
    network: Network,
    vault: RefCell<Vault>,
    nodes: Rc<RefCell<Nodes>>,
    peers: RefCell<Peers>,
    /// Whether a control client of a deployed version may replace a staged key.
    replace_staged: Cell<bool>,
    time: RefCell<TrustedTime>,
    /// Where there is a state directory.
    marks: RefCell<Option<Keeper>>,
    boot_id: Option<String>,
    surroundings: Surroundings,
    /// What was last said of the time: the period and whether it is trusted, and whether the wall
    /// clock disagrees.
    said: Cell<Option<(Now, bool)>>,
    /// The codes of the warnings that were in the log last.
    warned: RefCell<BTreeSet<String>>,
    /// One command at a time.
    command: Semaphore,
}

impl Agent {
    /// An agent with the keys of its vault.
    #[must_use]
    pub fn new(
        network: Network,
        vault: Vault,
        time: TrustedTime,
        marks: Option<Keeper>,
        boot_id: Option<String>,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            network,
            vault: RefCell::new(vault),
            nodes: Rc::default(),
            peers: RefCell::default(),
            replace_staged: Cell::default(),
            time: RefCell::new(time),
            marks: RefCell::new(marks),
            boot_id,
            surroundings,
            said: Cell::default(),
            warned: RefCell::default(),
            command: Semaphore::new(1),
        }
    }

    /// What becomes of a staged key when a client of a deployed version generates again.
    #[must_use]
    pub fn if_staged(&self) -> IfPending {
        if self.replace_staged.get() {
            IfPending::Replace
        } else {
            IfPending::Refuse
        }
    }

    /// Lets clients of deployed versions replace a staged key, or not.
    pub fn let_replace_staged(&self, allowed: bool) {
        self.replace_staged.set(allowed);
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

    /// A key that was found at the start, while no time is trusted, waits as one that came from a
    /// peer does.
    pub fn wait_for_trust(&self) {
        if matches!(self.vault.borrow().state().active, Active::Bundle { .. }) {
            self.time.borrow_mut().peer_key_came(clock::read());
        }
    }

    /// Looks at the clocks.
    fn look(&self) -> (Reading, Now) {
        let reading = clock::read();
        let believed = self.time.borrow_mut().look(reading);
        (reading, self.at(believed))
    }

    fn at(&self, believed: Believed) -> Now {
        Now {
            stamp: Stamp(believed.time.0),
            period: self.network.period_at(believed.time),
            is_trusted: believed.is_trusted,
        }
    }

    /// The moment by what was last trusted: for nodes, who do not wait while the kernel is asked.
    /// Whether the wall clock has become synchronised is seen at each turn and command.
    fn glance(&self) -> Now {
        let reading = clock::glance();
        let believed = self.time.borrow_mut().look(reading);
        self.at(believed)
    }

    /// Looks at the clocks and brings the keys up to the time.
    fn now(&self) -> Now {
        let (_, now) = self.look();
        self.tick_at(now);
        now
    }

    /// A period has begun, or a clock was set, or it is time to look again: brings the keys up to
    /// it, says what is new, and tells when to look again at the latest.
    pub fn turn(&self) -> Duration {
        let (reading, now) = self.look();
        self.tick_at(now);
        let (disagrees, is_in_doubt) = {
            let time = self.time.borrow();
            (time.status(reading).disagrees, time.is_in_doubt(reading))
        };
        let before = self.said.replace(Some((now, disagrees)));
        let is_new = before.is_none_or(|(said, doubted)| {
            (said.period, said.is_trusted, doubted) != (now.period, now.is_trusted, disagrees)
        });
        self.warn(is_new);
        if is_new {
            // A period that begins, or a time that is trusted, may let what is held be served.
            self.vault.borrow().wake();
        }
        let period_ends = self.network.period_end(now.period);
        let left = Duration::from_micros(period_ends.0.saturating_sub(now.stamp.0));
        if is_in_doubt {
            left.min(LOOK_AGAIN)
        } else {
            left
        }
    }

    /// Logs the warnings there are: those that are new, or all of them `again`.
    fn warn(&self, again: bool) {
        let warnings = self.status().warnings;
        let mut warned = self.warned.borrow_mut();
        for warning in &warnings {
            if again || !warned.contains(&warning.code) {
                tracing::warn!(code = warning.code, "{}", warning.sentence);
            }
        }
        *warned = warnings.into_iter().map(|warning| warning.code).collect();
    }

    /// The state as it is shown, without the list of nodes.
    #[must_use]
    pub fn status(&self) -> Status {
        let (reading, now) = self.look();
        self.assemble(reading, now, false)
    }

    fn assemble(&self, reading: Reading, now: Now, list_nodes: bool) -> Status {
        let vault = self.vault.borrow();
        let nodes = self.nodes.borrow();
        let clock = self.time.borrow().status(reading);
        let shown = status::Shown {
            vault: &vault,
            network: &self.network,
            surroundings: &self.surroundings,
            nodes: &nodes,
            follows_peers: !self.peers.borrow().is_empty(),
        };
        shown.assemble(now, clock, list_nodes)
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
        self.keep_time();
        self.keep_marks();
    }

    /// Orders the marks to be written, where they have changed.
    fn keep_marks(&self) {
        let vault = self.vault.borrow();
        if let Some(keeper) = self.marks.borrow_mut().as_mut()
            && vault.why_unread().is_none()
        {
            keeper.keep(Marks::of(vault.rules().cold_vkey, vault.state()));
        }
    }

    /// Waits until the marks are on the disk, for `most` at the most.
    ///
    /// # Errors
    /// Why they are not there.
    pub async fn settled(&self, most: Duration) -> Result<(), String> {
        let settled = self.marks.borrow().as_ref().map(Keeper::settled);
        let Some(settled) = settled else {
            return Ok(());
        };
        tokio::time::timeout(most, settled)
            .await
            .unwrap_or_else(|_| {
                Err(format!(
                    "the disk has not answered for {} s",
                    most.as_secs()
                ))
            })
    }

    /// Waits until the marks of what was done so far are on the disk. Where they are not to be had
    /// there, an answer says so.
    pub async fn settle(&self, request: &Request, answer: &mut Answer) {
        match request {
            // They do not change the marks, and tell what is wrong where the disk hangs.
            Request::Status {} | Request::ExportVkey {} | Request::ConfirmClock { .. } => return,
            Request::Keygen { .. }
            | Request::ImportOpcert { .. }
            | Request::Activate { .. }
            | Request::DropPending {}
            | Request::DropActive {} => {}
        }
        if let (Err(reason), Answer::Done { notes, .. }) =
            (self.settled(DISK_PATIENCE).await, answer)
        {
            notes.push(Note {
                code: "not-on-disk".to_owned(),
                sentence: format!(
                    "done, but the counter's high-water mark and the drop are not on the disk, so a \
                     restart of the machine forgets them: {reason}"
                ),
            });
        }
    }

    /// Keeps the trusted time beside the keys, where it is not what is kept already.
    fn keep_time(&self) {
        let (Some(boot_id), Some(anchor)) = (&self.boot_id, self.time.borrow().anchor()) else {
            return;
        };
        let mut vault = self.vault.borrow_mut();
        let is_kept = vault.kept_time().is_some_and(|kept| {
            let differs = kept.anchor.time_at(anchor.boot).0.abs_diff(anchor.wall.0);
            kept.boot_id == *boot_id
                && kept.anchor.source == anchor.source
                && differs <= KEPT_TIME_TOLERANCE
        });
        if !is_kept {
            vault.keep_time(KeptAnchor {
                boot_id: boot_id.clone(),
                anchor,
            });
        }
    }

    /// Shows `look` what a node may be given at this moment, at the evolution of this moment.
    pub fn with_newest<R>(&self, look: impl FnOnce(Newest<'_>) -> R) -> R {
        let now = self.glance();
        self.tick_at(now);
        look(self.vault.borrow().newest(now))
    }

    /// Hears what a peer agent sent; the others are told where it is news.
    pub fn hear(&self, message: ServiceMessage) -> Heard {
        let now = self.now();
        let heard = self.vault.borrow_mut().hear(now, message);
        let holds_key = matches!(self.vault.borrow().state().active, Active::Bundle { .. });
        if holds_key && !now.is_trusted {
            self.time.borrow_mut().peer_key_came(clock::read());
            self.warn(false);
        }
        self.keep_marks();
        heard
    }

    /// Whether a period, a time or a change of what is held has come.
    #[must_use]
    pub fn has_come(&self, awaited: Awaits) -> bool {
        awaited.has_come(self.now(), &self.vault.borrow().state().active)
    }

    /// Carries out a command.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        let done = match self.carry_out(request) {
            Ok(done) => done,
            Err(refusal) => {
                let refusal = self.look().1.doubted(refusal);
                return Answer::Refused { refusal };
            }
        };
        self.keep_marks();
        let (reading, now) = self.look();
        // Whoever drops a key has to know which nodes cannot be told.
        let listed = matches!(request, Request::Status {} | Request::DropActive {});
        let mut status = self.assemble(reading, now, listed);
        status.peers = self.peers.borrow().list(self.vault.borrow().state());
        Answer::Done {
            changed: done.changed,
            notes: done.notes,
            status,
        }
    }

    /// Carries out a command of a deployed version, with the same line in the log. Gives the status
    /// at the end of its turn: others may command while this one waits for the disk.
    ///
    /// # Errors
    /// The refusal's code.
    pub async fn carry_out_logged(
        &self,
        request: &Request,
        peer: Peer,
    ) -> Result<Status, RefusalCode> {
        let turn = self.commands_turn().await;
        let mut answer = self.answer(request);
        drop(turn);
        self.settle(request, &mut answer).await;
        control::log(request, &answer, peer);
        match answer {
            Answer::Done { status, .. } => Ok(status),
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
        self.now();
        look(self.vault.borrow().state())
    }

    fn carry_out(&self, request: &Request) -> Result<Done, Refusal> {
        let now = self.now();
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
            } => {
                let activate = Input::Activate {
                    import,
                    allow_lower_counter,
                };
                return self.activate(&mut vault, now, &activate);
            }
            Request::DropPending {} => Input::DropPending,
            Request::DropActive {} => Input::DropActive,
            Request::ExportVkey {} => return vault.exported(),
            Request::Status {} => return Ok(Done::unchanged()),
            Request::ConfirmClock { synchronised } => {
                vault.refuse_where_unread()?;
                drop(vault);
                return Ok(self.confirm_clock(synchronised));
            }
        };
        vault.submit(now, &input)
    }

    /// An operator activates a certificate. Where no time is trusted yet, a certificate that fits
    /// the wall clock vouches for it.
    fn activate(&self, vault: &mut Vault, now: Now, activate: &Input) -> Result<Done, Refusal> {
        if now.is_trusted {
            return vault.submit(now, activate);
        }
        let vouched = Now {
            is_trusted: true,
            ..now
        };
        let before = vault.state().active.stamp();
        let done = vault.submit(vouched, activate)?;
        // A certificate that is only scheduled, or was active already, says nothing of the time.
        let became_active = matches!(vault.state().active, Active::Bundle { .. })
            && vault.state().active.stamp() != before;
        if became_active {
            self.time.borrow_mut().activation(clock::read());
        }
        Ok(done)
    }

    /// An operator, or the kernel by way of a command, says that the wall clock is right.
    fn confirm_clock(&self, synchronised: bool) -> Done {
        let reading = clock::read();
        let source = if synchronised {
            TimeSource::Synchronised
        } else {
            TimeSource::Confirmed
        };
        let changed = self.time.borrow_mut().confirm(reading, source);
        let (_, now) = self.look();
        if !changed {
            // It may come every minute.
            self.tick_at(now);
            return Done::unchanged();
        }
        tracing::warn!(
            period = now.period.0,
            "the wall clock was confirmed: {}",
            reading.wall
        );
        self.tick_at(now);
        self.vault.borrow().wake();
        let notes = vec![Note {
            code: "clock-confirmed".to_owned(),
            sentence: format!(
                "the agent's time is {} from now on, in KES period {}",
                reading.wall, now.period
            ),
        }];
        Done { changed, notes }
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
