//! Agents, the links between them, and all that may happen next.

use std::collections::BTreeSet;

use kes_agent::state::{Awaits, Input, Now, Outcome, PeerAnswer, Served};
use kes_wire::protocol::control::rotation::IfPending;
use kes_wire::protocol::stamp::Stamp;

use super::agent::{Agent, rules};
use super::bugs::{self, Bug};
use super::certificates::Key;
use super::operators::Command;
use super::witness::{Broken, Happened, judge};

/// How much may happen at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left {
    pub commands: u8,
    pub keys: u8,
    /// Steps of time.
    pub steps: u8,
    pub cuts: u8,
    pub kept_restarts: u8,
    pub lost_restarts: u8,
    pub wrong_clocks: u8,
}

/// An agent that follows another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    pub follower: usize,
    pub followed: usize,
    pub is_up: bool,
    /// The newest that the follower was sent, and whether it was a drop.
    sent: Option<(Stamp, bool)>,
    /// What is on its way.
    flight: Option<Message>,
    /// What the follower's answer waits for.
    awaits: Option<Awaits>,
}

/// A state on its way to a follower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Message {
    input: Input,
    /// The keys that a drop is of, for the witness.
    dropped: BTreeSet<Key>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Command(usize, Command),
    /// A key that was asked for is there.
    Generated(usize),
    /// There is no memory for it.
    GenerationFails(usize),
    /// The marks reach the disk.
    DiskWritten(usize),
    /// A period begins, or the clock is looked at.
    Turn(usize),
    Send(usize),
    Hear(usize),
    Cut(usize),
    Connect(usize),
    /// The follower connects anew for what it declined for the time being.
    AskAgain(usize),
    RestartWithMemory(usize),
    RestartWithoutMemory(usize),
    ClockIsSet(usize, i8),
    ClockIsSynchronised(usize),
    TimePasses,
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub agents: Vec<Agent>,
    pub links: Vec<Link>,
    /// Steps of time that have passed.
    pub steps: u8,
    pub next_key: u8,
    pub left: Left,
    pub broken: BTreeSet<Broken>,
}

impl World {
    pub fn new(agents: usize, links: &[(usize, usize)], left: Left) -> Self {
        let link = |&(follower, followed)| Link {
            follower,
            followed,
            is_up: true,
            sent: None,
            flight: None,
            awaits: None,
        };
        Self {
            agents: vec![Agent::new(); agents],
            links: links.iter().map(link).collect(),
            steps: 0,
            next_key: 1,
            left,
            broken: BTreeSet::new(),
        }
    }

    /// What may happen next, but for commands.
    pub fn actions(&self, actions: &mut Vec<Action>) {
        let left = &self.left;
        for (n, agent) in self.agents.iter().enumerate() {
            if agent.generating.is_some() {
                actions.extend([Action::Generated(n), Action::GenerationFails(n)]);
            }
            actions.push(Action::Turn(n));
            if left.lost_restarts > 0 {
                actions.extend([Action::DiskWritten(n), Action::RestartWithoutMemory(n)]);
            }
            if left.kept_restarts > 0 {
                actions.push(Action::RestartWithMemory(n));
            }
            if left.wrong_clocks > 0 {
                actions.extend([-1, 1].map(|ahead| Action::ClockIsSet(n, ahead)));
            }
            if !agent.clock.is_synchronised {
                actions.push(Action::ClockIsSynchronised(n));
            }
        }
        for (n, link) in self.links.iter().enumerate() {
            if !link.is_up {
                actions.push(Action::Connect(n));
                continue;
            }
            actions.push(match link.flight {
                Some(_) => Action::Hear(n),
                None => Action::Send(n),
            });
            if link.awaits.is_some() {
                actions.push(Action::AskAgain(n));
            }
            if left.cuts > 0 {
                actions.push(Action::Cut(n));
            }
        }
        if left.steps > 0 {
            actions.push(Action::TimePasses);
        }
    }

    /// The world after an action; `None` where nothing happens.
    pub fn after(&self, bug: Option<Bug>, action: &Action) -> Option<Self> {
        let mut world = self.clone();
        world.act(bug, action);
        (world != *self).then_some(world)
    }

