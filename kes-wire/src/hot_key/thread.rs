//! The receiving side on a plain thread: `poll(2)` over the agent's socket and the bell.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::receiving::Receiving;
use super::session::{HANDSHAKE_DEADLINE, Reply, Session, TOO_SLOW, not_connected};

/// No handle is left.
struct Over;

/// What a wait came to.
struct Ready {
    /// The agent's socket has something to read, or has ended.
    stream: bool,
}

impl Receiving {
    /// Runs on the calling thread until the last handle is dropped.
    pub fn run_blocking(mut self) {
        while self.connect_once().is_ok() {}
    }

    /// One connection, from the attempt to its end and the delay after it.
    fn connect_once(&mut self) -> Result<(), Over> {
        let delay = match connect_without_waiting(&self.socket) {
            Err(error) => self.failed(not_connected(&error)),
            Ok(stream) => {
                let mut session = Session::new(&self.socket);
                let reason = self.serve(&stream, &mut session)?;
                self.over(&session, reason)
            }
        };
        let until = Instant::now() + delay;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let wait = self.settle().min(left);
            self.wait(None, wait)?;
        }
    }

    /// Serves a connection; gives why it ended.
    fn serve(&mut self, stream: &UnixStream, session: &mut Session) -> Result<String, Over> {
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        loop {
            let wait = self.settle();
            if let Some(reason) = self.asks_again() {
                return Ok(reason);
            }
            if !session.is_settled() && Instant::now() > deadline {
                return Ok(TOO_SLOW.to_owned());
            }
            if !self.wait(Some(stream), wait)?.stream {
                continue;
            }
            match self.read_once(stream, session) {
                Ok(None) => {}
                Ok(Some(reason)) => return Ok(reason),
                Err(error) => return Ok(error.to_string()),
            }
        }
    }

    /// Reads what is there once, and answers. `Some` with the reason where the connection is over.
    fn read_once(
        &mut self,
        mut stream: &UnixStream,
        session: &mut Session,
    ) -> io::Result<Option<String>> {
        let count = match stream.read(session.wants()) {
            Ok(0) => return Ok(Some(session.at_the_end().to_owned())),
            Ok(count) => count,
            Err(error) if is_later(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now = self.now();
        match session.advance(count, &mut self.keeper, now) {
            Ok(None) => Ok(None),
            // The agent reads every answer before it sends anything more: there is room.
            Ok(Some(Reply::Bytes(bytes))) => stream.write_all(&bytes).map(|()| None),
            Ok(Some(Reply::Last(bytes, error))) => {
                stream.write_all(&bytes)?;
                Ok(Some(error.to_string()))
            }
            Err(ended) => Ok(Some(ended.to_string())),
        }
    }

    /// Waits for the agent, the bell, or the time to pass.
    fn wait(&mut self, stream: Option<&UnixStream>, at_most: Duration) -> Result<Ready, Over> {
        let mut fds = vec![PollFd::new(&self.ear, PollFlags::IN)];
        fds.extend(stream.map(|stream| PollFd::new(stream, PollFlags::IN)));
        // Rounded up, so that nothing is looked at a moment too early and in vain.
        let timeout = Timespec::try_from(at_most + Duration::from_micros(1)).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Without memory for it the time has to pass in another way.
            Err(_) => std::thread::sleep(at_most),
        }
        let is_ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        let (rings, stream) = (is_ready(fds.first()), is_ready(fds.get(1)));
        if rings {
            self.hear()?;
        }
        Ok(Ready { stream })
    }

    /// Empties the bell.
    fn hear(&mut self) -> Result<(), Over> {
        let mut rings = [0; 64];
        loop {
            match self.ear.read(&mut rings) {
                Ok(0) => return Err(Over),
                Ok(_) => {}
                Err(error) if is_later(&error) => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Connects, or fails at once where the agent does not take connections: turns must not wait for
/// it.
fn connect_without_waiting(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
