//! What is explored: who is there, and how much may happen.

use super::certificates::Cold;
use super::operators::{Command, each_step, few_rotations, rotations};
use super::world::{Left, World};

pub const OPERATORS: &str = "one agent, every command in every order";
pub const RESTARTS: &str = "two agents, cuts and restarts";
pub const CLOCKS: &str = "two agents, time and wrong clocks";
/// A clock that is ahead stamps what it drops.
pub const FUTURE: &str = "two agents, a drop of the future";
pub const STRANGER: &str = "two agents, one of another pool";
pub const LINE: &str = "three agents in a line";
pub const RING: &str = "four agents in a ring";
pub const LIFE: &str = "one agent, a key's whole life";

/// A bounded part of what can happen.
pub struct Scene {
    pub name: &'static str,
    pub start: World,
    pub commands: Vec<Command>,
}

const NOTHING: Left = Left {
    commands: 0,
    keys: 0,
    steps: 0,
    cuts: 0,
    kept_restarts: 0,
    lost_restarts: 0,
    wrong_clocks: 0,
};

/// The scenes, with short bounds or with those of `make model`.
pub fn scenes(whole: bool) -> Vec<Scene> {
    let pick = |short, long| if whole { long } else { short };
    let pair = &[(0, 1), (1, 0)][..];
    vec![
        Scene {
            name: OPERATORS,
            start: World::new(
                1,
                &[],
                Left {
                    commands: pick(4, 8),
                    keys: pick(2, 3),
                    steps: pick(2, 6),
                    kept_restarts: 1,
                    lost_restarts: 1,
                    wrong_clocks: pick(0, 1),
                    ..NOTHING
                },
            ),
            commands: each_step(),
        },
        Scene {
            name: LIFE,
            start: World::new(
                1,
                &[],
                Left {
                    commands: pick(2, 4),
                    keys: pick(2, 3),
                    steps: pick(4, 6),
                    kept_restarts: pick(0, 1),
                    lost_restarts: pick(0, 1),
                    wrong_clocks: 1,
                    ..NOTHING
                },
            ),
            commands: rotations(),
        },
        Scene {
            name: RESTARTS,
            start: World::new(
                2,
                pair,
                Left {
                    commands: pick(2, 3),
                    keys: pick(2, 3),
                    cuts: pick(0, 1),
                    kept_restarts: pick(0, 1),
                    lost_restarts: 1,
                    ..NOTHING
                },
            ),
            commands: rotations(),
        },
        Scene {
            name: CLOCKS,
            start: World::new(
                2,
                pair,
                Left {
                    commands: pick(1, 2),
                    keys: pick(1, 2),
                    steps: pick(3, 5),
                    lost_restarts: pick(0, 1),
                    wrong_clocks: 1,
                    ..NOTHING
                },
            ),
            commands: rotations(),
        },
        Scene {
            name: FUTURE,
            start: World::new(
                2,
                pair,
                Left {
                    commands: pick(2, 3),
                    keys: pick(1, 2),
                    wrong_clocks: 1,
                    ..NOTHING
                },
            ),
            commands: few_rotations(),
        },
        Scene {
            name: STRANGER,
            start: with_stranger(World::new(
                2,
                pair,
                Left {
                    commands: 2,
                    keys: 2,
                    cuts: 1,
                    ..NOTHING
                },
            )),
            commands: few_rotations(),
        },
        Scene {
            name: LINE,
            start: World::new(
                3,
                &[(0, 1), (1, 0), (1, 2), (2, 1)],
                Left {
                    commands: pick(2, 3),
                    keys: pick(2, 3),
                    cuts: pick(0, 1),
                    ..NOTHING
                },
            ),
            commands: few_rotations(),
        },
        Scene {
            name: RING,
            start: World::new(
                4,
                &[(0, 1), (1, 2), (2, 3), (3, 0)],
                Left {
                    commands: pick(2, 3),
                    keys: pick(2, 3),
                    ..NOTHING
                },
            ),
            commands: few_rotations(),
        },
    ]
}

/// The last agent is of another pool.
fn with_stranger(mut world: World) -> World {
    if let Some(last) = world.agents.last_mut() {
        last.cold = Cold::Foreign;
    }
    world
}