    fn act(&mut self, bug: Option<Bug>, action: &Action) {
        match *action {
            Action::Command(n, ref command) => {
                let before = self.clone();
                self.command(bug, n, command);
                if *self != before {
                    self.left.commands -= 1;
                }
            }
            Action::Generated(n) => {
                if let Some(if_pending) = self.agents[n].generating.take() {
                    self.generated(bug, n, if_pending);
                }
            }
            Action::GenerationFails(n) => self.agents[n].generating = None,
            Action::DiskWritten(n) => self.agents[n].write_disk(),
            Action::Turn(n) => {
                self.now(bug, n);
            }
            Action::Send(n) => self.send(bug, n),
            Action::Hear(n) => {
                self.hear(bug, n);
            }
            Action::Cut(n) => {
                self.left.cuts -= 1;
                self.links[n].end();
                self.links[n].is_up = false;
            }
            Action::Connect(n) => self.links[n].is_up = true,
            Action::AskAgain(n) => {
                if self.has_come(bug, n) {
                    self.links[n].end();
                }
            }
            Action::RestartWithMemory(n) => {
                self.left.kept_restarts -= 1;
                self.agents[n].restart_with_memory();
                self.end_links_of(n);
            }
            Action::RestartWithoutMemory(n) => {
                self.left.lost_restarts -= 1;
                self.agents[n].restart_without_memory(bug);
                self.end_links_of(n);
            }
            Action::ClockIsSet(n, ahead) => {
                self.left.wrong_clocks -= 1;
                self.agents[n].clock.ahead = ahead;
                self.agents[n].clock.is_synchronised = false;
            }
            Action::ClockIsSynchronised(n) => {
                self.agents[n].clock.ahead = 0;
                self.agents[n].clock.is_synchronised = true;
            }
            Action::TimePasses => {
                self.left.steps -= 1;
                self.steps += 1;
            }
        }
    }

    fn end_links_of(&mut self, n: usize) {
        for link in &mut self.links {
            if link.follower == n || link.followed == n {
                link.end();
            }
        }
    }

    /// Looks at an agent's clocks and brings its keys up to the time, as it does before all else.
    pub fn now(&mut self, bug: Option<Bug>, n: usize) -> Now {
        let now = self.agents[n].look(self.steps);
        self.apply(bug, n, now, &Input::Tick, &BTreeSet::new());
        now
    }

    /// Applies an input, with a witness.
    pub fn apply(
        &mut self,
        bug: Option<Bug>,
        n: usize,
        now: Now,
        input: &Input,
        dropped: &BTreeSet<Key>,
    ) -> Option<Outcome> {
        let cold = self.agents[n].cold;
        let rules = rules(cold);
        let before = self.agents[n].state.clone();
        let mut after = before.clone();
        let outcome = bugs::apply(bug, &mut after, &rules, now, input).ok();
        let happened = Happened {
            cold,
            rules: &rules,
            now,
            before: &before,
            input,
            outcome: outcome.as_ref(),
            after: &after,
            dropped,
        };
        judge(&happened, &mut self.agents[n].seen, &mut self.broken);
        self.agents[n].state = after;
        outcome
    }

    pub fn generated(&mut self, bug: Option<Bug>, n: usize, if_pending: IfPending) {
        if self.left.keys == 0 {
            return;
        }
        self.left.keys -= 1;
        let vkey = Key(self.next_key).vkey();
        self.next_key += 1;
        let now = self.now(bug, n);
        let input = Input::Generated { vkey, if_pending };
        self.apply(bug, n, now, &input, &BTreeSet::new());
    }

    /// What an agent serves at this moment.
    fn served(&mut self, bug: Option<Bug>, n: usize) -> Served {
        let now = self.now(bug, n);
        bugs::served(bug, &self.agents[n].state, &rules(self.agents[n].cold), now)
    }

    fn send(&mut self, bug: Option<Bug>, n: usize) {
        let followed = self.links[n].followed;
        let (mark, input) = match self.served(bug, followed) {
            Served::Bundle {
                opcert,
                evolution,
                stamp,
            } => {
                let input = Input::PeerKey {
                    stamp,
                    opcert,
                    evolution,
                };
                ((stamp, false), input)
            }
            Served::Tombstone { stamp, .. } => ((stamp, true), Input::PeerDropped { stamp }),
            Served::Nothing | Served::Withheld(_) => return,
        };
        let link = &mut self.links[n];
        if link.sent.is_some_and(|sent| mark <= sent) {
            return;
        }
        link.sent = Some(mark);
        let dropped = match input {
            Input::PeerDropped { .. } => self.agents[followed].seen.last_drop.clone(),
            _ => BTreeSet::new(),
        };
        link.flight = Some(Message { input, dropped });
    }

