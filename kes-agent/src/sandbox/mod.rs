//! The sandbox: of all that the kernel offers and the disk holds, the agent leaves itself what it
//! needs.
//!
//! Rule: it is applied before the process has a second thread, because it binds the calling
//! thread and those that it starts; and it is never lifted. What the kernel cannot do is said, in
//! the log and in the status, or keeps the agent from starting where that is configured.

mod calls;
mod files;

use std::path::PathBuf;

use kes_wire::protocol::control::rotation::Protection;
use landlock::{LandlockStatus, RulesetStatus};

use crate::config::Config;

/// The name of the protection that the system-call filter is.
const CALLS: &str = "system-calls-filtered";
/// The name of the protection that the file restriction is.
const FILES: &str = "files-restricted";

/// The files that the agent needs.
#[derive(Debug, Default)]
pub struct Reach {
    /// Files that are read, at a reload again. They may be missing.
    pub read: Vec<PathBuf>,
    /// Sockets that are made and removed.
    pub sockets: Vec<PathBuf>,
    /// The folder in which files are made and replaced.
    pub state: Option<PathBuf>,
}

impl Reach {
    /// What an agent with this configuration needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let sockets = [&config.service_path, &config.control_path];
        Self {
            read: config.sources.clone(),
            sockets: sockets.into_iter().flatten().cloned().collect(),
            state: config.state_dir.clone(),
        }
    }
}

/// Applies the sandbox to the calling thread and those that it will start, as far as the kernel
/// can, and says what came of it.
#[must_use]
pub fn apply(reach: &Reach) -> [Protection; 2] {
    // The filter comes last: it does not let the other be applied.
    let files = restrict_files(reach);
    [filter_calls(), files]
}

/// What is said where the sandbox is switched off.
#[must_use]
pub fn left_off() -> [Protection; 2] {
    let off = "switched off: sandbox = \"off\" is configured";
    [missing(CALLS, off), missing(FILES, off)]
}

fn restrict_files(reach: &Reach) -> Protection {
    let status = match files::restrict(reach) {
        Ok(status) => status,
        Err(error) => return missing(FILES, format!("the kernel refuses it: {error}")),
    };
    let needed =
        "only the sockets' folders, the configuration and the state directory are in reach";
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => in_force(FILES, needed),
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            in_force(
                FILES,
                format!(
                    "{needed}, as far as Landlock version {} of this kernel can",
                    effective_abi as i32
                ),
            )
        }
        (RulesetStatus::PartiallyEnforced, _) => in_force(FILES, needed),
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => missing(
            FILES,
            "Landlock is not switched on: add landlock to the kernel parameter lsm=",
        ),
        (RulesetStatus::NotEnforced, _) => missing(
            FILES,
            "there is no Landlock here: it needs Linux 5.13, and a container that lets \
             landlock_create_ruleset through",
        ),
    }
}

fn filter_calls() -> Protection {
    match seccompiler::apply_filter(&calls::filter()) {
        Ok(()) => in_force(
            CALLS,
            "only listed system calls are answered: the agent cannot fork, execute, trace, or \
             reach the network",
        ),
        Err(error) => missing(
            CALLS,
            format!("the kernel refuses a seccomp filter, or a container does: {error}"),
        ),
    }
}

fn in_force(name: &str, meaning: impl Into<String>) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force: true,
        meaning: meaning.into(),
    }
}

