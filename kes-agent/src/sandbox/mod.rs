//! The sandbox: of all that the kernel offers and the disk holds, the agent leaves itself what it
//! needs.
//!
//! Rule: it is applied before the process has a second thread, because it binds the calling
//! thread and those that it starts; and it is never lifted. What the kernel cannot do is said, in
//! the log and in the status, or keeps the agent from starting where that is configured.

mod calls;
mod files;

use std::path::PathBuf;

use kes_wire::protocol::control::rotation::Protection;
use landlock::{LandlockStatus, RulesetStatus};

use crate::config::Config;

/// The name of the protection that the system-call filter is.
const CALLS: &str = "system-calls-filtered";
/// The name of the protection that the file restriction is.
const FILES: &str = "files-restricted";

/// The files that the agent needs.
#[derive(Debug, Default)]
pub struct Reach {
    /// Files that are read, at a reload again. They may be missing.
    pub read: Vec<PathBuf>,
    /// Sockets that are made and removed.
    pub sockets: Vec<PathBuf>,
    /// The folder in which files are made and replaced.
    pub state: Option<PathBuf>,
}

impl Reach {
    /// What an agent with this configuration needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let sockets = [&config.service_path, &config.control_path];
        Self {
            read: config.sources.clone(),
            sockets: sockets.into_iter().flatten().cloned().collect(),
            state: config.state_dir.clone(),
        }
    }
}

/// Applies the sandbox to the calling thread and those that it will start, as far as the kernel
/// can, and says what came of it.
#[must_use]
pub fn apply(reach: &Reach) -> [Protection; 2] {
    // The filter comes last: it does not let the other be applied.
    let files = restrict_files(reach);
    [filter_calls(), files]
}

/// What is said where the sandbox is switched off.
#[must_use]
pub fn left_off() -> [Protection; 2] {
    let off = "switched off: sandbox = \"off\" is configured";
    [missing(CALLS, off), missing(FILES, off)]
}

fn restrict_files(reach: &Reach) -> Protection {
    let status = match files::restrict(reach) {
        Ok(status) => status,
        Err(error) => return missing(FILES, format!("the kernel refuses it: {error}")),
    };
    let needed =
        "only the sockets' folders, the configuration and the state directory are in reach";
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => in_force(FILES, needed),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            in_force(
                FILES,
                format!(
                    "{needed}, as far as Landlock version {} of this kernel can",
                    effective_abi as i32
                ),
            )
        }
        (RulesetStatus::PartiallyEnforced, _) => in_force(FILES, needed),
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => missing(
            FILES,
            "Landlock is not switched on: add landlock to the kernel parameter lsm=",
        ),
        (RulesetStatus::NotEnforced, _) => missing(
            FILES,
            "there is no Landlock here: it needs Linux 5.13, and a container that lets \
             landlock_create_ruleset through",
        ),
    }
}

fn filter_calls() -> Protection {
    let applied = calls::filter()
        .map_err(seccompiler::Error::from)
        .and_then(|filter| seccompiler::apply_filter(&filter));
    match applied {
        Ok(()) => in_force(
            CALLS,
            "only listed system calls are answered: the agent cannot fork, execute, trace, or \
             reach the network",
        ),
        Err(error) => missing(
            CALLS,
            format!("the kernel refuses a seccomp filter, or a container does: {error}"),
        ),
    }
}

fn in_force(name: &str, meaning: impl Into<String>) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force: true,
        meaning: meaning.into(),
    }
}

fn missing(name: &str, why: impl Into<String>) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force: false,
        meaning: why.into(),
    }
}
