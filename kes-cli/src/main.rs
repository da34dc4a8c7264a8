//! `kes-cli`: one-shot commands for operators, their scripts and their playbooks.

mod agent_control;
mod arguments;
mod commands;
mod exit;
mod failure;
mod output;
mod words;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Cold, Command};
use commands::{cold, probe, rotation};
use exit::Exit;
use failure::Failure;
use output::Report;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called)
        .file_name()
        .is_some_and(|name| name == agent_control::NAME)
    {
        return agent_control::run();
    }
    let Arguments { json, command } = Arguments::parse();
    let stdout_taken = command.takes_stdout();
    let outcome = closed_to_others().and_then(|()| carry_out(&command, json));
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

fn carry_out(command: &Command, json: bool) -> Result<Report, Failure> {
    match command {
        Command::Keygen(args) => rotation::keygen(args),
        Command::ExportVerkey(args) => rotation::export_verkey(args),
        Command::ImportOpcert(args) => rotation::import_opcert(args),
        Command::Activate(args) => rotation::activate(args),
        Command::Status(args) => commands::status::status(args),
        Command::DropPending(args) => rotation::drop_pending(args),
        Command::DropActive(args) => rotation::drop_active(args),
        Command::ConfirmClock(args) => rotation::confirm_clock(args),
        Command::Probe(args) => probe::probe(args, json),
        Command::Cold(Cold::KeyGen(args)) => cold::key_gen(args),
        Command::Cold(Cold::IssueOpCert(args)) => cold::issue_op_cert(args),
        Command::Cold(Cold::NewCounter(args)) => cold::new_counter(args),
    }
}
