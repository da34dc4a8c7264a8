//! The protocols over tokio's Unix sockets.
//!
//! Secrets go straight between a socket and locked memory: there is no buffered reader, no codec,
//! and no array in a future's state between them. Every wait can be abandoned without losing what
//! has arrived: the readers own it.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

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
/// # Errors
/// What the system says.
pub async fn read_some(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
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
