//! The agent's state: a pure function of (state, command or event, now).
//!
//! It holds no secret: a key is named by its verification key and evolution. It does no I/O and
//! reads no clock. [`State::apply`] is the one way to change it: it answers with the next state
//! and the [`Effect`]s that an executor, which owns the memory, carries out in their order; or with
//! a refusal, and then there is nothing to undo.
//!
//! Where each rule is enforced:
//!
//! | rule | file |
//! | --- | --- |
//! | nothing pending is replaced or lost by a mistake | [`pending`] |
//! | only a checked certificate becomes active, all at once or not at all | [`active`] |
//! | of this pool, for this key, within its periods | [`certificate`] |
//! | not older than a key served before | [`counters`] |
//! | what is taken from a peer agent, and what is passed on | [`peers`] |
//! | evolve, expire, begin what is scheduled | [`tick`] |
//! | never served early, expired or ahead | [`served`] |
//! | a newer state has a newer stamp | [`stamps`] |
//! | what an operator reads | [`wording`] |

mod active;
mod certificate;
mod counters;
mod peer_answers;
mod peers;
mod pending;
mod served;
mod stamps;
mod tick;
mod wording;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use kes_wire::cold::ColdVerificationKey;
use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{
    IfPending, ImportedOpCert, Note, Refusal, RefusalCode,
};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;

pub use certificate::Phase;
pub use peer_answers::{Awaits, Declined, FUTURE_TOLERANCE, PeerAnswer};
pub use served::{Served, Withheld};

/// What is fixed when the agent starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    /// The pool's cold verification key: only its certificates are accepted.
    pub cold_vkey: ColdVerificationKey,
    /// How many evolutions of a key the ledger accepts (`maxKESEvolutions` of the genesis; 62 on
    /// the public networks). More than the 64 that the algorithm has count as 64.
    pub max_evolutions: u32,
}

/// The moment at which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// The time, as a stamp would have it.
    pub stamp: Stamp,
    /// The KES period of that time.
    pub period: KesPeriod,
    /// Whether the time may be acted by ([`crate::trusted_time`]). Where it may not, nothing
    /// evolves, expires, begins or is served.
    pub is_trusted: bool,
}

impl Now {
    /// A refusal that rests on this moment, with what to look at first where it is in doubt: who
    /// issued a certificate for a wrong clock's period would have it rejected by the chain.
    #[must_use]
    pub fn doubted(&self, mut refusal: Refusal) -> Refusal {
        if !self.is_trusted && refusal.code == RefusalCode::Expired {
            refusal.next_step = format!(
                "compare this machine's clock with a watch, nothing vouches for it (timedatectl); \
                 only if it is right: {}",
                refusal.next_step
            );
        }
        refusal
    }
}

/// A drop that this agent knows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tombstone {
    /// When.
    pub stamp: Stamp,
    /// The key that was dropped; `None` where only a peer's word of the drop came.
    pub vkey: Option<VerificationKey>,
}

/// The agent's state. All of it is public.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The key that waits to be activated.
    pub pending: Pending,
    /// The key that is served.
    pub active: Active,
    /// The counter of the last certificate that was made active, which is also the highest unless
    /// an operator allowed a lower one. `None` where the agent has never had an active key. It
    /// survives drops and expiry. A lower counter that was allowed for a later period counts from
    /// its activation on, and goes on to count where that schedule is cancelled.
    pub high_water_mark: Option<u64>,
    /// The newest stamp that was ever given to an install or a drop.
    pub newest_stamp: Stamp,
    /// The newest drop that this agent knows of: what was dropped never returns here. It survives
    /// later installs and, on disk, a restart of the machine.
    pub tombstone: Option<Tombstone>,
}

/// The pending slot. Its key is at evolution 0; it is never evolved and never served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pending {
    /// Nothing waits.
    Empty,
    /// A key was generated; its certificate is awaited.
    Key {
        /// Its verification key.
        vkey: VerificationKey,
    },
    /// A key and its certificate, which was checked when it was imported.
    Certified {
        /// The certificate; it names the key.
        opcert: OpCert,
    },
    /// Activated for a later period: becomes active by itself when that begins.
    Scheduled {
        /// The certificate; it names the key.
        opcert: OpCert,
    },
}

/// The active slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Active {
    /// There has been no key.
    Empty,
    /// A key with its certificate.
    Bundle {
        /// The certificate; it names the key.
        opcert: OpCert,
        /// The evolution at which the key is held. Earlier ones cannot be had any more.
        evolution: Evolution,
        /// When it was installed.
        stamp: Stamp,
    },
    /// The certificate's last period has passed; the secret is wiped.
    Expired {
        /// The certificate.
        opcert: OpCert,
        /// When it was installed.
        stamp: Stamp,
        /// When the agent noticed.
        since: Stamp,
    },
    /// Dropped by an operator: a tombstone, which tells nodes to stop using the key.
    Dropped {
        /// The key that was dropped; `None` where only a peer's word of the drop came.
        vkey: Option<VerificationKey>,
        /// When.
        stamp: Stamp,
    },
}

