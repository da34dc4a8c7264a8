//! What the agent asks of the system for its process before it has a secret, and what it got.

use std::panic::{self, AssertUnwindSafe};

use kes_wire::process;
use kes_wire::protocol::control::rotation::Protection;
use kes_wire::sys::host;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{no_new_privs, set_no_new_privs};

use crate::config::Config;
use crate::config::levels::SandboxMode;
use crate::sandbox::{self, Reach};

/// A protection that must be had cannot be.
#[derive(Debug, thiserror::Error)]
pub enum NotProtected {
    /// Other processes could read this one.
    #[error(
        "the system does not let this process be closed to debuggers and core dumps: {0}; without \
         that it holds no key"
    )]
    Open(std::io::Error),
    /// The configuration requires one.
    #[error(
        "sandbox = \"required\" is configured, but {name} is not in force: {why}; mend that, or \
         configure sandbox = \"on\" to do without"
    )]
    Required {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

/// Protects the process. Must be called while it has one thread, after it has become the user
/// that it is to be.
///
/// # Errors
/// [`NotProtected`] where the configuration requires what cannot be had.
pub fn protect(config: &Config) -> Result<Vec<Protection>, NotProtected> {
    // The filter would refuse it later.
    raise_descriptor_limit();
    // Whatever is configured: secrets in a process that others may read are none.
    process::close_to_others().map_err(NotProtected::Open)?;
    let mut protections = vec![
        protection(
            "closed-to-others",
            "other processes, even of the same user, cannot trace this one or read its memory, \
             and it leaves no core dump",
            Ok(()),
        ),
        protection(
            "no-new-privileges",
            "the process cannot gain rights",
            set_no_new_privs(true)
                .and_then(|()| no_new_privs())
                .map_err(Into::into)
                .and_then(|set| set.then_some(()).ok_or_else(|| NOT_SET.into())),
        ),
        protection(
            "closed-on-exec",
            "no descriptor would reach another program",
            host::close_descriptors_on_exec(),
        ),
    ];
    protections.extend(match config.sandbox {
        SandboxMode::Off => sandbox::left_off(),
        SandboxMode::On | SandboxMode::Required => sandbox::apply(&Reach::of(config)),
    });
    match protections.iter().find(|protection| !protection.in_force) {
        Some(missing) if config.sandbox == SandboxMode::Required => Err(NotProtected::Required {
            name: missing.name.clone(),
            why: missing.meaning.clone(),
        }),
        Some(_) | None => Ok(protections),
    }
}

const NOT_SET: std::io::ErrorKind = std::io::ErrorKind::Unsupported;

fn protection(name: &str, meaning: &str, outcome: std::io::Result<()>) -> Protection {
    Protection {
        name: name.to_owned(),
        in_force: outcome.is_ok(),
        meaning: match outcome {
            Ok(()) => meaning.to_owned(),
            Err(error) => format!("the system refuses it: {error}"),
        },
    }
}

/// Does what a library panics at where the system refuses it something: that is an error like
/// others at the start, and standard error is for one sentence. `None` where it did.
pub fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(usual);
    done.ok()
}

/// Takes as many descriptors as the system lets: each connection is one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is refused the limit stays, and is told from there on.
    let _ = setrlimit(Resource::Nofile, raised);
}
