//! Operators, who do things in any order and twice.

use std::collections::BTreeSet;

use kes_agent::state::{Active, Effect, Input, Now};
use kes_wire::opcert::OpCert;
use kes_wire::protocol::control::rotation::{IfPending, ImportedOpCert};

use super::agent::FIRST_PERIOD;
use super::bugs::Bug;
use super::certificates::{Cold, Key, opcert};
use super::world::World;

/// A certificate that an operator has at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Brought {
    pub key: WhichKey,
    pub cold: Cold,
    pub counter: u64,
    /// Periods after the first.
    pub start: u64,
}

/// For which key a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhichKey {
    Pending,
    Active,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    Keygen(IfPending),
    Import {
        brought: Brought,
        replace: bool,
        lower: bool,
    },
    Activate {
        brought: Option<Brought>,
        lower: bool,
    },
    DropPending,
    DropActive,
    ConfirmClock,
    /// Generates, imports and activates in one go.
    Rotate {
        brought: Brought,
        lower: bool,
    },
}

const fn ours(counter: u64, start: u64) -> Brought {
    Brought {
        key: WhichKey::Pending,
        cold: Cold::Ours,
        counter,
        start,
    }
}

/// Every command, with certificates of two counters that start now or in the next period, ones of
/// another pool, and the active key's own.
pub fn each_step() -> Vec<Command> {
    let mut commands = vec![
        Command::DropPending,
        Command::DropActive,
        Command::ConfirmClock,
    ];
    commands.extend([IfPending::Refuse, IfPending::Replace, IfPending::Keep].map(Command::Keygen));
    let certificates = [ours(1, 0), ours(2, 0), ours(1, 1), ours(2, 1)];
    let strange = [
        Brought {
            cold: Cold::Foreign,
            ..ours(1, 0)
        },
        Brought {
            key: WhichKey::Active,
            ..ours(1, 0)
        },
    ];
    for brought in certificates.into_iter().chain(strange) {
        let lower = false;
        commands.extend([false, true].map(|replace| Command::Import {
            brought,
            replace,
            lower,
        }));
        commands.push(Command::Activate {
            brought: Some(brought),
            lower,
        });
    }
    commands.extend([false, true].map(|lower| Command::Activate {
        brought: None,
        lower,
    }));
    let brought = ours(1, 1);
    commands.extend([
        Command::Import {
            brought,
            replace: true,
            lower: true,
        },
        Command::Activate {
            brought: Some(brought),
            lower: true,
        },
    ]);
    commands
}

/// Whole rotations with two counters, drops, and a certificate that starts later.
pub fn rotations() -> Vec<Command> {
    let rotate = |brought, lower| Command::Rotate { brought, lower };
    vec![
        rotate(ours(1, 0), false),
        rotate(ours(2, 0), false),
        rotate(ours(1, 0), true),
        rotate(ours(2, 1), false),
        Command::DropActive,
        Command::ConfirmClock,
    ]
}

/// As few as show every order of states that agents can hold.
pub fn few_rotations() -> Vec<Command> {
    let rotate = |brought| Command::Rotate {
        brought,
        lower: true,
    };
    vec![rotate(ours(1, 0)), rotate(ours(2, 0)), Command::DropActive]
}

impl World {
    pub fn command(&mut self, bug: Option<Bug>, n: usize, command: &Command) {
        match *command {
            Command::Keygen(if_pending) => self.keygen(bug, n, if_pending),
            Command::Import {
                brought,
                replace,
                lower,
            } => {
                if let Some(import) = self.imported(n, brought, replace) {
                    let input = Input::ImportOpcert {
                        import,
                        allow_lower_counter: lower,
                    };
                    self.submit(bug, n, &input);
                }
            }
            Command::Activate { brought, lower } => {
                let import = brought.map(|brought| self.imported(n, brought, false));
                if import != Some(None) {
                    self.activate(bug, n, import.flatten(), lower);
                }
            }
            Command::DropPending => self.submit(bug, n, &Input::DropPending),
            Command::DropActive => self.submit(bug, n, &Input::DropActive),
            Command::ConfirmClock => {
                let reading = self.agents[n].reading(self.steps);
                self.agents[n].time.confirm(
                    reading,
                    kes_wire::protocol::control::rotation::TimeSource::Confirmed,
                );
                self.now(bug, n);
            }
            Command::Rotate { brought, lower } => self.rotate(bug, n, brought, lower),
        }
    }

    fn submit(&mut self, bug: Option<Bug>, n: usize, input: &Input) {
        let now = self.now(bug, n);
        self.apply(bug, n, now, input, &BTreeSet::new());
    }

    fn keygen(&mut self, bug: Option<Bug>, n: usize, if_pending: IfPending) {
        if self.left.keys == 0 {
            return;
        }
        let now = self.now(bug, n);
        let input = Input::Keygen { if_pending };
        let outcome = self.apply(bug, n, now, &input, &BTreeSet::new());
        if outcome.is_some_and(|outcome| outcome.effects == [Effect::Generate]) {
            self.agents[n].generating = Some(if_pending);
        }
    }

    fn imported(&self, n: usize, brought: Brought, replace: bool) -> Option<ImportedOpCert> {
        Some(ImportedOpCert {
            opcert: self.certificate(n, brought)?,
            cold_vkey: None,
            replace,
        })
    }

    /// The certificate, where there is a key that it is for.
    fn certificate(&self, n: usize, brought: Brought) -> Option<OpCert> {
        let state = &self.agents[n].state;
        let vkey = match (brought.key, &state.active) {
            (WhichKey::Pending, _) => *state.pending.vkey()?,
            (WhichKey::Active, Active::Bundle { opcert, .. }) => opcert.kes_vkey,
            (WhichKey::Active, _) => return None,
        };
        let start = FIRST_PERIOD + brought.start;
        let cold = match brought.cold {
            Cold::Ours => self.agents[n].cold,
            Cold::Foreign => Cold::Foreign,
        };
        Some(opcert(cold, Key::of(&vkey), brought.counter, start))
    }

    /// An activation; where no time is trusted yet, a certificate that fits the wall clock vouches
    /// for it, as in the agent.
    fn activate(
        &mut self,
        bug: Option<Bug>,
        n: usize,
        import: Option<ImportedOpCert>,
        allow_lower_counter: bool,
    ) {
        let now = self.now(bug, n);
        let input = Input::Activate {
            import,
            allow_lower_counter,
        };
        let vouched = Now {
            is_trusted: true,
            ..now
        };
        let done = self.apply(bug, n, vouched, &input, &BTreeSet::new());
        let reading = self.agents[n].reading(self.steps);
        if done.is_some() && !now.is_trusted && self.agents[n].holds_key() {
            self.agents[n].time.activation(reading);
        }
    }

    fn rotate(&mut self, bug: Option<Bug>, n: usize, brought: Brought, lower: bool) {
        self.generated(bug, n, IfPending::Refuse);
        if let Some(import) = self.imported(n, brought, false) {
            self.activate(bug, n, Some(import), lower);
        }
    }
}
