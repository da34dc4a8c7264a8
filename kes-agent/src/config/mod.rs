//! What the agent is told: command line, environment, files, defaults; and what it makes of that.

pub mod arguments;
mod file;
pub mod levels;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kes_wire::cold::ColdVerificationKey;
use kes_wire::envelope::{self, EnvelopeFileError};
use kes_wire::files::{self, FileError};
use kes_wire::genesis::{self, GenesisError, Network, ShelleyStart};
use kes_wire::unix_time::UnixTime;

use arguments::RunArguments;
use file::FileSettings;
use levels::{LogFormat, LogLevel, LogTarget};

const DEFAULT_SERVICE_PATH: &str = "/run/kes-agent/service.socket";
const DEFAULT_CONTROL_PATH: &str = "/run/kes-agent/control.socket";

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
}

impl Config {
    /// Reads files and settles every setting.
    ///
    /// # Errors
    /// [`ConfigError`], with the file or setting at fault.
    pub fn resolve(arguments: RunArguments) -> Result<Self, ConfigError> {
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
        let (network, warnings) = match setting!(genesis_file, genesis_file) {
            Some(path) => read_network(&path, start)?,
            None => (Network::MAINNET, Vec::new()),
        };
        let mut bootstrap_paths = bootstrap_paths(&arguments)
            .or_else(|| files.iter().find_map(|f| f.bootstrap_paths.clone()))
            .unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
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

/// The configuration files that are there, the strongest first.
fn settings_files(named: Option<&Path>) -> Result<Vec<FileSettings>, ConfigError> {
    let mut files = Vec::new();
    if let Some(path) = named {
        files.push(FileSettings::read(path)?);
    }
    if let Some(home) = std::env::home_dir() {
        files.push(FileSettings::read_if_there(
            &home.join(".kes-agent/agent.toml"),
        )?);
        files.push(FileSettings::read_if_there(
            &home.join(".config/kes-agent/agent.toml"),
        )?);
    }
    files.push(FileSettings::read_if_there(Path::new(
        "/etc/kes-agent/agent.toml",
    ))?);
    Ok(files)
}

fn read_network(path: &Path, start: ShelleyStart) -> Result<(Network, Vec<String>), ConfigError> {
    let text = files::read_limited(path, genesis::MOST_BYTES)?;
    genesis::network(&text, start).map_err(|reason| ConfigError::Genesis {
        path: path.to_owned(),
        reason,
    })
}
