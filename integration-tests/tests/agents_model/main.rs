//! The rules of slots, schedules, counters, drops, trusted time and peers, explored exhaustively
//! within bounds: one to four agents, operators who do things twice or in the wrong order, links
//! that are cut with something on its way, restarts with and without the memory between any two
//! steps, clocks that are set wrong.
//!
//! What is explored is the agent's own [`kes_agent::state`], [`kes_agent::trusted_time`] and
//! [`kes_agent::marks`]. What must hold is said once more, independently, by [`witness`]. That the
//! checker would find a broken rule is shown by breaking each ([`bugs`]).
//!
//! `KES_MODEL=whole` (`make model`) has wider bounds. The number of states is printed.
#![allow(missing_docs, clippy::unwrap_used, unreachable_pub)]

mod agent;
mod bugs;
mod certificates;
mod operators;
mod scenes;
mod witness;
mod world;

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use bugs::{BUGS, Bug};
use operators::Command;
use scenes::{Scene, scenes};
use witness::Broken;
use world::{Action, World};

/// A scene, and perhaps a bug.
struct Play {
    start: World,
    commands: Vec<Command>,
    bug: Option<Bug>,
}

impl Model for Play {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !world.broken.is_empty() {
            return;
        }
        world.actions(actions);
        if world.left.commands > 0 {
            for n in 0..world.agents.len() {
                let each = self.commands.iter().cloned();
                actions.extend(each.map(|command| Action::Command(n, command)));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.after(self.bug, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! holds {
            ($($name:literal => $rule:ident),* $(,)?) => {
                vec![$(Property::always($name, |_: &Self, world: &World| {
                    !world.broken.contains(&Broken::$rule)
                })),*]
            };
        }
        let mut properties = holds![
            "nothing is lost by a command that fails" => FailureLosesNothing,
            "a pending key is lost only on purpose" => PendingIsKept,
            "an active key is lost only on purpose" => ActiveIsKept,
            "a dropped key never returns to an agent that saw the drop" => DroppedStaysAway,
            "counters never regress unasked" => CountersDoNotRegress,
            "every install and drop is newer than all before" => StampsGrow,
            "no other pool's key is ever held" => OnlyOfThisPool,
            "a time that is not trusted does nothing" => UntrustedTimeDoesNothing,
            "keys are where their period is" => KeysFollowThePeriod,
            "a peer brings no step back" => PeersBringNoStepBack,
            "a stamp of the far future is declined" => FutureIsDeclined,
        ];
        properties.push(Property::always(
            "a node is never served a key that is early, expired or at another evolution",
            |play: &Self, world: &World| world.serves_what_fits(play.bug),
        ));
        properties.push(Property::always(
            "connected agents agree in the end, or refuse each other by rule",
            |play: &Self, world: &World| world.agrees_in_the_end(play.bug),
        ));
        properties
    }
}

fn is_whole() -> bool {
    std::env::var("KES_MODEL").is_ok_and(|it| it == "whole")
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn explore(scene: &Scene, bug: Option<Bug>) -> impl Checker<Play> + use<> {
    let play = Play {
        start: scene.start.clone(),
        commands: scene.commands.clone(),
        bug,
    };
    play.checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join()
}

/// One test, so that scenes do not compete for the processors.
#[test]
fn every_rule_holds_in_every_state_that_can_be_reached() {
    let mut total = 0;
    for scene in scenes(is_whole()) {
        let began = Instant::now();
        let checker = explore(&scene, None);
        println!(
            "{:<44} {:>9} states, {:>10} transitions, depth {:>2}, {:.1} s",
            scene.name,
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            began.elapsed().as_secs_f64(),
        );
        total += checker.unique_state_count();
        checker.assert_properties();
    }
    println!("{total} states in all");
}

#[test]
fn every_broken_rule_is_found() {
    let mut missed = Vec::new();
    let scenes = scenes(false);
    for &(bug, scene) in BUGS {
        let began = Instant::now();
        let found = scenes
            .iter()
            .filter(|it| it.name == scene)
            .find_map(|scene| {
                let checker = explore(scene, Some(bug));
                let mut found: Vec<_> = checker.discoveries().into_iter().collect();
                found.sort_by_key(|(_, path)| path.clone().into_actions().len());
                let (property, path) = found.into_iter().next()?;
                Some((property, path.into_actions().len()))
            });
        let took = began.elapsed().max(Duration::from_millis(1));
        match found {
            Some((property, steps)) => println!(
                "{bug:?}: after {steps} steps, {property} ({scene}, {:.1} s)",
                took.as_secs_f64()
            ),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "bugs that no scene finds");
}
