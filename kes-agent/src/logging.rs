//! The log. Lines are written by a thread of their own behind a bounded queue that drops what it
//! cannot take, so that a blocked terminal or pipe delays nobody who waits for a key.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogSettings;
use crate::config::levels::{LogFormat, LogLevel, LogTarget};
use crate::process;

/// Lines that may wait for a slow reader before further ones are dropped.
const QUEUED_LINES: usize = 1024;
/// How long a slow reader may take over what is queued when the agent ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Where the system's log daemon listens.
const SYSLOG: &str = "/dev/log";

/// The open log. What is still queued is written when it is dropped.
pub struct Log {
    level: Option<reload::Handle<LevelFilter, Registry>>,
    writer: Option<WorkerGuard>,
}

impl Drop for Log {
    fn drop(&mut self) {
        // The writer waits a second for a blocked reader and then prints a complaint to standard
        // output, which may be what is blocked: its end must not be waited for for ever.
        let Some(writer) = self.writer.take() else {
            return;
        };
        let (ended, end) = mpsc::channel();
        let ending = thread::Builder::new().spawn(move || {
            drop(writer);
            let _ = ended.send(());
        });
        if ending.is_ok() {
            // What is not written by then is lost, like what did not fit the queue.
            let _ = end.recv_timeout(FAREWELL);
        }
    }
}

impl Log {
    /// Opens the log.
    ///
    /// # Errors
    /// Where the system's log daemon is wanted and does not listen, or the system gives no thread.
    pub fn open(settings: LogSettings) -> io::Result<Self> {
        let (writer, guard) = match settings.target {
            LogTarget::Null => {
                return Ok(Self {
                    level: None,
                    writer: None,
                });
            }
            LogTarget::Stdout => queue(io::stdout())?,
            LogTarget::Stderr => queue(io::stderr())?,
            LogTarget::Syslog => queue(Syslog::connect()?)?,
        };
        let lines = fmt::layer()
            .with_target(false)
            .with_ansi(false)
            .with_writer(writer);
        let lines = match (settings.format, settings.target) {
            // The log daemon adds the time itself.
            (LogFormat::Human, LogTarget::Syslog) => lines.without_time().boxed(),
            (LogFormat::Human, _) => lines.boxed(),
            (LogFormat::Json, _) => lines.json().flatten_event(true).boxed(),
        };
        let (level, handle) = reload::Layer::new(LevelFilter::from(settings.level));
        tracing_subscriber::registry()
            .with(level)
            .with(lines)
            .init();
        Ok(Self {
            level: Some(handle),
            writer: Some(guard),
        })
    }

    /// Changes the least severe level that is logged.
    pub fn set_level(&self, level: LogLevel) {
        if let Some(handle) = &self.level {
            // It fails only where the subscriber is gone, and then nobody logs.
            let _ = handle.reload(LevelFilter::from(level));
        }
    }
}

/// Starts the thread that writes.
fn queue(target: impl io::Write + Send + 'static) -> io::Result<(NonBlocking, WorkerGuard)> {
    let builder = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log");
    process::without_panic(|| builder.finish(target)).ok_or_else(|| {
        io::Error::other(
            "the system gives no thread for the log: it is out of memory or at its limit for \
             threads (TasksMax= in systemd, ulimit -u)",
        )
    })
}

/// Lines to the log daemon, each a datagram in the form of RFC 3164.
struct Syslog {
    socket: UnixDatagram,
}

impl Syslog {
    fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SYSLOG).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("no log daemon listens at {SYSLOG}: {error}"),
            )
        })?;
        Ok(Self { socket })
    }
}

impl io::Write for Syslog {
    /// One line: the subscriber hands over a whole event at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line.trim_ascii();
        let mut datagram =
            format!("<{}>kes-agent[{}]: ", priority(text), std::process::id()).into_bytes();
        datagram.extend_from_slice(text);
        // A daemon that restarts comes back at the same path; lines in between are lost.
        if self.socket.send(&datagram).is_err() {
            self.socket.connect(SYSLOG)?;
            self.socket.send(&datagram)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Facility daemon (3) and the severity that the line begins with.
fn priority(line: &[u8]) -> u8 {
    const DAEMON: u8 = 3 << 3;
    let severity = match line.split(|&byte| byte == b' ').next() {
        Some(b"ERROR") => 3,
        Some(b"WARN") => 4,
        Some(b"DEBUG" | b"TRACE") => 7,
        _ => 6,
    };
    DAEMON | severity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lines_level_becomes_its_severity() {
        // RFC 3164: priority = facility * 8 + severity; daemon is 3.
        assert_eq!(priority(b"ERROR it failed"), 27);
        assert_eq!(priority(b"WARN look"), 28);
        assert_eq!(priority(b"INFO agent ready"), 30);
        assert_eq!(priority(b"DEBUG x"), 31);
        assert_eq!(priority(b""), 30);
    }
}
