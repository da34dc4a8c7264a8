//! The door of a socket: whom it lets in, and how many at a time.
//!
//! Rule: each socket counts its own connections and has its own share of the descriptors, so that
//! commands can never take a node's place. Where the system has no descriptor left the door waits;
//! connections that are inside do not notice.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use kes_wire::sys::host;
use rustix::process::{Resource, getrlimit};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::config::access::{Allowed, ConnectionLimits};
use crate::listener::Listener;
use crate::nodes::Peer;

/// How long to wait before accepting again where the system has no descriptor left.
const BREATH: Duration = Duration::from_millis(200);
/// How often the same is said of the same user.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Descriptors for everything that is no connection: the log, timers, signals, peers, files.
const OWN_DESCRIPTORS: u64 = 64;

/// The doors of both sockets.
pub struct Doors {
    /// For nodes and peer agents.
    pub service: Door,
    /// For commands.
    pub control: Door,
}

impl Doors {
    /// Doors as configured, within what this process may open.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let doors = Self {
            service: Door::new("service"),
            control: Door::new("control"),
        };
        doors.reload(config);
        doors
    }

    /// Takes over changed settings. Who is inside stays.
    pub fn reload(&self, config: &Config) {
        let limits = config.limits;
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let (nodes, commands) = shares(limits.most, descriptors);
        if nodes < limits.most {
            tracing::warn!(
                "max-connections is {}, but this process may open {descriptors} files: {nodes} \
                 nodes and {commands} commands are let in at a time; raise LimitNOFILE= in the \
                 unit (ulimit -n), or lower max-connections",
                limits.most
            );
        }
        // Where there is less room than configured, one user does not get all of it.
        let limits = |most| ConnectionLimits {
            most,
            most_per_user: share_of_one(most, limits),
        };
        self.service
            .set(config.service_access.allowed.clone(), limits(nodes));
        self.control
            .set(config.control_access.allowed.clone(), limits(commands));
    }
}

/// How many nodes and how many commands are let in: of the descriptors that there are, commands
/// get a quarter at most.
fn shares(most: u32, descriptors: u64) -> (u32, u32) {
    let free = descriptors.saturating_sub(OWN_DESCRIPTORS).max(4);
    let commands = u64::from(most).min(free / 4);
    let nodes = u64::from(most).min(free - commands);
    let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
    (number(nodes), number(commands))
}

/// How many of `most` places one user gets: the part of them that is configured.
fn share_of_one(most: u32, configured: ConnectionLimits) -> u32 {
    let part =
        u64::from(most) * u64::from(configured.most_per_user) / u64::from(configured.most.max(1));
    u32::try_from(part).unwrap_or(u32::MAX).max(1)
}

/// The door of one socket.
pub struct Door {
    name: &'static str,
    allowed: RefCell<Allowed>,
    limits: Cell<ConnectionLimits>,
    inside: Rc<RefCell<Inside>>,
    said: RefCell<Said>,
    /// Until when the system is left alone, because it had no descriptor.
    resting: Cell<Option<Instant>>,
}

/// A connection's place; it is free again when this is dropped.
pub struct Place {
    inside: Rc<RefCell<Inside>>,
    user: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inside.borrow_mut().leave(self.user);
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
enum Refused {
    #[error("it is not allowed to: add its user or one of its groups to")]
    NotAllowed,
    #[error("its user has as many connections as max-connections-per-user lets")]
    UserFull,
    #[error("there are as many connections as max-connections lets")]
    Full,
}

impl Door {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            allowed: RefCell::default(),
            limits: Cell::default(),
            inside: Rc::default(),
            said: RefCell::default(),
            resting: Cell::default(),
        }
    }

    fn set(&self, allowed: Allowed, limits: ConnectionLimits) {
        self.allowed.replace(allowed);
        self.limits.set(limits);
    }

    /// The next connection that is let in; waits for ever where nothing is listened on. May be
    /// abandoned at any moment.
    pub async fn next(&self, listener: Option<&Listener>) -> (UnixStream, Peer, Place) {
        let Some(listener) = listener else {
            return core::future::pending().await;
        };
        loop {
            if let Some(until) = self.resting.get() {
                sleep_until(until).await;
                self.resting.set(None);
            }
            let stream = match listener.socket().accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    self.rest(&error);
                    continue;
                }
            };
            match self.let_in(&stream) {
                Ok(Some((peer, place))) => return (stream, peer, place),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        socket = self.name,
                        "a connection without credentials: {error}"
                    );
                }
            }
        }
    }

    /// Most likely no descriptor is left: connections that end free some.
    fn rest(&self, error: &io::Error) {
        self.resting.set(Some(Instant::now() + BREATH));
        if let Some(before) = self.said.borrow_mut().may_say(Saying::CannotAccept) {
            tracing::warn!(
                socket = self.name,
                before,
                "cannot accept a connection: {error}; those there are go on, and this is tried \
                 again; raise LimitNOFILE= in the unit if it lasts"
            );
        }
    }

    /// Looks at who it is. `None` where it is not let in, which the log says.
    fn let_in(&self, stream: &UnixStream) -> io::Result<Option<(Peer, Place)>> {
        let credentials = stream.peer_cred()?;
        let peer = Peer {
            pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()),
            uid: credentials.uid(),
        };
        let all_groups = || {
            let mut groups = host::peer_groups(stream)?;
            groups.push(credentials.gid());
            io::Result::Ok(groups)
        };
        let refused = if self.allowed.borrow().lets_in(peer.uid, all_groups)? {
            match self.inside.borrow_mut().enter(peer.uid, self.limits.get()) {
                Ok(()) => {
                    let inside = Rc::clone(&self.inside);
                    let user = peer.uid;
                    return Ok(Some((peer, Place { inside, user })));
                }
                Err(refused) => refused,
            }
        } else {
            Refused::NotAllowed
        };
        self.say(refused, peer);
        Ok(None)
    }

    fn say(&self, refused: Refused, peer: Peer) {
        let saying = Saying::Refused(refused, peer.uid);
        let Some(before) = self.said.borrow_mut().may_say(saying) else {
            return;
        };
        let (socket, pid, uid) = (self.name, peer.pid, peer.uid);
        match refused {
            Refused::NotAllowed => tracing::warn!(
                socket,
                pid,
                uid,
                before,
                "connection refused: {refused} {socket}-allow-users or {socket}-allow-groups if it \
                 should be"
            ),
            Refused::UserFull | Refused::Full => tracing::warn!(
                socket,
                pid,
                uid,
                before,
                "connection refused: {refused}; raise that, or find out who holds them (ss -xp)"
            ),
        }
    }
}

