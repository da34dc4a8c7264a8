//! The vault: the two sign keys in locked memory, and the state that says what they are.
//!
//! Every change goes one way: an input is given to the pure state, which answers with the next
//! state and with effects; the effects are carried out on the keys here; only then does the next
//! state count. A refused input, or an effect that fails, leaves both as they were.

use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::{Note, Refusal, RefusalCode};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::{EvolveError, SignKey};
use kes_wire::sys::memory::LockError;
use tokio::sync::watch;

use crate::state::{Active, Effect, Input, Now, Rules, Served, State};

/// What an input did.
pub struct Done {
    /// Whether anything changed.
    pub changed: bool,
    /// What the operator should know.
    pub notes: Vec<Note>,
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
        key: &'a SignKey,
        /// Its certificate.
        opcert: &'a OpCert,
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
    pending: Option<SignKey>,
    active: Option<SignKey>,
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
}

impl Vault {
    /// An empty vault.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::default(),
            pending: None,
            active: None,
            announcements: watch::Sender::new(()),
        }
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

    /// Brings the keys up to `now`: evolves, expires, activates what was scheduled. Returns what
    /// is worth a line in the log.
    pub fn tick(&mut self, now: Now) -> Vec<Note> {
        match self.submit(now, &Input::Tick) {
            Ok(done) => done.notes,
            Err(refusal) => vec![Note {
                code: refusal.code.name().to_owned(),
                sentence: refusal.sentence,
            }],
        }
    }

    /// Carries out one input.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing has changed then.
    pub fn submit(&mut self, now: Now, input: &Input) -> Result<Done, Refusal> {
        let mut changed = false;
        let mut notes = Vec::new();
        let mut follow_up = Some(self.step(now, input, &mut changed, &mut notes)?);
        while let Some(Some(input)) = follow_up {
            follow_up = Some(self.step(now, &input, &mut changed, &mut notes)?);
        }
        Ok(Done { changed, notes })
    }

    /// One input through the pure state and its effects; an effect may ask for a further input.
    fn step(
        &mut self,
        now: Now,
        input: &Input,
        changed: &mut bool,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Input>, Refusal> {
        let outcome = self.state.apply(&self.rules, now, input)?;
        let mut follow_up = None;
        let mut announce = false;
        for effect in &outcome.effects {
            match effect {
                Effect::Announce => announce = true,
                other => follow_up = self.perform(*other).map_err(failed)?.or(follow_up),
            }
        }
        *changed |= outcome.changed;
        notes.extend(outcome.notes);
        self.state = outcome.state;
        if announce {
            self.announcements.send_replace(());
        }
        Ok(follow_up)
    }

    /// Carries out one effect on the keys.
    fn perform(&mut self, effect: Effect) -> Result<Option<Input>, EffectError> {
        match effect {
            Effect::GeneratePending => {
                let key = SignKey::generate()?;
                let vkey = key.verification_key();
                self.pending = Some(key);
                return Ok(Some(Input::Generated { vkey }));
            }
            Effect::WipePending => self.pending = None,
            Effect::EvolvePending { to } => {
                self.pending.as_mut().ok_or(EffectError::NoSuchKey)?.evolve_to(to)?;
            }
            Effect::MovePendingToActive => {
                self.active = Some(self.pending.take().ok_or(EffectError::NoSuchKey)?);
            }
            Effect::EvolveActive { to } => {
                self.active.as_mut().ok_or(EffectError::NoSuchKey)?.evolve_to(to)?;
            }
            Effect::WipeActive => self.active = None,
            Effect::Announce => {}
        }
        Ok(None)
    }

    /// What a node may be given now. Call [`tick`](Self::tick) with the same `now` before.
    #[must_use]
    pub fn newest(&self, now: Now) -> Newest<'_> {
        match (self.state.served(&self.rules, now), &self.active) {
            // The state and the key must agree on the evolution: a node checks nothing.
            (Served::Key { opcert, evolution, stamp }, Some(key))
                if key.evolution() == evolution && key.verification_key() == opcert.kes_vkey =>
            {
                Newest::Key { stamp, key, opcert }
            }
            (Served::Dropped { stamp }, _) => Newest::Dropped { stamp },
            _ => Newest::Nothing,
        }
    }

    /// Wakes all who wait for announcements, where time and not a command may have brought news.
    pub fn wake(&self) {
        self.announcements.send_replace(());
    }

    /// Whether a node is being served a key of this certificate: for the status.
    #[must_use]
    pub fn holds_active_key(&self) -> bool {
        matches!(self.state.active, Active::Bundle { .. }) && self.active.is_some()
    }
}

fn failed(error: EffectError) -> Refusal {
    let (code, next_step) = match error {
        EffectError::Lock(_) => {
            (RefusalCode::NoLockedMemory, "Raise the limit for locked memory and try again.")
        }
        EffectError::Evolve(_) | EffectError::NoSuchKey => {
            (RefusalCode::Internal, "Please report this with the agent's log.")
        }
    };
    Refusal {
        code,
        sentence: format!("The agent could not do it: {error}."),
        next_step: next_step.to_owned(),
        numbers: std::collections::BTreeMap::new(),
    }
}
