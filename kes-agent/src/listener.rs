//! The listening sockets: inherited from systemd, or bound here with tight modes and removed again
//! at exit.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixListener;

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
    _bound: Option<BoundFile>,
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
            _bound: None,
        })
    }

    /// Binds `path`, replacing a socket there that nobody listens on. The process's umask decides
    /// the mode, so that there is no moment in which it is wider.
    ///
    /// # Errors
    /// [`ListenError`], by reason.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let other = |error| ListenError::Other {
            path: path.to_owned(),
            error,
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let lock = match open(folder, flags, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Err(ListenError::NoFolder(path.to_owned())),
            Err(error) => return Err(other(error.into())),
        };
        // Two agents that start at once must not remove each other's fresh socket as stale: the
        // folder is locked from the look to the bind.
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| other(e.into()))?;
        remove_if_stale(path)?;
        let socket = StdListener::bind(path).map_err(other)?;
        socket.set_nonblocking(true).map_err(other)?;
        let file = std::fs::symlink_metadata(path).map_err(other)?;
        let bound = BoundFile {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        };
        Ok(Self {
            socket: UnixListener::from_std(socket).map_err(other)?,
            _bound: Some(bound),
        })
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
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}
