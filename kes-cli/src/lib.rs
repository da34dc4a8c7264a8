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
    let outcome = match &command {
        Command::Keygen(args) => rotation::keygen(args),
        Command::ExportVerkey(args) => rotation::export_verkey(args),
        Command::ImportOpcert(args) => rotation::import_opcert(args),
        Command::Activate(args) => rotation::activate(args),
        Command::Status(args) => commands::status::status(args, json),
        // Its exit codes are those of monitors.
        Command::Check(args) => return commands::check::check(args, json),
        Command::DropPending(args) => rotation::drop_pending(args),
        Command::DropActive(args) => rotation::drop_active(args),
        Command::ConfirmClock(args) => rotation::confirm_clock(args),
        Command::Probe(args) => probe::probe(args, json),
        Command::Cold(Cold::KeyGen(args)) => cold::key_gen(args),
        Command::Cold(Cold::IssueOpCert(args)) => {
            let quiet = json || stdout_taken;
            cold::issue_op_cert(args, quiet)
        }
        Command::Cold(Cold::NewCounter(args)) => cold::new_counter(args),
    };
    output::finish(outcome, json, stdout_taken)
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
        _ => exit::Exit::Usage.into(),
    }
}
