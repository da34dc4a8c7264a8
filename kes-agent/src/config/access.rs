//! Who may connect: a socket's mode, owner and group, lists of users and groups, and how many
//! connections there may be.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Deserialize;

use crate::identity::{IdentityError, group_id, user_id};

/// Root may always connect: it can become everybody who may, so a list without it would only
/// pretend.
const ROOT: u32 = 0;
/// The bits of a mode that let everybody connect.
const OTHERS: u32 = 0o007;

/// The mode of a socket's file: read and write for owner, group and others, nothing else. Writing
/// is what connecting needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SocketMode(u32);

impl SocketMode {
    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for SocketMode {
    /// Owner and group.
    fn default() -> Self {
        Self(0o660)
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = u32::from_str_radix(text, 8).ok();
        bits.filter(|bits| bits & !0o666 == 0)
            .map(Self)
            .ok_or_else(|| format!("{text} is not a socket's mode like 0660 or 0600"))
    }
}

impl TryFrom<String> for SocketMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Why it cannot be settled who may connect.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A user or group is not known.
    #[error("{setting}: {error}")]
    Unknown {
        /// The setting that names it.
        setting: String,
        /// What is wrong.
        error: IdentityError,
    },
    /// Every user of the host could connect.
    #[error(
        "{name}-socket-mode {mode:04o} lets every user of this host connect: end it with 0, or \
         say with {name}-allow-users or {name}-allow-groups who may"
    )]
    OpenToAll {
        /// Which socket.
        name: &'static str,
        /// The mode.
        mode: u32,
    },
}

/// What is said of one socket.
#[derive(Debug, Default)]
pub(super) struct SocketSettings {
    pub(super) name: &'static str,
    pub(super) mode: Option<SocketMode>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) allow_users: Option<Vec<String>>,
    pub(super) allow_groups: Option<Vec<String>>,
}

impl SocketSettings {
    /// Finds the users and groups, and refuses what would let everybody in.
    pub(super) fn resolve(self) -> Result<SocketAccess, AccessError> {
        let name = self.name;
        let one = |setting, find, who: &Option<String>| {
            who.as_deref()
                .map(|who| number(&format!("{name}-{setting}"), find, who))
                .transpose()
        };
        let several = |setting, find, who: &Option<Vec<String>>| {
            let who = who.as_deref();
            who.map(|who| numbers(&format!("{name}-{setting}"), find, who))
                .transpose()
        };
        let users = several("allow-users", user_id, &self.allow_users)?;
        let groups = several("allow-groups", group_id, &self.allow_groups)?;
        let allowed = match (users, groups) {
            (None, None) => Allowed::WhomTheModeLets,
            (users, groups) => Allowed::Listed {
                users: users.unwrap_or_default(),
                groups: groups.unwrap_or_default(),
            },
        };
        let mode = self.mode.unwrap_or_default();
        if mode.bits() & OTHERS != 0 && allowed == Allowed::WhomTheModeLets {
            return Err(AccessError::OpenToAll {
                name,
                mode: mode.bits(),
            });
        }
        Ok(SocketAccess {
            is_default: self.mode.is_none() && self.owner.is_none() && self.group.is_none(),
            mode,
            owner: one("socket-owner", user_id, &self.owner)?,
            group: one("socket-group", group_id, &self.group)?,
            allowed,
        })
    }
}

/// How the number of a user or a group is found.
type Find = fn(&str) -> Result<u32, IdentityError>;

fn number(setting: &str, find: Find, who: &str) -> Result<u32, AccessError> {
    find(who).map_err(|error| AccessError::Unknown {
        setting: setting.to_owned(),
        error,
    })
}

fn numbers(setting: &str, find: Find, who: &[String]) -> Result<BTreeSet<u32>, AccessError> {
    // An empty environment variable is an empty list, not a user without a name.
    let named = who.iter().filter(|who| !who.is_empty());
    named.map(|who| number(setting, find, who)).collect()
}

/// The users that a setting names; none where it is not given.
pub(super) fn users(setting: &str, who: Option<Vec<String>>) -> Result<BTreeSet<u32>, AccessError> {
    numbers(setting, user_id, &who.unwrap_or_default())
}

/// Who may connect to one socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketAccess {
    /// Whether nothing is said of its file.
    pub is_default: bool,
    /// The mode of its file.
    pub mode: SocketMode,
    /// The owner of its file, where it is not the agent's user.
    pub owner: Option<u32>,
    /// The group of its file, where it is not the agent's.
    pub group: Option<u32>,
    /// Whom the agent lets in.
    pub allowed: Allowed,
}

