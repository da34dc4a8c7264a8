//! A node's end of a service connection, on a plain socket. What arrives is a throw-away key of
//! this benchmark, so it may stand in ordinary memory.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kes_wire::protocol::version::{SERVICE_2_0, VersionId};
use kes_wire::sum6kes::VerificationKey;

/// Bytes of a key: `00`, stamp, sign key, evolution, certificate, whose first field is the
/// verification key.
const KEY_MESSAGE: usize = 1 + 8 + 608 + 4 + 112;
const VKEY_AT: usize = 1 + 8 + 608 + 4;
/// Versions that may be offered.
const MOST_VERSIONS: usize = 16;

/// A node that has settled Service 2.0.
pub(crate) struct Node {
    stream: UnixStream,
    message: [u8; KEY_MESSAGE],
    filled: usize,
}

impl Node {
    /// Connects and settles the version.
    fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        choose(&mut stream, SERVICE_2_0)?;
        let mut settled = [0; VersionId::BYTES];
        stream.read_exact(&mut settled)?;
        assert_eq!(VersionId::from_bytes(settled), SERVICE_2_0);
        Ok(Self {
            stream,
            message: [0; KEY_MESSAGE],
            filled: 0,
        })
    }

    /// Connects and waits for the key that is there. No read waits longer than `patience`.
    pub(crate) fn with_key(path: &Path, patience: Duration) -> io::Result<Self> {
        let mut node = Self::connect(path, patience)?;
        while node.read()?.is_none() {}
        Ok(node)
    }

    /// Reads what has arrived; the key's verification key once it is there whole. Not answered
    /// yet.
    pub(crate) fn read(&mut self) -> io::Result<Option<VerificationKey>> {
        match self.stream.read(&mut self.message[self.filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => self.filled += count,
        }
        assert_eq!(self.message[0], 0, "a key, not a drop");
        if self.filled < KEY_MESSAGE {
            return Ok(None);
        }
        self.filled = 0;
        let vkey = self.message[VKEY_AT..].first_chunk().unwrap();
        Ok(Some(VerificationKey(*vkey)))
    }

    /// Answers that the key was taken.
    pub(crate) fn confirm(&mut self) -> io::Result<()> {
        self.stream.write_all(&0u32.to_be_bytes())
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reads the agent's offer of versions and chooses this one.
pub(crate) fn choose(stream: &mut UnixStream, version: VersionId) -> io::Result<()> {
    let mut count = [0; 4];
    stream.read_exact(&mut count)?;
    let count = usize::try_from(u32::from_be_bytes(count)).unwrap();
    assert!(count <= MOST_VERSIONS, "{count} versions are offered");
    let mut offered = [0; MOST_VERSIONS * VersionId::BYTES];
    let offered = &mut offered[..count * VersionId::BYTES];
    stream.read_exact(offered)?;
    let is_offered = offered
        .chunks_exact(VersionId::BYTES)
        .any(|id| id == version.as_bytes());
    assert!(is_offered, "{version} is not offered");
    let mut choice = [1; 1 + VersionId::BYTES];
    choice[1..].copy_from_slice(version.as_bytes());
    stream.write_all(&choice)
}
