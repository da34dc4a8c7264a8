//! Why a command failed, as it is shown to a person and to a script.

use std::collections::BTreeMap;

use kes_wire::envelope::{EnvelopeError, EnvelopeFileError};
use kes_wire::files::FileError;
use kes_wire::protocol::control::rotation::{Refusal, RefusalCode};
use kes_wire::sys::memory::LockError;
use serde::Serialize;

use crate::exit::Exit;

/// A failed command: a stable code, what happened, what to do next, and the exit code.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// The stable name.
    pub(crate) code: String,
    /// What happened.
    pub(crate) sentence: String,
    /// What to do next.
    pub(crate) next_step: String,
    /// The numbers that matter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) numbers: BTreeMap<String, u64>,
    /// The exit code.
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// Whether a later agent has named it: what this program has no word for is shown as it is.
    #[serde(skip)]
    pub(crate) is_unknown: bool,
}

impl Failure {
    pub(crate) fn new(
        exit: Exit,
        code: &str,
        sentence: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            sentence: sentence.into(),
            next_step: next_step.into(),
            numbers: BTreeMap::new(),
            exit,
            is_unknown: false,
        }
    }

    /// The agent's answer does not fit the request.
    pub(crate) fn contradiction() -> Self {
        Self::new(
            Exit::Failure,
            "contradiction",
            "the agent's answer does not fit the request",
            "look at `kes-cli status`; another command may have come in between",
        )
    }

    /// A file that holds something else than it should.
    pub(crate) fn content(name: &str, reason: &dyn std::fmt::Display) -> Self {
        Self::new(
            Exit::File,
            "file-content",
            format!("{name}: {reason}"),
            "check that this is the right file",
        )
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            exit: Exit::from(&refusal.code),
            is_unknown: matches!(refusal.code, RefusalCode::Other(_)),
            code: refusal.code.name().to_owned(),
            sentence: refusal.sentence,
            next_step: refusal.next_step,
            numbers: refusal.numbers,
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::new(
            Exit::Failure,
            "no-locked-memory",
            format!("this program {error}"),
            "raise the limit (ulimit -l) and run the command again",
        )
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        if let FileError::Lock(error) = error {
            // Not the file's fault.
            return error.into();
        }
        let (exit, next_step) = if error.is_permission() {
            (Exit::NotPermitted, "run as a user who may use this file")
        } else if error.is_exists() {
            (Exit::File, "give another name, or --force to overwrite it")
        } else {
            (
                Exit::File,
                "check the path and the device, and run the command again",
            )
        };
        Self::new(exit, "file", error.to_string(), next_step)
    }
}

impl From<EnvelopeFileError> for Failure {
    fn from(error: EnvelopeFileError) -> Self {
        match error {
            EnvelopeFileError::File(error) => error.into(),
            EnvelopeFileError::Lock(error) => error.into(),
            EnvelopeFileError::Envelope { path, reason } => {
                let mut failure = Self::content(&path.display().to_string(), &reason);
                if reason == EnvelopeError::ExtendedSignKey {
                    failure.exit = Exit::NotSupported;
                }
                failure
            }
        }
    }
}
