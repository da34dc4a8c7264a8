//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit;
use crate::margin::Margin;
use crate::metrics::Label;

/// Where the agent listens for commands, unless told otherwise.
pub(crate) const DEFAULT_CONTROL_PATH: &str = "/run/kes-agent/control.socket";
/// Where the agent listens for nodes, unless told otherwise.
pub(crate) const DEFAULT_SERVICE_PATH: &str = "/run/kes-agent/service.socket";

/// Rotates the KES key of a Cardano stake pool. Every command is one step and keeps no state of
/// its own: terminals can be closed between steps, the agent remembers.
///
/// A rotation: keygen, carry the verification key to the air-gapped machine, issue a certificate
/// there, carry it back, activate.
#[derive(Debug, Parser)]
#[command(name = "kes-cli", version, max_term_width = 100, after_help = exit::HELP)]
pub(crate) struct Arguments {
    /// Print one JSON object instead of sentences
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate a KES key in the agent's pending slot
    Keygen(Keygen),
    /// Write the pending key's verification key to a file
    ExportVerkey(ExportVerkey),
    /// Import the operational certificate for the pending key
    ImportOpcert(ImportOpcert),
    /// Make the pending key the active one, now or when its certificate's first period begins
    #[command(visible_alias = "upload")]
    Activate(Activate),
    /// Show the agent's state and what to do next
    Status(ShowStatus),
    /// Tell a monitor in one line and an exit code whether all is well
    #[command(after_help = exit::CHECK_HELP)]
    Check(Check),
    /// Wipe the pending key and its certificate; cancels a scheduled activation
    DropPending(Agent),
    /// Wipe the active key and tell the nodes to stop using it: they stop forging
    DropActive(Agent),
    /// Say that the machine's clock is right: the agent acts by it from now on, which may evolve
    /// the key for good
    ConfirmClock(ConfirmClock),
    /// Stand in for a node: receive the served key, check it, sign and verify a message, wipe it
    Probe(Probe),
    /// Work with cold keys, on the air-gapped machine
    #[command(subcommand)]
    Cold(Cold),
}

/// How to reach the agent.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// The agent's control socket
    #[arg(short, long, value_name = "PATH", env = "KES_AGENT_CONTROL_PATH",
          default_value = DEFAULT_CONTROL_PATH)]
    pub(crate) control_address: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ConfirmClock {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// Only where the kernel says that the clock is synchronised; else do nothing. For a timer:
    /// an agent in a sandbox cannot ask the kernel itself
    #[arg(long)]
    pub(crate) if_synchronised: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// Also write the verification key to this file (- is standard output)
    #[arg(long, value_name = "FILE", alias = "verification-key-file")]
    pub(crate) kes_verification_key_file: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    pub(crate) force: bool,
    /// Wipe a key that is pending already
    #[arg(long, conflicts_with = "if_absent")]
    pub(crate) replace: bool,
    /// Keep a key that is pending already, and succeed
    #[arg(long)]
    pub(crate) if_absent: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportVerkey {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// The file to write (- is standard output)
    #[arg(
        long,
        value_name = "FILE",
        default_value = "kes.vkey",
        alias = "verification-key-file"
    )]
    pub(crate) kes_verification_key_file: PathBuf,
    /// Overwrite the file
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOpcert {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// The certificate (- is standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) opcert_file: PathBuf,
    #[command(flatten)]
    pub(crate) insist: Insist,
}

#[derive(Debug, Args)]
pub(crate) struct Activate {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// Import this certificate first (- is standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) opcert_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) insist: Insist,
}

