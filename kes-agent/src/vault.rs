//! The vault: the sign keys in their cells, and the state that says what they are.
//!
//! Every change goes one way: an input is given to the pure state, which answers with the next
//! state and with effects; what is new is made complete in a cell of its own; then the record of
//! the next state is put into force, and only then does the next state count and what went before
//! is wiped. A refused input, or an effect that fails, leaves everything as it was.

use kes_wire::opcert::OpCert;
use kes_wire::period::Evolution;
use kes_wire::protocol::control::rotation::{IfPending, Note, Refusal, RefusalCode};
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::{DamagedKey, EvolveError, SignKey};
use kes_wire::sys::memory::LockError;
use kes_wire::sys::region::RegionKind;
use tokio::sync::watch;

use crate::kept::record::{BadRecord, KeptAnchor, Record};
use crate::kept::{Cell, Found, Kept, KeptKey, NotUsed};
use crate::state::{Awaits, Effect, Input, Now, Outcome, PeerAnswer, Rules, Served, State};

/// What an input did.
pub struct Done {
    /// Whether anything changed.
    pub changed: bool,
    /// What the operator should know.
    pub notes: Vec<Note>,
}

impl Done {
    /// Nothing changed.
    #[must_use]
    pub fn unchanged() -> Self {
        Self {
            changed: false,
            notes: Vec::new(),
        }
    }
}

/// What became of something that a peer sent.
pub struct Heard {
    /// What the peer is answered.
    pub result: ServiceResult,
    /// The answer's stable name.
    pub name: &'static str,
    /// What was taken, or declined and why.
    pub sentence: String,
    /// What has to come before it may be taken after all.
    pub awaits: Option<Awaits>,
    /// The stamp of what is held afterwards.
    pub held: Option<Stamp>,
}

/// What there is to send to a node now.
pub enum Newest<'a> {
    /// Nothing.
    Nothing,
    /// A key at the evolution of the current period, with its certificate.
    Key {
        /// When it was installed.
        stamp: Stamp,
        /// The key.
        key: &'a SignKey<Cell>,
        /// Its certificate.
        opcert: OpCert,
    },
    /// The news that the key was dropped.
    Dropped {
        /// When.
        stamp: Stamp,
    },
}

/// The keys and their state.
pub struct Vault {
    rules: Rules,
    state: State,
    kept: Kept,
    /// The trusted time, as it is kept.
    time: Option<KeptAnchor>,
    /// A key that was generated and is not in a cell yet.
    generated: Option<SignKey>,
    /// A key that came from a peer and is not in a cell yet.
    received: Option<SignKey>,
    pending: Option<KeptKey>,
    active: Option<KeptKey>,
    /// Why what was kept is left alone, where it is: then nothing is done or served.
    unread: Option<NotUsed>,
    announcements: watch::Sender<()>,
}

/// Why an effect could not be carried out.
#[derive(Debug, thiserror::Error)]
enum EffectError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Evolve(#[from] EvolveError),
    #[error("the state speaks of a key that is not held")]
    NoSuchKey,
    #[error("there is no room for another key")]
    NoCell,
    #[error("the record contradicts itself: {0}")]
    Record(#[from] BadRecord),
}

/// Where a key of the next state comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whence {
    Pending,
    Active,
    Generated,
    Received,
}

/// Which keys the next state has.
struct Plan {
    pending: Option<Whence>,
    active: Option<Whence>,
    /// The evolution that the active key is to reach.
    evolve: Option<Evolution>,
}

impl Vault {
    /// A vault with what was found in the memory that was kept.
    #[must_use]
    pub fn new(rules: Rules, kept: Kept, found: Found) -> Self {
        Self {
            rules,
            state: found.state,
            kept,
            time: found.anchor,
            generated: None,
            received: None,
            pending: found.pending,
            active: found.active,
            unread: None,
            announcements: watch::Sender::new(()),
        }
    }

    /// A vault that leaves alone what was kept: it refuses everything and serves nothing.
    #[must_use]
    pub fn unread(rules: Rules, kept: Kept, why: NotUsed) -> Self {
        Self {
            unread: Some(why),
            ..Self::new(rules, kept, Found::nothing())
        }
    }

    /// The trusted time of before a restart, and by which start of the machine.
    #[must_use]
    pub fn kept_time(&self) -> Option<&KeptAnchor> {
        self.time.as_ref()
    }

    /// Keeps the trusted time.
    pub fn keep_time(&mut self, time: KeptAnchor) {
        let before = self.time.replace(time);
        if self.unread.is_some() {
            return;
        }
        if let Err(error) = self.commit_as_is() {
            tracing::error!("the time is not kept: {error}");
            self.time = before;
        }
    }

