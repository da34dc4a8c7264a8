//! The keys' memory, taken back from the service manager or handed to it once.
//!
//! systemd's file descriptor store (`sd_notify(3)`, FDSTORE=1) keeps the memory's descriptor while
//! the service restarts, for whatever reason, and lets go of it when the service is stopped. All
//! this happens before the sockets open; afterwards a change of state touches memory alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kes_wire::genesis::Network;
use kes_wire::sys::memory::LockError;
use kes_wire::sys::region::{NotARegion, RegionKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use sd_notify::NotifyState;

use crate::kept::layout::SlotsRegion;
use crate::kept::record::BadRecord;
use crate::kept::{Found, Kept, NotUsed};
use crate::state::{Rules, State};
use crate::vault::Vault;

/// The name under which the service manager keeps the memory.
pub const NAME: &str = "kes-agent-slots";

/// How long the service manager may take to confirm that it has the memory.
const CONFIRMATION_SECONDS: i64 = 5;

/// Whether keys outlive the agent, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Survival {
    /// The service manager keeps them: it gave them back, or says that it keeps descriptors.
    Kept,
    /// The service manager took them. It is one that does not say whether it keeps descriptors.
    Handed,
    /// No service manager started the agent.
    NoManager,
    /// The service manager does not keep descriptors.
    NotTaken(String),
    /// The service manager did not confirm: it may keep them or not.
    NotConfirmed(String),
    /// There is no memory of memfd_secret to hand over.
    NoSecretMemory(String),
}

/// Why the keys' memory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not even guarded memory.
    #[error("the agent {0}")]
    Lock(#[from] LockError),
    /// The first record cannot be written: a fault of the agent.
    #[error("the keys' memory: {0}")]
    Record(#[from] BadRecord),
    /// The strong kind is required and cannot be had.
    #[error(
        "secret memory is required (memory = \"secret\") and cannot be had: {why}; {next}",
        next = next_step_for_secret_memory()
    )]
    Required {
        /// What the system says.
        why: String,
    },
}

/// What to do where there is no memfd_secret.
#[must_use]
pub fn next_step_for_secret_memory() -> &'static str {
    "Linux 5.14 to 6.4 need the kernel parameter secretmem.enable=1; a container or a unit must \
     allow the system call memfd_secret; the limit for locked memory (RLIMIT_MEMLOCK, LimitMEMLOCK= \
     in systemd) must have room; `kes-agent check-host` says more"
}

/// The keys' memory, and what became of what was kept in it.
pub struct Opened {
    /// The vault.
    pub vault: Vault,
    /// Whether keys outlive the agent.
    pub survival: Survival,
    /// What an operator should know: sentences for the log and the status.
    pub remarks: Vec<String>,
}

