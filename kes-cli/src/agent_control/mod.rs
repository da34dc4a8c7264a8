//! `kes-agent-control`: the reference's control client, for scripts and test networks that call
//! it. The same commands, options, environment and output lines, in the deployed control versions;
//! where the reference exits with 0 on a failure, this does not.

mod arguments;
mod info;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use kes_wire::envelope;
use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::net::{DeployedControlClient, DeployedControlError};
use kes_wire::protocol::control::deployed::{DeployedAnswer, DeployedRequest};
use kes_wire::protocol::result::ResultCode;
use kes_wire::sum6kes::VerificationKey;
use tokio::time::sleep;

use crate::commands::block_on;
use crate::output;
use arguments::{Arguments, Command};

/// The name by which this program behaves so.
pub(crate) const NAME: &str = "kes-agent-control";

/// No retry waits for longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A failed command: the line for standard error, and the exit code.
struct Failed {
    line: String,
    code: u8,
}

impl Failed {
    fn new(line: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            code: 1,
        }
    }
}

/// Its arguments.
pub(crate) fn command_line() -> clap::Command {
    Arguments::command()
}

/// Runs a command as the reference's control client would.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return wrong_usage(&error),
    };
    let outcome = match block_on(carry_out(&arguments)) {
        Ok(outcome) => outcome,
        Err(failure) => Err(Failed::new(failure.sentence)),
    };
    let outcome = outcome.and_then(|text| {
        let unprinted = |error| format!("done, but standard output cannot be written: {error}");
        output::put(&text).map_err(|error| Failed::new(unprinted(error)))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Where nobody reads, the exit code says it.
            let _ = writeln!(io::stderr(), "Error: {}", failed.line);
            failed.code.into()
        }
    }
}

/// Help, the version, or what is wrong with the command line: 1, as of the reference. The usual 2
/// would be a certificate that is refused.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    // Where it cannot be printed nobody would read it.
    let _ = error.print();
    ExitCode::from(u8::from(error.exit_code() != 0))
}

async fn carry_out(arguments: &Arguments) -> Result<String, Failed> {
    // What cannot be read is found out before the agent is asked.
    let request = match &arguments.command {
        Command::GenStagedKey { .. } => DeployedRequest::GenStagedKey,
        Command::ExportStagedVkey { .. } => DeployedRequest::QueryStagedKey,
        Command::DropStagedKey => DeployedRequest::DropStagedKey,
        Command::DropKey => DeployedRequest::DropKey,
        Command::Info => DeployedRequest::Info,
        Command::InstallKey { opcert_file } => {
            let (opcert, _) = envelope::read_file(opcert_file, envelope::read_opcert)
                .map_err(|error| Failed::new(error.to_string()))?;
            DeployedRequest::InstallKey(opcert)
        }
    };
    let mut client = connect(arguments).await?;
    if request == DeployedRequest::DropKey && !client.layout().has_drop_key {
        return Err(Failed {
            line: "unsupported operation".to_owned(),
            code: 4,
        });
    }
    let answer = client
        .call(request)
        .await
        .map_err(|error| Failed::new(error.to_string()))?;
    match (&arguments.command, answer) {
        (
            Command::GenStagedKey {
                kes_verification_key_file,
            },
            DeployedAnswer::StagedKey(vkey),
        ) => {
            let vkey = vkey.ok_or_else(|| {
                Failed::new(
                    "no key was generated: one is staged already (export-staged-vkey shows it, \
                     drop-staged-key drops it), or the agent's log says why",
                )
            })?;
            let lines = "Asking agent to generate a key...\nKES SignKey generated.\n";
            write_vkey(kes_verification_key_file, &vkey, lines)
        }
        (
            Command::ExportStagedVkey {
                kes_verification_key_file,
            },
            DeployedAnswer::StagedKey(vkey),
        ) => match vkey {
            Some(vkey) => write_vkey(kes_verification_key_file, &vkey, ""),
            None => Err(Failed {
                line: "No key available.".to_owned(),
                code: 3,
            }),
        },
        (Command::DropStagedKey, DeployedAnswer::StagedKey(_)) => {
            Ok("Staged key dropped.\n".to_owned())
        }
        (Command::InstallKey { .. }, DeployedAnswer::Result(code)) => {
            done(code, "KES key installed.\n")
        }
        (Command::DropKey, DeployedAnswer::Result(code)) => done(code, "KES key dropped.\n"),
        (Command::Info, DeployedAnswer::Info(info)) => {
            Ok(info::describe(&info, &client.version().to_string()))
        }
        _ => Err(Failed::new("the agent's answer does not fit the request")),
    }
}

/// The reference's words and exit codes for a result.
fn done(code: ResultCode, line: &str) -> Result<String, Failed> {
    let (line, code) = match code {
        ResultCode::Ok => return Ok(line.to_owned()),
        ResultCode::KeyOutdated => ("KES key outdated", 1),
        ResultCode::InvalidOpCert => ("OpCert validation failed", 2),
        ResultCode::NoKey => ("No KES key found", 3),
        ResultCode::UnsupportedOperation => ("Operation not supported", 4),
        ResultCode::Unknown => ("Unknown error", 5),
    };
    Err(Failed {
        line: line.to_owned(),
        code,
    })
}

/// Writes a verification key; where it goes to standard output, the lines do not.
fn write_vkey(path: &Path, vkey: &VerificationKey, lines: &str) -> Result<String, Failed> {
    let text = envelope::kes_vkey(vkey);
    files::write(path, text.as_bytes(), Overwrite::Yes, Visibility::Public)
        .map_err(|error| Failed::new(error.to_string()))?;
    if path.as_os_str() == "-" {
        return Ok(String::new());
    }
    Ok(format!("{lines}KES VerKey written to {}\n", path.display()))
}

/// Connects, again and again where that is asked for.
async fn connect(arguments: &Arguments) -> Result<DeployedControlClient, Failed> {
    let path = &arguments.control_address;
    let mut wait = Duration::from_millis(arguments.retry_interval);
    let mut left = arguments.retry_attempts;
    loop {
        match DeployedControlClient::connect(path).await {
            Ok(client) => return Ok(client),
            Err(DeployedControlError::Connect(_) | DeployedControlError::Closed) if left > 0 => {}
            Err(error) => return Err(Failed::new(format!("{}: {error}", path.display()))),
        }
        left -= 1;
        sleep(wait).await;
        if arguments.retry_exponential {
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }
}
