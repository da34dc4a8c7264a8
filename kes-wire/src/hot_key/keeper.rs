//! The receiving side's rules: which key is accepted, which stage is prepared, when one is let go.
//!
//! No socket and no clock: messages and the time are arguments. It is the one owner of everything
//! that can evolve.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Shared;
use super::content::{Absence, Content, Signing};
use super::event::{Decline, EXPIRY_WARNING_PERIODS, Event};
use super::stage::Stage;
use super::state::{ForgingState, KesInfo};
use crate::cold::ColdVerificationKey;
use crate::genesis::Network;
use crate::opcert::{OpCert, OutOfPeriod};
use crate::period::{Evolution, KesPeriod};
use crate::protocol::service::{ReceivedKey, ServiceMessage, ServiceResult};
use crate::protocol::stamp::Stamp;
use crate::sum6kes::{DamagedKey, EvolveError, LeafSigner, SignKey};
use crate::sys::cells::CellPool;
use crate::sys::memory::LockError;
use crate::unix_time::UnixTime;

/// The owner of a hot key's secrets.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    cold_vkey: ColdVerificationKey,
    grace: Duration,
    cells: CellPool,
    /// The key that the newest stages were made of.
    held: Option<Source>,
    /// A key that was accepted and has no stage yet.
    incoming: Option<Source>,
    made: Vec<Made>,
    /// The newest certificate accepted. A drop forgets it.
    newest: Option<OpCert>,
    /// The last stamp on this connection.
    last_stamp: Option<Stamp>,
    /// What the last message on this connection, a key that was refused, waits for.
    awaits: Option<Awaits>,
    /// What the events have told of.
    told: Option<Told>,
    told_state: Option<ForgingState>,
}

/// The memory of a stage and what signs in it. Whoever uses a stage last, a forging thread
/// perhaps, drops and so wipes it; the memory is given back here, so that no forging thread has to
/// deal with the allocator.
struct Made {
    stage: Weak<Stage<Content>>,
    signing: Option<Weak<Signing>>,
    /// Nobody had it any more when it was looked at last.
    is_over: bool,
}

/// What is in the way of a key that is right but for the state of this node. The agent does not send
/// it again on the connection.
#[derive(Clone, Copy)]
enum Awaits {
    /// Memory that can be locked.
    Memory,
    /// A clock before this period: by the present one, which may be wrong, the key has expired.
    ClockBefore(KesPeriod),
}

/// A key that stages are made of.
struct Source {
    opcert: OpCert,
    /// The whole key, never at an earlier evolution than the newest stage made of it. `None` once
    /// there is nothing left to evolve to.
    key: Option<SignKey>,
}