/// Takes the keys' memory back, or makes it and hands it over. `handed` is what the service
/// manager gave under [`NAME`]; `on_disk` is what is known where nothing was kept; `secret_only`
/// requires the strong kind.
///
/// # Errors
/// [`StoreError`]
pub fn open(
    handed: Vec<OwnedFd>,
    rules: Rules,
    network: &Network,
    on_disk: Option<State>,
    secret_only: bool,
) -> Result<Opened, StoreError> {
    let mut remarks = Vec::new();
    let mut forgot = false;
    for fd in handed {
        let taken = SlotsRegion::adopt(&fd)
            .map_err(|error| match error {
                NotARegion::OtherKind => NotUsed::Damaged(error.to_string()),
                NotARegion::OtherSize { found, .. } => NotUsed::OtherSize(found),
                NotARegion::System(error) => NotUsed::OutOfReach(error.to_string()),
            })
            .and_then(|region| Kept::take_back(region, &rules, network.clone()));
        match taken {
            Ok((kept, mut found)) => {
                remarks.extend(found.given_up.iter().cloned());
                if found.is_blank {
                    found.state = on_disk.unwrap_or_default();
                }
                let mut vault = Vault::new(rules, kept, found);
                vault.commit_as_is()?;
                // What was forgotten before had the same name, and this went with it.
                let survival = if forgot {
                    hand_over(&fd)
                } else {
                    Survival::Kept
                };
                // It is mapped: this process needs no descriptor of it any more.
                drop(fd);
                return Ok(Opened {
                    vault,
                    survival,
                    remarks,
                });
            }
            Err(
                why @ (NotUsed::Newer(_)
                | NotUsed::OtherSize(_)
                | NotUsed::OtherRecord(_)
                | NotUsed::OtherPool(_)
                | NotUsed::OtherNetwork(_)
                | NotUsed::OutOfReach(_)),
            ) => {
                remarks.push(format!("nothing is served: the memory is {why}"));
                return Ok(Opened {
                    vault: Vault::unread(rules, Kept::guarded(network.clone())?, why),
                    survival: Survival::Kept,
                    remarks,
                });
            }
            Err(NotUsed::Damaged(reason)) => {
                remarks.push(format!(
                    "what was kept over the restart cannot be used and was wiped: {reason}"
                ));
                forget();
                forgot = true;
            }
        }
    }
    let (kept, memory) = fresh(network, secret_only)?;
    let found = Found {
        state: on_disk.unwrap_or_default(),
        ..Found::nothing()
    };
    let mut vault = Vault::new(rules, kept, found);
    // What is known is in the memory before anybody else has it.
    vault.commit_as_is()?;
    let survival = match memory {
        Ok(fd) => hand_over(&fd),
        Err(why) => Survival::NoSecretMemory(why),
    };
    Ok(Opened {
        vault,
        survival,
        remarks,
    })
}

/// Fresh memory, and its descriptor or why it is not of the kind that has one.
fn fresh(
    network: &Network,
    secret_only: bool,
) -> Result<(Kept, Result<OwnedFd, String>), StoreError> {
    match SlotsRegion::secret() {
        Ok((region, fd)) => {
            debug_assert_eq!(region.kind, RegionKind::Secret);
            Ok((Kept::fresh(region, network.clone()), Ok(fd)))
        }
        Err(error) if secret_only => Err(StoreError::Required {
            why: error.to_string(),
        }),
        Err(error) => Ok((Kept::guarded(network.clone())?, Err(error.to_string()))),
    }
}

fn hand_over(memory: &OwnedFd) -> Survival {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Survival::NoManager;
    }
    // systemd says since version 254 how many descriptors it keeps (FDSTORE). A version that says
    // something else that came with 254, and not that, keeps none.
    let kept = std::env::var("FDSTORE").ok();
    let would_say = std::env::var_os("MEMORY_PRESSURE_WATCH").is_some();
    if kept.as_deref() == Some("0") || kept.is_none() && would_say {
        return Survival::NotTaken(
            "the unit lets the service manager keep no descriptors (FileDescriptorStoreMax=)"
                .to_owned(),
        );
    }
    let states = [NotifyState::FdStore, NotifyState::FdName(NAME)];
    let handed = sd_notify::notify_with_fds(&states, &[memory.as_fd()]).and_then(|()| barrier());
    match (handed, kept) {
        (Ok(()), Some(_)) => Survival::Kept,
        (Ok(()), None) => Survival::Handed,
        (Err(error), _) => Survival::NotConfirmed(error.to_string()),
    }
}

fn forget() {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(NAME)];
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!("the service manager cannot be told to forget: {error}");
    }
}

/// Waits until the service manager has taken all that it was sent before: it closes its end of a
/// pipe then (`sd_notify(3)`, BARRIER=1).
fn barrier() -> io::Result<()> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    send_barrier(theirs.as_fd())?;
    drop(theirs);
    let most = Timespec {
        tv_sec: CONFIRMATION_SECONDS,
        tv_nsec: 0,
    };
    let mut waits = [PollFd::new(&ours, PollFlags::empty())];
    match poll(&mut waits, Some(&most))? {
        0 => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the service manager did not confirm that it keeps the memory",
        )),
        _ => Ok(()),
    }
}

fn send_barrier(pipe: BorrowedFd<'_>) -> io::Result<()> {
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[pipe])
}
