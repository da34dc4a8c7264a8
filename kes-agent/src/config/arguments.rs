//! The command line and the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::levels::{LogFormat, LogLevel, LogTarget};

/// Keeps the KES key of a Cardano stake pool in locked memory, evolves it, and hands it to nodes.
#[derive(Debug, Parser)]
#[command(name = "kes-agent", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground until SIGTERM or SIGINT
    Run(RunArguments),
}

/// Settings of `kes-agent run`. Each is taken from, in this order: the option, the environment,
/// the file named by --config-file, ~/.kes-agent/agent.toml, ~/.config/kes-agent/agent.toml,
/// /etc/kes-agent/agent.toml, the default.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArguments {
    /// Socket for nodes; empty for none [default: /run/kes-agent/service.socket]
    // An OsString, because an empty PathBuf is refused.
    #[arg(short, long, value_name = "PATH", env = "KES_AGENT_SERVICE_PATH")]
    pub service_address: Option<OsString>,

    /// Socket for commands; empty for none [default: /run/kes-agent/control.socket]
    #[arg(short, long, value_name = "PATH", env = "KES_AGENT_CONTROL_PATH")]
    pub control_address: Option<OsString>,

    /// Service socket of another agent of the pool, to have its key from it; any number of times
    /// [env: KES_AGENT_BOOTSTRAP_PATHS=PATH:PATH...]
    #[arg(short, long, value_name = "PATH")]
    pub bootstrap_address: Vec<PathBuf>,

    /// Let a control client of a deployed version, such as kes-agent-control, replace a staged key
    /// by generating again, as the reference agent does; the replaced key is lost, so without
    /// this such a client is refused [in a configuration file: replace-staged]
    #[arg(
        long,
        value_name = "BOOL",
        env = "KES_AGENT_REPLACE_STAGED",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub replace_staged: Option<bool>,

    /// The pool's cold verification key (cold.vkey); required, here or in a configuration file
    #[arg(long, value_name = "FILE", env = "KES_AGENT_COLD_VK")]
    pub cold_verification_key: Option<PathBuf>,

    /// The network's Shelley genesis [default: mainnet's parameters, built in]
    #[arg(long, value_name = "FILE", env = "KES_AGENT_GENESIS_FILE")]
    pub genesis_file: Option<PathBuf>,

    /// First slot of the Shelley era, on a network with a Byron era that is not mainnet, preprod
    /// or preview
    #[arg(long, value_name = "SLOT", env = "KES_AGENT_SHELLEY_START_SLOT")]
    pub shelley_start_slot: Option<u64>,

    /// When that slot began (RFC 3339, such as 2022-06-21T00:00:00Z)
    #[arg(long, value_name = "TIME", env = "KES_AGENT_SHELLEY_START_TIME")]
    pub shelley_start_time: Option<String>,

    /// Least severe level to log [default: info]
    #[arg(short, long, value_name = "LEVEL", env = "KES_AGENT_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Where to log to [default: stdout]
    #[arg(long, value_name = "TARGET", env = "KES_AGENT_LOG_TARGET")]
    pub log_target: Option<LogTarget>,

    /// How to write log lines [default: human]
    #[arg(long, value_name = "FORMAT", env = "KES_AGENT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// User to become before anything is opened (only as root)
    #[arg(long, value_name = "USER", env = "KES_AGENT_USER")]
    pub user: Option<String>,

    /// Group to become before anything is opened (only as root)
    #[arg(long, value_name = "GROUP", env = "KES_AGENT_GROUP")]
    pub group: Option<String>,

    /// Configuration file (TOML)
    #[arg(short = 'F', long, visible_alias = "config", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
}