/// What must be asked for explicitly.
#[derive(Debug, Args)]
pub(crate) struct Insist {
    /// Replace another certificate that was imported already
    #[arg(long)]
    pub(crate) replace: bool,
    /// Accept a counter below the highest one that was active (only while no key is active)
    #[arg(long)]
    pub(crate) allow_lower_counter: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowStatus {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// How to show it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Write it to this file, whole or not at all, over what is there (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) out_file: Option<PathBuf>,
    /// A label for every metric, to tell several agents on one host apart; any number of times
    #[arg(long, value_name = "NAME=VALUE", requires = "format")]
    pub(crate) label: Vec<Label>,
    /// Draw it anew every second until Ctrl-C
    #[arg(long, conflicts_with_all = ["format", "out_file"])]
    pub(crate) watch: bool,
}

/// How a status is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Sentences
    Human,
    /// One object, as with --json
    Json,
    /// Prometheus' text format; an agent that cannot be reached is kes_agent_up 0, exit code 0
    Prometheus,
    /// kes_NAME='VALUE' lines for eval in a POSIX shell
    Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) agent: Agent,
    /// Warn from this long before the key expires: 14d, 36h, 90m, or KES periods such as 10p
    #[arg(long, value_name = "MARGIN", default_value = "14d")]
    pub(crate) warn: Margin,
    /// Critical from this long before the key expires
    #[arg(long, value_name = "MARGIN", default_value = "3d")]
    pub(crate) crit: Margin,
    /// Warn where fewer nodes are connected; 0 for an agent that only keeps the key for others
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) nodes: u32,
    /// Do not warn of this protection, such as survives-restart; any number of times
    #[arg(long, value_name = "PROTECTION")]
    pub(crate) without: Vec<String>,
    /// Seconds to wait for the agent's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The agent's service socket
    #[arg(short, long, value_name = "PATH", env = "KES_AGENT_SERVICE_PATH",
          default_value = DEFAULT_SERVICE_PATH)]
    pub(crate) service_address: PathBuf,
    /// The pool's cold verification key, to check the certificate with
    #[arg(long, value_name = "FILE", env = "KES_AGENT_COLD_VK")]
    pub(crate) cold_verification_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
    /// Stay connected, sign every second, and tell of every swap and evolution
    #[arg(long)]
    pub(crate) follow: bool,
    /// How many seconds to wait for a key
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) wait: u64,
}

/// Which network it is.
#[derive(Debug, Args)]
pub(crate) struct NetworkOptions {
    /// The network's Shelley genesis [default: mainnet's parameters, built in]
    #[arg(long, value_name = "FILE", env = "KES_AGENT_GENESIS_FILE")]
    pub(crate) genesis_file: Option<PathBuf>,
    /// First slot of the Shelley era, on a network with a Byron era that is not mainnet, preprod
    /// or preview
    #[arg(long, value_name = "SLOT", env = "KES_AGENT_SHELLEY_START_SLOT")]
    pub(crate) shelley_start_slot: Option<u64>,
    /// When that slot began (RFC 3339)
    #[arg(long, value_name = "TIME", env = "KES_AGENT_SHELLEY_START_TIME")]
    pub(crate) shelley_start_time: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cold {
    /// Create a cold key pair and its certificate counter
    KeyGen(ColdKeyGen),
    /// Issue an operational certificate for a KES verification key
    IssueOpCert(ColdIssueOpCert),
    /// Write a certificate counter with a given next number
    NewCounter(ColdNewCounter),
}

#[derive(Debug, Args)]
pub(crate) struct ColdKeyGen {
    /// Cold verification key to write
    #[arg(long, value_name = "FILE", alias = "verification-key-file")]
    pub(crate) cold_verification_key_file: PathBuf,
    /// Cold sign key to write: keep it offline
    #[arg(long, value_name = "FILE", alias = "signing-key-file")]
    pub(crate) cold_signing_key_file: PathBuf,
    /// Certificate counter to write
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "operational-certificate-issue-counter"
    )]
    pub(crate) operational_certificate_issue_counter_file: PathBuf,
    /// Overwrite the files
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ColdIssueOpCert {
    /// KES verification key (- is standard input)
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "hot-kes-verification-key-file"
    )]
    pub(crate) kes_verification_key_file: PathBuf,
    /// Cold sign key
    #[arg(long, value_name = "FILE", alias = "signing-key-file")]
    pub(crate) cold_signing_key_file: PathBuf,
    /// Certificate counter; its next number is used, then increased
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "operational-certificate-issue-counter"
    )]
    pub(crate) operational_certificate_issue_counter_file: PathBuf,
    /// First KES period of the certificate: `kes-cli status` on the hot machine shows the current one
    #[arg(long, value_name = "PERIOD")]
    pub(crate) kes_period: u64,
    /// Certificate to write (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) out_file: PathBuf,
    /// Overwrite the certificate's file
    #[arg(long)]
    pub(crate) force: bool,
    /// Show what is to be signed and wait for a yes
    #[arg(long, conflicts_with = "json")]
    pub(crate) ask: bool,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ColdNewCounter {
    /// Cold verification key
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "stake-pool-verification-key-file",
        alias = "verification-key-file"
    )]
    pub(crate) cold_verification_key_file: PathBuf,
    /// The next certificate's number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) counter_value: u64,
    /// Certificate counter to write (- is standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) operational_certificate_issue_counter_file: PathBuf,
    /// Overwrite the file
    #[arg(long)]
    pub(crate) force: bool,
}
