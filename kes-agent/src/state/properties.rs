//! The rules of the design, held against any sequence of commands, events and times.
//!
//! A model executor keeps "secrets", each named by verification key and evolution, and follows the
//! effects as the real one does: what it holds must be what the state says, after every step.

mod network;
mod steps;

use kes_wire::opcert::OpCert;
use kes_wire::period::{Evolution, KesPeriod};
use kes_wire::protocol::control::rotation::{IfPending, ImportedOpCert};
use kes_wire::protocol::stamp::Stamp;
use kes_wire::sum6kes::VerificationKey;
use proptest::prelude::*;

use steps::{Cert, Passes, PeerKey, Step, Which, steps};

use super::testing::{cold, opcert, rules, vkey};
use super::{
    Active, Effect, FUTURE_TOLERANCE, Input, Now, Outcome, PeerAnswer, Pending, Phase, Served,
    State,
};

/// A secret, by its name.
type Secret = (VerificationKey, Evolution);

/// What the executor would hold.
#[derive(Debug, Default)]
struct Memory {
    generated: Option<Secret>,
    received: Option<Secret>,
    pending: Option<Secret>,
    active: Option<Secret>,
}

impl Memory {
    fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Generate => assert_eq!(effects.len(), 1, "generate stands alone"),
                Effect::MoveGeneratedToPending => {
                    self.pending = Some(self.generated.take().expect("a key was generated"));
                }
                Effect::WipePending => assert!(self.pending.take().is_some()),
                Effect::MovePendingToActive => {
                    self.active = Some(self.pending.take().expect("a key is pending"));
                }
                Effect::MoveReceivedToActive => {
                    self.active = Some(self.received.take().expect("a key was received"));
                }
                Effect::EvolveActive { to } => {
                    let (_, held) = self.active.as_mut().expect("a key is active");
                    assert!(*held < *to && to.0 < 64, "evolves forward, within the tree");
                    *held = *to;
                }
                Effect::WipeActive => assert!(self.active.take().is_some()),
                Effect::Announce => {
                    assert_eq!(effects.last(), Some(effect), "told when all is done")
                }
            }
        }
    }

    fn is_what_the_state_says(&self, state: &State) {
        let pending = state.pending.vkey().map(|vkey| (*vkey, Evolution(0)));
        assert_eq!(self.pending, pending);
        let active = match &state.active {
            Active::Bundle {
                opcert, evolution, ..
            } => Some((opcert.kes_vkey, *evolution)),
            Active::Empty | Active::Expired { .. } | Active::Dropped { .. } => None,
        };
        assert_eq!(self.active, active);
    }
}

fn is_vacant(state: &State) -> bool {
    matches!(state.active, Active::Empty | Active::Dropped { .. })
}

/// The pending certificate, and whether it is scheduled.
fn certificate_of(pending: &Pending) -> Option<(OpCert, bool)> {
    match pending {
        Pending::Certified { opcert } => Some((*opcert, false)),
        Pending::Scheduled { opcert } => Some((*opcert, true)),
        Pending::Empty | Pending::Key { .. } => None,
    }
}

/// The certificate that a command brings, and whether its counter may be lower.
fn import_of(input: &Input) -> Option<(ImportedOpCert, bool)> {
    match input {
        Input::ImportOpcert {
            import,
            allow_lower_counter,
        } => Some((*import, *allow_lower_counter)),
        Input::Activate {
            import,
            allow_lower_counter,
        } => import.map(|import| (import, *allow_lower_counter)),
        Input::Keygen { .. }
        | Input::Generated { .. }
        | Input::DropPending
        | Input::DropActive
        | Input::PeerKey { .. }
        | Input::PeerDropped { .. }
        | Input::Tick => None,
    }
}