/// How many connections there are, and whose.
#[derive(Default)]
struct Inside {
    all: u32,
    by_user: BTreeMap<u32, u32>,
}

impl Inside {
    fn enter(&mut self, user: u32, limits: ConnectionLimits) -> Result<(), Refused> {
        if self.all >= limits.most {
            return Err(Refused::Full);
        }
        let of_user = self.by_user.get(&user).copied().unwrap_or(0);
        if of_user >= limits.most_per_user {
            return Err(Refused::UserFull);
        }
        self.all += 1;
        self.by_user.insert(user, of_user + 1);
        Ok(())
    }

    fn leave(&mut self, user: u32) {
        self.all = self.all.saturating_sub(1);
        if let Some(of_user) = self.by_user.get_mut(&user) {
            *of_user -= 1;
            if *of_user == 0 {
                self.by_user.remove(&user);
            }
        }
    }
}

/// Something that a flood could have said over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Saying {
    CannotAccept,
    Refused(Refused, u32),
}

/// What was said when: a flood of connections must not push everything else out of the log.
#[derive(Default)]
struct Said {
    last: BTreeMap<Saying, (Instant, u64)>,
}

impl Said {
    fn may_say(&mut self, saying: Saying) -> Option<u64> {
        self.may_say_at(saying, Instant::now())
    }

    /// Whether to say it now, and then how many times it was kept back since it was last said.
    fn may_say_at(&mut self, saying: Saying, now: Instant) -> Option<u64> {
        match self.last.get_mut(&saying) {
            Some((last, kept_back)) if now < *last + SAY_AGAIN => {
                *kept_back += 1;
                None
            }
            Some((last, kept_back)) => {
                *last = now;
                Some(std::mem::take(kept_back))
            }
            None => {
                // Users come and go; what is old is of no use.
                self.last
                    .retain(|_, (last, kept_back)| *kept_back > 0 || now < *last + SAY_AGAIN);
                self.last.insert(saying, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        most: 5,
        most_per_user: 3,
    };

    #[test]
    fn one_user_cannot_take_every_place() {
        let mut inside = Inside::default();
        for _ in 0..3 {
            inside.enter(1000, LIMITS).unwrap();
        }
        assert_eq!(inside.enter(1000, LIMITS), Err(Refused::UserFull));
        inside.enter(1001, LIMITS).unwrap();
        inside.enter(1001, LIMITS).unwrap();
        assert_eq!(inside.enter(1001, LIMITS), Err(Refused::Full));
        inside.leave(1000);
        inside.enter(1001, LIMITS).unwrap();
        for _ in 0..3 {
            inside.leave(1001);
        }
        assert_eq!((inside.all, inside.by_user.len()), (2, 1));
    }

    #[test]
    fn commands_never_take_the_nodes_descriptors() {
        assert_eq!(shares(4096, 524_288), (4096, 4096));
        assert_eq!(shares(10_000, 20_000), (10_000, 4984));
        assert_eq!(shares(4096, 1024), (720, 240));
        assert_eq!(shares(4096, 10), (3, 1));
        assert_eq!(shares(4096, u64::MAX), (4096, 4096));
    }

    #[test]
    fn where_there_is_less_room_one_user_gets_less() {
        let quarter = ConnectionLimits::default();
        assert_eq!(share_of_one(4096, quarter), 1024);
        assert_eq!(share_of_one(720, quarter), 180);
        assert_eq!(share_of_one(1, quarter), 1);
        let all = ConnectionLimits {
            most: 10_000,
            most_per_user: 10_000,
        };
        assert_eq!(share_of_one(4984, all), 4984);
    }

    #[test]
    fn what_is_said_over_and_over_is_counted() {
        let mut said = Said::default();
        let start = Instant::now();
        let (one, other) = (
            Saying::Refused(Refused::NotAllowed, 1),
            Saying::Refused(Refused::NotAllowed, 2),
        );
        assert_eq!(said.may_say_at(one, start), Some(0));
        for _ in 0..7 {
            assert_eq!(said.may_say_at(one, start), None);
        }
        assert_eq!(said.may_say_at(other, start), Some(0));
        assert_eq!(said.may_say_at(one, start + SAY_AGAIN), Some(7));
        assert_eq!(said.may_say_at(one, start + SAY_AGAIN), None);
    }

    #[test]
    fn a_thousand_strangers_leave_no_trace() {
        let mut said = Said::default();
        let start = Instant::now();
        for user in 0..1000 {
            let _ = said.may_say_at(Saying::Refused(Refused::NotAllowed, user), start);
        }
        let _ = said.may_say_at(Saying::CannotAccept, start + SAY_AGAIN);
        assert_eq!(said.last.len(), 1);
    }
}
