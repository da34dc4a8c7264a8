//! What the agent is told: command line, environment, files, defaults; and what it makes of that.

pub mod access;
pub mod arguments;
mod file;
pub mod levels;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use kes_wire::cold::ColdVerificationKey;
use kes_wire::envelope::{self, EnvelopeFileError};
use kes_wire::files::{self, FileError};
use kes_wire::genesis::{self, GenesisError, Network, ShelleyStart};
use kes_wire::protocol::control::rotation::ClockMode;
use kes_wire::unix_time::UnixTime;

use access::{AccessError, ConnectionLimits, SocketAccess, SocketSettings};
pub use arguments::RunArguments;
use file::FileSettings;
pub use file::MOST_BYTES;
use levels::{LogFormat, LogLevel, LogTarget, MemoryMode, SandboxMode};

const DEFAULT_SERVICE_PATH: &str = "/run/kes-agent/service.socket";
const DEFAULT_CONTROL_PATH: &str = "/run/kes-agent/control.socket";
const DEFAULT_STATE_DIR: &str = "/var/lib/kes-agent";
const SYSTEM_FILE: &str = "/etc/kes-agent/agent.toml";

/// Everything the agent needs to run.
#[derive(Debug)]
pub struct Config {
    /// Where nodes connect, if anywhere.
    pub service_path: Option<PathBuf>,
    /// Where commands connect, if anywhere.
    pub control_path: Option<PathBuf>,
    /// Service sockets of the peer agents to follow, each once.
    pub bootstrap_paths: Vec<PathBuf>,
    /// Whether a control client of a deployed version may replace a staged key.
    pub replace_staged: bool,
    /// The pool's identity: certificates must be signed by it.
    pub cold_vkey: ColdVerificationKey,
    /// The network's parameters.
    pub network: Network,
    /// What was odd but not wrong, to be logged once the log is open.
    pub warnings: Vec<String>,
    /// How to log.
    pub log: LogSettings,
    /// Who to become.
    pub identity: Identity,
    /// Who may connect to the service socket.
    pub service_access: SocketAccess,
    /// The users whose connections to it are peer agents.
    pub peer_users: BTreeSet<u32>,
    /// Who may connect to the control socket.
    pub control_access: SocketAccess,
    /// How many connections there may be.
    pub limits: ConnectionLimits,
    /// What is to become of the sandbox.
    pub sandbox: SandboxMode,
    /// How far the wall clock is believed.
    pub clock: ClockMode,
    /// Which memory the keys may be in.
    pub memory: MemoryMode,
    /// Where to keep what outlives the agent, if anywhere. It may be missing.
    pub state_dir: Option<PathBuf>,
    /// The files that were read, or would have been had they been there: a reload reads them
    /// again.
    pub sources: Vec<PathBuf>,
}

impl Config {
    /// The settings that differ from those of the start and that only a start takes over, by name.
    #[must_use]
    pub fn fixed_at_start_and_changed(&self, started_with: &Self) -> Vec<&'static str> {
        let settings = [
            ("sandbox", self.sandbox != started_with.sandbox),
            ("state-dir", self.state_dir != started_with.state_dir),
            ("clock", self.clock != started_with.clock),
            ("memory", self.memory != started_with.memory),
            ("user", self.identity.user != started_with.identity.user),
            ("group", self.identity.group != started_with.identity.group),
            ("log-target", self.log.target != started_with.log.target),
            ("log-format", self.log.format != started_with.log.format),
        ];
        let changed = settings.into_iter().filter(|(_, has_changed)| *has_changed);
        changed.map(|(name, _)| name).collect()
    }
}

/// Who to become before anything is opened, by name or number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: Option<String>,
    /// The group; where none is given, the user's.
    pub group: Option<String>,
}

