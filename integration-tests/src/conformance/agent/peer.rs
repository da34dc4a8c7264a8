//! The kit as a peer agent that the agent under test follows, and the agent's answers to it.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Scene;
use crate::conformance::keys::{Message, Served};
use crate::conformance::pool::now_micros;
use crate::conformance::wire::{Wire, accept, id, offer};
use crate::conformance::{Found, broken, does_not_apply, hold};

/// Delays between two attempts are at most 10 seconds (PEER-9).
pub(super) const COMES_BACK: Duration = Duration::from_secs(15);
/// Enough to see that a connection was closed before.
const BRIEF: Duration = Duration::from_millis(1);

/// The socket that the agent was told to follow.
pub(super) struct PeerSocket {
    path: PathBuf,
    listener: Mutex<Option<UnixListener>>,
    /// The connection that the check before has left in order.
    open: Mutex<Option<Wire>>,
    stamp: AtomicU64,
}

impl PeerSocket {
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            listener: Mutex::new(Some(bind(path)?)),
            open: Mutex::new(None),
            stamp: AtomicU64::new(0),
        })
    }

    /// The agent's next connection, before its handshake, and how long it took to come.
    pub(super) fn accept(&self) -> Found<(Wire, Duration)> {
        let listener = self.listener.lock().expect("no check panics");
        let Some(listener) = &*listener else {
            return broken("the kit does not listen");
        };
        let begin = Instant::now();
        loop {
            let otherwise = "the agent does not connect to --peer-socket";
            let wire = accept(listener, COMES_BACK, otherwise)?;
            // One that was given up before the kit came to it is not looked at.
            if wire.is_quiet(BRIEF).is_ok() {
                return Ok((wire, begin.elapsed()));
            }
        }
    }

    /// Is away for so long: nobody listens.
    pub(super) fn away(&self, time: Duration) -> Found {
        let mut listener = self.listener.lock().expect("no check panics");
        *self.open.lock().expect("no check panics") = None;
        *listener = None;
        std::fs::remove_file(&self.path)?;
        std::thread::sleep(time);
        *listener = Some(bind(&self.path)?);
        Ok(())
    }
}

impl Drop for PeerSocket {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The agent's connection to the kit, in Service:2.0.
pub(super) struct Follower<'a> {
    scene: &'a Scene,
    socket: &'a PeerSocket,
    pub(super) wire: Wire,
}

impl Scene {
    pub(super) fn peer_socket(&self) -> Found<&PeerSocket> {
        let missing = || does_not_apply("it is about peers: no --peer-socket was given");
        self.peer.as_ref().map_or_else(missing, Ok)
    }

    /// Tries something as a peer that the agent follows. The connection goes on after it, where it
    /// holds: an agent comes back after growing delays.
    pub(super) fn as_peer(&self, each: impl Fn(&mut Follower<'_>) -> Found) -> Found {
        let mut follower = self.follower()?;
        each(&mut follower)?;
        *follower.socket.open.lock().expect("no check panics") = Some(follower.wire);
        Ok(())
    }

    fn follower(&self) -> Found<Follower<'_>> {
        let socket = self.peer_socket()?;
        // The counter to go on with is known then.
        self.operator_as_it_is()?;
        let open = socket.open.lock().expect("no check panics").take();
        let wire = match open.filter(|wire| wire.is_quiet(BRIEF).is_ok()) {
            Some(wire) => wire,
            None => settled(socket)?,
        };
        Ok(Follower {
            scene: self,
            socket,
            wire,
        })
    }

    /// A key of the pool that began so many periods ago, as it is now, with the next counter.
    pub(super) fn peer_key(&self, ago: u32) -> Found<Served> {
        let start = self.periods()?.now().saturating_sub(ago.into());
        let counter = self.next_counter();
        let stamp = self.peer_socket()?.next_stamp();
        Ok(Served::new(self.cold()?, stamp, counter, start, ago))
    }

    /// What a node is told at once.
    pub(super) fn told(&self) -> Found<Message> {
        Message::read(&self.service("Service:2.0")?)
    }

    /// Checks that nodes are served this key, with its stamp.
    pub(super) fn serves(&self, key: &Served, after: &str) -> Found {
        match self.told()? {
            Message::Key(told) => hold(
                told.certificate == key.certificate && told.stamp == key.stamp,
                format!("{after}, and nodes are served another key or stamp than before"),
            ),
            Message::Drop(_) => broken(format!("{after}, and nodes are told of a drop")),
        }
    }
}

impl PeerSocket {
    /// A stamp that is newer than all others.
    pub(super) fn next_stamp(&self) -> u64 {
        let now = now_micros();
        let next = |last: u64| now.max(last + 1);
        let last = self
            .stamp
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            });
        next(last.unwrap_or_else(|last| last))
    }
}

fn settled(socket: &PeerSocket) -> Found<Wire> {
    let (wire, _) = socket.accept()?;
    wire.send(&offer(&[id("Service:2.0")]))?;
    if wire.read(1)?[0] != 1 {
        return does_not_apply("as a client, the agent does not speak Service:2.0");
    }
    let chosen = wire.read(32)?;
    wire.send(&chosen)?;
    Ok(wire)
}

impl Follower<'_> {
    /// Sends a message and gives the answer.
    pub(super) fn says(&self, message: &[u8]) -> Found<u64> {
        self.wire.send(message)?;
        self.wire.number(4)
    }

    /// Sends a key and gives the answer.
    pub(super) fn says_key(&self, key: &Served) -> Found<u64> {
        self.says(&key.bytes_2_0())
    }

    /// Sends a drop and gives the answer.
    pub(super) fn says_drop(&self, stamp: u64) -> Found<u64> {
        self.says(&drop_message(stamp))
    }

    pub(super) fn stamp(&self) -> u64 {
        self.socket.next_stamp()
    }

    /// The agent holds a new key of this peer, with a stamp that has others before it.
    pub(super) fn holds_a_key(&self) -> Found<Served> {
        let key = self.scene.peer_key(3)?;
        let answer = self.says_key(&key)?;
        hold(
            answer == 0,
            format!("a newer key with a higher counter is answered with {answer}"),
        )?;
        Ok(key)
    }

    /// Goes on with the agent's next connection, when it has hung up.
    pub(super) fn until_it_comes_back(&mut self, limit: Duration) -> Found {
        let said = self.wire.until_closed(limit)?;
        hold(said.is_empty(), "bytes that answer nothing")?;
        self.wire = settled(self.socket)?;
        Ok(())
    }
}

/// The message of a drop.
pub(super) fn drop_message(stamp: u64) -> Vec<u8> {
    [&[1][..], &stamp.to_be_bytes()].concat()
}
