//! The command line and the environment.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::access::SocketMode;
use super::levels::{ClockSetting, LogFormat, LogLevel, LogTarget, MemoryMode, SandboxMode};

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
    Run(Box<RunArguments>),
    /// Look at what this host offers for the protection of keys, and say what to do where it falls
    /// short
    ///
    /// Exit code: 0 where all is well, 1 where there is something to do. Run it as the agent's
    /// user (runuser -u kes-agent -- kes-agent check-host): limits are looked at as they are for
    /// whoever runs it.
    CheckHost(CheckHostArguments),
}

/// Options of `kes-agent check-host`.
#[derive(Debug, Clone, Copy, Args)]
pub struct CheckHostArguments {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
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

    /// Mode of the service socket, octal [default: 0660]
    #[arg(long, value_name = "MODE", env = "KES_AGENT_SERVICE_SOCKET_MODE")]
    pub service_socket_mode: Option<SocketMode>,

    /// Owner of the service socket (only as root) [default: the agent's user]
    #[arg(long, value_name = "USER", env = "KES_AGENT_SERVICE_SOCKET_OWNER")]
    pub service_socket_owner: Option<String>,

    /// Group of the service socket [default: the agent's group]
    #[arg(long, value_name = "GROUP", env = "KES_AGENT_SERVICE_SOCKET_GROUP")]
    pub service_socket_group: Option<String>,

    /// Users who may connect to the service socket, beside root [default: whom its mode lets]
    #[arg(
        long,
        value_name = "USERS",
        value_delimiter = ',',
        env = "KES_AGENT_SERVICE_ALLOW_USERS"
    )]
    pub service_allow_users: Option<Vec<String>>,

    /// Groups whose members may connect to the service socket [default: whom its mode lets]
    #[arg(
        long,
        value_name = "GROUPS",
        value_delimiter = ',',
        env = "KES_AGENT_SERVICE_ALLOW_GROUPS"
    )]
    pub service_allow_groups: Option<Vec<String>>,

    /// Users whose connections to the service socket are peer agents and no nodes, such as that of
    /// an ssh server that peers come in by [default: none]
    #[arg(
        long,
        value_name = "USERS",
        value_delimiter = ',',
        env = "KES_AGENT_PEER_USERS"
    )]
    pub peer_users: Option<Vec<String>>,

    /// Mode of the control socket, octal [default: 0660]
    #[arg(long, value_name = "MODE", env = "KES_AGENT_CONTROL_SOCKET_MODE")]
    pub control_socket_mode: Option<SocketMode>,

    /// Owner of the control socket (only as root) [default: the agent's user]
    #[arg(long, value_name = "USER", env = "KES_AGENT_CONTROL_SOCKET_OWNER")]
    pub control_socket_owner: Option<String>,

    /// Group of the control socket [default: the agent's group]
    #[arg(long, value_name = "GROUP", env = "KES_AGENT_CONTROL_SOCKET_GROUP")]
    pub control_socket_group: Option<String>,

    /// Users who may connect to the control socket, beside root [default: whom its mode lets]
    #[arg(
        long,
        value_name = "USERS",
        value_delimiter = ',',
        env = "KES_AGENT_CONTROL_ALLOW_USERS"
    )]
    pub control_allow_users: Option<Vec<String>>,

    /// Groups whose members may connect to the control socket [default: whom its mode lets]
    #[arg(
        long,
        value_name = "GROUPS",
        value_delimiter = ',',
        env = "KES_AGENT_CONTROL_ALLOW_GROUPS"
    )]
    pub control_allow_groups: Option<Vec<String>>,

    /// Connections that each socket takes at a time [default: 4096]
    #[arg(long, value_name = "NUMBER", env = "KES_AGENT_MAX_CONNECTIONS")]
    pub max_connections: Option<NonZeroU32>,

    /// Connections that each socket takes from one user at a time [default: 1024]
    #[arg(
        long,
        value_name = "NUMBER",
        env = "KES_AGENT_MAX_CONNECTIONS_PER_USER"
    )]
    pub max_connections_per_user: Option<NonZeroU32>,

    /// Which part of the system the agent leaves itself [default: on]
    #[arg(long, value_name = "MODE", env = "KES_AGENT_SANDBOX")]
    pub sandbox: Option<SandboxMode>,

    /// How far to believe the machine's clock, since an evolution cannot be undone [default: guard]
    #[arg(long, value_name = "MODE", env = "KES_AGENT_CLOCK")]
    pub clock: Option<ClockSetting>,

    /// Which memory the keys may be in [default: any]
    #[arg(long, value_name = "KIND", env = "KES_AGENT_MEMORY")]
    pub memory: Option<MemoryMode>,

    /// Folder for what outlives the agent: no secrets [default: $STATE_DIRECTORY of systemd, or
    /// /var/lib/kes-agent where that exists]
    #[arg(long, value_name = "FOLDER", env = "KES_AGENT_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Configuration file (TOML)
    #[arg(short = 'F', long, visible_alias = "config", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
}
