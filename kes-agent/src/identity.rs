//! Becoming another user, for an agent that root starts outside of a service manager. A unit says
//! `User=` instead.

use std::io;

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::config::Identity;

/// Why the agent cannot become that user.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such user or group.
    #[error("there is no {kind} {name} in {file}; check the spelling, or give its number")]
    Unknown {
        /// User or group.
        kind: &'static str,
        /// What was given.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// Users and groups cannot be looked up.
    #[error(
        "{name} cannot be looked up in {file}: {error}; give its number, or restart the agent (one \
         that is sandboxed cannot read {file} any more when that was replaced)"
    )]
    Unreadable {
        /// What was given.
        name: String,
        /// Where it was looked for.
        file: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// Only root can become another user.
    #[error(
        "only root can become another user or group: start the agent as the one that is \
         configured, or leave user and group out of the configuration"
    )]
    NotRoot,
    /// The system refuses.
    #[error("cannot become the configured user: {0}")]
    System(#[from] io::Error),
}

/// A line of `/etc/passwd` or `/etc/group`: name, number and, of a user, the group's number.
struct Entry {
    id: u32,
    group: Option<u32>,
}

fn find(kind: &'static str, file: &'static str, name: &str) -> Result<Entry, IdentityError> {
    let read = std::fs::read_to_string(file);
    let found = read
        .as_deref()
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let known_as = fields.next()?;
            let id: u32 = fields.nth(1)?.parse().ok()?;
            let group = fields.next().and_then(|group| group.parse().ok());
            (known_as == name || name.parse() == Ok(id)).then_some(Entry { id, group })
        });
    let by_number = || name.parse().ok().map(|id| Entry { id, group: None });
    found.or_else(by_number).ok_or_else(|| {
        let name = name.to_owned();
        match read {
            Ok(_) => IdentityError::Unknown { kind, name, file },
            Err(error) => IdentityError::Unreadable { name, file, error },
        }
    })
}

/// The number of a user, given by name or number.
///
/// # Errors
/// [`IdentityError::Unknown`]
pub fn user_id(name: &str) -> Result<u32, IdentityError> {
    find("user", "/etc/passwd", name).map(|entry| entry.id)
}

/// The number of a group, given by name or number.
///
/// # Errors
/// [`IdentityError::Unknown`]
pub fn group_id(name: &str) -> Result<u32, IdentityError> {
    find("group", "/etc/group", name).map(|entry| entry.id)
}

/// Becomes the configured user and group, and stays a member of the groups that sockets are given
/// to, without which it could not give them. Must be called while the process has one thread: the
/// change is the calling thread's, and later ones inherit it.
///
/// # Errors
/// [`IdentityError`]
pub fn assume(identity: &Identity, socket_groups: &[u32]) -> Result<(), IdentityError> {
    let user = identity
        .user
        .as_deref()
        .map(|u| find("user", "/etc/passwd", u))
        .transpose()?;
    let group = match &identity.group {
        Some(name) => Some(group_id(name)?),
        None => user.as_ref().and_then(|user| user.group),
    };
    let changes_user = user
        .as_ref()
        .is_some_and(|user| user.id != geteuid().as_raw());
    let changes_group = group.is_some_and(|group| group != getegid().as_raw());
    if !changes_user && !changes_group {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(IdentityError::NotRoot);
    }
    let kept: Vec<Gid> = socket_groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&kept).map_err(io::Error::from)?;
    if let Some(group) = group {
        set_thread_gid(Gid::from_raw(group)).map_err(io::Error::from)?;
    }
    if let Some(user) = user {
        set_thread_uid(Uid::from_raw(user.id)).map_err(io::Error::from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = find("user", "/etc/passwd", "root").unwrap();
        assert_eq!((root.id, root.group), (0, Some(0)));
        assert_eq!(find("user", "/etc/passwd", "0").unwrap().group, Some(0));
        assert_eq!(
            find("user", "/etc/passwd", "4294967294").unwrap().id,
            4_294_967_294
        );
        assert!(find("group", "/etc/group", "no such group").is_err());
        assert!(find("group", "/no/such/file", "root").is_err());
    }

    #[test]
    fn staying_who_one_is_needs_no_right() {
        let user = Some(geteuid().as_raw().to_string());
        let group = Some(getegid().as_raw().to_string());
        assume(&Identity { user, group }, &[]).unwrap();
        assume(&Identity::default(), &[]).unwrap();
    }
}
