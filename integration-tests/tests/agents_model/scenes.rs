//! What is explored: who is there, and how much may happen.

use super::operators::{Command, each_step, few_rotations, rotations, with_foreign_rotation};
use super::world::{Left, World};

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
            name: "one agent, every command in every order",
            start: World::new(
                1,
                &[],
                Left {
                    commands: pick(6, 9),
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
            name: "two agents, cuts and restarts",
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
            name: "two agents, time and wrong clocks",
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
            name: "two agents, one of another pool",
            start: World::new(
                2,
                pair,
                Left {
                    commands: 2,
                    keys: 2,
                    cuts: 1,
                    ..NOTHING
                },
            ),
            commands: with_foreign_rotation(),
        },
        Scene {
            name: "three agents in a line",
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
            name: "four agents in a ring",
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
