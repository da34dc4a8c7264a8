//! The receiving side, before it is given a thread or a task.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::event::Event;
use super::keeper::Keeper;
use super::options::Clock;
use super::retry::Delays;
use super::session::Session;
use crate::sys::memory::LockError;
use crate::unix_time::UnixTime;

/// The clock is looked at no less often than this, for machines that were suspended and clocks
/// that were set.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The receiving side of a [`super::HotKey`], the one owner of what can evolve. It ends when the
/// last handle is dropped. Where it is dropped before, every key is wiped, and forging is told
/// [`super::SignError::Stopped`].
pub struct Receiving {
    pub(super) keeper: Keeper,
    pub(super) socket: PathBuf,
    pub(super) clock: Clock,
    /// The other end of the handles' bell.
    pub(super) ear: UnixStream,
    pub(super) delays: Delays,
    longest_wait: Duration,
}

/// Why a hot key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Memory for keys cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The system gives no socket pair or thread.
    #[error("the system gives no socket pair or thread: {0}")]
    System(#[from] io::Error),
}

impl Receiving {
    pub(super) fn new(keeper: Keeper, socket: PathBuf, clock: Clock, ear: UnixStream) -> Self {
        // Of test networks' short periods, none passes without the stage after being prepared.
        let longest_wait = LONGEST_WAIT.min(keeper.period_length() / 4);
        Self {
            keeper,
            socket,
            clock,
            ear,
            delays: Delays::default(),
            longest_wait,
        }
    }

    /// Runs on a plain thread of its own, `kes-hot-key`, until the last handle is dropped.
    ///
    /// # Errors
    /// Where the system gives no thread; every key is wiped then.
    pub fn on_thread(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("kes-hot-key".to_owned())
            .spawn(move || self.run_blocking())
    }

    /// The agent's service socket.
    #[must_use]
    pub fn service_socket(&self) -> &Path {
        &self.socket
    }

    /// Brings the stages up to date. Gives how long to wait at the most before the next time.
    pub(super) fn settle(&mut self) -> Duration {
        let now = (self.clock)();
        let until = self.keeper.settle(now);
        Duration::from_micros(until.0.saturating_sub(now.0)).min(self.longest_wait)
    }

    /// Why the connection is to be ended, where it is: the agent sends a key again on the next one
    /// alone.
    pub(super) fn asks_again(&self) -> Option<String> {
        let is_to = self.keeper.is_to_ask_again((self.clock)());
        is_to.then(|| "asking again for the key that could not be taken".to_owned())
    }

    pub(super) fn now(&self) -> UnixTime {
        (self.clock)()
    }

    /// An attempt to connect has failed: how long to wait before the next.
    pub(super) fn failed(&mut self, reason: String) -> Duration {
        let delay = self.delays.next();
        let failed = self.delays.failed;
        self.keeper.tell(Event::AttemptReconnect {
            failed,
            delay,
            reason,
        });
        delay
    }

    /// A connection is over: how long to wait before the next attempt. Only one that was of use
    /// begins the delays anew, so that an agent that closes at once, or a key for which there is no
    /// memory, is not asked for all the time.
    pub(super) fn over(&mut self, session: &Session, reason: String) -> Duration {
        let was_of_use = session.has_served() && !self.keeper.lacks_memory();
        self.keeper.disconnected(session.ended(reason));
        if was_of_use {
            self.delays.reset();
        }
        self.delays.next()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.keeper.stop();
    }
}
