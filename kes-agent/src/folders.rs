//! Whether a socket's folder is safe: whoever may write to it, or to a folder above it, can put a
//! socket of their own in the agent's place, and nodes would take a key from a stranger.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of a path.
#[must_use]
pub fn of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Who beside root and the agent's user can put something else in a folder's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaceable {
    ByNobody,
    /// By its owner.
    ByUser(u32),
    /// By members of its group.
    ByGroup(u32),
    /// By everybody, but not while the agent's socket is there (the sticky bit).
    WhileAbsent,
    /// By everybody.
    ByAll,
}

/// A folder that everybody may write to.
#[derive(Debug, thiserror::Error)]
#[error(
    "every user of this host may write to {folder} and put another socket in this one's place: \
     take that right away (chmod o-w {folder}), or give another path",
    folder = .0.display()
)]
pub struct OpenToAll(pub PathBuf);

/// Looks at a socket's folder and those above it. `None` where all is well, a sentence where it
/// could be better.
///
/// # Errors
/// [`OpenToAll`]: then nothing must be listened on there. A folder that cannot be looked at is
/// none of this function's business.
pub fn check(folder: &Path, agents_user: u32) -> Result<Option<String>, OpenToAll> {
    let Ok(real) = folder.canonicalize() else {
        return Ok(None);
    };
    let mut warning = None;
    for (at, above) in real.ancestors().enumerate() {
        let judged = look(above, agents_user).unwrap_or(Replaceable::ByNobody);
        let shown = above.display();
        let found = match judged {
            Replaceable::ByNobody => None,
            Replaceable::ByAll => return Err(OpenToAll(above.to_owned())),
            // What stands in a folder above is there at all times.
            Replaceable::WhileAbsent if at > 0 => None,
            Replaceable::WhileAbsent => Some(format!(
                "every user of this host may take the socket's name in {shown} while the agent is \
                 stopped: use a folder of the agent's own"
            )),
            Replaceable::ByUser(user) => Some(format!(
                "{shown} belongs to user {user}, who can put another socket in this one's place: \
                 give it to the agent's user or root (chown), or use another folder"
            )),
            Replaceable::ByGroup(group) => Some(format!(
                "group {group} may write to {shown}, and its members can put another socket in this \
                 one's place: take that right away (chmod g-w {shown}), or use another folder"
            )),
        };
        warning = warning.or(found);
    }
    Ok(warning)
}

fn look(folder: &Path, agents_user: u32) -> io::Result<Replaceable> {
    let folder = folder.metadata()?;
    Ok(judge(
        folder.mode(),
        folder.uid(),
        folder.gid(),
        agents_user,
    ))
}

fn judge(mode: u32, owner: u32, group: u32, agents_user: u32) -> Replaceable {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    const GROUP_WRITES: u32 = 0o020;
    let is_sticky = mode & STICKY != 0;
    if mode & OTHERS_WRITE != 0 && !is_sticky {
        Replaceable::ByAll
    } else if owner != 0 && owner != agents_user {
        Replaceable::ByUser(owner)
    } else if mode & OTHERS_WRITE != 0 {
        Replaceable::WhileAbsent
    } else if mode & GROUP_WRITES != 0 && group != 0 && !is_sticky {
        Replaceable::ByGroup(group)
    } else {
        Replaceable::ByNobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const AGENT: u32 = 990;

    #[test]
    fn a_folder_is_judged_by_who_can_write_to_it() {
        let judge = |mode, owner, group| judge(mode, owner, group, AGENT);
        assert_eq!(judge(0o755, 0, 0), Replaceable::ByNobody);
        assert_eq!(judge(0o750, AGENT, 5), Replaceable::ByNobody);
        assert_eq!(judge(0o700, 1000, 5), Replaceable::ByUser(1000));
        assert_eq!(judge(0o770, AGENT, 5), Replaceable::ByGroup(5));
        assert_eq!(judge(0o775, 0, 0), Replaceable::ByNobody);
        assert_eq!(judge(0o1777, 0, 0), Replaceable::WhileAbsent);
        assert_eq!(judge(0o1777, 1000, 0), Replaceable::ByUser(1000));
        assert_eq!(judge(0o777, 0, 0), Replaceable::ByAll);
        assert_eq!(judge(0o702, AGENT, 0), Replaceable::ByAll);
    }

    #[test]
    fn a_folder_above_counts_too() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let me = rustix::process::geteuid().as_raw();
        let check = || check(&folder, me);
        let mode = |bits| {
            let permissions = std::fs::Permissions::from_mode(bits);
            std::fs::set_permissions(above.path(), permissions).unwrap();
        };
        mode(0o755);
        assert_eq!(check().unwrap(), None);
        mode(0o1777);
        assert_eq!(check().unwrap(), None);
        mode(0o777);
        let refused = check().unwrap_err();
        assert_eq!(refused.0, above.path().canonicalize().unwrap());
    }

    #[test]
    fn a_path_without_a_folder_is_in_this_one() {
        assert_eq!(of(Path::new("socket")), Path::new("."));
        assert_eq!(of(Path::new("/run/socket")), Path::new("/run"));
    }
}