fn missing(name: &str, why: impl Into<String>) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force: false,
        meaning: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::layout::SlotsRegion;
    use kes_wire::sys::os::clock_is_synchronised;
    use std::fs::{self, File};
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::process::Command;

    /// Runs `work` in a thread that is in the sandbox; the other tests are not. `None` where this
    /// kernel lacks a part.
    fn inside<R: Send>(reach: &Reach, work: impl FnOnce() -> R + Send) -> Option<R> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let parts = apply(reach);
                let missing = parts.iter().find(|part| !part.in_force);
                if let Some(missing) = missing {
                    // Straight to standard error: the harness hides what passing tests print.
                    let _ = writeln!(io::stderr(), "SKIPPED: {missing:?}");
                    return None;
                }
                Some(work())
            });
            thread.join().unwrap()
        })
    }

    fn has_no_such_call<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
    }

    #[test]
    fn calls_that_are_not_listed_are_not_there() {
        let tried = inside(&Reach::default(), || {
            let mut tried = vec![
                ("fork", has_no_such_call(Command::new("/bin/true").spawn())),
                ("tcp", has_no_such_call(TcpListener::bind("127.0.0.1:0"))),
                ("udp", has_no_such_call(UdpSocket::bind("127.0.0.1:0"))),
            ];
            let dumpable = rustix::process::DumpableBehavior::Dumpable;
            let own = rustix::process::getpid();
            let rustix = [
                (
                    "lift a protection",
                    rustix::process::set_dumpable_behavior(dumpable),
                ),
                (
                    "raise a limit",
                    rustix::process::setrlimit(
                        rustix::process::Resource::Core,
                        rustix::process::getrlimit(rustix::process::Resource::Core),
                    ),
                ),
                ("signal", rustix::process::test_kill_process(own)),
                (
                    "change identity",
                    rustix::thread::set_thread_uid(rustix::process::getuid()),
                ),
            ];
            for (what, outcome) in rustix {
                tried.push((what, outcome == Err(rustix::io::Errno::NOSYS)));
            }
            tried
        });
        for (what, refused) in tried.into_iter().flatten() {
            assert!(refused, "{what}");
        }
    }

    #[test]
    fn what_the_agent_needs_goes_on() {
        let is_synchronised = clock_is_synchronised();
        let _ = inside(&Reach::default(), || {
            // A thread, a pair of sockets, randomness, locked memory, a stack for secrets.
            std::thread::spawn(|| ()).join().unwrap();
            std::os::unix::net::UnixStream::pair().unwrap();
            kes_wire::sys::memory::LockedBytes::<608>::random().unwrap();
            kes_wire::sys::stack::run(|| ()).unwrap();
            assert_eq!(clock_is_synchronised(), is_synchronised);
            // Memory that the service manager gives back.
            if let Ok((fresh, fd)) = SlotsRegion::secret() {
                drop(fresh);
                assert!(SlotsRegion::adopt(&fd).is_ok());
            }
        });
    }

    fn is_denied<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn files_out_of_reach_are_denied_and_those_in_reach_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["settings", "sockets", "state", "elsewhere"] {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("file"), "old").unwrap();
        }
        std::os::unix::fs::symlink(place("elsewhere/file"), place("settings/link")).unwrap();
        let reach = Reach {
            read: vec![place("settings/file"), place("settings/not there")],
            sockets: vec![place("sockets/socket")],
            state: Some(place("state")),
        };
        let write = |path: &Path| File::create(path).and_then(|mut file| file.write_all(b"new"));
        let read = |path: &Path| {
            let mut text = String::new();
            File::open(path).and_then(|mut file| file.read_to_string(&mut text))
        };
        let _ = inside(&reach, || {
            read(&place("settings/file")).unwrap();
            assert!(is_denied(write(&place("settings/file"))));
            assert!(is_denied(read(&place("settings/link"))));
            assert!(is_denied(read(&place("elsewhere/file"))));
            assert!(is_denied(read(Path::new("/proc/version"))));
            assert!(is_denied(fs::read_dir("/")));
            assert!(is_denied(fs::remove_file(place("elsewhere/file"))));

            UnixListener::bind(place("sockets/socket")).unwrap();
            fs::remove_file(place("sockets/socket")).unwrap();
            assert!(is_denied(read(&place("sockets/file"))));
            assert!(is_denied(write(&place("sockets/new"))));
            assert!(is_denied(UnixListener::bind(place("elsewhere/socket"))));

            write(&place("state/new")).unwrap();
            fs::rename(place("state/new"), place("state/file")).unwrap();
            assert_eq!(fs::read_to_string(place("state/file")).unwrap(), "new");
        });
    }

    #[test]
    fn a_replaced_file_and_the_target_of_a_link_are_in_reach() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["settings", "target"] {
            fs::create_dir(place(name)).unwrap();
            fs::write(place(name).join("file"), "old").unwrap();
        }
        std::os::unix::fs::symlink(place("target/file"), place("settings/link")).unwrap();
        let reach = Reach {
            read: vec![place("settings/link"), place("settings/file")],
            ..Reach::default()
        };
        let read = |path: &str| fs::read_to_string(place(path)).unwrap();
        let (replaced, waiting) = std::sync::mpsc::channel::<()>();
        let (applied, started) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = apply(&reach);
                applied.send(()).unwrap();
                waiting.recv().unwrap();
                assert_eq!(read("settings/file"), "new");
                assert_eq!(read("settings/link"), "old");
            });
            started.recv().unwrap();
            fs::write(place("new"), "new").unwrap();
            fs::rename(place("new"), place("settings/file")).unwrap();
            replaced.send(()).unwrap();
        });
    }
}
