//! The command line of the reference's control client. Options may stand before or after the
//! command.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Controls a KES agent in the manner of the reference's kes-agent-control.
#[derive(Debug, Parser)]
#[command(name = "kes-agent-control", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The agent's control socket
    #[arg(short, long, global = true, value_name = "PATH", env = "KES_AGENT_CONTROL_PATH",
          default_value = crate::arguments::DEFAULT_CONTROL_PATH)]
    pub(crate) control_address: PathBuf,

    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Milliseconds to wait before a further attempt to connect
    #[arg(
        long,
        visible_alias = "retry-delay",
        global = true,
        value_name = "MS",
        env = "KES_AGENT_CONTROL_RETRY_INTERVAL",
        default_value_t = 1000
    )]
    pub(crate) retry_interval: u64,

    /// Double the wait after each attempt
    #[arg(long, global = true)]
    pub(crate) retry_exponential: bool,

    /// Further attempts to connect where the agent cannot be reached
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "KES_AGENT_CONTROL_RETRY_ATTEMPTS",
        default_value_t = 0
    )]
    pub(crate) retry_attempts: u32,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate a staged key and write its verification key
    GenStagedKey {
        /// The file to write (- is standard output)
        #[arg(long, value_name = "FILE", default_value = "kes.vkey")]
        kes_verification_key_file: PathBuf,
    },
    /// Write the staged key's verification key
    ExportStagedVkey {
        /// The file to write (- is standard output)
        #[arg(long, value_name = "FILE", default_value = "kes.vkey")]
        kes_verification_key_file: PathBuf,
    },
    /// Drop the staged key
    DropStagedKey,
    /// Install the staged key with its certificate
    InstallKey {
        /// The certificate
        #[arg(long, value_name = "FILE")]
        opcert_file: PathBuf,
    },
    /// Drop the installed key
    DropKey,
    /// Show the agent's state
    Info,
}
