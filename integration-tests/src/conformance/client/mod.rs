//! The requirements on a client of the service socket, which connects to the kit as to an agent.

mod handshake;
mod messages;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::keys::Served;
use super::pool::{Periods, now_micros};
use super::report::{Report, row};
use super::wire::{Wire, accept, id, offer};
use super::{Check, Found, does_not_apply};

/// Delays between two attempts are at most 10 seconds (CLI-4).
const COMES_BACK: Duration = Duration::from_secs(15);
/// How long the kit waits for a client that somebody starts by hand.
const IS_STARTED: Duration = Duration::from_secs(120);
/// How long a client may look for a socket that is not there.
const NOT_THERE: Duration = Duration::from_millis(500);

/// Where the client under test connects and what it is given.
pub struct Options {
    /// The socket that the client is told to connect to.
    pub listen: PathBuf,
    /// The cold key of the client's pool: a throw-away one.
    pub cold: SigningKey,
    /// The network's periods.
    pub periods: Periods,
    /// How to start the client, where the kit is to do that.
    pub command: Option<Command>,
    /// These requirements alone, where there are any.
    pub only: Vec<String>,
}

/// A client under test.
pub struct Scene {
    listener: UnixListener,
    cold: SigningKey,
    periods: Periods,
    was_there_first: bool,
    stamp: AtomicU64,
    counter: AtomicU64,
}

const SERVICE: [&str; 3] = ["Service:2.0", "Service:1.0", "Service:StandardCrypto:0.4"];

impl Scene {
    fn accept_within(&self, limit: Duration) -> Found<Wire> {
        accept(&self.listener, limit, "the client does not connect (again)")
    }

    /// The client's next connection.
    fn accept(&self) -> Found<Wire> {
        self.accept_within(COMES_BACK)
    }

    /// The client's next connection, after the handshake; these versions are offered.
    fn settled_on(&self, versions: &[&str]) -> Found<(Wire, [u8; 32])> {
        let wire = self.accept()?;
        wire.send(&offer(
            &versions.iter().map(|name| id(name)).collect::<Vec<_>>(),
        ))?;
        if wire.read(1)?[0] != 1 {
            return does_not_apply(format!("the client does not speak {}", versions.join(", ")));
        }
        let chosen = wire.read(32)?;
        wire.send(&chosen)?;
        Ok((wire, super::keys::array(&chosen)))
    }

    /// The client's next connection in Service:2.0.
    fn settled(&self) -> Found<Wire> {
        Ok(self.settled_on(&SERVICE[..1])?.0)
    }

    fn stamp(&self) -> u64 {
        self.stamp.fetch_add(1, Ordering::Relaxed)
    }

    /// A new key of the pool, from the current period on, with newer stamp and counter.
    fn key(&self) -> Served {
        self.key_of(&self.cold, self.periods.now(), 0)
    }

    fn key_of(&self, cold: &SigningKey, start: u64, evolution: u32) -> Served {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        Served::new(cold, self.stamp(), counter, start, evolution)
    }
}

/// Sends a key and gives the answer.
fn send(wire: &Wire, key: &Served) -> Found<u64> {
    wire.send(&key.bytes_2_0())?;
    wire.number(4)
}

/// Sends a drop and gives the answer.
fn send_drop(wire: &Wire, stamp: u64) -> Found<u64> {
    wire.send(&[&[1][..], &stamp.to_be_bytes()].concat())?;
    wire.number(4)
}

/// The checks, in the order in which they are tried.
#[must_use]
pub fn checks() -> Vec<Check<Scene>> {
    let first = Check {
        id: "CLI-5",
        what: "a client that starts before the agent connects when it is there",
        run: (|scene: &Scene| {
            if scene.was_there_first {
                scene.settled().map(drop)
            } else {
                does_not_apply("the kit did not start the client: no command was given")
            }
        }) as fn(&Scene) -> Found,
    };
    let mut all = vec![first];
    all.extend(messages::checks());
    all.extend(handshake::checks());
    all
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tries every requirement on a client.
///
/// # Errors
/// Where the kit cannot listen, or start the client, or no client comes.
pub fn run(mut options: Options) -> io::Result<Report> {
    let child = options.command.as_mut().map(Command::spawn).transpose()?;
    let started = child.map(Started);
    if started.is_some() {
        // Long enough to have tried once; nothing is made of it if it has not.
        std::thread::sleep(NOT_THERE);
    }
    let listener = UnixListener::bind(&options.listen)?;
    listener.set_nonblocking(true)?;
    let scene = Scene {
        listener,
        cold: options.cold,
        periods: options.periods,
        was_there_first: started.is_some(),
        stamp: AtomicU64::new(now_micros()),
        counter: AtomicU64::new(0),
    };
    if started.is_none() && scene.accept_within(IS_STARTED).is_err() {
        return Err(io::Error::other("no client has connected"));
    }
    let only = &options.only;
    let rows = checks()
        .iter()
        .filter(|check| only.is_empty() || only.iter().any(|id| id == check.id))
        .map(|check| row(check, &scene))
        .collect();
    let _ = std::fs::remove_file(&options.listen);
    Ok(Report::complete("client", rows))
}