    /// Puts the state into force as it is: before anybody else has memory that is fresh, or after
    /// memory was found that nothing had been written to.
    ///
    /// # Errors
    /// [`BadRecord`] where it contradicts itself.
    pub fn commit_as_is(&mut self) -> Result<(), BadRecord> {
        let cells = (cell(self.pending.as_ref()), cell(self.active.as_ref()));
        self.commit(&self.state.clone(), cells)
    }

    /// Which kind of memory the keys are in.
    #[must_use]
    pub fn memory_kind(&self) -> RegionKind {
        self.kept.kind()
    }

    /// Why what was kept is left alone, where it is.
    #[must_use]
    pub fn why_unread(&self) -> Option<&NotUsed> {
        self.unread.as_ref()
    }

    /// The state, for showing.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The rules that were configured.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Wakes whenever there may be something new to send to nodes. It holds no queue: only that
    /// there is news, which is read with [`newest`](Self::newest).
    #[must_use]
    pub fn announcements(&self) -> watch::Receiver<()> {
        self.announcements.subscribe()
    }

    /// Generates a key into the pending slot, if the state lets it.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing has changed then.
    pub fn keygen(&mut self, now: Now, if_pending: IfPending) -> Result<Done, Refusal> {
        self.refuse_where_unread()?;
        let asked = self
            .state
            .apply(&self.rules, now, &Input::Keygen { if_pending })?;
        if !asked.effects.contains(&Effect::Generate) {
            return Ok(Done {
                changed: asked.changed,
                notes: asked.notes,
            });
        }
        let key = generate().map_err(|error| failed(&error.into()))?;
        let vkey = key.verification_key();
        self.generated = Some(key);
        let done = self.submit(now, &Input::Generated { vkey, if_pending });
        // Wiped: what counts of it is in a cell.
        self.generated = None;
        done
    }

