//! A stand-in for systemd: notifications, the file descriptor store, restarts.
//!
//! It does what systemd does, as far as a service can tell: messages to `NOTIFY_SOCKET` count only
//! when they come from the main process; descriptors sent with `FDSTORE=1` are kept by name, up to
//! the unit's `FileDescriptorStoreMax=`; the service that starts next finds its listening sockets
//! and then the kept descriptors at 3 and on (`sd_notify(3)`, `sd_listen_fds(3)`). What systemd
//! would warn of in its journal is kept as a complaint. It does not restart by itself: a test says
//! when.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::fstat;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tempfile::TempDir;

use crate::pool::{Agent, Pool, until};

/// The descriptor at which those handed to a service begin.
const FIRST_DESCRIPTOR: i32 = 3;
/// Bytes of a notification that systemd reads.
const LONGEST_NOTIFICATION: usize = 4096;
/// What a descriptor is named that came without a name.
const UNNAMED: &str = "stored";
/// `FileDescriptorStoreMax=` of a service manager that was not told.
const STORE_MAX: usize = 16;

/// A service manager with one service. The service is killed and everything forgotten when it is
/// dropped.
pub struct ServiceManager {
    folder: TempDir,
    template: Command,
    watchdog: Option<Duration>,
    sockets: Vec<(String, UnixListener)>,
    known: Arc<Mutex<Known>>,
    service: Option<Agent>,
    socket: Arc<UnixDatagram>,
    reader: Option<JoinHandle<()>>,
}

/// What the manager knows of its service.
#[derive(Default)]
struct Known {
    main_pid: Option<u32>,
    store_max: usize,
    withholds_barriers: bool,
    stored: Vec<(String, OwnedFd)>,
    notifications: Vec<String>,
    complaints: Vec<String>,
    /// Barriers that are not answered.
    withheld: Vec<OwnedFd>,
}

impl ServiceManager {
    /// A manager of the service that this command runs: its program, arguments, environment and
    /// folder. Nothing is started yet.
    ///
    /// # Panics
    /// Where its socket cannot be made.
    #[must_use]
    pub fn new(template: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        set_socket_passcred(&socket, true).expect("credentials come with notifications");
        let socket = Arc::new(socket);
        let known = Arc::new(Mutex::new(Known {
            store_max: STORE_MAX,
            ..Known::default()
        }));
        let reader = std::thread::spawn({
            let (socket, known) = (Arc::clone(&socket), Arc::clone(&known));
            move || read_notifications(&socket, &known)
        });
        Self {
            folder,
            template,
            watchdog: None,
            sockets: Vec::new(),
            known,
            service: None,
            socket,
            reader: Some(reader),
        }
    }

    /// A manager of the pool's agent with further arguments.
    #[must_use]
    pub fn of_agent(pool: &Pool, args: &[&str]) -> Self {
        let mut template = pool.agent_command();
        template.args(args);
        Self::new(template)
    }

    /// With another `FileDescriptorStoreMax=` than 16; 0 is systemd's default: nothing is kept.
    #[must_use]
    pub fn with_store_max(self, most: usize) -> Self {
        self.known().store_max = most;
        self
    }

    /// With `WatchdogSec=`. Pings are noted like every notification; nobody is killed for want of
    /// them.
    #[must_use]
    pub fn with_watchdog(mut self, interval: Duration) -> Self {
        self.watchdog = Some(interval);
        self
    }

    /// With a socket unit: listens at `path`, from now until the manager is dropped, and hands the
    /// socket to the service under `name` (`FileDescriptorName=`).
    ///
    /// # Panics
    /// Where `path` cannot be listened on.
    #[must_use]
    pub fn with_socket(mut self, name: &str, path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a listening socket");
        self.sockets.push((name.to_owned(), listener));
        self
    }

    /// Answers no `BARRIER=1` any more, as a manager that hangs.
    #[must_use]
    pub fn withholding_barriers(self) -> Self {
        self.known().withholds_barriers = true;
        self
    }

    /// Runs another command from the next start on: an upgraded program, another configuration.
    pub fn replace_command(&mut self, template: Command) {
        self.template = template;
    }

    /// Starts the service and waits until it says `READY=1`.
    ///
    /// # Panics
    /// Where it runs already, cannot be run, or ends before it is ready.
    pub fn start(&mut self) {
        let before = self.notifications().len();
        self.launch();
        until("READY=1", || {
            if let Some(status) = self.running().ended() {
                let (log, errors) = (self.log(), self.running().stderr());
                panic!("the service ended with {status} before it was ready: {errors}{log}");
            }
            self.known().notifications[before..]
                .iter()
                .any(|line| line == "READY=1")
                .then_some(())
        });
    }

    /// Starts the service without waiting for anything.
    ///
    /// # Panics
    /// Where it runs already or cannot be run.
    pub fn launch(&mut self) {
        assert!(self.service.is_none(), "the service runs already");
        let command = self.command();
        // Messages of the new process must find its number here: they wait for the lock.
        let mut known = self.known.lock().expect("no panic while reading");
        let service = Agent::launch(command);
        known.main_pid = Some(service.pid());
        drop(known);
        self.service = Some(service);
    }