/// Whom the agent lets in, of those whom the socket's mode lets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    #[default]
    WhomTheModeLets,
    /// These users, the members of these groups, and root. The agent's own user is one like any
    /// other: it is let in where it is listed.
    Listed {
        /// Their numbers.
        users: BTreeSet<u32>,
        /// Their numbers.
        groups: BTreeSet<u32>,
    },
}

impl Allowed {
    /// Whether a process may connect. `groups` tells all of its groups, and is asked only where
    /// they matter.
    ///
    /// # Errors
    /// What `groups` says.
    pub fn lets_in<E>(
        &self,
        user: u32,
        groups: impl FnOnce() -> Result<Vec<u32>, E>,
    ) -> Result<bool, E> {
        match self {
            Self::WhomTheModeLets => Ok(true),
            Self::Listed { users, .. } if user == ROOT || users.contains(&user) => Ok(true),
            Self::Listed { groups: listed, .. } if listed.is_empty() => Ok(false),
            Self::Listed { groups: listed, .. } => {
                Ok(groups()?.iter().any(|group| listed.contains(group)))
            }
        }
    }
}

/// How many connections there may be at a time. Each socket counts its own, so that commands can
/// never take a node's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub most: u32,
    /// From one user.
    pub most_per_user: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            most: 4096,
            most_per_user: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn lets_in(allowed: &Allowed, user: u32, groups: &[u32]) -> bool {
        allowed
            .lets_in(user, || Ok::<_, ()>(groups.to_vec()))
            .unwrap()
    }

    #[test]
    fn modes_are_octal_and_of_reading_and_writing_alone() {
        assert_eq!("0660".parse(), Ok(SocketMode::default()));
        assert_eq!("600".parse::<SocketMode>().unwrap().bits(), 0o600);
        for wrong in ["", "rw", "770", "4660", "0o660", "-660", "888"] {
            assert!(wrong.parse::<SocketMode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_lists_the_mode_alone_decides() {
        let access = SocketSettings::default().resolve().unwrap();
        assert!(access.is_default);
        assert!(lets_in(&access.allowed, 1000, &[]));
    }

    #[test]
    fn a_list_lets_in_its_users_its_groups_members_and_root() {
        let access = SocketSettings {
            name: "control",
            allow_users: strings(&["1000"]),
            allow_groups: strings(&["77", "root"]),
            ..SocketSettings::default()
        }
        .resolve()
        .unwrap();
        assert!(access.is_default);
        let lets_in = |user, groups: &[u32]| lets_in(&access.allowed, user, groups);
        assert!(lets_in(1000, &[]));
        assert!(lets_in(1001, &[5, 77]));
        assert!(lets_in(1001, &[0]));
        assert!(lets_in(0, &[]));
        assert!(!lets_in(1001, &[1000]));
        assert!(!lets_in(77, &[]));
    }

    #[test]
    fn an_empty_list_lets_in_root_alone() {
        for empty in [&[][..], &[""]] {
            let settings = SocketSettings {
                name: "service",
                allow_users: strings(empty),
                ..SocketSettings::default()
            };
            let allowed = settings.resolve().unwrap().allowed;
            assert!(lets_in(&allowed, 0, &[]));
            assert!(!lets_in(&allowed, 1000, &[0, 1000]));
        }
    }

    #[test]
    fn groups_that_are_not_known_let_nobody_in() {
        let allowed = Allowed::Listed {
            users: BTreeSet::new(),
            groups: BTreeSet::from([5]),
        };
        assert_eq!(allowed.lets_in(1000, || Err("no answer")), Err("no answer"));
    }

    #[test]
    fn users_of_peers_are_names_or_numbers() {
        let of = |who| users("peer-users", who);
        assert_eq!(of(None).unwrap(), BTreeSet::new());
        assert_eq!(of(strings(&[""])).unwrap(), BTreeSet::new());
        assert_eq!(
            of(strings(&["root", "990"])).unwrap(),
            BTreeSet::from([0, 990])
        );
        let error = of(strings(&["no such user"])).unwrap_err().to_string();
        assert!(error.starts_with("peer-users: there is no user"), "{error}");
    }

    #[test]
    fn a_mode_for_all_needs_a_list() {
        let settings = |allow_groups| SocketSettings {
            name: "service",
            mode: Some("0666".parse().unwrap()),
            allow_groups,
            ..SocketSettings::default()
        };
        let error = settings(None).resolve().unwrap_err().to_string();
        assert!(error.starts_with("service-socket-mode 0666 lets every user"));
        assert!(settings(strings(&["5"])).resolve().is_ok());
    }

    #[test]
    fn an_unknown_name_is_refused_with_its_setting() {
        let settings = SocketSettings {
            name: "control",
            allow_users: strings(&["no such user"]),
            ..SocketSettings::default()
        };
        let error = settings.resolve().unwrap_err().to_string();
        assert!(error.starts_with("control-allow-users: there is no user no such user"));
    }
}
