//! Two to four agents that follow one another, over any schedule of messages, cuts and commands.

use std::collections::BTreeSet;

use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::stamp::Stamp;
use proptest::prelude::*;

use super::super::testing::{opcert, rules};
use super::super::{Active, Awaits, Declined, Effect, Input, Now, PeerAnswer, Served, State};

/// What happens next.
#[derive(Debug, Clone)]
enum Event {
    /// An agent's operator installs a key of a counter near the one of its mark.
    Install(usize, i64),
    Drop(usize),
    /// The agent begins anew with nothing.
    Restart(usize),
    /// One of the links delivers the newest of its sender.
    Deliver(usize),
    Passes(u64),
}

/// Who follows whom: (follower, followed), what the follower was last sent, and what its answer to
/// that waits for.
type Link = (usize, usize, Option<(Stamp, bool)>, Option<Awaits>);

struct Network {
    states: Vec<State>,
    links: Vec<Link>,
    now: Now,
    keys: u8,
    announcements: usize,
}

impl Network {
    fn apply(&mut self, n: usize, input: &Input) -> Option<PeerAnswer> {
        let before = self.states[n].clone();
        let outcome = before.apply(&rules(), self.now, input).ok()?;
        self.announcements += usize::from(outcome.effects.contains(&Effect::Announce));
        self.states[n] = outcome.state;
        if let (Active::Dropped { stamp: drop, .. }, Active::Bundle { stamp, .. }) =
            (&before.active, &self.states[n].active)
        {
            assert!(stamp > drop, "a drop was undone");
        }
        outcome.answer
    }

    /// What the served state is as a message, with what it is sent as.
    fn message(&self, n: usize) -> Option<((Stamp, bool), Input)> {
        match self.states[n].served(&rules(), self.now) {
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
                Some(((stamp, false), input))
            }
            Served::Tombstone { stamp, .. } => Some(((stamp, true), Input::PeerDropped { stamp })),
            Served::Nothing | Served::Withheld(_) => None,
        }
    }

    /// Delivers what is new on a link; tells what it led to.
    fn deliver(&mut self, link: usize) -> Option<PeerAnswer> {
        let (follower, followed, mut sent, awaits) = self.links[link];
        if awaits.is_some_and(|it| it.has_come(self.now, &self.states[follower].active)) {
            // It connects anew.
            sent = None;
        }
        let (mark, input) = self.message(followed)?;
        if sent.is_some_and(|sent| mark <= sent) {
            return None;
        }
        self.links[link].2 = Some(mark);
        let answer = self.apply(follower, &input);
        let answer = answer.expect("a peer is always answered");
        self.links[link].3 = answer.awaits();
        Some(answer)
    }

    fn event(&mut self, event: &Event) {
        let all = self.states.len();
        match *event {
            Event::Install(n, counter) => self.install(n % all, counter),
            Event::Drop(n) => {
                self.apply(n % all, &Input::DropActive);
            }
            Event::Restart(n) => {
                let n = n % all;
                self.states[n] = State::new();
                for link in &mut self.links {
                    if link.0 == n || link.1 == n {
                        (link.2, link.3) = (None, None);
                    }
                }
            }
            Event::Deliver(link) => {
                let link = link % self.links.len();
                self.deliver(link);
            }
            Event::Passes(micros) => self.now.stamp.0 += micros,
        }
    }

    /// As an operator's install leads to it, by way of a pending key.
    fn install(&mut self, n: usize, counter: i64) {
        self.keys += 1;
        let mark = self.states[n].high_water_mark.unwrap_or(5);
        let opcert = opcert(0, self.keys, mark.saturating_add_signed(counter), 100);
        self.states[n].pending = super::super::Pending::Certified { opcert };
        let activate = Input::Activate {
            import: None,
            allow_lower_counter: true,
        };
        self.apply(n, &activate);
        self.states[n].pending = super::super::Pending::Empty;
    }

    /// Delivers everything until nothing is new any more.
    fn settle(&mut self) -> usize {
        let before = self.announcements;
        let mut rounds = 0;
        loop {
            let mut quiet = true;
            for link in 0..self.links.len() {
                quiet &= self.deliver(link).is_none();
            }
            if quiet {
                return self.announcements - before;
            }
            rounds += 1;
            assert!(rounds <= 200, "it never settles");
        }
    }

    /// The state by which agents are compared: a tombstone is one whichever key it was of.
    fn held(&self, n: usize) -> (Option<Stamp>, Option<Evolution>, Option<u64>) {
        let active = &self.states[n].active;
        let evolution = match active {
            Active::Bundle { evolution, .. } => Some(*evolution),
            Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => None,
        };
        let counter = active.certificate().map(|opcert| opcert.counter);
        (active.stamp(), evolution, counter)
    }
}

fn network() -> impl Strategy<Value = (Network, Vec<Event>)> {
    let event = prop_oneof![
        4 => (0..4usize, -1..=1i64).prop_map(|(n, counter)| Event::Install(n, counter)),
        2 => (0..4usize).prop_map(Event::Drop),
        1 => (0..4usize).prop_map(Event::Restart),
        9 => (0..64usize).prop_map(Event::Deliver),
        3 => (0..100u64).prop_map(Event::Passes),
    ];
    let extra = prop::collection::vec((0..4usize, 0..4usize), 0..6);
    (2..=4usize, extra, prop::collection::vec(event, 1..60)).prop_map(|(all, extra, events)| {
        // A line in both directions, and whatever comes beside it.
        let mut pairs: BTreeSet<_> = (1..all).flat_map(|n| [(n, n - 1), (n - 1, n)]).collect();
        for (a, b) in extra {
            let (a, b) = (a % all, b % all);
            if a != b {
                pairs.extend([(a, b), (b, a)]);
            }
        }
        let network = Network {
            states: vec![State::new(); all],
            links: pairs.into_iter().map(|(a, b)| (a, b, None, None)).collect(),
            now: Now {
                stamp: Stamp(10_000),
                period: KesPeriod(103),
                is_trusted: true,
            },
            keys: 0,
            announcements: 0,
        };
        (network, events)
    })
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.states, self.links)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn connected_agents_agree_unless_they_refuse_each_other((mut network, events) in network()) {
        for event in &events {
            network.event(event);
        }
        let all = network.states.len();
        let announced = network.settle();
        // Each agent takes each of the states there were at most once.
        prop_assert!(announced <= all * all, "{announced} announcements");
        for link in 0..network.links.len() {
            let (follower, followed, ..) = network.links[link];
            if network.held(follower) == network.held(followed) {
                continue;
            }
            // Asked once more, each of the two says so.
            let ask = |from: usize, to: usize| {
                let (_, input) = network.message(from).expect("both hold something");
                network.states[to].apply(&rules(), network.now, &input).unwrap().answer
            };
            for answer in [ask(follower, followed), ask(followed, follower)] {
                prop_assert!(
                    matches!(answer, Some(PeerAnswer::Declined(Declined::EachRefuses { .. }))),
                    "{answer:?}"
                );
            }
        }
    }
}
