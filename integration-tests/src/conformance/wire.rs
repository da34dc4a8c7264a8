//! A connection whose every byte the kit decides, and the handshake on it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Found, advice, broken, hold};

/// How long the other side may take for what is due at once.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the other side may take to close at once.
pub const AT_ONCE: Duration = Duration::from_secs(3);
/// How long the kit listens for what must not come.
pub const QUIET: Duration = Duration::from_millis(100);

/// A version id's 32 bytes: a name padded with zeros.
#[must_use]
pub fn id(name: &str) -> [u8; 32] {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

/// The bytes of an offer of these ids.
#[must_use]
pub fn offer(ids: &[[u8; 32]]) -> Vec<u8> {
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    [&count.to_be_bytes()[..], &ids.concat()].concat()
}

/// The next connection to a listener that does not block.
///
/// # Errors
/// Where none comes within `limit`, or it cannot be accepted.
pub fn accept(listener: &UnixListener, limit: Duration, otherwise: &str) -> Found<Wire> {
    let end = Instant::now() + limit;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Wire::new(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > end {
            return broken(otherwise);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a client has chosen from an offer of `versions`, and from the same in another order (HS-3).
///
/// # Errors
/// Where a choice was not offered, or they differ.
pub fn are_right_choices(versions: &[&str], one: [u8; 32], other: [u8; 32]) -> Found {
    for chosen in [one, other] {
        let is_offered = versions.iter().any(|name| id(name) == chosen);
        hold(is_offered, "an id that was not offered was chosen")?;
    }
    advice(hold(
        one == other,
        "the choice is the offer's first, not the best of the client's own order",
    ))
}

/// A connection.
pub struct Wire {
    stream: UnixStream,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(path: &Path) -> Found<Self> {
        match UnixStream::connect(path) {
            Ok(stream) => Self::new(stream),
            Err(error) => broken(format!("{}: cannot connect: {error}", path.display())),
        }
    }

    /// Goes on with a stream.
    ///
    /// # Errors
    /// Where it has failed already.
    pub fn new(stream: UnixStream) -> Found<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Where they are not taken.
    pub fn send(&self, bytes: &[u8]) -> Found {
        Ok((&self.stream).write_all(bytes)?)
    }

    /// Sends bytes that the other side may refuse by closing before it has all of them.
    pub fn offer_bytes(&self, bytes: &[u8]) {
        let _ = (&self.stream).write_all(bytes);
    }

    /// Sends bytes in pieces of this size, and lets the other side run in between.
    ///
    /// # Errors
    /// Where they are not taken.
    pub fn send_in_pieces(&self, bytes: &[u8], piece: usize) -> Found {
        for part in bytes.chunks(piece) {
            self.send(part)?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Says that no more bytes will come.
    pub fn end(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// So many bytes.
    ///
    /// # Errors
    /// Where they do not come in time, or the connection ends before.
    pub fn read(&self, count: usize) -> Found<Vec<u8>> {
        let mut bytes = vec![0; count];
        (&self.stream).read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next byte; `None` where the other side has closed.
    ///
    /// # Errors
    /// Where neither comes in time.
    pub fn next_byte(&self) -> Found<Option<u8>> {
        let mut byte = [0];
        match uninterrupted(|| (&self.stream).read(&mut byte)) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            // A reset is a close too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A number of known width, big endian.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn number(&self, width: usize) -> Found<u64> {
        Ok(big_endian(&self.read(width)?))
    }

    /// Waits until the other side closes, and gives what it said before.
    ///
    /// # Errors
    /// Where it does not close within `limit`.
    pub fn until_closed(&self, limit: Duration) -> Found<Vec<u8>> {
        let end = Instant::now() + limit;
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return Ok(said),
                Ok(count) => said.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if left.is_zero() {
                        return broken("the connection was not closed");
                    }
                }
                // A reset is a close too.
                Err(_) => return Ok(said),
            }
        }
    }

    /// Sends bytes again and again, reading nothing, until the other side closes.
    ///
    /// # Errors
    /// Where it does not close within `limit`, whether it takes more or not.
    pub fn fill(&self, bytes: &[u8], limit: Duration) -> Found {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return broken("answers that are not read do not end the connection");
            }
            self.stream.set_write_timeout(Some(left))?;
            match (&self.stream).write(bytes) {
                Ok(_) => {}
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted]
                        .contains(&error.kind()) => {}
                Err(_) => return Ok(()),
            }
        }
    }

    /// How many bytes have come that were not read.
    ///
    /// # Errors
    /// Where the connection has failed.
    pub fn unread(&self) -> Found<u64> {
        Ok(rustix::io::ioctl_fionread(&self.stream).map_err(io::Error::from)?)
    }

    /// Checks that the other side neither says anything nor closes for this time.
    ///
    /// # Errors
    /// Where it does.
    pub fn is_quiet(&self, time: Duration) -> Found {
        self.stream.set_read_timeout(Some(time))?;
        let read = uninterrupted(|| (&self.stream).read(&mut [0]));
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match read {
            Ok(0) => broken("the connection was closed"),
            Ok(_) => broken("bytes came that nothing had asked for"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The ids that an agent offers. Bounds are looked at by the check of HS-2 alone.
    ///
    /// # Errors
    /// Where none come.
    pub fn read_offer(&self) -> Found<Vec<[u8; 32]>> {
        let count = self.number(4)?;
        hold(count < 1000, format!("an offer of {count} versions"))?;
        let bytes = self.read(32 * usize::try_from(count).unwrap_or_default())?;
        Ok(bytes.as_chunks().0.to_vec())
    }

    /// The whole of an agent's handshake on its service socket, for this version; `false` where it
    /// is not offered.
    ///
    /// # Errors
    /// Where the agent does not do its part.
    pub fn settle_service(&self, version: &str) -> Found<bool> {
        if !self.choose(version)? {
            return Ok(false);
        }
        // Which id it repeats is the check of HS-6.
        self.read(32)?;
        Ok(true)
    }

    /// The same on its control socket.
    ///
    /// # Errors
    /// Where the agent does not do its part.
    pub fn settle_control(&self, version: &str) -> Found<bool> {
        let chosen = self.choose(version)?;
        if chosen {
            self.send(&id(version))?;
        }
        Ok(chosen)
    }

    fn choose(&self, version: &str) -> Found<bool> {
        if !self.read_offer()?.contains(&id(version)) {
            return Ok(false);
        }
        self.send(&[&[1][..], &id(version)].concat())?;
        Ok(true)
    }
}

/// A call with a time limit is broken off when the process was stopped and goes on.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The number that these bytes are.
#[must_use]
pub fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
