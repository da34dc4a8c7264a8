//! `kes-cli`: one-shot commands for operators, their scripts and their playbooks.
//!
//! The program itself is [`run`]; [`command_lines`] describes its arguments, for manual pages and
//! completions.

mod agent_control;
mod arguments;
mod commands;
mod coverage;
mod exit;
mod failure;
mod margin;
mod metrics;
mod next_step;
mod output;
mod plausibility;
mod screen;
mod shell;
#[cfg(test)]
mod testing;
mod verdict;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Cold, Command, Format};
use commands::{cold, probe, rotation};
use exit::Exit;
use failure::Failure;
use output::Report;
use verdict::Severity;

/// The program, by the name that it was called by.
#[must_use]
pub fn run() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called)
        .file_name()
        .is_some_and(|name| name == agent_control::NAME)
    {
        return agent_control::run();
    }
    match Arguments::try_parse() {
        Ok(arguments) => carry_out(arguments),
        Err(error) => wrong_usage(&error),
    }
}

/// The arguments of the program by each of its names.
#[must_use]
pub fn command_lines() -> [clap::Command; 2] {
    [Arguments::command(), agent_control::command_line()]
}

fn carry_out(Arguments { json, command }: Arguments) -> ExitCode {
    let stdout_taken = command.takes_stdout();
    let json =
        json || matches!(&command, Command::Status(args) if args.format == Some(Format::Json));
    let closed = closed_to_others();
    // Its exit codes are those of monitors.
    if let Command::Check(args) = &command {
        return commands::check::check(args, json, closed);
    }
    let outcome = closed.and_then(|()| perform(&command, json, json || stdout_taken));
    output::finish(outcome, json, stdout_taken)
}

/// Some commands hold a secret; all of them are protected, so that none is forgotten.
fn closed_to_others() -> Result<(), Failure> {
    kes_wire::process::close_to_others().map_err(|error| {
        Failure::new(
            Exit::Failure,
            "not-protected",
            format!("this process cannot be closed to other processes and to core dumps: {error}"),
            "check what restricts this program (a container's seccomp profile?) and try again",
        )
    })
}

/// `quiet`: standard output is for one object, or for the command's result itself.
fn perform(command: &Command, json: bool, quiet: bool) -> Result<Report, Failure> {
    match command {
        Command::Keygen(args) => rotation::keygen(args),
        Command::ExportVerkey(args) => rotation::export_verkey(args),
        Command::ImportOpcert(args) => rotation::import_opcert(args),
        Command::Activate(args) => rotation::activate(args),
        Command::Status(args) => commands::status::status(args, json),
        // Carried out by the caller, for its exit codes.
        Command::Check(_) => Err(Failure::contradiction()),
        Command::DropPending(args) => rotation::drop_pending(args),
        Command::DropActive(args) => rotation::drop_active(args),
        Command::ConfirmClock(args) => rotation::confirm_clock(args),
        Command::Probe(args) => probe::probe(args, json),
        Command::Cold(Cold::KeyGen(args)) => cold::key_gen(args),
        Command::Cold(Cold::IssueOpCert(args)) => cold::issue_op_cert(args, quiet),
        Command::Cold(Cold::NewCounter(args)) => cold::new_counter(args),
    }
}

/// Help, the version, or what is wrong with the command line. A monitor would take the usual 2 for
/// CRITICAL.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    // Where it cannot be printed nobody would read it.
    let _ = error.print();
    let is_command = |argument: &OsString| !argument.as_encoded_bytes().starts_with(b"-");
    let is_check = std::env::args_os().skip(1).find(is_command) == Some("check".into());
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_check => ExitCode::from(Severity::Unknown as u8),
        _ => Exit::Usage.into(),
    }
}
