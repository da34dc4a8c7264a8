//! `kes-agent`: the program.

use std::process::ExitCode;

use clap::Parser;
use kes_agent::config::Config;
use kes_agent::config::arguments::{Arguments, Command, RunArguments};
use kes_agent::logging::Log;
use kes_agent::{check_host, clock, identity, process, run};

/// The settings are wrong.
const EXIT_CONFIGURATION: u8 = 2;
/// The agent could not start.
const EXIT_START: u8 = 1;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run_agent(&arguments),
        Command::CheckHost(arguments) => check_host::run(arguments.json),
    }
}

fn run_agent(arguments: &RunArguments) -> ExitCode {
    let resolve = || Config::resolve(arguments.clone());
    let config = match resolve() {
        Ok(config) => config,
        Err(error) if error.is_of_memory() => return fail(EXIT_START, &error),
        Err(error) => return fail(EXIT_CONFIGURATION, &error),
    };
    if let Err(error) = identity::assume(&config.identity, &config.socket_groups()) {
        return fail(EXIT_START, &error);
    }
    // Later it is out of reach.
    let boot_id = clock::boot_id();
    // Before anything is opened and before there is a second thread, which the log is.
    let protections = match process::protect(&config) {
        Ok(protections) => protections,
        Err(error) => return fail(EXIT_START, &error),
    };
    let log = match Log::open(config.log) {
        Ok(log) => log,
        Err(error) => return fail(EXIT_START, &error),
    };
    match run::run(config, protections, boot_id, &log, resolve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            fail(EXIT_START, &error)
        }
    }
}

/// Standard error is for a failure to start and for nothing else.
fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("kes-agent cannot start: {error}");
    code.into()
}