    /// Waits until the service ends by itself, and says how it ended and what it wrote on its
    /// standard error. What it had stored is kept, as systemd does before a restart.
    ///
    /// # Panics
    /// Where no service runs or it does not end.
    pub fn await_end(&mut self) -> (ExitStatus, String) {
        let mut service = self.service.take().expect("the service runs");
        let status = until("the service to end", || service.ended());
        self.settle();
        (status, service.stderr())
    }

    /// SIGKILL. What was stored is kept.
    ///
    /// # Panics
    /// Where no service runs.
    pub fn kill(&mut self) {
        self.running().signal("KILL");
        let _ = self.await_end();
    }

    /// SIGKILL, and a new start.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start();
    }

    /// SIGTERM. What was stored is kept, as in the middle of `systemctl restart`.
    ///
    /// # Panics
    /// Where no service runs or it does not end well.
    pub fn terminate(&mut self) {
        self.running().signal("TERM");
        let (status, errors) = self.await_end();
        assert!(status.success(), "{status}: {errors}");
    }

    /// `systemctl restart`: SIGTERM, and a new start.
    pub fn restart(&mut self) {
        self.terminate();
        self.start();
    }

    /// `systemctl stop`: SIGTERM, and what was stored is forgotten.
    pub fn stop(&mut self) {
        self.terminate();
        self.forget();
    }

    /// `systemctl reload`: SIGHUP, and waits until the service says `RELOADING=1` and then
    /// `READY=1` again.
    ///
    /// # Panics
    /// Where no service runs or it does not say so.
    pub fn reload(&mut self) {
        let before = self.notifications().len();
        self.running().signal("HUP");
        until("RELOADING=1 and READY=1", || {
            let known = self.known();
            let mut lines = known.notifications[before..].iter();
            let reloads = lines.any(|line| line == "RELOADING=1");
            (reloads && lines.any(|line| line == "READY=1")).then_some(())
        });
    }

    /// The service that runs.
    ///
    /// # Panics
    /// Where none does.
    pub fn running(&mut self) -> &mut Agent {
        self.service.as_mut().expect("the service runs")
    }

    /// What the running service has logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.as_ref().map_or_else(String::new, Agent::log)
    }

    /// Every line of every notification so far, over all starts.
    #[must_use]
    pub fn notifications(&self) -> Vec<String> {
        self.known().notifications.clone()
    }

    /// Waits for a line that begins with `start` after the first `after` lines, and gives how many
    /// there were with it.
    #[must_use]
    pub fn await_notification(&self, start: &str, after: usize) -> usize {
        until(start, || {
            let known = self.known();
            let mut lines = known.notifications.iter().skip(after);
            let at = lines.position(|line| line.starts_with(start))?;
            Some(after + at + 1)
        })
    }

    /// What systemd would have warned of so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.known().complaints.clone()
    }

    /// The names of the stored descriptors, in the order in which they came.
    #[must_use]
    pub fn stored(&self) -> Vec<String> {
        let known = self.known();
        known.stored.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A duplicate of the first descriptor stored under `name`: whoever holds it can read what the
    /// service keeps there, and write to it.
    ///
    /// # Panics
    /// Where it cannot be duplicated.
    #[must_use]
    pub fn descriptor(&self, name: &str) -> Option<OwnedFd> {
        let known = self.known();
        let (_, descriptor) = known.stored.iter().find(|(stored, _)| stored == name)?;
        Some(descriptor.try_clone().expect("a descriptor"))
    }

    /// Puts a descriptor into the store, as if the service had sent it. Others of that name stay.
    pub fn hand_in(&mut self, name: &str, descriptor: OwnedFd) {
        self.known().stored.push((name.to_owned(), descriptor));
    }

    /// Forgets the descriptors of that name.
    pub fn forget_name(&mut self, name: &str) {
        self.known().remove(name);
    }

    /// Forgets all stored descriptors.
    pub fn forget(&mut self) {
        self.known().stored.clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no panic while reading")
    }

    /// The command that starts the service with what is its due.
    fn command(&self) -> Command {
        let known = self.known();
        let due = self
            .sockets
            .iter()
            .map(|(name, socket)| (name, socket.as_fd()))
            .chain(known.stored.iter().map(|(name, fd)| (name, fd.as_fd())));
        let (names, mappings): (Vec<&str>, Vec<FdMapping>) = due
            .zip(FIRST_DESCRIPTOR..)
            .map(|((name, descriptor), child_fd)| {
                let parent_fd = descriptor.try_clone_to_owned().expect("a descriptor");
                (
                    name.as_str(),
                    FdMapping {
                        parent_fd,
                        child_fd,
                    },
                )
            })
            .unzip();

        // Only the process itself knows its number before it runs.
        let mut script = String::new();
        let mut command = Command::new("sh");
        if !names.is_empty() {
            script.push_str("LISTEN_PID=$$ ");
            command
                .env("LISTEN_FDS", names.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
        if let Some(interval) = self.watchdog {
            script.push_str("WATCHDOG_PID=$$ ");
            command.env("WATCHDOG_USEC", interval.as_micros().to_string());
        }
        if known.store_max > 0 {
            command.env("FDSTORE", known.store_max.to_string());
        }
        script.push_str(r#"exec "$@""#);
        command
            .env("NOTIFY_SOCKET", self.notify_socket())
            .args(["-c", &script, "sh"])
            .arg(self.template.get_program())
            .args(self.template.get_args())
            .stdin(std::process::Stdio::null());
        if let Some(folder) = self.template.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in self.template.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .fd_mappings(mappings)
            .expect("every descriptor has its own number");
        command
    }

    /// The path of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn notify_socket(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Waits until every notification that was sent so far is taken in.
    fn settle(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        sender
            .connect(self.notify_socket())
            .expect("the manager listens");
        // From this process, not from the service: it is a complaint and changes nothing.
        let marker = format!("MARKER={}", self.known().complaints.len());
        sender.send(marker.as_bytes()).expect("the manager reads");
        until("the notifications to be taken", || {
            let mut known = self.known();
            let at = known.complaints.iter().position(|c| c.contains(&marker))?;
            known.complaints.remove(at);
            Some(())
        });
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        drop(self.service.take());
        // A blocked receiver wakes with nothing, which ends it.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            // Its panic has been shown already.
            let _ = reader.join();
        }
    }
}

/// Takes notifications in until the socket is shut down.
fn read_notifications(socket: &UnixDatagram, known: &Mutex<Known>) {
    let mut text = [0; LONGEST_NOTIFICATION];
    // As many descriptors as the kernel lets one message carry.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253), ScmCredentials(1))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("notifications can be received");
        let (mut descriptors, mut sender) = (Vec::new(), None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
                _ => {}
            }
        }
        if received.bytes == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&text[..received.bytes]);
        let mut known = known.lock().expect("no panic while reading");
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        let sender = sender.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
        if received.flags.intersects(cut) {
            known.complain(format!("a notification is too long: {text}"));
        } else if sender.is_none() || sender != known.main_pid {
            known.complain(format!("not from the main process: {text}"));
        } else {
            known.take(&text, descriptors);
        }
    }
}

