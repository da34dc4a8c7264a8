//! The requirements on an agent, tried on its sockets.

mod control;
mod deployed;
mod handshake;
mod operator;
mod peer;
mod peers;
mod periods;
mod rules;
mod served;
mod service;
mod slow;

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::keys::{Message, Served};
use super::pool::Periods;
use super::report::{Report, row};
use super::wire::{QUIET, Wire};
use super::{Check, Finding, Found, broken, does_not_apply};
use operator::Operator;
use peer::PeerSocket;

/// Where the agent under test is and what may be done to it.
#[derive(Default)]
pub struct Options {
    /// Its service socket.
    pub service: Option<PathBuf>,
    /// Its control socket.
    pub control: Option<PathBuf>,
    /// The network's periods.
    pub periods: Option<Periods>,
    /// The pool's cold key, where keys may be installed and dropped: a throw-away one.
    pub cold: Option<SigningKey>,
    /// The socket that the agent was told to follow as a peer's, where the kit is to listen.
    pub peer: Option<PathBuf>,
    /// How long to wait for a period to begin.
    pub patience: Duration,
    /// Whether to wait for the deadlines of 10 and 30 seconds.
    pub slow: bool,
    /// These requirements alone, where there are any.
    pub only: Vec<String>,
}

/// An agent under test.
pub struct Scene {
    options: Options,
    /// One check at a time changes the slots.
    counter: AtomicU64,
    prepared: Mutex<Option<Found>>,
    peer: Option<PeerSocket>,
}

impl Scene {
    fn new(options: Options) -> io::Result<Self> {
        let peer = options.peer.as_deref().map(PeerSocket::listen);
        Ok(Self {
            peer: peer.transpose()?,
            options,
            counter: AtomicU64::new(0),
            prepared: Mutex::new(None),
        })
    }

    fn service_socket(&self) -> Found<Wire> {
        match &self.options.service {
            Some(path) => Wire::connect(path),
            None => does_not_apply("no --service-socket was given"),
        }
    }

    fn control_socket(&self) -> Found<Wire> {
        match &self.options.control {
            Some(path) => Wire::connect(path),
            None => does_not_apply("no --control-socket was given"),
        }
    }

    /// A node's connection in this version, after the handshake.
    fn service(&self, version: &str) -> Found<Wire> {
        let wire = self.service_socket()?;
        if wire.settle_service(version)? {
            Ok(wire)
        } else {
            not_offered(version)
        }
    }

    /// A command's connection in this version, after the handshake.
    fn control(&self, version: &str) -> Found<Wire> {
        let wire = self.control_socket()?;
        if wire.settle_control(version)? {
            Ok(wire)
        } else {
            not_offered(version)
        }
    }

    fn periods(&self) -> Found<Periods> {
        let missing = || does_not_apply("no --genesis-file was given");
        self.options.periods.map_or_else(missing, Ok)
    }

    /// The cold key, where the agent's keys may be changed.
    fn cold(&self) -> Found<&SigningKey> {
        let missing = || does_not_apply("it changes the agent's keys: --may-change was not given");
        self.options.cold.as_ref().map_or_else(missing, Ok)
    }

    /// Who may change the agent's keys, by the best version that it offers. The pending slot is
    /// empty, and a key of three periods ago is active.
    fn operator(&self) -> Found<Operator<'_>> {
        let operator = self.operator_as_it_is()?;
        operator.clear()?;
        Ok(operator)
    }

    /// The same, and what is pending stays.
    fn operator_as_it_is(&self) -> Found<Operator<'_>> {
        let operator = Operator::connect(self)?;
        let mut prepared = self.prepared.lock().expect("no check panics");
        let begin = || operator.clear().and_then(|()| operator.begin());
        let was = prepared.get_or_insert_with(begin).clone();
        drop(prepared);
        match was {
            Ok(()) => Ok(operator),
            Err(Finding::DoesNotHold(how)) => {
                broken(format!("no key could be installed to begin with: {how}"))
            }
            Err(other) => Err(other),
        }
    }

    fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A node of Service:2.0 and the key that it is served at once.
    fn served(&self) -> Found<(Wire, Served)> {
        if self.options.cold.is_some() && self.options.control.is_some() {
            self.operator()?.installed()?;
        }
        self.served_as_it_is()
    }

    /// The same, without making sure that there is one.
    fn served_as_it_is(&self) -> Found<(Wire, Served)> {
        let wire = self.service("Service:2.0")?;
        if self.options.cold.is_none() && wire.is_quiet(QUIET * 10).is_ok() {
            return does_not_apply("the agent serves no key at present");
        }
        let wire = if self.options.cold.is_none() {
            self.service("Service:2.0")?
        } else {
            wire
        };
        match Message::read(&wire)? {
            Message::Key(served) => Ok((wire, *served)),
            Message::Drop(_) if self.options.cold.is_none() => {
                does_not_apply("the agent serves no key at present")
            }
            Message::Drop(_) => broken("a drop was told, where a key is installed"),
        }
    }
}

fn not_offered<T>(version: &str) -> Found<T> {
    does_not_apply(format!("{version} is not offered"))
}

/// A node's answer: 0, taken.
fn take(wire: &Wire) -> Found {
    wire.send(&[0; 4])
}

/// The checks, in the order in which they are tried.
#[must_use]
pub fn checks() -> Vec<Check<Scene>> {
    [
        handshake::checks(),
        control::checks(),
        served::checks(),
        service::checks(),
        deployed::checks(),
        rules::checks(),
        periods::checks(),
        peers::checks(),
        slow::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Tries every requirement on an agent.
///
/// # Errors
/// Where the kit cannot listen.
///
/// # Panics
/// Where a check does.
pub fn run(options: Options) -> io::Result<Report> {
    let scene = Scene::new(options)?;
    let wanted = |check: &Check<Scene>| {
        let only = &scene.options.only;
        only.is_empty() || only.iter().any(|id| id == check.id)
    };
    let (slow, fast): (Vec<_>, Vec<_>) = checks()
        .into_iter()
        .filter(wanted)
        .partition(|check| slow::is_slow(check.id));
    let scene = &scene;
    // The deadlines are waited for side by side, and last: meanwhile nothing else is changed.
    let mut rows: Vec<_> = fast.iter().map(|check| row(check, scene)).collect();
    if !slow.is_empty() && scene.options.slow {
        // Where that cannot be done, the checks see that no key is served.
        let _ = scene.operator().and_then(|operator| operator.installed());
    }
    rows.extend(thread::scope(|scope| {
        let waiting: Vec<_> = slow
            .iter()
            .map(|check| scope.spawn(|| row(check, scene)))
            .collect();
        let waited = waiting.into_iter().map(|thread| thread.join());
        waited
            .map(|row| row.expect("no check panics"))
            .collect::<Vec<_>>()
    }));
    Ok(Report::complete("agent", rows))
}
