//! The log. Lines are written by a thread of their own behind a bounded queue that drops what it
//! cannot take, so that a blocked terminal or pipe delays nobody who waits for a key.

use std::io;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::LogSettings;
use crate::config::levels::{LogFormat, LogTarget};

/// Lines that may wait for a slow reader before further ones are dropped.
const QUEUED_LINES: usize = 4096;

/// Opens the log. What is still queued is written when the returned guard is dropped.
#[must_use]
pub fn open(settings: LogSettings) -> Option<WorkerGuard> {
    let (writer, guard) = match settings.target {
        LogTarget::Null => return None,
        LogTarget::Stdout => queue(io::stdout()),
        LogTarget::Stderr => queue(io::stderr()),
    };
    let builder = SubscriberBuilder::default()
        .with_max_level(tracing::Level::from(settings.level))
        .with_target(false)
        .with_ansi(false)
        .with_writer(writer);
    match settings.format {
        LogFormat::Human => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Some(guard)
}

fn queue(target: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(target)
}