impl Known {
    fn complain(&mut self, of: String) {
        self.complaints.push(of);
    }

    /// Takes in one notification of the main process.
    fn take(&mut self, text: &str, mut descriptors: Vec<OwnedFd>) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        self.notifications
            .extend(lines.iter().map(|&line| line.to_owned()));
        if lines.contains(&"BARRIER=1") {
            if lines.len() != 1 || descriptors.len() != 1 {
                self.complain(format!(
                    "BARRIER=1 with {} lines and {} descriptors, not one each",
                    lines.len(),
                    descriptors.len()
                ));
            }
            if self.withholds_barriers {
                self.withheld.append(&mut descriptors);
            }
            // Closed here otherwise, which is the answer.
            return;
        }
        let name = lines.iter().find_map(|line| line.strip_prefix("FDNAME="));
        if lines.contains(&"FDSTOREREMOVE=1") {
            match name {
                Some(name) => self.remove(name),
                None => self.complain("FDSTOREREMOVE=1 without FDNAME=".to_owned()),
            }
        } else if lines.contains(&"FDSTORE=1") {
            let name = match name {
                None => UNNAMED,
                Some(name) if is_valid_name(name) => name,
                Some(name) => {
                    self.complain(format!("{name:?} is no name for a descriptor"));
                    UNNAMED
                }
            };
            for descriptor in descriptors {
                self.store(name, descriptor);
            }
        } else if !descriptors.is_empty() {
            self.complain(format!(
                "{} descriptors came without FDSTORE=1",
                descriptors.len()
            ));
        }
    }

    fn store(&mut self, name: &str, descriptor: OwnedFd) {
        // systemd keeps one that is stored already once, under its first name.
        if self.stored.iter().any(|(_, one)| is_same(one, &descriptor)) {
            return;
        }
        if self.stored.len() >= self.store_max {
            self.complain(format!(
                "no room for {name}: FileDescriptorStoreMax={}",
                self.store_max
            ));
            return;
        }
        self.stored.push((name.to_owned(), descriptor));
    }

    fn remove(&mut self, name: &str) {
        self.stored.retain(|(stored, _)| stored != name);
    }
}

/// Whether two descriptors are of one file. (systemd asks whether they are of one opening of it;
/// for what has no path, such as a memfd or a pipe's end, that is nearly the same.)
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let (one, other) = (
        fstat(one).expect("an open descriptor"),
        fstat(other).expect("an open descriptor"),
    );
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Whether systemd accepts it as FDNAME= (`fdname_is_valid` in its source).
fn is_valid_name(name: &str) -> bool {
    name.len() <= 255 && name.chars().all(|c| (' '..='~').contains(&c) && c != ':')
}
