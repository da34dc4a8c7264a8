//! `kes-agent run`: from settings to a running agent and down again.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use kes_wire::sys::memory::LockError;
use kes_wire::sys::{os, stack};
use rustix::fs::Mode;
use sd_notify::NotifyState;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::Agent;
use crate::clock::Alarm;
use crate::config::Config;
use crate::listener::{ListenError, Listener};
use crate::nodes::Peer;
use crate::state::Rules;
use crate::{control, peers, service};

/// How long connections may take to end when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long to wait before accepting again where the system has no descriptor left.
const BREATH: Duration = Duration::from_millis(200);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Memory cannot be locked.
    #[error("the agent {0}")]
    Memory(#[from] LockError),
    /// The system refuses something else.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`]: once it runs, nothing but a signal ends it.
pub fn run(config: Config) -> Result<(), StartError> {
    // Sockets are made for owner and group alone, from their first moment.
    rustix::process::umask(Mode::from_raw_mode(0o117));
    // The first use locks the memory of the secret stack: better to fail now than with a key.
    stack::run(|| ())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the event loop"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(config))
}

async fn serve(config: Config) -> Result<(), StartError> {
    let mut inherited = inherited_sockets().map_err(system("cannot take inherited sockets"))?;
    let mut listen = |name: &str, path: &std::path::Path| match inherited.take(name) {
        Some(socket) => Listener::inherited(socket).map_err(system("inherited socket")),
        None => Ok(Listener::bind(path)?),
    };
    let service_listener = listen("service", &config.service_path)?;
    let control_listener = listen("control", &config.control_path)?;
    let alarm = Alarm::new().map_err(system("cannot make a timer"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot take SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot take SIGINT"))?;

    let rules = Rules {
        cold_vkey: config.cold_vkey,
        max_evolutions: config.network.max_evolutions,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        service = %config.service_path.display(),
        control = %config.control_path.display(),
        magic = config.network.magic,
        "agent ready"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let agent = Rc::new(Agent::new(config.network, rules));
    let tracker = TaskTracker::new();
    let stop = CancellationToken::new();
    let nodes = accept(&service_listener, |stream, peer| {
        let (agent, stop) = (Rc::clone(&agent), stop.clone());
        tracker.spawn_local(async move {
            let Some(ending) = stop
                .run_until_cancelled(service::serve(agent, stream, peer))
                .await
            else {
                return;
            };
            if let Err(ending) = ending {
                tracing::info!(
                    pid = peer.pid,
                    uid = peer.uid,
                    "node connection ended: {ending}"
                );
            }
        });
    });
    let clients = accept(&control_listener, |stream, peer| {
        let (agent, stop) = (Rc::clone(&agent), stop.clone());
        tracker.spawn_local(async move {
            let Some(ending) = stop
                .run_until_cancelled(control::serve(agent, stream, peer))
                .await
            else {
                return;
            };
            if let Err(ending) = ending {
                tracing::info!(
                    pid = peer.pid,
                    uid = peer.uid,
                    "command connection ended: {ending}"
                );
            }
        });
    });
    for address in config.bootstrap_paths {
        let (agent, stop) = (Rc::clone(&agent), stop.clone());
        tracker.spawn_local(async move {
            stop.run_until_cancelled(peers::follow(agent, address))
                .await;
        });
    }
    notify(&[NotifyState::Ready, NotifyState::Status("ready")]);
    let signal = tokio::select! {
        never = nodes => match never {},
        never = clients => match never {},
        failure = turn_periods(&agent, &alarm) => return Err(system("the timer failed")(failure)),
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("stopping on {signal}: the keys are wiped");
    notify(&[NotifyState::Stopping]);
    stop.cancel();
    tracker.close();
    let _ = tokio::time::timeout(FAREWELL, tracker.wait()).await;
    Ok(())
}

/// Turns the keys when periods turn.
async fn turn_periods(agent: &Agent, alarm: &Alarm) -> io::Error {
    loop {
        let period_ends = agent.turn();
        if let Err(error) = alarm.wait_until(period_ends).await {
            return error;
        }
    }
}

/// Accepts connections for ever.
async fn accept(
    listener: &Listener,
    mut serve: impl FnMut(UnixStream, Peer),
) -> core::convert::Infallible {
    loop {
        match listener.socket().accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(credentials) => {
                    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
                    serve(
                        stream,
                        Peer {
                            pid,
                            uid: credentials.uid(),
                        },
                    );
                }
                Err(error) => tracing::warn!("a connection without credentials: {error}"),
            },
            Err(error) => {
                // Most likely no descriptor is left: connections that end free some.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

/// Listening sockets from the service manager, by name.
struct Inherited(Vec<(String, StdListener)>);

impl Inherited {
    fn take(&mut self, name: &str) -> Option<StdListener> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Sockets named `service` and `control` (FileDescriptorName= in the socket units).
fn inherited_sockets() -> io::Result<Inherited> {
    let mut sockets = Vec::new();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        if name == "service" || name == "control" {
            sockets.push((name, os::adopt_listener(fd)?));
        } else {
            tracing::warn!("an inherited descriptor named {name:?} is not used");
        }
    }
    Ok(Inherited(sockets))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be notified: {error}");
    }
}