    /// The follower hears what is on its way; tells its answer.
    fn hear(&mut self, bug: Option<Bug>, n: usize) -> Option<PeerAnswer> {
        let message = self.links[n].flight.take()?;
        let answer = self.ask(bug, self.links[n].follower, &message);
        self.links[n].awaits = match bug {
            Some(Bug::NeverAsksAgain) => None,
            _ => answer.and_then(PeerAnswer::awaits),
        };
        answer
    }

    fn ask(&mut self, bug: Option<Bug>, follower: usize, message: &Message) -> Option<PeerAnswer> {
        let now = self.now(bug, follower);
        let outcome = self.apply(bug, follower, now, &message.input, &message.dropped);
        let agent = &mut self.agents[follower];
        if agent.holds_key() && !now.is_trusted {
            agent.time.peer_key_came(agent.reading(self.steps));
        }
        outcome.and_then(|outcome| outcome.answer)
    }

    fn has_come(&mut self, bug: Option<Bug>, n: usize) -> bool {
        let Some(awaits) = self.links[n].awaits else {
            return false;
        };
        let follower = self.links[n].follower;
        let now = self.now(bug, follower);
        awaits.has_come(now, &self.agents[follower].state.active)
    }

    /// Whether every agent serves what fits: by a time that it trusts, and where that is the time,
    /// a key at the period's own evolution, within its certificate.
    pub fn serves_what_fits(&self, bug: Option<Bug>) -> bool {
        let mut world = self.clone();
        (0..self.agents.len()).all(|n| {
            let Served::Bundle {
                opcert, evolution, ..
            } = world.served(bug, n)
            else {
                return true;
            };
            let agent = &mut world.agents[n];
            let believed = agent.look(self.steps);
            let period = believed.period.0;
            let start = opcert.start_period.0;
            let last = start + u64::from(super::agent::EVOLUTIONS) - 1;
            let time = super::agent::time_after(self.steps) / super::agent::PERIOD;
            believed.is_trusted
                && (agent.is_misled(self.steps) || period == time)
                && (start..=last).contains(&period)
                && u64::from(evolution.0) == period - start
        })
    }

    /// Whether, once nobody commands any more, the links stand, the clocks are right and a period
    /// has passed, agents fall silent, and two that follow each other hold the same, or each
    /// declines what the other holds for a reason that time does not change.
    pub fn agrees_in_the_end(&self, bug: Option<Bug>) -> bool {
        let mut world = self.clone();
        world.steps += 2;
        for agent in &mut world.agents {
            agent.clock.ahead = 0;
            agent.clock.is_synchronised = true;
        }
        for link in &mut world.links {
            link.is_up = true;
        }
        world.falls_silent(bug) && world.neighbours_agree(bug)
    }

    fn falls_silent(&mut self, bug: Option<Bug>) -> bool {
        let agents = self.agents.len();
        for _round in 0..=agents * agents + 2 {
            let mut is_silent = true;
            for n in 0..self.links.len() {
                if self.has_come(bug, n) {
                    self.links[n].end();
                }
                if self.links[n].flight.is_none() {
                    self.send(bug, n);
                }
                is_silent &= self.hear(bug, n).is_none();
            }
            if is_silent {
                return true;
            }
        }
        false
    }

    fn neighbours_agree(&self, bug: Option<Bug>) -> bool {
        self.links.iter().all(|link| {
            let (one, other) = (link.follower, link.followed);
            self.agents[one].held() == self.agents[other].held()
                || self.declines_for_good(bug, one, other)
                    && self.declines_for_good(bug, other, one)
        })
    }

    /// Whether one declines, for good, what the other would send it anew, if that is anything.
    fn declines_for_good(&self, bug: Option<Bug>, follower: usize, followed: usize) -> bool {
        let mut world = Self::new(0, &[(follower, followed)], self.left);
        world.agents.clone_from(&self.agents);
        world.steps = self.steps;
        world.send(bug, 0);
        let Some(message) = world.links[0].flight.take() else {
            return true;
        };
        match world.ask(None, follower, &message) {
            Some(answer @ PeerAnswer::Declined(_)) => !matches!(
                answer.awaits(),
                Some(Awaits::Period(_) | Awaits::Time(_) | Awaits::TrustedTime)
            ),
            Some(PeerAnswer::Taken | PeerAnswer::Equal) | None => false,
        }
    }
}

impl Link {
    /// The connection ends; what was on its way is lost.
    fn end(&mut self) {
        self.sent = None;
        self.flight = None;
        self.awaits = None;
    }
}
