//! The protocols over tokio's Unix sockets.
//!
//! Secrets go straight between a socket and locked memory: there is no buffered reader, no codec,
//! and no array in a future's state between them. Every wait can be abandoned without losing what
//! has arrived: the readers own it.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::consume_budget;

use crate::protocol::Reader;

mod control;
mod deployed;
mod handshake;
mod service;

pub use control::*;
pub use deployed::*;
pub use handshake::*;
pub use service::*;

/// How long a client waits for the agent's part of a handshake, and a command for its answer.
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(10);

/// Why a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no such file.
    #[error("there is no socket")]
    NoSuchSocket,
    /// The socket is there, but nobody listens: the agent does not run.
    #[error("nobody listens on this socket: the agent does not run")]
    NobodyListens,
    /// This user may not.
    #[error("this user may not use the socket")]
    NotPermitted,
    /// Anything else.
    #[error("cannot connect: {0}")]
    Other(io::Error),
}

/// Connects to a Unix socket.
///
/// # Errors
/// [`ConnectError`], by reason.
pub async fn connect(path: &Path) -> Result<UnixStream, ConnectError> {
    UnixStream::connect(path)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ConnectError::NoSuchSocket,
            io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens,
            io::ErrorKind::PermissionDenied => ConnectError::NotPermitted,
            _ => ConnectError::Other(error),
        })
}

/// Waits for bytes and reads them straight into `into`; 0 where the other side has closed. May be
/// abandoned at any moment: then nothing was read.
///
/// One who always has more to say does not keep the thread: the tasks beside get their turn.
///
/// # Errors
/// What the system says.
pub async fn read_some(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    // A socket that is ready costs tokio's task nothing of its turn by itself.
    consume_budget().await;
    loop {
        stream.readable().await?;
        match stream.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes all of `bytes`, waiting for room. For what is not secret.
async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    consume_budget().await;
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why nothing more can be read from a connection.
#[derive(Debug)]
enum ReadError<E> {
    /// The other side closed it between two items.
    Closed,
    /// The other side closed it in the middle of one.
    CutShort,
    Io(io::Error),
    Content(E),
}

/// Reads the next item.
async fn read_item<R: Reader>(
    stream: &UnixStream,
    reader: &mut R,
) -> Result<R::Item, ReadError<R::Error>> {
    loop {
        match read_some(stream, reader.wants())
            .await
            .map_err(ReadError::Io)?
        {
            0 if reader.is_between_items() => return Err(ReadError::Closed),
            0 => return Err(ReadError::CutShort),
            count => {
                if let Some(item) = reader.advance(count).map_err(ReadError::Content)? {
                    return Ok(item);
                }
            }
        }
    }
}

#[cfg(test)]
mod testing {
    /// Runs a future on a runtime of its own.
    pub(super) fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn who_always_has_more_to_say_leaves_the_others_their_turn() {
        const SAID: usize = 20_000;
        let (talks, hears) = UnixStream::pair().unwrap();
        write_all(&talks, &[0; SAID]).await.unwrap();
        let turns = Cell::new(0);
        let hear_all = async {
            for _ in 0..SAID {
                assert_eq!(read_some(&hears, &mut [0]).await.unwrap(), 1);
            }
        };
        let take_turns = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = hear_all => {}
            () = take_turns => {}
        }
        // tokio lets a task go on for 128 steps.
        assert!(turns.get() >= SAID / 256, "{} turns", turns.get());
    }
}
