//! The files that the agent may reach, as a Landlock ruleset.
//!
//! A rule stands for a folder and not for a file: editors and playbooks put a new file in the place
//! of the old one, and a reload must be able to read it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope, make_bitflags,
};

use super::Reach;

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
    let read: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let sockets = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    let state = read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for file in &reach.read {
        // The file may be a link into another folder.
        let target = file.canonicalize().unwrap_or_else(|_| file.clone());
        for path in [file, &target] {
            ruleset = match folder(path) {
                Some(folder) => beneath(ruleset, &folder, read)?,
                None => beneath(ruleset, path, AccessFs::ReadFile.into())?,
            };
        }
    }
    for file in SYSTEM_FILES {
        ruleset = beneath(ruleset, Path::new(file), AccessFs::ReadFile.into())?;
    }
    for path in &reach.sockets {
        if let Some(folder) = folder(path) {
            ruleset = beneath(ruleset, &folder, sockets)?;
        }
    }
    if let Some(folder) = &reach.state {
        ruleset = beneath(ruleset, folder, state)?;
    }
    ruleset.restrict_self()
}

/// Adds a rule; what does not exist needs none.
fn beneath(
    ruleset: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(fd) => ruleset.add_rule(PathBeneath::new(fd, access)),
        Err(_) => Ok(ruleset),
    }
}

/// The folder of a file; none where that would be everything.
fn folder(file: &Path) -> Option<PathBuf> {
    let folder = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => return None,
    };
    let is_root = folder
        .canonicalize()
        .is_ok_and(|path| path == Path::new("/"));
    (!is_root).then_some(folder)
}
