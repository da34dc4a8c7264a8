//! Configuration files: TOML with the reference agent's keys and our own.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use kes_wire::files;
use serde::Deserialize;

use super::ConfigError;
use super::access::SocketMode;
use super::levels::{ClockSetting, LogFormat, LogLevel, LogTarget, MemoryMode, SandboxMode};

/// Bytes that a configuration file may have.
pub const MOST_BYTES: usize = 64 * 1024;

/// The settings of one file. A key that is not known is an error: a misspelt setting would be
/// missing in silence.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FileSettings {
    pub(super) service_path: Option<String>,
    pub(super) control_path: Option<String>,
    pub(super) bootstrap_paths: Option<Vec<PathBuf>>,
    pub(super) replace_staged: Option<bool>,
    pub(super) cold_vkey: Option<PathBuf>,
    pub(super) genesis_file: Option<PathBuf>,
    pub(super) shelley_start_slot: Option<u64>,
    pub(super) shelley_start_time: Option<String>,
    pub(super) log_level: Option<LogLevel>,
    pub(super) log_target: Option<LogTarget>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) service_socket_mode: Option<SocketMode>,
    pub(super) service_socket_owner: Option<String>,
    pub(super) service_socket_group: Option<String>,
    pub(super) service_allow_users: Option<Vec<String>>,
    pub(super) service_allow_groups: Option<Vec<String>>,
    pub(super) peer_users: Option<Vec<String>>,
    pub(super) control_socket_mode: Option<SocketMode>,
    pub(super) control_socket_owner: Option<String>,
    pub(super) control_socket_group: Option<String>,
    pub(super) control_allow_users: Option<Vec<String>>,
    pub(super) control_allow_groups: Option<Vec<String>>,
    pub(super) max_connections: Option<NonZeroU32>,
    pub(super) max_connections_per_user: Option<NonZeroU32>,
    pub(super) sandbox: Option<SandboxMode>,
    pub(super) clock: Option<ClockSetting>,
    pub(super) memory: Option<MemoryMode>,
    pub(super) state_dir: Option<PathBuf>,
}

impl FileSettings {
    /// Parses the text of the file at `path`.
    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            reason: error.message().to_owned(),
        })
    }

    /// Reads a file that must be there.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = files::read_limited(path, MOST_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::File {
            path: path.to_owned(),
            reason: "it is not UTF-8 text".to_owned(),
        })?;
        Self::parse(path, &text)
    }

    /// Reads a file that may be missing. One that cannot be looked at is not taken for missing:
    /// who may connect stands in it.
    pub(super) fn read_if_there(path: &Path) -> Result<Self, ConfigError> {
        match path.try_exists() {
            Ok(true) => Self::read(path),
            Ok(false) => Ok(Self::default()),
            Err(error) => Err(ConfigError::File {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}