/// How to log.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// The least severe level.
    pub level: LogLevel,
    /// Where to.
    pub target: LogTarget,
    /// In which form.
    pub format: LogFormat,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A configuration file is not what it should be.
    #[error("configuration file {path}: {reason}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] FileError),
    /// No cold verification key.
    #[error(
        "no cold verification key is configured: give the pool's cold.vkey with \
         --cold-verification-key, KES_AGENT_COLD_VK or cold-vkey in the configuration file; \
         without it the agent could not tell your certificates from another pool's"
    )]
    NoColdVerificationKey,
    /// The cold verification key cannot be read.
    #[error(transparent)]
    ColdVerificationKey(#[from] EnvelopeFileError),
    /// The genesis file is not one.
    #[error("{path}: {reason}", path = path.display())]
    Genesis {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: GenesisError,
    },
    /// The start of the Shelley era is not a time.
    #[error("--shelley-start-time {0}: not a time like 2022-06-21T00:00:00Z")]
    ShelleyStartTime(String),
    /// Who may connect cannot be settled.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl ConfigError {
    /// Whether the settings are right as they are, and only memory to read a file into could not be
    /// locked.
    #[must_use]
    pub fn is_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Unreadable(FileError::Lock(_))
                | Self::ColdVerificationKey(
                    EnvelopeFileError::Lock(_) | EnvelopeFileError::File(FileError::Lock(_))
                )
        )
    }
}

impl Config {
    /// Reads files and settles every setting.
    ///
    /// # Errors
    /// [`ConfigError`], with the file or setting at fault.
    pub fn resolve(arguments: RunArguments) -> Result<Self, ConfigError> {
        let mut sources = settings_paths(arguments.config_file.as_deref());
        let files = settings_files(arguments.config_file.as_deref())?;
        macro_rules! setting {
            ($argument:ident, $key:ident) => {
                arguments
                    .$argument
                    .clone()
                    .or_else(|| files.iter().find_map(|f| f.$key.clone()))
            };
        }
        let cold_path =
            setting!(cold_verification_key, cold_vkey).ok_or(ConfigError::NoColdVerificationKey)?;
        let cold_vkey = envelope::read_file(&cold_path, envelope::read_cold_vkey)?;
        let start = ShelleyStart {
            slot: setting!(shelley_start_slot, shelley_start_slot),
            time: setting!(shelley_start_time, shelley_start_time)
                .map(|text| {
                    UnixTime::parse(&text).map_err(|_| ConfigError::ShelleyStartTime(text.clone()))
                })
                .transpose()?,
        };
        sources.push(cold_path);
        let (network, warnings) = match setting!(genesis_file, genesis_file) {
            Some(path) => {
                sources.push(path.clone());
                read_network(&path, start)?
            }
            None => (Network::MAINNET, Vec::new()),
        };
        let service_access = SocketSettings {
            name: "service",
            mode: setting!(service_socket_mode, service_socket_mode),
            owner: setting!(service_socket_owner, service_socket_owner),
            group: setting!(service_socket_group, service_socket_group),
            allow_users: setting!(service_allow_users, service_allow_users),
            allow_groups: setting!(service_allow_groups, service_allow_groups),
        }
        .resolve()?;
        let control_access = SocketSettings {
            name: "control",
            mode: setting!(control_socket_mode, control_socket_mode),
            owner: setting!(control_socket_owner, control_socket_owner),
            group: setting!(control_socket_group, control_socket_group),
            allow_users: setting!(control_allow_users, control_allow_users),
            allow_groups: setting!(control_allow_groups, control_allow_groups),
        }
        .resolve()?;
        let limits = ConnectionLimits::default();
        let limits = ConnectionLimits {
            most: setting!(max_connections, max_connections).map_or(limits.most, NonZeroU32::get),
            most_per_user: setting!(max_connections_per_user, max_connections_per_user)
                .map_or(limits.most_per_user, NonZeroU32::get),
        };
        let mut bootstrap_paths = bootstrap_paths(&arguments)
            .or_else(|| files.iter().find_map(|f| f.bootstrap_paths.clone()))
            .unwrap_or_default();
        let mut seen = BTreeSet::new();
        bootstrap_paths.retain(|path| seen.insert(path.clone()));
        Ok(Self {
            bootstrap_paths,
            service_path: socket_path(
                arguments.service_address,
                files.iter().find_map(|f| f.service_path.clone()),
                DEFAULT_SERVICE_PATH,
            ),
            control_path: socket_path(
                arguments.control_address,
                files.iter().find_map(|f| f.control_path.clone()),
                DEFAULT_CONTROL_PATH,
            ),
            identity: Identity {
                user: setting!(user, user),
                group: setting!(group, group),
            },
            replace_staged: setting!(replace_staged, replace_staged).unwrap_or(false),
            service_access,
            peer_users: access::users("peer-users", setting!(peer_users, peer_users))?,
            control_access,
            limits,
            sandbox: setting!(sandbox, sandbox).unwrap_or_default(),
            clock: setting!(clock, clock).unwrap_or_default().into(),
            memory: setting!(memory, memory).unwrap_or_default(),
            state_dir: setting!(state_dir, state_dir).or_else(default_state_dir),
            sources,
            cold_vkey,
            network,
            warnings,
            log: LogSettings {
                level: setting!(log_level, log_level).unwrap_or_default(),
                target: setting!(log_target, log_target).unwrap_or_default(),
                format: setting!(log_format, log_format).unwrap_or_default(),
            },
        })
    }
}

