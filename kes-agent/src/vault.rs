//! The vault: the two sign keys in locked memory, and the state that says what they are.
//!
//! Every change goes one way: an input is given to the pure state, which answers with the next
//! state and with effects; the effects are carried out on the keys here; only then does the next
//! state count. A refused input, or an effect that fails, leaves both as they were.

use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::{IfPending, Note, Refusal, RefusalCode};
use kes_wire::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::{DamagedKey, EvolveError, SignKey};
use kes_wire::sys::memory::LockError;
use tokio::sync::watch;

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
        key: &'a SignKey,
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
    /// A key that was generated and is not in a slot yet.
    generated: Option<SignKey>,
    /// A key that came from a peer and is not in the slot yet.
    received: Option<SignKey>,
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
            state: State::new(),
            generated: None,
            received: None,
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

    /// Generates a key into the pending slot, if the state lets it.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing has changed then.
    pub fn keygen(&mut self, now: Now, if_pending: IfPending) -> Result<Done, Refusal> {
        let asked = self
            .state
            .apply(&self.rules, now, &Input::Keygen { if_pending })?;
        if !asked.effects.contains(&Effect::Generate) {
            return Ok(Done {
                changed: asked.changed,
                notes: asked.notes,
            });
        }
        let key = SignKey::generate().map_err(|error| failed(&error.into()))?;
        let vkey = key.verification_key();
        self.generated = Some(key);
        let done = self.submit(now, &Input::Generated { vkey, if_pending });
        // Wiped here, unless it was moved into its slot.
        self.generated = None;
        done
    }

    /// Carries out one input.
    ///
    /// # Errors
    /// The [`Refusal`]; nothing has changed then.
    pub fn submit(&mut self, now: Now, input: &Input) -> Result<Done, Refusal> {
        let outcome = self.state.apply(&self.rules, now, input)?;
        self.carry_out(outcome)
    }

    /// Evolves the keys that the effects evolve, where they stand. It is the only effect that can
    /// fail (for want of a locked stack), and it leaves a key as it was then: done before any key
    /// is moved or wiped, a failure has lost nothing.
    fn evolve_first(&mut self, effects: &[Effect]) -> Result<(), EffectError> {
        let mut becomes_active = &mut self.active;
        for effect in effects {
            match effect {
                Effect::MovePendingToActive => becomes_active = &mut self.pending,
                Effect::MoveReceivedToActive => becomes_active = &mut self.received,
                Effect::EvolveActive { to } => {
                    becomes_active
                        .as_mut()
                        .ok_or(EffectError::NoSuchKey)?
                        .evolve_to(*to)?;
                }
                Effect::Generate
                | Effect::MoveGeneratedToPending
                | Effect::WipePending
                | Effect::WipeActive
                | Effect::Announce => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, outcome: Outcome) -> Result<Done, Refusal> {
        self.evolve_first(&outcome.effects)
            .map_err(|error| failed(&error))?;
        for effect in &outcome.effects {
            self.perform(effect).map_err(|error| failed(&error))?;
        }
        self.state = outcome.state;
        if outcome.effects.contains(&Effect::Announce) {
            self.announcements.send_replace(());
        }
        Ok(Done {
            changed: outcome.changed,
            notes: outcome.notes,
        })
    }

    /// Hears what a peer agent sent. A key is checked whole before the state is asked; it is wiped
    /// here unless the state takes it.
    pub fn hear(&mut self, now: Now, message: ServiceMessage) -> Heard {
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
                Err(DamagedKey::Lock(error)) => {
                    return self.not_heard(ServiceResult::Unknown, "no-locked-memory", &error);
                }
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
        if let Err(refusal) = self.carry_out(outcome) {
            return self.not_heard(ServiceResult::Unknown, "internal", &refusal.sentence);
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

    /// Carries out one effect on the keys.
    fn perform(&mut self, effect: &Effect) -> Result<(), EffectError> {
        match effect {
            // Asked for by `keygen` alone, which has done it before it comes here.
            Effect::Generate => {}
            Effect::MoveGeneratedToPending => {
                self.pending = Some(self.generated.take().ok_or(EffectError::NoSuchKey)?);
            }
            Effect::WipePending => self.pending = None,
            Effect::MovePendingToActive => {
                self.active = Some(self.pending.take().ok_or(EffectError::NoSuchKey)?);
            }
            Effect::MoveReceivedToActive => {
                self.active = Some(self.received.take().ok_or(EffectError::NoSuchKey)?);
            }
            Effect::EvolveActive { to } => {
                self.active
                    .as_mut()
                    .ok_or(EffectError::NoSuchKey)?
                    .evolve_to(*to)?;
            }
            Effect::WipeActive => self.active = None,
            // Everyone is told when the state counts.
            Effect::Announce => {}
        }
        Ok(())
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
                Some(key)
                    if key.evolution() == evolution
                        && key.verification_key() == opcert.kes_vkey =>
                {
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
        EffectError::Lock(_) => (
            RefusalCode::NoLockedMemory,
            "raise the limit for locked memory and try again",
        ),
        EffectError::Evolve(_) | EffectError::NoSuchKey => (
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
