//! The listening sockets: inherited from systemd, or bound here with tight modes and removed again
//! at exit.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::fs::{chmod, chownat, flock, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{bind, connect, listen, socket_with};
use rustix::process::geteuid;
use tokio::net::UnixListener;

use crate::config::access::SocketAccess;
use crate::folders::{self, OpenToAll};

/// Connections that may wait to be accepted. The system has a limit of its own
/// (`net.core.somaxconn`), which is usually this.
pub const BACKLOG: i32 = 4096;

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process answers there.
    #[error(
        "{path}: another agent is listening there; stop it first, or give this one another path",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// Something that is no socket stands there.
    #[error(
        "{path}: this is not a socket, so it is left alone; move it away or give another path",
        path = .0.display()
    )]
    NotASocket(PathBuf),
    /// The folder is not there.
    #[error(
        "{path}: its folder does not exist; create it (the packaged service does) or give another \
         path",
        path = .0.display()
    )]
    NoFolder(PathBuf),
    /// Everybody may write to the folder.
    #[error(transparent)]
    OpenToAll(#[from] OpenToAll),
    /// The socket cannot be given to the owner or group that is configured.
    #[error(
        "{path}: it cannot be given to the configured owner or group: {error}; only root can give \
         it to another user, and only a member to a group", path = path.display()
    )]
    NotGiven {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Everything else.
    #[error("{path}: cannot listen there: {error}", path = path.display())]
    Other {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A listening socket and, where it was bound here, its file.
pub struct Listener {
    socket: UnixListener,
    /// Removed when the listener is dropped.
    bound: Option<BoundFile>,
}

/// A socket file that this process made. It is removed at the end if it is still the same file.
struct BoundFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Takes a listening socket that the service manager opened.
    ///
    /// # Errors
    /// Where it cannot be waited on.
    pub fn inherited(socket: StdListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixListener::from_std(socket)?,
            bound: None,
        })
    }

    /// Binds `path`, replacing a socket there that nobody listens on. Mode, owner and group are
    /// settled before it listens: before that nobody can connect.
    ///
    /// # Errors
    /// [`ListenError`], by reason.
    pub fn bind(path: &Path, access: &SocketAccess) -> Result<Self, ListenError> {
        let other = |error| ListenError::Other {
            path: path.to_owned(),
            error,
        };
        let folder = folders::of(path);
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let lock = match open(folder, flags, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Err(ListenError::NoFolder(path.to_owned())),
            Err(error) => return Err(other(error.into())),
        };
        // Two agents that start at once must not remove each other's fresh socket as stale: the
        // folder is locked from the look to the bind.
        lock_for_a_moment(&lock).map_err(|e| other(e.into()))?;
        remove_if_stale(path)?;
        if let Some(warning) = folders::check(folder, geteuid().as_raw())? {
            tracing::warn!(path = %path.display(), "{warning}");
        }
        let refused = |error: Errno| other(error.into());
        let address = SocketAddrUnix::new(path).map_err(refused)?;
        let socket = new_socket().map_err(refused)?;
        bind(&socket, &address).map_err(refused)?;
        let file = std::fs::symlink_metadata(path).map_err(other)?;
        let bound = BoundFile {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        };
        give(path, access)?;
        listen(&socket, BACKLOG).map_err(refused)?;
        Ok(Self {
            socket: UnixListener::from_std(socket.into()).map_err(other)?,
            bound: Some(bound),
        })
    }

    /// Gives the socket's file another mode, owner and group. One that the service manager opened
    /// is left as it is.
    ///
    /// # Errors
    /// [`ListenError::NotGiven`]
    pub fn give(&self, access: &SocketAccess) -> Result<(), ListenError> {
        self.bound
            .as_ref()
            .map_or(Ok(()), |bound| give(&bound.path, access))
    }

    /// The socket to accept connections from.
    #[must_use]
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }
}

impl Drop for BoundFile {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if is_ours {
            // Nothing to be done if it fails: the next start replaces a stale socket.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn give(path: &Path, access: &SocketAccess) -> Result<(), ListenError> {
    let not_given = |error: Errno| ListenError::NotGiven {
        path: path.to_owned(),
        error: error.into(),
    };
    let (owner, group) = (
        access.owner.map(Uid::from_raw),
        access.group.map(Gid::from_raw),
    );
    if owner.is_some() || group.is_some() {
        chownat(CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW).map_err(not_given)?;
    }
    chmod(path, Mode::from_raw_mode(access.mode.bits())).map_err(not_given)
}

/// Others hold the lock for a moment only. Whoever holds it for longer does not keep the agent
/// waiting.
fn lock_for_a_moment(folder: &OwnedFd) -> Result<(), Errno> {
    for _ in 0..50 {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
            ended => return ended,
        }
    }
    Err(Errno::WOULDBLOCK)
}

fn remove_if_stale(path: &Path) -> Result<(), ListenError> {
    let other = |error| ListenError::Other {
        path: path.to_owned(),
        error,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(other(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match knock(path) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(other),
        Err(Errno::NOENT) => Ok(()),
        // Connected, or its queue is full (EAGAIN): somebody is there.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse(path.to_owned())),
        Err(error) => Err(other(error.into())),
    }
}

/// Connects without waiting, to learn whether anybody listens.
fn knock(path: &Path) -> Result<(), Errno> {
    let socket = new_socket()?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}
