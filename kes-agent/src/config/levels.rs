//! Log levels, targets and formats, and the sandbox, as they are named in settings.

use clap::ValueEnum;
use kes_wire::protocol::control::rotation::ClockMode;
use serde::Deserialize;

/// Least severe level to log. The names are syslog's, as in the reference agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What the agent does.
    #[default]
    Info,
    /// The same as info.
    Notice,
    /// What an operator should look into.
    #[value(alias = "warning")]
    #[serde(alias = "warning")]
    Warn,
    /// What failed.
    Error,
    /// The same as error.
    Critical,
    /// The same as error.
    Emergency,
}

impl From<LogLevel> for tracing::level_filters::LevelFilter {
    fn from(level: LogLevel) -> Self {
        Self::from_level(level.into())
    }
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info | LogLevel::Notice => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error | LogLevel::Critical | LogLevel::Emergency => Self::ERROR,
        }
    }
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// The system's log daemon, through /dev/log.
    Syslog,
    /// Nowhere.
    Null,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is to become of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// As far as the kernel can; the log and the status say what is missing.
    #[default]
    On,
    /// All of it, or the agent does not start.
    Required,
    /// None, to find out whether it is in the way of something.
    Off,
}

/// How far the machine's clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSetting {
    /// With a reason: the kernel calls it synchronised, you confirm it or activate a certificate
    /// by it, or a peer's key has waited for five minutes.
    #[default]
    Guard,
    /// As guard, but a peer's key waits for as long as it takes.
    Strict,
    /// Always: for test networks.
    Trust,
}

impl From<ClockSetting> for ClockMode {
    fn from(setting: ClockSetting) -> Self {
        match setting {
            ClockSetting::Guard => Self::Guard,
            ClockSetting::Strict => Self::Strict,
            ClockSetting::Trust => Self::Trust,
        }
    }
}

/// Which memory the keys may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMode {
    /// The best there is; the log and the status say which.
    #[default]
    Any,
    /// Only memory of memfd_secret, or the agent does not start.
    Secret,
}

impl MemoryMode {
    /// Whether only memfd_secret will do.
    #[must_use]
    pub fn is_secret_only(self) -> bool {
        self == Self::Secret
    }
}