/// A key at a period, or its end.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Told {
    Signing(KesPeriod, OpCert),
    Spent(KesPeriod),
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        cold_vkey: ColdVerificationKey,
        grace: Duration,
    ) -> Result<Self, LockError> {
        Ok(Self {
            shared,
            cold_vkey,
            grace,
            cells: CellPool::new()?,
            held: None,
            incoming: None,
            made: Vec::new(),
            newest: None,
            last_stamp: None,
            awaits: None,
            told: None,
            told_state: None,
        })
    }

    /// A connection begins: stamps are counted anew.
    pub(super) fn connected(&mut self, event: Event) {
        self.last_stamp = None;
        self.shared.is_connected.store(true, Ordering::Relaxed);
        self.shared.tell(event);
        self.tell_state();
    }

    /// The connection has ended. The key is kept.
    pub(super) fn disconnected(&mut self, event: Event) {
        self.awaits = None;
        self.shared.is_connected.store(false, Ordering::Relaxed);
        self.shared.tell(event);
        self.tell_state();
    }

    pub(super) fn tell(&self, event: Event) {
        self.shared.tell(event);
    }

    /// Whether a key that was refused on this connection may be taken now, so that it is worth
    /// another connection.
    pub(super) fn is_to_ask_again(&self, now: UnixTime) -> bool {
        match self.awaits {
            Some(Awaits::Memory) => true,
            Some(Awaits::ClockBefore(expiry)) => self.network().period_at(now) < expiry,
            None => false,
        }
    }

    /// Whether a key was refused on this connection for want of memory.
    pub(super) fn lacks_memory(&self) -> bool {
        matches!(self.awaits, Some(Awaits::Memory))
    }

    /// Takes or refuses what the agent sent, and gives the answer to it.
    pub(super) fn receive(&mut self, message: ServiceMessage, now: UnixTime) -> ServiceResult {
        let stamp = match &message {
            ServiceMessage::Key(received) => received.stamp,
            ServiceMessage::Dropped { stamp } => Some(*stamp),
        };
        if let (Some(stamp), Some(last)) = (stamp, self.last_stamp)
            && stamp <= last
        {
            self.decline(Decline::NotNewer { stamp, last });
            return ServiceResult::KeyOutdated;
        }
        self.last_stamp = stamp;
        self.awaits = None;
        self.shared.refused.store(None);
        match message {
            ServiceMessage::Dropped { .. } => {
                self.let_everything_go(Absence::Dropped);
                self.shared.tell(Event::DroppedKey);
                self.tell_state();
                ServiceResult::Ok
            }
            ServiceMessage::Key(received) => self.receive_key(received, now),
        }
    }

    fn receive_key(&mut self, received: ReceivedKey, now: UnixTime) -> ServiceResult {
        let opcert = received.opcert;
        match self.check(received, now) {
            Ok(None) => {
                let evolution = opcert
                    .evolution_at(self.network().period_at(now), self.network().max_evolutions)
                    .unwrap_or(Evolution(0));
                let key = KesInfo::new(&opcert, evolution, self.network());
                self.shared.tell(Event::ReceivedAgain { key });
                ServiceResult::Ok
            }
            Ok(Some(source)) => {
                let first = source.first_period();
                let evolution = source.key.as_ref().map(SignKey::evolution);
                let key = KesInfo::new(&opcert, evolution.unwrap_or(Evolution(0)), self.network());
                let waits = first > self.network().period_at(now);
                self.newest = Some(opcert);
                self.incoming = Some(source);
                self.shared.tell(Event::ReceivedKey { key, waits });
                self.settle(now);
                ServiceResult::Ok
            }
            Err(Decline::Damaged(DamagedKey::Lock(reason))) => {
                self.awaits = Some(Awaits::Memory);
                let refused = Decline::Damaged(DamagedKey::Lock(reason.clone()));
                self.shared.refused.store(Some(Arc::new(refused)));
                self.shared.tell(Event::CannotLock { reason });
                ServiceResult::Unknown
            }
            Err(reason) => {
                if let Decline::Spent(OutOfPeriod::Expired { expiry, period }) = reason
                    && period >= expiry
                {
                    self.awaits = Some(Awaits::ClockBefore(expiry));
                }
                let result = match reason {
                    Decline::NotNewer { .. } => ServiceResult::KeyOutdated,
                    // An agent that is told 1 shows that this node has the newest key.
                    Decline::LowerCounter { .. }
                    | Decline::NotOfThisPool
                    | Decline::Spent(_)
                    | Decline::Damaged(_) => ServiceResult::InvalidOpCert,
                };
                self.shared.refused.store(Some(Arc::new(reason.clone())));
                self.decline(reason);
                result
            }
        }
    }

    /// Checks a key whole; `None` for the one that is held already.
    fn check(&self, received: ReceivedKey, now: UnixTime) -> Result<Option<Source>, Decline> {
        let ReceivedKey {
            stamp: _,
            secret,
            evolution,
            opcert,
        } = received;
        if !opcert.is_signed_by(&self.cold_vkey) {
            return Err(Decline::NotOfThisPool);
        }
        if let Some(newest) = &self.newest {
            let (received, held) = (opcert.counter, newest.counter);
            self.shared.tell(Event::CounterCheck { held, received });
            if received < held {
                return Err(Decline::LowerCounter { received, held });
            }
        }
        let max = self.network().max_evolutions;
        let (period, expiry) = (self.network().period_at(now), opcert.expiry_period(max));
        if period >= expiry || evolution.0 >= max {
            return Err(Decline::Spent(OutOfPeriod::Expired { expiry, period }));
        }
        if self.newest == Some(opcert) {
            return Ok(None);
        }
        let key = SignKey::from_bytes(secret, evolution, &opcert.kes_vkey)?;
        Ok(Some(Source {
            opcert,
            key: Some(key),
        }))
    }

    fn decline(&self, reason: Decline) {
        self.shared.tell(Event::DeclinedKey { reason });
    }

    /// Brings the stages up to date: a key that came takes over as soon as it can sign what is
    /// asked for now, the next stage is prepared, and what is past its grace is let go. Gives the
    /// moment at which it is to be called again at the latest.
    pub(super) fn settle(&mut self, now: UnixTime) -> UnixTime {
        self.give_back();
        loop {
            match self.step(now) {
                Ok(Step::Again) => {}
                Ok(Step::Wait(until)) => {
                    self.tell_what_signs();
                    self.tell_state();
                    return until;
                }
                Err(reason) => {
                    self.shared.tell(Event::CannotLock { reason });
                    return UnixTime(now.0.saturating_add(1_000_000));
                }
            }
        }
    }

    /// One change of the stages. Each is made against the stage that was seen: where a forging
    /// thread has turned meanwhile, nothing is changed, and it is looked at again.
    fn step(&mut self, now: UnixTime) -> Result<Step, LockError> {
        let shared = Arc::clone(&self.shared);
        let seen = shared.stages.present();
        let clock = self.network().period_at(now);
        if let Some(step) = self.take_over(&seen, clock)? {
            return Ok(step);
        }
        let following = following(seen.period);
        match (&seen.content, &seen.next) {
            (Content::Key(_), None) => {
                let next = self.stage_of_held(following)?;
                if let Content::Key(_) = next.content {
                    self.follow_up(&seen, next);
                    return Ok(Step::Again);
                }
                // The last period. What comes after it is not shown to forging threads before its
                // time: a request too far ahead must not cost the node its key.
                let let_go = self.let_go(following, self.grace);
                if now < let_go {
                    return Ok(Step::Wait(let_go));
                }
                let next = self.made(next);
                shared.stages.put_if(&seen, next);
            }
            (content, Some(next)) => {
                // Where nothing signs there is nothing to keep for a late block.
                let grace = match content {
                    Content::Key(_) => self.grace,
                    Content::Nothing(_) => Duration::ZERO,
                };
                let let_go = self.let_go(next.period, grace);
                if now < let_go {
                    return Ok(Step::Wait(let_go));
                }
                shared.stages.turn(&seen);
            }
            (Content::Nothing(_), None) => return Ok(Step::Wait(UnixTime(u64::MAX))),
        }
        Ok(Step::Again)
    }

    /// When what stands before `period` is let go without a request.
    fn let_go(&self, period: KesPeriod, grace: Duration) -> UnixTime {
        let grace = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
        UnixTime(self.network().period_start(period).0.saturating_add(grace))
    }

    /// What becomes of a key that came; `None` where there is none or it has to wait.
    fn take_over(
        &mut self,
        seen: &Arc<Stage<Content>>,
        clock: KesPeriod,
    ) -> Result<Option<Step>, LockError> {
        let Some(first) = self.incoming.as_ref().map(Source::first_period) else {
            return Ok(None);
        };
        let signs_now = match &seen.content {
            // Blocks for the old period may still be asked for after the turn: the new key takes
            // over where it can sign for that period too.
            Content::Key(_) if first <= seen.period => Some(first.max(seen.period.min(clock))),
            Content::Key(_) => None,
            Content::Nothing(_) => (first <= clock).then_some(clock),
        };
        let placed = if let Some(period) = signs_now {
            let stage = self.stage_of_incoming(period)?;
            let stage = self.made(stage);
            self.shared.stages.put_if(seen, stage)
        } else if first == following(seen.period) && matches!(seen.content, Content::Key(_)) {
            let next = self.stage_of_incoming(first)?;
            self.follow_up(seen, next)
        } else if let Content::Nothing(_) = seen.content {
            let next = self.stage_of_incoming(first)?;
            let stage = Stage {
                period: KesPeriod(0),
                content: Content::Nothing(Absence::StartsLater(first)),
                next: Some(self.made(next)),
            };
            let stage = self.made(stage);
            self.shared.stages.put_if(seen, stage)
        } else {
            self.show_waiting();
            return Ok(None);
        };
        if placed {
            // What the stages were made of before is wiped here.
            self.held = self.incoming.take();
            self.show_waiting();
        }
        Ok(Some(Step::Again))
    }

    /// Prepares `next` as what comes after the stage that was seen.
    fn follow_up(&mut self, seen: &Arc<Stage<Content>>, next: Stage<Content>) -> bool {
        let stage = Stage {
            period: seen.period,
            content: seen.content.clone(),
            next: Some(self.made(next)),
        };
        let stage = self.made(stage);
        self.shared.stages.put_if(seen, stage)
    }

    fn made(&mut self, stage: Stage<Content>) -> Arc<Stage<Content>> {
        let stage = Arc::new(stage);
        self.made.push(Made {
            stage: Arc::downgrade(&stage),
            signing: match &stage.content {
                Content::Key(signing) => Some(Arc::downgrade(signing)),
                Content::Nothing(_) => None,
            },
            is_over: false,
        });
        stage
    }

    /// Gives back the memory of what nobody uses any more. What has only just become so waits for
    /// the next time: its last user may still be at it.
    fn give_back(&mut self) {
        self.made.retain_mut(|made| {
            let signs = made.signing.as_ref().map_or(0, Weak::strong_count);
            let is_over = signs == 0 && made.stage.strong_count() == 0;
            !(core::mem::replace(&mut made.is_over, is_over) && is_over)
        });
    }

    fn stage_of_held(&mut self, period: KesPeriod) -> Result<Stage<Content>, LockError> {
        let network = &self.shared.network;
        match &mut self.held {
            Some(source) => source.stage(period, network, &mut self.cells),
            None => Ok(nothing(period)),
        }
    }

    fn stage_of_incoming(&mut self, period: KesPeriod) -> Result<Stage<Content>, LockError> {
        let network = &self.shared.network;
        match &mut self.incoming {
            Some(source) => source.stage(period, network, &mut self.cells),
            None => Ok(nothing(period)),
        }
    }

    fn let_everything_go(&mut self, why: Absence) {
        let nothing = self.made(Stage {
            period: KesPeriod(0),
            content: Content::Nothing(why),
            next: None,
        });
        self.shared.stages.put(nothing);
        self.held = None;
        self.incoming = None;
        self.newest = None;
        self.told = None;
        self.show_waiting();
    }

    /// The receiving side ends: nothing would let the past go any more, so nothing is kept.
    pub(super) fn stop(&mut self) {
        self.shared.is_connected.store(false, Ordering::Relaxed);
        self.let_everything_go(Absence::Stopped);
        self.tell_state();
        self.shared.tell(Event::Stopped);
    }

    fn show_waiting(&self) {
        let waiting = self.incoming.as_ref().map(|source| {
            let evolution = source.key.as_ref().map(SignKey::evolution);
            KesInfo::new(
                &source.opcert,
                evolution.unwrap_or(Evolution(0)),
                self.network(),
            )
        });
        self.shared.waiting.store(waiting.map(Arc::new));
    }

    fn tell_state(&mut self) {
        let state = self.shared.state(&self.shared.stages.present().content);
        if self.told_state.replace(state) != Some(state) {
            self.shared.tell(Event::State { state });
        }
    }

    fn tell_what_signs(&mut self) {
        let seen = Arc::clone(&self.shared.stages.present());
        let told = match &seen.content {
            Content::Key(signing) => Some(Told::Signing(seen.period, signing.opcert)),
            Content::Nothing(Absence::Spent(expiry)) => Some(Told::Spent(*expiry)),
            Content::Nothing(_) => None,
        };
        if told == self.told {
            return;
        }
        self.told = told;
        match &seen.content {
            Content::Key(signing) => {
                let key = signing.info(self.network());
                self.shared
                    .tell(if key.remaining_periods() <= EXPIRY_WARNING_PERIODS {
                        Event::KeyExpiresSoon { key }
                    } else {
                        Event::KeyInfo { key }
                    });
            }
            Content::Nothing(Absence::Spent(expiry)) => {
                self.shared.tell(Event::KeySpent { expiry: *expiry });
            }
            Content::Nothing(_) => {}
        }
    }

    pub(super) fn period_length(&self) -> Duration {
        let network = self.network();
        Duration::from_nanos(
            network
                .slots_per_kes_period
                .saturating_mul(network.slot_length_ns),
        )
    }

    fn network(&self) -> &Network {
        &self.shared.network
    }
}