/// A command or an event.
///
/// The executor applies [`Input::Tick`] first whenever time may have passed, so that commands
/// meet a state that is up to date.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// Generate a key into the pending slot. Answered with [`Effect::Generate`] where that may be
    /// done; the state changes when the key is there, with [`Input::Generated`].
    Keygen {
        /// What to do where a key waits there already.
        if_pending: IfPending,
    },
    /// A key was generated. The rule of `Keygen` is asked again, so that nothing that happened in
    /// between is lost; where it refuses or changes nothing the executor wipes the generated key.
    Generated {
        /// The key's verification key.
        vkey: VerificationKey,
        /// What the `Keygen` said.
        if_pending: IfPending,
    },
    /// Check a certificate and keep it beside the pending key.
    ImportOpcert {
        /// The certificate.
        import: ImportedOpCert,
        /// Accept a counter below the high-water mark, where the active slot allows it.
        allow_lower_counter: bool,
    },
    /// Make the pending key the active one, now or when its first period begins.
    Activate {
        /// A certificate to import first. Either both happen or neither.
        import: Option<ImportedOpCert>,
        /// Accept a counter below the high-water mark, where the active slot allows it.
        allow_lower_counter: bool,
    },
    /// Wipe the pending key and its certificate; cancels a schedule.
    DropPending,
    /// Wipe the active key and leave a tombstone.
    DropActive,
    /// A peer agent sent a key. The executor has received it and found it whole and to be the
    /// certificate's; where the outcome does not move it into the active slot it is wiped. Never
    /// refused: [`Outcome::answer`] says what the peer is told.
    PeerKey {
        /// When it was installed, as the peer says.
        stamp: Stamp,
        /// Its certificate.
        opcert: OpCert,
        /// The evolution at which it came.
        evolution: Evolution,
    },
    /// A peer agent sent word of a drop. Never refused.
    PeerDropped {
        /// When, as the peer says.
        stamp: Stamp,
    },
    /// Time has passed, or may have. Never refused; applied twice it changes nothing.
    Tick,
}

/// What the executor does, in the order in which the effects stand in an [`Outcome`]. None of them
/// can fail but [`Effect::Generate`], which stands alone and comes before any change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Generate a key outside the slots, then apply [`Input::Generated`]. Should it fail, nothing
    /// has happened yet.
    Generate,
    /// Move the generated key into the pending slot, over what is wiped there.
    MoveGeneratedToPending,
    /// Wipe the pending key.
    WipePending,
    /// Move the pending key into the active slot, over what is wiped there.
    MovePendingToActive,
    /// Move the key received from a peer into the active slot, over what is wiped there.
    MoveReceivedToActive,
    /// Evolve the active key, wiping what it was.
    EvolveActive {
        /// The evolution to reach; higher than the present one.
        to: Evolution,
    },
    /// Wipe the active key.
    WipeActive,
    /// There is a newer active state: everyone connected is to be sent what [`State::served`]
    /// says, read at the moment of sending.
    Announce,
}

/// What an input led to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The next state.
    pub state: State,
    /// Whether it differs from the one before.
    pub changed: bool,
    /// What the executor does now.
    pub effects: Vec<Effect>,
    /// What an operator should know beside it.
    pub notes: Vec<Note>,
    /// What a peer is answered, where the input came from one.
    pub answer: Option<PeerAnswer>,
}

impl State {
    /// The state of an agent that has just been started for the first time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pending: Pending::Empty,
            active: Active::Empty,
            high_water_mark: None,
            newest_stamp: Stamp(0),
            tombstone: None,
        }
    }

    /// The state of an agent that kept nothing but what stands on disk: what was active last is
    /// gone, but a drop that was the last word still is.
    #[must_use]
    pub fn from_marks(
        high_water_mark: Option<u64>,
        newest_stamp: Stamp,
        tombstone: Option<Tombstone>,
    ) -> Self {
        let active = match tombstone {
            Some(Tombstone { stamp, vkey }) if stamp == newest_stamp => {
                Active::Dropped { vkey, stamp }
            }
            Some(_) | None => Active::Empty,
        };
        Self {
            active,
            high_water_mark,
            newest_stamp,
            tombstone,
            ..Self::new()
        }
    }

    /// What `input` leads to at `now`. `self` is left as it is, so a refusal has changed nothing.
    ///
    /// # Errors
    /// A [`Refusal`] with the rule that was broken and what to do next.
    pub fn apply(&self, rules: &Rules, now: Now, input: &Input) -> Result<Outcome, Refusal> {
        match input {
            Input::Keygen { if_pending } => self.keygen(now, *if_pending),
            Input::Generated { vkey, if_pending } => self.generated(now, *vkey, *if_pending),
            Input::ImportOpcert {
                import,
                allow_lower_counter,
            } => self.import_opcert(rules, now, import, *allow_lower_counter),
            Input::Activate {
                import,
                allow_lower_counter,
            } => self.activate(rules, now, import.as_ref(), *allow_lower_counter),
            Input::DropPending => self.drop_pending(),
            Input::DropActive => self.drop_active(now),
            Input::PeerKey {
                stamp,
                opcert,
                evolution,
            } => Ok(self.peer_key(rules, now, *stamp, opcert, *evolution)),
            Input::PeerDropped { stamp } => Ok(self.peer_dropped(now, *stamp)),
            Input::Tick => Ok(self.tick(rules, now)),
        }
    }

    /// Nothing to do but to say something.
    fn unchanged(&self, notes: Vec<Note>) -> Outcome {
        self.becomes(self.clone(), Vec::new(), notes)
    }

    fn becomes(&self, state: Self, effects: Vec<Effect>, notes: Vec<Note>) -> Outcome {
        Outcome {
            changed: state != *self,
            state,
            effects,
            notes,
            answer: None,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl Pending {
    /// The certificate of the key that waits, if it has one.
    #[must_use]
    pub fn certificate(&self) -> Option<&OpCert> {
        match self {
            Self::Empty | Self::Key { .. } => None,
            Self::Certified { opcert } | Self::Scheduled { opcert } => Some(opcert),
        }
    }

    /// The key that waits, if any.
    #[must_use]
    pub fn vkey(&self) -> Option<&VerificationKey> {
        match self {
            Self::Empty => None,
            Self::Key { vkey } => Some(vkey),
            Self::Certified { opcert } | Self::Scheduled { opcert } => Some(&opcert.kes_vkey),
        }
    }
}
