//! `kes-agent run`: from settings to a running agent and down again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use kes_wire::protocol::control::rotation::Protection;
use kes_wire::sys::memory::LockError;
use kes_wire::sys::stack;
use rustix::fs::Mode;
use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::Agent;
use crate::clock::Alarm;
use crate::config::{Config, ConfigError};
use crate::door::{Doors, Place};
use crate::listener::ListenError;
use crate::logging::Log;
use crate::marks::{self, Keeper, Marks};
use crate::nodes::Peer;
use crate::process::without_panic;
use crate::sockets::{Inherited, Sockets};
use crate::state::{Rules, State};
use crate::status::Surroundings;
use crate::store::{self, StoreError, Survival};
use crate::trusted_time::TrustedTime;
use crate::{control, manager, peers, service, status, watchdog};

/// How long connections may take to end when the agent stops.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Memory cannot be locked.
    #[error("the agent {0}")]
    Memory(#[from] LockError),
    /// The keys' memory cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
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

/// Runs the agent until SIGTERM or SIGINT. On SIGHUP the configuration is resolved anew.
///
/// # Errors
/// [`StartError`]: once it runs, nothing but a signal ends it.
pub fn run(
    config: Config,
    protections: Vec<Protection>,
    boot_id: Option<String>,
    log: &Log,
    resolve: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), StartError> {
    // Sockets and files are made for owner and group alone, from their first moment.
    rustix::process::umask(Mode::from_raw_mode(0o117));
    // The first use locks the memory of the secret stack: better to fail now than with a key.
    stack::run(|| ())?;
    let runtime = without_panic(|| Builder::new_current_thread().enable_all().build())
        .unwrap_or_else(|| {
            Err(io::Error::other(
                "the system gives no further descriptor (LimitNOFILE= in systemd, ulimit -n)",
            ))
        })
        .map_err(system("cannot start the event loop"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(config, protections, boot_id, log, resolve))
}

async fn serve(
    config: Config,
    protections: Vec<Protection>,
    boot_id: Option<String>,
    log: &Log,
    resolve: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), StartError> {
    // Before the sockets: whoever sees that the agent is there may stop or reload it.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot take SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot take SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("cannot take SIGHUP"))?;
    let mut inherited =
        Inherited::receive().map_err(system("cannot take over the inherited sockets"))?;
    let rules = Rules {
        cold_vkey: config.cold_vkey,
        max_evolutions: config.network.max_evolutions,
    };
    let (mut remarks, mut on_disk) = (Vec::new(), None);
    let marks_path = config
        .state_dir
        .as_deref()
        .map(|dir| marks::path(dir, &rules.cold_vkey));
    if let Some(path) = &marks_path {
        match marks::read(path, &rules.cold_vkey) {
            Ok(marks) => on_disk = marks,
            Err(told) => remarks.push(told),
        }
    }
    // Before the sockets: nobody is answered by an agent that does not know what it holds.
    let opened = store::open(
        inherited.take_memory(),
        rules,
        &config.network,
        on_disk.as_ref().map(Marks::state),
        config.memory.is_secret_only(),
    )?;
    remarks.extend(opened.remarks);
    let mut sockets = Sockets::open(&config, &mut inherited)?;
    let alarm = Alarm::new().map_err(system("cannot make a timer"))?;

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        service = sockets.service.shown(),
        control = sockets.control.shown(),
        magic = config.network.magic,
        "agent ready"
    );
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let fate = match opened.survival {
        Survival::Kept | Survival::Handed => {
            "the service manager keeps the keys, unless it stops the service"
        }
        Survival::NotConfirmed(_) => "the service manager may keep the keys or not",
        Survival::NoManager | Survival::NotTaken(_) | Survival::NoSecretMemory(_) => {
            "the keys are forgotten"
        }
    };
    let mut surroundings = Surroundings {
        protections: status::memory_protections(opened.vault.memory_kind(), &opened.survival),
        remarks,
    };
    surroundings.protections.extend(protections);
    for missing in surroundings
        .protections
        .iter()
        .filter(|protection| !protection.in_force)
    {
        let (protection, why) = (&missing.name, &missing.meaning);
        tracing::warn!(protection, "a protection is not in force: {why}");
    }
    let kept_time = opened.vault.kept_time();
    let anchor = kept_time.and_then(|kept| kept.of_this_boot(boot_id.as_deref()));
    let time = TrustedTime::new(config.clock, anchor);
    // A file that cannot be read is replaced only by something that is known.
    let on_disk = on_disk.or_else(|| {
        let state = opened.vault.state();
        (*state == State::new()).then(|| Marks::of(config.cold_vkey, state))
    });
    let keeper = marks_path
        .map(|path| Keeper::start(path, on_disk))
        .transpose()
        .map_err(system("cannot start a thread"))?;
    let agent = Rc::new(Agent::new(
        config.network.clone(),
        opened.vault,
        time,
        keeper,
        boot_id,
        surroundings,
    ));
    agent.let_replace_staged(config.replace_staged);
    let set_peer_users = |config: &Config| {
        let users = config.peer_users.clone();
        agent.nodes().borrow_mut().set_peer_users(users);
    };
    set_peer_users(&config);
    agent.wait_for_trust();
    // What is due is done before anybody is served.
    agent.turn();
    let doors = Doors::new(&config);
    let connections = Connections::default();
    let mut followed = Followed::default();
    followed.follow(&config.bootstrap_paths, &agent, &connections);
    if let Err(error) = manager::tell_ready() {
        tracing::warn!("the service manager cannot be told: {error}");
    }
    let mut upkeep = pin!(upkeep(&agent, &alarm));
    let signal = loop {
        tokio::select! {
            (stream, peer, place) = doors.service.next(sockets.service.listener()) => {
                let served = service::serve(Rc::clone(&agent), stream, peer);
                connections.spawn("node", peer, place, served);
            }
            (stream, peer, place) = doors.control.next(sockets.control.listener()) => {
                let served = control::serve(Rc::clone(&agent), stream, peer);
                connections.spawn("command", peer, place, served);
            }
            _ = hangup.recv() => {
                if let Some(new) = reload(&config, &resolve, log, &mut sockets) {
                    agent.let_replace_staged(new.replace_staged);
                    set_peer_users(&new);
                    doors.reload(&new);
                    followed.follow(&new.bootstrap_paths, &agent, &connections);
                }
            }
            failure = &mut upkeep => return Err(system("the timer failed")(failure)),
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
        }
    };
    tracing::info!("stopping on {signal}: {fate}");
    manager::tell(&[NotifyState::Stopping]);
    connections.end().await;
    if let Err(reason) = agent.settled(FAREWELL).await {
        tracing::error!("the counter's high-water mark is not on the disk: {reason}");
    }
    Ok(())
}

/// Takes over what a changed configuration may change while the agent runs. Keys stay, and so do
/// the connections there are.
fn reload(
    started_with: &Config,
    resolve: impl Fn() -> Result<Config, ConfigError>,
    log: &Log,
    sockets: &mut Sockets,
) -> Option<Config> {
    if let Ok(monotonic) = NotifyState::monotonic_usec_now() {
        manager::tell(&[NotifyState::Reloading, monotonic]);
    }
    let config = match resolve() {
        Err(error) => {
            tracing::error!(
                "the configuration is not reloaded: {error}; files outside the folders that were \
                 used at the start can be read only after a restart"
            );
            None
        }
        Ok(config) => {
            log.set_level(config.log.level);
            for refused in sockets.reload(&config) {
                tracing::error!("{refused}");
            }
            if config.cold_vkey != started_with.cold_vkey || config.network != started_with.network
            {
                tracing::error!(
                    "another cold key or network: restart needed, the keys are kept until then"
                );
            }
            let waiting = config.fixed_at_start_and_changed(started_with);
            if !waiting.is_empty() {
                let names = waiting.join(", ");
                tracing::warn!(
                    "changed, but taken over at the next start alone: {names}; until then it is \
                     as it was"
                );
            }
            tracing::info!("configuration reloaded");
            Some(config)
        }
    };
    manager::tell(&[NotifyState::Ready]);
    config
}

/// The peer agents that are followed, each by a task of its own.
#[derive(Default)]
struct Followed {
    tasks: BTreeMap<PathBuf, CancellationToken>,
}

impl Followed {
    /// Follows these peers and no others. What goes on with one that stays is not disturbed.
    fn follow(&mut self, peers: &[PathBuf], agent: &Rc<Agent>, connections: &Connections) {
        self.tasks.retain(|address, task| {
            let stays = peers.contains(address);
            if !stays {
                task.cancel();
            }
            stays
        });
        for address in peers {
            self.tasks.entry(address.clone()).or_insert_with(|| {
                let stop = connections.stop.child_token();
                let (token, follow) = (
                    stop.clone(),
                    peers::follow(Rc::clone(agent), address.clone()),
                );
                connections.tracker.spawn_local(async move {
                    stop.run_until_cancelled(follow).await;
                });
                token
            });
        }
    }
}

/// The tasks of the connections there are.
#[derive(Default)]
struct Connections {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    fn spawn<E: std::fmt::Display + 'static>(
        &self,
        kind: &'static str,
        peer: Peer,
        place: Place,
        serve: impl Future<Output = Result<(), E>> + 'static,
    ) {
        let stop = self.stop.clone();
        self.tracker.spawn_local(async move {
            let _place = place;
            if let Some(Err(ending)) = stop.run_until_cancelled(serve).await {
                tracing::info!(
                    pid = peer.pid,
                    uid = peer.uid,
                    kind,
                    "connection ended: {ending}"
                );
            }
        });
    }

    async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        // What does not end by then ends with the process.
        let _ = tokio::time::timeout(FAREWELL, self.tracker.wait()).await;
    }
}

/// What goes on beside the connections.
async fn upkeep(agent: &Agent, alarm: &Alarm) -> io::Error {
    tokio::select! {
        failure = turn_periods(agent, alarm) => failure,
        never = tell_status(agent) => match never {},
        never = watchdog::feed() => match never {},
    }
}

/// Turns the keys when periods turn.
async fn turn_periods(agent: &Agent, alarm: &Alarm) -> io::Error {
    loop {
        let look_again = agent.turn();
        if let Err(error) = alarm.wait(look_again).await {
            return error;
        }
    }
}

/// Keeps the service manager's status line up to date.
async fn tell_status(agent: &Agent) -> core::convert::Infallible {
    let mut news = agent.announcements();
    loop {
        manager::tell(&[NotifyState::Status(&status::in_a_line(&agent.status()))]);
        if news.changed().await.is_err() {
            // The vault lives as long as the agent.
            core::future::pending::<()>().await;
        }
    }
}