impl Config {
    /// The groups that sockets are given to.
    #[must_use]
    pub fn socket_groups(&self) -> Vec<u32> {
        let groups = [self.service_access.group, self.control_access.group];
        groups.into_iter().flatten().collect()
    }
}

/// A socket's path; an empty one is none.
fn socket_path(argument: Option<OsString>, file: Option<String>, default: &str) -> Option<PathBuf> {
    let path = argument
        .or_else(|| file.map(OsString::from))
        .unwrap_or_else(|| default.into());
    (!path.is_empty()).then(|| path.into())
}

/// The peers of the command line, or else of the environment.
fn bootstrap_paths(arguments: &RunArguments) -> Option<Vec<PathBuf>> {
    if !arguments.bootstrap_address.is_empty() {
        return Some(arguments.bootstrap_address.clone());
    }
    let given = std::env::var_os("KES_AGENT_BOOTSTRAP_PATHS")?;
    Some(split_paths(&given))
}

/// Paths between colons; empty ones are none.
fn split_paths(given: &std::ffi::OsStr) -> Vec<PathBuf> {
    std::env::split_paths(given)
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}

/// Systemd's folder for the service (`StateDirectory=`, which may name several), or the usual one.
fn default_state_dir() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY");
    let first = given.as_deref().map(split_paths).unwrap_or_default();
    let usual = || Some(PathBuf::from(DEFAULT_STATE_DIR)).filter(|path| path.is_dir());
    first.into_iter().next().or_else(usual)
}

/// Where configuration files are looked for, the strongest first.
fn settings_paths(named: Option<&Path>) -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let below_home = [".kes-agent/agent.toml", ".config/kes-agent/agent.toml"];
    let homes = home
        .iter()
        .flat_map(|home| below_home.map(|path| home.join(path)));
    named
        .map(Path::to_owned)
        .into_iter()
        .chain(homes)
        .chain([PathBuf::from(SYSTEM_FILE)])
        .collect()
}

/// The configuration files that are there, the strongest first. The named one must be.
fn settings_files(named: Option<&Path>) -> Result<Vec<FileSettings>, ConfigError> {
    let read = |path: &PathBuf| {
        if Some(path.as_path()) == named {
            FileSettings::read(path)
        } else {
            FileSettings::read_if_there(path)
        }
    };
    settings_paths(named).iter().map(read).collect()
}

fn read_network(path: &Path, start: ShelleyStart) -> Result<(Network, Vec<String>), ConfigError> {
    let text = files::read_limited(path, genesis::MOST_BYTES)?;
    genesis::network(&text, start).map_err(|reason| ConfigError::Genesis {
        path: path.to_owned(),
        reason,
    })
}
