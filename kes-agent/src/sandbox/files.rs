//! The files that the agent may reach, as a Landlock ruleset.
//!
//! A rule stands for a folder and not for a file: editors and playbooks put a new file in the place
//! of the old one, and a reload must be able to read it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    make_bitflags,
};

use super::Reach;
use crate::folders;

/// The newest Landlock that this was tried with: Linux 6.15. (From version 9 on connecting to a
/// socket needs a rule, and peers may come at a reload from anywhere.)
const TRIED: ABI = ABI::V7;

/// What is read beside the configuration: names of users and groups, and which boot this is.
const SYSTEM_FILES: [&str; 3] = [
    "/etc/passwd",
    "/etc/group",
    "/proc/sys/kernel/random/boot_id",
];

/// Restricts the calling thread and those that it will start.
pub(super) fn restrict(reach: &Reach) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for (path, access) in needed(reach) {
        // What does not exist needs no rule.
        if let Ok(fd) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    ruleset.restrict_self()
}

/// What may be done with which paths and below them. Each path stands here once, although several
/// files may need it: a node waits while the agent starts.
fn needed(reach: &Reach) -> BTreeMap<PathBuf, BitFlags<AccessFs>> {
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let sockets = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    let state = read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    let mut needed = BTreeMap::new();
    let mut need = |path: &Path, access| {
        *needed.entry(path.to_owned()).or_insert(BitFlags::EMPTY) |= access;
    };
    for file in &reach.read {
        let is_link = file.symlink_metadata().is_ok_and(|file| file.is_symlink());
        let target = is_link.then(|| file.canonicalize().ok()).flatten();
        for path in [Some(file), target.as_ref()].into_iter().flatten() {
            let folder = folders::of(path);
            if is_root(folder) {
                need(path, AccessFs::ReadFile.into());
            } else {
                need(folder, read);
            }
        }
    }
    for file in SYSTEM_FILES {
        need(Path::new(file), AccessFs::ReadFile.into());
    }
    for path in &reach.sockets {
        let folder = folders::of(path);
        if !is_root(folder) {
            need(folder, sockets);
        }
    }
    if let Some(folder) = &reach.state {
        need(folder, state);
    }
    needed
}

/// Whether a rule for this folder would be one for everything.
fn is_root(folder: &Path) -> bool {
    let place = |path: &Path| path.metadata().map(|path| (path.dev(), path.ino()));
    matches!((place(folder), place(Path::new("/"))), (Ok(one), Ok(other)) if one == other)
}
