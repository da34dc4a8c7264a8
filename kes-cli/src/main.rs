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
    let outcome = match &command {
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
    };
    output::finish(outcome, json, stdout_taken)
}
