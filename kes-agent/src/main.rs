//! `kes-agent`: the program.

use std::process::ExitCode;

use clap::Parser;
use kes_agent::config::Config;
use kes_agent::config::arguments::{Arguments, Command};
use kes_agent::{logging, run};

/// The settings are wrong.
const EXIT_CONFIGURATION: u8 = 2;
/// The agent could not start.
const EXIT_START: u8 = 1;

fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    let config = match Config::resolve(arguments) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIGURATION, &error),
    };
    let _log = logging::open(config.log);
    match run::run(config) {
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
