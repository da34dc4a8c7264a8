//! What a command prints: a result on standard output and nothing else there.

use std::io::{self, Write};
use std::process::ExitCode;

use kes_wire::protocol::control::rotation::Note;
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::failure::Failure;

/// The result of a command that succeeded.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Whether anything was changed.
    pub(crate) changed: bool,
    /// What a script reads, beside `changed` and `notes`.
    pub(crate) fields: Map<String, Value>,
    /// What a person reads.
    pub(crate) lines: Vec<String>,
    /// What either should know beside it.
    pub(crate) notes: Vec<Note>,
    /// What is printed as it stands, instead of all that.
    verbatim: Option<String>,
}

impl Report {
    pub(crate) fn new(changed: bool) -> Self {
        Self {
            changed,
            ..Self::default()
        }
    }

    /// A result that is printed as it stands.
    pub(crate) fn verbatim(text: impl Into<String>) -> Self {
        Self {
            verbatim: Some(text.into()),
            ..Self::default()
        }
    }

    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    pub(crate) fn field(mut self, name: &str, value: impl serde::Serialize) -> Self {
        let value = serde_json::to_value(value).expect("our own types serialise");
        self.fields.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn notes(mut self, notes: Vec<Note>) -> Self {
        self.notes.extend(notes);
        self
    }
}

/// Prints the outcome of a command and gives its exit code.
///
/// With `json` one object stands on standard output, on failure too. Without it sentences do, and
/// a failure goes to standard error. `stdout_taken` is for commands with a file that goes to
/// standard output: then what there is to say goes to standard error.
pub(crate) fn finish(outcome: Result<Report, Failure>, json: bool, stdout_taken: bool) -> ExitCode {
    match outcome {
        Ok(report) => match print_result(&report, json, stdout_taken) {
            Ok(()) => Exit::Success.into(),
            Err(error) => {
                let failure = unprinted(&error);
                complain(&failure);
                failure.exit.into()
            }
        },
        Err(failure) => {
            if json {
                // Where it cannot be printed, the exit code is what is left to say.
                say(&failure_as_json(&failure), stdout_taken);
            } else {
                complain(&failure);
            }
            failure.exit.into()
        }
    }
}

fn print_result(report: &Report, json: bool, stdout_taken: bool) -> io::Result<()> {
    let text = match &report.verbatim {
        // It is what standard output is taken for, if it is.
        Some(text) => return put(text),
        None if json => as_json(report),
        None => as_text(report),
    };
    if stdout_taken {
        say(&text, stdout_taken);
        return Ok(());
    }
    put(&text)
}

/// Writes to standard output. That its reader has gone away fails nothing: what a command has done
/// it has done.
pub(crate) fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The command was carried out, but what it has to say is lost.
fn unprinted(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failure,
        "output",
        format!("the command was carried out, but standard output cannot be written: {error}"),
        "see `kes-cli status` for what it has done",
    )
}

/// A command whose printing is all that it does cannot go on.
pub(crate) fn unwritable(error: &io::Error) -> Failure {
    Failure::new(
        Exit::Failure,
        "output",
        format!("standard output cannot be written: {error}"),
        "give the command somewhere to write to",
    )
}

/// Prints what is printed as it stands, before a failure is told.
pub(crate) fn show(report: &Report) {
    let text = report.verbatim.as_deref().unwrap_or_default();
    // The failure that follows decides the exit code.
    let _ = put(text);
}

/// Tells a person something before the command goes on, or what it has to say at its end; on
/// standard error where standard output is for something else.
pub(crate) fn say(text: &str, stdout_taken: bool) {
    // Where nobody reads, nobody is told.
    let _ = if stdout_taken {
        io::stderr().write_all(text.as_bytes())
    } else {
        put(text)
    };
}

/// Tells a person of a failure that does not fail the command.
pub(crate) fn complain(failure: &Failure) {
    // Where nobody reads, nobody is told.
    let _ = io::stderr().write_all(failure_as_text(failure).as_bytes());
}

fn failure_as_text(failure: &Failure) -> String {
    let code = if failure.is_unknown {
        format!(" ({})", failure.code)
    } else {
        String::new()
    };
    format!(
        "Error: {}{code}\nNext:  {}\n",
        failure.sentence, failure.next_step
    )
}

pub(crate) fn as_json(report: &Report) -> String {
    let mut object = Map::new();
    object.insert("changed".to_owned(), report.changed.into());
    object.extend(report.fields.clone());
    object.insert("notes".to_owned(), json!(report.notes));
    line(&Value::Object(object))
}

fn failure_as_json(failure: &Failure) -> String {
    line(&json!({ "changed": false, "error": failure, "exit_code": failure.exit as u8 }))
}

fn line(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("values serialise");
    text.push('\n');
    text
}

pub(crate) fn as_text(report: &Report) -> String {
    let notes = report
        .notes
        .iter()
        .map(|note| format!("Note: {}", note.sentence));
    let mut text = String::new();
    for line in report.lines.iter().cloned().chain(notes) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}