struct World {
    state: State,
    memory: Memory,
    now: Now,
    keys: u8,
    asked: Option<IfPending>,
    /// The highest counter served since an operator last lowered the mark.
    served: Option<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::new(),
            memory: Memory::default(),
            now: Now {
                stamp: Stamp(10_000),
                period: KesPeriod(100),
                is_trusted: true,
            },
            keys: 0,
            asked: None,
            served: None,
        }
    }

    fn certificate(&self, cert: &Cert) -> ImportedOpCert {
        let active = match &self.state.active {
            Active::Bundle { opcert, .. } | Active::Expired { opcert, .. } => Some(*opcert),
            Active::Empty | Active::Dropped { .. } => None,
        };
        let pending = certificate_of(&self.state.pending).map(|(opcert, _)| opcert);
        let stray = || opcert(0, 200, 5, self.now.period.0);
        let opcert = match cert.which {
            Which::HeldPending => pending.or(active).unwrap_or_else(stray),
            Which::HeldActive => active.or(pending).unwrap_or_else(stray),
            Which::New {
                cold,
                for_pending,
                counter,
                start,
                damaged,
            } => {
                let key = self.state.pending.vkey().filter(|_| for_pending);
                let mut new = opcert(
                    cold,
                    key.map_or(200, |vkey| vkey.0[0]),
                    counter.from(self.state.high_water_mark.unwrap_or(5)),
                    start.from(self.now.period.0),
                );
                new.cold_signature.0[3] ^= u8::from(damaged);
                new
            }
        };
        ImportedOpCert {
            opcert,
            cold_vkey: cert.file_cold_vkey.map(|n| cold(n).vkey),
            replace: cert.replace,
        }
    }

    fn step(&mut self, passes: Passes, step: &Step) {
        self.now = Now {
            stamp: Stamp(self.now.stamp.0.saturating_add_signed(passes.micros)),
            period: KesPeriod(passes.period.from(self.now.period.0)),
            is_trusted: true,
        };
        let asked_before = self.asked.take();
        let input = match step {
            Step::Keygen(if_pending, _) => Input::Keygen {
                if_pending: *if_pending,
            },
            Step::Import(cert, allow_lower_counter) => Input::ImportOpcert {
                import: self.certificate(cert),
                allow_lower_counter: *allow_lower_counter,
            },
            Step::Activate(cert, allow_lower_counter) => Input::Activate {
                import: cert.as_ref().map(|cert| self.certificate(cert)),
                allow_lower_counter: *allow_lower_counter,
            },
            Step::DropPending => Input::DropPending,
            Step::DropActive => Input::DropActive,
            Step::PeerKey(word) => self.peer_key(word),
            Step::PeerDropped(stamp) => Input::PeerDropped {
                stamp: Stamp(stamp.from(self.state.newest_stamp.0)),
            },
            Step::Tick => Input::Tick,
        };
        if let Input::PeerKey {
            opcert, evolution, ..
        } = &input
        {
            self.memory.received = Some((opcert.kes_vkey, *evolution));
        }
        let effects = self.apply(&input);
        self.memory.received = None;
        if let Some(if_pending) = asked_before {
            self.generate(if_pending);
        }
        if let Step::Keygen(if_pending, late) = step
            && effects == [Effect::Generate]
        {
            if *late {
                self.asked = Some(*if_pending);
            } else {
                self.generate(*if_pending);
            }
        }
    }

    fn peer_key(&self, word: &PeerKey) -> Input {
        let start = word.start.from(self.now.period.0);
        let wanted = self.now.period.0.saturating_sub(start);
        let evolution = u32::try_from(word.evolution.from(wanted)).unwrap_or(u32::MAX);
        let fresh = opcert(
            word.cold,
            201 + word.key,
            word.counter.from(self.state.high_water_mark.unwrap_or(5)),
            start,
        );
        let held = self.state.active.certificate().filter(|_| word.held);
        Input::PeerKey {
            stamp: Stamp(word.stamp.from(self.state.newest_stamp.0)),
            opcert: held.copied().unwrap_or(fresh),
            evolution: Evolution(evolution),
        }
    }

    fn generate(&mut self, if_pending: IfPending) {
        self.keys += 1;
        let vkey = vkey(self.keys);
        self.memory.generated = Some((vkey, Evolution(0)));
        self.apply(&Input::Generated { vkey, if_pending });
        self.memory.generated = None;
    }

    fn apply(&mut self, input: &Input) -> Vec<Effect> {
        let before = self.state.clone();
        match before.apply(&rules(), self.now, input) {
            Ok(outcome) => {
                self.memory.follow(&outcome.effects);
                self.state = outcome.state.clone();
                assert_eq!(outcome.changed, before != outcome.state);
                self.transition_is_allowed(&before, input, &outcome);
                self.check_state();
                outcome.effects
            }
            Err(refusal) => {
                assert!(
                    !matches!(
                        input,
                        Input::Tick | Input::PeerKey { .. } | Input::PeerDropped { .. }
                    ),
                    "a tick and a peer are never refused"
                );
                assert!(!refusal.sentence.is_empty() && !refusal.next_step.is_empty());
                self.check_state();
                Vec::new()
            }
        }
    }

    fn transition_is_allowed(&mut self, before: &State, input: &Input, outcome: &Outcome) {
        let after = &outcome.state;
        let installed = outcome.effects.contains(&Effect::MovePendingToActive);
        let announced = outcome.effects.contains(&Effect::Announce);
        let received = outcome.effects.contains(&Effect::MoveReceivedToActive);
        let from_peer = matches!(input, Input::PeerKey { .. } | Input::PeerDropped { .. });
        self.peers_keep_the_rules(before, input, outcome);

        // Nothing pending is lost by a mistake.
        if let Some(vkey) = before.pending.vkey()
            && after.pending.vkey() != Some(vkey)
        {
            let scheduled = matches!(before.pending, Pending::Scheduled { .. });
            let if_pending = IfPending::Replace;
            assert!(
                matches!(input, Input::DropPending)
                    || matches!(input, Input::Generated { if_pending: i, .. } if *i == if_pending)
                        && !scheduled
                    || installed
                        && self
                            .memory
                            .active
                            .is_some_and(|(active, _)| active == *vkey),
                "{input:?} lost {before:?}"
            );
        }

        // Nor is a certificate: another one takes its place only if the operator says so, and never
        // that of a scheduled one.
        if let (Some((held, scheduled)), Some((now, _))) = (
            certificate_of(&before.pending),
            certificate_of(&after.pending),
        ) && held != now
        {
            assert!(!scheduled, "{input:?} changed the scheduled certificate");
            assert!(import_of(input).is_some_and(|(import, _)| import.replace));
        }

        // No certificate with a lower counter is kept without the operator's word.
        if let Some((import, allowed)) = import_of(input)
            && outcome.changed
            && Some(import.opcert.counter) < before.high_water_mark
        {
            assert!(allowed && is_vacant(before), "{input:?} in {before:?}");
        }

        // Stamps increase with every install and drop, and with nothing else.
        assert_eq!(
            announced,
            after.newest_stamp > before.newest_stamp
                // A drop wins a tie, and nothing is outranked by anything.
                || announced && from_peer && after.newest_stamp == before.newest_stamp
        );
        if announced {
            let (Active::Bundle { stamp, .. } | Active::Dropped { stamp, .. }) = after.active
            else {
                panic!("announced {after:?}");
            };
            assert_eq!(stamp, after.newest_stamp);
        } else {
            assert_eq!(after.newest_stamp, before.newest_stamp);
        }

        // An active key is not replaced, evolved backwards or lost but by what may do so.
        if let Active::Bundle {
            opcert, evolution, ..
        } = &before.active
            && !installed
            && !received
        {
            match &after.active {
                Active::Bundle {
                    opcert: still,
                    evolution: now,
                    ..
                } => assert!(still == opcert && now >= evolution),
                Active::Expired { opcert: still, .. } => {
                    assert!(still == opcert && !self.lasts(opcert));
                }
                Active::Dropped { .. } => {
                    assert!(matches!(
                        input,
                        Input::DropActive | Input::PeerDropped { .. }
                    ));
                }
                Active::Empty => panic!("{input:?} lost {before:?}"),
            }
        }

        // The mark goes down only where an operator lets it and nothing is active.
        let may_lower = matches!(
            input,
            Input::Activate {
                allow_lower_counter: true,
                ..
            }
        ) && is_vacant(before);
        if received && let Active::Bundle { opcert, .. } = &after.active {
            self.served = self.served.max(Some(opcert.counter));
        } else if !installed {
            assert!(
                after.high_water_mark <= before.high_water_mark,
                "raised by no install"
            );
        }
        if after.high_water_mark < before.high_water_mark {
            assert!(may_lower, "{input:?} lowered the mark of {before:?}");
            self.served = None;
        }
        if installed && let Active::Bundle { opcert, .. } = &after.active {
            assert!(Some(opcert.counter) >= self.served, "older than one served");
            assert!(opcert.is_signed_by(&rules().cold_vkey));
            self.served = Some(opcert.counter);
        }

        // What was activated waits no more, unless for its period.
        if matches!(input, Input::Activate { .. }) && outcome.changed {
            assert!(matches!(
                after.pending,
                Pending::Empty | Pending::Scheduled { .. }
            ));
        }
    }

    /// What comes from a peer is newer and no step back, and touches nothing else.
    fn peers_keep_the_rules(&self, before: &State, input: &Input, outcome: &Outcome) {
        let after = &outcome.state;
        let (stamp, opcert) = match input {
            Input::PeerKey { stamp, opcert, .. } => (*stamp, Some(opcert)),
            Input::PeerDropped { stamp } => (*stamp, None),
            _ => {
                assert_eq!(outcome.answer, None);
                return;
            }
        };
        let answer = outcome.answer.expect("a peer is always answered");
        assert_eq!(outcome.changed, answer == PeerAnswer::Taken);
        assert_eq!(after.pending, before.pending);
        assert!(after.high_water_mark >= before.high_water_mark);
        if answer != PeerAnswer::Taken {
            assert!(outcome.effects.is_empty());
            return;
        }
        assert!(stamp.0 <= self.now.stamp.0.saturating_add(FUTURE_TOLERANCE));
        assert_eq!(after.active.stamp(), Some(stamp), "never stamped anew");
        if let Some(ours) = before.active.stamp() {
            assert!(stamp > ours || stamp == ours && opcert.is_none());
        }
        if let Some(theirs) = opcert {
            assert!(theirs.is_signed_by(&rules().cold_vkey));
            let ours = before.active.certificate();
            assert!(ours.is_none_or(|ours| theirs.counter >= ours.counter));
            assert!(matches!(
                after.served(&rules(), self.now),
                Served::Bundle { .. }
            ));
        }
        // What was taken is equal from now on, so that loops end.
        let again = after
            .apply(&rules(), self.now, input)
            .expect("never refused");
        assert_eq!(again.answer, Some(PeerAnswer::Equal));
    }

    fn check_state(&self) {
        self.memory.is_what_the_state_says(&self.state);
        if let Served::Bundle {
            opcert, evolution, ..
        } = self.state.served(&rules(), self.now)
        {
            let served = (opcert.kes_vkey, evolution);
            assert_eq!(self.memory.active, Some(served), "serves what it has");
        }
        self.serves_only_what_it_may(&self.state);

        let ticked = self.tick(&self.state);
        let again = self.tick(&ticked);
        assert_eq!(again, ticked, "a second tick changes nothing");
        self.serves_only_what_it_may(&ticked);
        if let Pending::Scheduled { opcert } = &ticked.pending {
            let phase = rules().phase(opcert, self.now.period);
            assert!(matches!(phase, Phase::Early { .. }), "begins when it can");
        }
        if let Active::Bundle {
            opcert, evolution, ..
        } = &ticked.active
        {
            assert!(self.lasts(opcert), "expires when it must");
            let wanted = i128::from(self.now.period.0) - i128::from(opcert.start_period.0);
            assert!(i128::from(evolution.0) >= wanted, "evolves when it must");
        }
    }

    fn tick(&self, state: &State) -> State {
        let outcome = state.apply(&rules(), self.now, &Input::Tick);
        let outcome = outcome.expect("a tick is never refused");
        if !outcome.changed {
            assert!(outcome.effects.is_empty() && outcome.notes.is_empty());
        }
        outcome.state
    }

    /// Whether the certificate has not expired, in numbers that cannot overflow.
    fn lasts(&self, opcert: &OpCert) -> bool {
        i128::from(self.now.period.0) < i128::from(opcert.start_period.0) + 62
    }

    fn serves_only_what_it_may(&self, state: &State) {
        if let Served::Bundle {
            opcert,
            evolution,
            stamp,
        } = state.served(&rules(), self.now)
        {
            let (start, now) = (opcert.start_period.0, self.now.period.0);
            assert!(start <= now, "early");
            assert!(self.lasts(&opcert), "expired");
            assert_eq!(u64::from(evolution.0), now - start, "ahead or behind");
            assert_eq!(stamp, state.newest_stamp);
            assert!(opcert.is_signed_by(&rules().cold_vkey), "of another pool");
            assert!(state.high_water_mark >= Some(opcert.counter));
            assert_ne!(
                state.pending.vkey(),
                Some(&opcert.kes_vkey),
                "still pending"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_sequence_keeps_the_rules(steps in steps()) {
        let mut world = World::new();
        for (passes, step) in &steps {
            world.step(*passes, step);
        }
    }
}

/// The sequences are worth something only if they reach what the rules are about.
#[test]
fn the_sequences_reach_every_state() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::collections::BTreeMap;

    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, u32>::new();
    for _ in 0..400 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        for (passes, step) in &steps {
            let before = world.state.clone();
            world.step(*passes, step);
            let mut saw = |what, is| *seen.entry(what).or_default() += u32::from(is);
            let state = &world.state;
            let mark = state.high_water_mark;
            let bundle = |s: &State| matches!(s.active, Active::Bundle { .. });
            let scheduled = |s: &State| matches!(s.pending, Pending::Scheduled { .. });
            saw(
                "certified",
                matches!(state.pending, Pending::Certified { .. }),
            );
            saw("scheduled", scheduled(state));
            saw(
                "scheduled beside a bundle",
                scheduled(state) && bundle(state),
            );
            saw(
                "began by itself",
                scheduled(&before) && state.pending == Pending::Empty && bundle(state),
            );
            saw(
                "returned",
                scheduled(&before) && matches!(state.pending, Pending::Certified { .. }),
            );
            saw("bundle", bundle(state));
            saw("expired", matches!(state.active, Active::Expired { .. }));
            saw("dropped", matches!(state.active, Active::Dropped { .. }));
            saw(
                "dropped the expired",
                matches!(before.active, Active::Expired { .. })
                    && matches!(state.active, Active::Dropped { .. }),
            );
            saw(
                "installed over a bundle",
                bundle(&before) && bundle(state) && before.newest_stamp < state.newest_stamp,
            );
            let peer = |s: &State| {
                s.active
                    .certificate()
                    .is_some_and(|opcert| opcert.kes_vkey.0[0] > 200)
            };
            let replaced = before.active.stamp() < state.active.stamp();
            saw("taken from a peer", replaced && peer(state));
            saw(
                "taken from a peer over a key",
                replaced && peer(state) && before.active.certificate().is_some(),
            );
            saw(
                "dropped by a peer",
                replaced && matches!(step, Step::PeerDropped(_)),
            );
            saw("mark lowered", mark < before.high_water_mark);
            saw("highest counter", mark == Some(u64::MAX));
            let served = state.served(&rules(), world.now);
            saw("served", matches!(served, Served::Bundle { .. }));
            saw(
                "withheld",
                bundle(state) && matches!(served, Served::Withheld(_)),
            );
            saw(
                "stamp after a clock set back",
                state.newest_stamp > world.now.stamp,
            );
        }
    }
    for (what, times) in &seen {
        assert!(*times >= 3, "{what} only {times} times: {seen:?}");
    }
}