/// What a step came to.
enum Step {
    /// Something has changed, or a forging thread was faster: look again.
    Again,
    /// Nothing is to be done before that moment.
    Wait(UnixTime),
}

impl Source {
    /// The first period that this key can still sign in.
    fn first_period(&self) -> KesPeriod {
        let passed = self.key.as_ref().map_or(0, |key| key.evolution().0);
        KesPeriod(self.opcert.start_period.0.saturating_add(u64::from(passed)))
    }

    /// The stage of this key for `period`. The key evolves to it, and is wiped where it cannot
    /// evolve any further.
    fn stage(
        &mut self,
        period: KesPeriod,
        network: &Network,
        cells: &mut CellPool,
    ) -> Result<Stage<Content>, LockError> {
        let max = network.max_evolutions;
        let spent = Content::Nothing(Absence::Spent(self.opcert.expiry_period(max)));
        let content = match (&mut self.key, self.opcert.evolution_at(period, max)) {
            (Some(key), Ok(evolution)) => match key.evolve_to(evolution) {
                Ok(()) => Content::Key(Arc::new(Signing {
                    opcert: self.opcert,
                    signer: LeafSigner::of(key, cells)?,
                })),
                Err(EvolveError::Lock(error)) => return Err(error),
                // Neither happens: stages are made for growing periods, within the algorithm's.
                Err(EvolveError::Past { .. } | EvolveError::Spent(_)) => spent,
            },
            (None, _) | (_, Err(_)) => {
                self.key = None;
                spent
            }
        };
        Ok(Stage {
            period,
            content,
            next: None,
        })
    }
}

fn nothing(period: KesPeriod) -> Stage<Content> {
    Stage {
        period,
        content: Content::Nothing(Absence::NeverHad),
        next: None,
    }
}

fn following(period: KesPeriod) -> KesPeriod {
    KesPeriod(period.0.saturating_add(1))
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "keeper_properties.rs"]
mod properties;