    /// Whether there is a pending key whose verification key can be exported.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn exported(&self) -> Result<Done, Refusal> {
        self.refuse_where_unread()?;
        self.state.exported().map(|_| Done::unchanged())
    }

    /// Carries out one input.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing has changed then.
    pub fn submit(&mut self, now: Now, input: &Input) -> Result<Done, Refusal> {
        if self.unread.is_some() && *input == Input::Tick {
            return Ok(Done::unchanged());
        }
        self.refuse_where_unread()?;
        let outcome = self.state.apply(&self.rules, now, input)?;
        self.carry_out(outcome)
    }

    /// Whether commands may be carried out at all.
    ///
    /// # Errors
    /// The [`Refusal`] where what was kept is left alone.
    pub fn refuse_where_unread(&self) -> Result<(), Refusal> {
        let Some(why) = &self.unread else {
            return Ok(());
        };
        Err(Refusal {
            code: RefusalCode::KeptUnread,
            sentence: format!("the agent does nothing, so as to lose nothing: its memory is {why}"),
            next_step: "as it says; `kes-cli status` shows it too".to_owned(),
            numbers: std::collections::BTreeMap::new(),
        })
    }

    fn carry_out(&mut self, outcome: Outcome) -> Result<Done, Refusal> {
        if outcome.changed || !outcome.effects.is_empty() {
            self.change(&outcome).map_err(|error| failed(&error))?;
        }
        if outcome.effects.contains(&Effect::Announce) {
            self.announcements.send_replace(());
        }
        Ok(Done {
            changed: outcome.changed,
            notes: outcome.notes,
        })
    }

    /// Makes the next state the one that counts: all of it, or nothing of it.
    fn change(&mut self, outcome: &Outcome) -> Result<(), EffectError> {
        crash_point!();
        let plan = self.plan(&outcome.effects);
        let came = match plan.pending {
            Some(Whence::Generated) => Some(self.place(Whence::Generated, Some(Evolution(0)))?),
            Some(Whence::Pending | Whence::Active | Whence::Received) | None => None,
        };
        let came = match (plan.active, plan.evolve) {
            (Some(Whence::Received), to) => Some(self.place(Whence::Received, to)?),
            (Some(whence), Some(to)) => Some(self.place(whence, Some(to))?),
            (Some(_) | None, _) => came,
        };
        crash_point!();
        // One key comes at a time: into the pending slot where it was generated, else into the
        // active one.
        let (came_to_pending, came_to_active) = match plan.pending {
            Some(Whence::Generated) => (came, None),
            Some(_) | None => (None, came),
        };
        let cell_of = |whence, came: &Option<KeptKey>| match (came, whence) {
            (Some(key), _) => Some(key.cell()),
            (None, Some(Whence::Pending)) => cell(self.pending.as_ref()),
            (None, Some(Whence::Active)) => cell(self.active.as_ref()),
            (None, Some(Whence::Generated | Whence::Received) | None) => None,
        };
        let cells = (
            cell_of(plan.pending, &came_to_pending),
            cell_of(plan.active, &came_to_active),
        );
        if let Err(error) = self.commit(&outcome.state, cells) {
            self.kept.wipe(came_to_pending.or(came_to_active));
            return Err(error.into());
        }
        self.state = outcome.state.clone();
        let mut pending = self.pending.take();
        let mut active = self.active.take();
        let mut settle = |whence, came: Option<KeptKey>| match (came, whence) {
            (Some(key), _) => Some(key),
            (None, Some(Whence::Pending)) => pending.take(),
            (None, Some(Whence::Active)) => active.take(),
            (None, Some(Whence::Generated | Whence::Received) | None) => None,
        };
        self.active = settle(plan.active, came_to_active);
        self.pending = settle(plan.pending, came_to_pending);
        // What no slot has any more.
        self.kept.wipe(pending);
        crash_point!();
        self.kept.wipe(active);
        crash_point!();
        Ok(())
    }

    fn plan(&self, effects: &[Effect]) -> Plan {
        let mut plan = Plan {
            pending: self.pending.is_some().then_some(Whence::Pending),
            active: self.active.is_some().then_some(Whence::Active),
            evolve: None,
        };
        for effect in effects {
            match effect {
                Effect::MoveGeneratedToPending => plan.pending = Some(Whence::Generated),
                Effect::WipePending => plan.pending = None,
                Effect::MovePendingToActive => plan.active = plan.pending.take(),
                Effect::MoveReceivedToActive => plan.active = Some(Whence::Received),
                Effect::EvolveActive { to } => plan.evolve = Some(*to),
                Effect::WipeActive => plan.active = None,
                // Asked for by `keygen` alone, which has done it before it comes here.
                Effect::Generate => {}
                // Everyone is told when the state counts.
                Effect::Announce => {}
            }
        }
        plan
    }

    /// Puts a key into a cell of its own, at the evolution `to` where one is wanted.
    fn place(&mut self, whence: Whence, to: Option<Evolution>) -> Result<KeptKey, EffectError> {
        fn at<S: kes_wire::sys::memory::SecretBytes<{ kes_wire::sum6kes::SIGN_KEY_BYTES }>>(
            kept: &mut Kept,
            key: &SignKey<S>,
            to: Option<Evolution>,
        ) -> Result<KeptKey, EffectError> {
            let to = to.unwrap_or(key.evolution());
            kept.place(key, to)?.ok_or(EffectError::NoCell)
        }
        let kept = &mut self.kept;
        let none = EffectError::NoSuchKey;
        match whence {
            Whence::Pending => at(kept, self.pending.as_ref().ok_or(none)?.key(), to),
            Whence::Active => at(kept, self.active.as_ref().ok_or(none)?.key(), to),
            Whence::Generated => at(kept, self.generated.as_ref().ok_or(none)?, to),
            Whence::Received => at(kept, self.received.as_ref().ok_or(none)?, to),
        }
    }

    fn commit(
        &mut self,
        state: &State,
        (pending_cell, active_cell): (Option<u8>, Option<u8>),
    ) -> Result<(), BadRecord> {
        self.kept.commit(&Record {
            cold_vkey: self.rules.cold_vkey,
            network: self.kept.network().clone(),
            state: state.clone(),
            pending_cell,
            active_cell,
            anchor: self.time.clone(),
        })
    }

    /// Hears what a peer agent sent. A key is checked whole before the state is asked; it is wiped
    /// here unless the state takes it.
    pub fn hear(&mut self, now: Now, message: ServiceMessage) -> Heard {
        if let Some(why) = &self.unread {
            return self.not_heard(ServiceResult::Unknown, "kept-unread", why);
        }
        let input = match message {
            ServiceMessage::Dropped { stamp } => Input::PeerDropped { stamp },
            ServiceMessage::Key(ReceivedKey {
                stamp,
                secret,
                evolution,
                opcert,
            }) => match SignKey::from_bytes(secret, evolution, &opcert.kes_vkey) {
                Ok(key) => {
                    self.received = Some(key);
                    Input::PeerKey {
                        // Older versions say no time: it is older than any that has one.
                        stamp: stamp.unwrap_or_default(),
                        opcert,
                        evolution,
                    }
                }
                Err(DamagedKey::Lock(error)) => return self.no_memory(&error),
                Err(damaged) => {
                    return self.not_heard(ServiceResult::InvalidOpCert, "damaged", &damaged);
                }
            },
        };
        let heard = self.hear_input(now, &input);
        self.received = None;
        heard
    }

    fn hear_input(&mut self, now: Now, input: &Input) -> Heard {
        let outcome = match self.state.apply(&self.rules, now, input) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                return self.not_heard(ServiceResult::Unknown, "internal", &refusal.sentence);
            }
        };
        let answer = outcome.answer;
        match self.carry_out(outcome) {
            Ok(_) => {}
            Err(refusal) if refusal.code == RefusalCode::NoLockedMemory => {
                return self.no_memory(&refusal.sentence);
            }
            Err(refusal) => {
                return self.not_heard(ServiceResult::Unknown, "internal", &refusal.sentence);
            }
        }
        let Some(answer) = answer else {
            return self.not_heard(ServiceResult::Unknown, "internal", &"no answer");
        };
        let sentence = match (answer, input) {
            (PeerAnswer::Declined(declined), _) => declined.to_string(),
            (
                PeerAnswer::Taken | PeerAnswer::Equal,
                Input::PeerKey {
                    opcert, evolution, ..
                },
            ) => format!(
                "key {}, counter {}, from period {}, sent at evolution {evolution}",
                opcert.kes_vkey, opcert.counter, opcert.start_period
            ),
            (PeerAnswer::Taken | PeerAnswer::Equal, _) => "the key was dropped".to_owned(),
        };
        Heard {
            result: answer.result(),
            name: answer.name(),
            sentence,
            awaits: answer.awaits(),
            held: self.state.active.stamp(),
        }
    }

    /// There may be memory for it later; the peer sends it again on another connection alone.
    fn no_memory(&self, reason: &dyn std::fmt::Display) -> Heard {
        Heard {
            awaits: Some(Awaits::Memory),
            ..self.not_heard(ServiceResult::Unknown, "no-locked-memory", reason)
        }
    }

    fn not_heard(
        &self,
        result: ServiceResult,
        name: &'static str,
        reason: &dyn std::fmt::Display,
    ) -> Heard {
        Heard {
            result,
            name,
            sentence: reason.to_string(),
            awaits: None,
            held: self.state.active.stamp(),
        }
    }

    /// What a node may be given now. Submit [`Input::Tick`] with the same `now` before.
    #[must_use]
    pub fn newest(&self, now: Now) -> Newest<'_> {
        match self.state.served(&self.rules, now) {
            Served::Bundle {
                opcert,
                evolution,
                stamp,
            } => match &self.active {
                // The state and the key must agree: a node checks nothing.
                Some(kept)
                    if kept.key().evolution() == evolution
                        && kept.key().verification_key() == opcert.kes_vkey =>
                {
                    let key = kept.key();
                    Newest::Key { stamp, key, opcert }
                }
                Some(_) | None => Newest::Nothing,
            },
            Served::Tombstone { stamp, .. } => Newest::Dropped { stamp },
            Served::Nothing | Served::Withheld(_) => Newest::Nothing,
        }
    }

    /// Wakes all who wait for announcements, where time and not a command may have brought news.
    pub fn wake(&self) {
        self.announcements.send_replace(());
    }
}

fn failed(error: &EffectError) -> Refusal {
    let (code, next_step) = match error {
        EffectError::Lock(_) | EffectError::Evolve(EvolveError::Lock(_)) => (
            RefusalCode::NoLockedMemory,
            "raise the limit for locked memory and try again",
        ),
        EffectError::Evolve(EvolveError::Past { .. } | EvolveError::Spent(_))
        | EffectError::NoSuchKey
        | EffectError::NoCell
        | EffectError::Record(_) => (
            RefusalCode::Internal,
            "please report this with the agent's log",
        ),
    };
    Refusal {
        code,
        sentence: format!("the agent could not do it: {error}"),
        next_step: next_step.to_owned(),
        numbers: std::collections::BTreeMap::new(),
    }
}

fn cell(key: Option<&KeptKey>) -> Option<u8> {
    key.map(KeptKey::cell)
}

fn generate() -> Result<SignKey, LockError> {
    #[cfg(feature = "for-tests")]
    return SignKey::from_seed(crate::for_tests::seed()?);
    #[cfg(not(feature = "for-tests"))]
    SignKey::generate()
}
