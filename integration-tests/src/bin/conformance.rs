//! The conformance kit: tries the numbered requirements of `spec/` on an agent or on a client.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use integration_tests::conformance::pool::{Periods, cold_key};
use integration_tests::conformance::report::Report;
use integration_tests::conformance::{agent, client, control_client};

/// Tries the numbered requirements of the KES agent's specification on the sockets of a program,
/// whoever wrote it. Use throw-away keys: what it is served it keeps in ordinary memory.
#[derive(Parser)]
#[command(
    after_help = "Exit codes: 0 all that can be tried hold, 1 some do not, 2 it could not run."
)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
    /// How to print what was found.
    #[arg(long, global = true, value_enum, default_value_t)]
    format: Format,
    /// Try this requirement alone; may be given several times.
    #[arg(long, global = true, value_name = "ID")]
    only: Vec<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Subcommand)]
enum Role {
    /// Connects to an agent that runs.
    Agent(Agent),
    /// Listens on a service socket, and is the agent for a client that connects.
    Client(Client),
    /// Listens on a control socket, and is the agent for commands that it starts one by one.
    ControlClient(ControlClient),
}

#[derive(Args)]
struct Agent {
    /// The agent's service socket.
    #[arg(long, value_name = "PATH")]
    service_socket: Option<PathBuf>,
    /// The agent's control socket.
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// The network's Shelley genesis file; for networks without a Byron era.
    #[arg(long, value_name = "FILE")]
    genesis_file: Option<PathBuf>,
    /// Generate, install and drop keys: what the agent holds is lost.
    #[arg(long, requires = "cold_signing_key", requires = "control_socket")]
    may_change: bool,
    /// The cold signing key of the agent's pool: a throw-away one.
    #[arg(long, value_name = "FILE")]
    cold_signing_key: Option<PathBuf>,
    /// The socket that the agent was told to follow, for the kit to listen on; nothing may be there.
    #[arg(
        long,
        value_name = "PATH",
        requires = "may_change",
        requires = "service_socket"
    )]
    peer_socket: Option<PathBuf>,
    /// How many seconds to wait for a KES period to begin.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Wait for the deadlines of 10 and 30 seconds, too.
    #[arg(long)]
    slow: bool,
}

#[derive(Args)]
struct Client {
    /// The socket to listen on; nothing may be there.
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// The network's Shelley genesis file; for networks without a Byron era.
    #[arg(long, value_name = "FILE")]
    genesis_file: PathBuf,
    /// The cold signing key of the client's pool: a throw-away one.
    #[arg(long, value_name = "FILE")]
    cold_signing_key: PathBuf,
    /// How to start the client; without it, start it by hand within two minutes.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Commands are for a shell, and connect to the socket that the kit listens on.
#[derive(Args)]
struct ControlClient {
    /// The socket to listen on; nothing may be there.
    #[arg(long, value_name = "PATH")]
    listen: PathBuf,
    /// Asks for the agent's state.
    #[arg(long, value_name = "COMMAND")]
    status: String,
    /// Generates a key.
    #[arg(long, value_name = "COMMAND")]
    generate: Option<String>,
    /// Installs the generated key with the certificate in the file OPCERT, for which the kit puts a
    /// path.
    #[arg(long, value_name = "COMMAND")]
    install: Option<String>,
    /// Drops the active key.
    #[arg(long, value_name = "COMMAND")]
    drop_active: Option<String>,
}

fn try_agent(agent: Agent, only: Vec<String>) -> Result<Report, String> {
    if agent.service_socket.is_none() && agent.control_socket.is_none() {
        return Err("name a socket: --service-socket, --control-socket".to_owned());
    }
    let cold = agent.cold_signing_key.filter(|_| agent.may_change);
    let options = agent::Options {
        service: agent.service_socket,
        control: agent.control_socket,
        periods: agent
            .genesis_file
            .map(|path| Periods::read(&path))
            .transpose()?,
        cold: cold.map(|path| cold_key(&path)).transpose()?,
        peer: agent.peer_socket,
        patience: Duration::from_secs(agent.patience),
        slow: agent.slow,
        only,
    };
    agent::run(options).map_err(|error| error.to_string())
}

fn try_client(client: Client, only: Vec<String>) -> Result<Report, String> {
    let command = client.command.split_first().map(|(program, arguments)| {
        let mut command = Command::new(program);
        // Its words are not the kit's.
        command.args(arguments).stdout(std::process::Stdio::null());
        command
    });
    let options = client::Options {
        listen: client.listen,
        cold: cold_key(&client.cold_signing_key)?,
        periods: Periods::read(&client.genesis_file)?,
        command,
        only,
    };
    client::run(options).map_err(|error| error.to_string())
}

fn try_control_client(client: ControlClient, only: Vec<String>) -> Result<Report, String> {
    let options = control_client::Options {
        listen: client.listen,
        status: client.status,
        generate: client.generate,
        install: client.install,
        drop_active: client.drop_active,
        only,
    };
    control_client::run(options).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let Arguments { role, format, only } = Arguments::parse();
    let report = match role {
        Role::Agent(agent) => try_agent(agent, only),
        Role::Client(client) => try_client(client, only),
        Role::ControlClient(client) => try_control_client(client, only),
    };
    match report {
        Ok(report) => {
            match format {
                Format::Table => print!("{}", report.table()),
                Format::Json => println!("{}", report.json()),
            }
            report.exit_code()
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(2)
        }
    }
}
