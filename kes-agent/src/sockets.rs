//! The two sockets, where they are told to be, and where a reload moves them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use kes_wire::sys::os;

use crate::config::Config;
use crate::config::access::SocketAccess;
use crate::listener::{ListenError, Listener};
use crate::store;

/// Why a socket stays where it is at a reload.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It would leave the folders that were there at the start.
    #[error(
        "{path}: a socket can move within the folders that the agent used at its start; restart \
         needed, the keys are kept until then",
        path = .0.display()
    )]
    OtherFolder(PathBuf),
    /// The service manager opened it.
    #[error("the {0} socket was opened by the service manager and does not move")]
    Inherited(&'static str),
    /// It cannot be listened on; the old one goes on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// One of the two sockets.
pub struct Socket {
    name: &'static str,
    path: Option<PathBuf>,
    access: SocketAccess,
    listener: Option<Listener>,
    is_inherited: bool,
}

/// Both sockets.
pub struct Sockets {
    /// For nodes and peer agents.
    pub service: Socket,
    /// For commands.
    pub control: Socket,
    /// The folders in which sockets may stand.
    folders: Vec<PathBuf>,
}

impl Sockets {
    /// Takes inherited sockets (named `service` and `control` by FileDescriptorName=) and binds
    /// those that were not.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn open(config: &Config, inherited: &mut Inherited) -> Result<Self, ListenError> {
        let (path, access) = (config.service_path.clone(), &config.service_access);
        let service = Socket::open("service", path, access, inherited)?;
        let (path, access) = (config.control_path.clone(), &config.control_access);
        let control = Socket::open("control", path, access, inherited)?;
        let paths = [&config.service_path, &config.control_path];
        let folders = paths
            .into_iter()
            .flatten()
            .filter_map(|path| folder(path))
            .collect();
        Ok(Self {
            service,
            control,
            folders,
        })
    }

    /// Moves the sockets to where the new configuration wants them, and gives them to whom it
    /// wants. One that cannot move stays, and the reason is returned.
    pub fn reload(&mut self, config: &Config) -> Vec<MoveError> {
        let (path, access) = (config.service_path.as_deref(), &config.service_access);
        let service = self.service.reload(path, access, &self.folders);
        let (path, access) = (config.control_path.as_deref(), &config.control_access);
        let control = self.control.reload(path, access, &self.folders);
        [service, control]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }
}

fn folder(path: &Path) -> Option<PathBuf> {
    path.parent().map(Path::to_owned)
}

impl Socket {
    fn open(
        name: &'static str,
        path: Option<PathBuf>,
        access: &SocketAccess,
        inherited: &mut Inherited,
    ) -> Result<Self, ListenError> {
        if let Some(socket) = inherited.take(name) {
            if !access.is_default {
                tracing::warn!(
                    "the service manager opened the {name} socket: {name}-socket-mode, -owner and \
                     -group do not apply, set SocketMode=, SocketUser= and SocketGroup= in its unit"
                );
            }
            let at = path.clone().unwrap_or_else(|| name.into());
            let listener = Listener::inherited(socket)
                .map_err(|error| ListenError::Other { path: at, error })?;
            return Ok(Self {
                name,
                path,
                access: access.clone(),
                listener: Some(listener),
                is_inherited: true,
            });
        }
        let bind = |path| Listener::bind(path, access);
        let listener = path.as_deref().map(bind).transpose()?;
        Ok(Self {
            name,
            path,
            access: access.clone(),
            listener,
            is_inherited: false,
        })
    }

    fn reload(
        &mut self,
        path: Option<&Path>,
        access: &SocketAccess,
        folders: &[PathBuf],
    ) -> Result<(), MoveError> {
        if self.access != *access {
            if let Some(listener) = &self.listener {
                listener.give(access)?;
            }
            self.access = access.clone();
        }
        self.move_to(path, folders)
    }

    fn move_to(&mut self, path: Option<&Path>, folders: &[PathBuf]) -> Result<(), MoveError> {
        if self.path.as_deref() == path {
            return Ok(());
        }
        if self.is_inherited {
            return Err(MoveError::Inherited(self.name));
        }
        let listener = match path {
            None => None,
            Some(path) if folder(path).is_some_and(|folder| folders.contains(&folder)) => {
                Some(Listener::bind(path, &self.access)?)
            }
            Some(path) => return Err(MoveError::OtherFolder(path.to_owned())),
        };
        // The old file is removed with its listener; connections made through it live on.
        self.listener = listener;
        self.path = path.map(Path::to_owned);
        tracing::info!(socket = self.name, path = %self.shown(), "socket moved");
        Ok(())
    }

    /// The listener, where there is one.
    #[must_use]
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// The path, as it is shown.
    #[must_use]
    pub fn shown(&self) -> String {
        match (&self.path, self.is_inherited) {
            (_, true) => "inherited".to_owned(),
            (Some(path), false) => path.display().to_string(),
            (None, false) => "none".to_owned(),
        }
    }
}

/// What the service manager left open: listening sockets, by name, and the keys' memory.
pub struct Inherited {
    sockets: Vec<(String, StdListener)>,
    memory: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes what the service manager left open. Descriptors with other names are left alone.
    ///
    /// # Errors
    /// Where a descriptor is not a listening Unix socket.
    pub fn receive() -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut memory = Vec::new();
        for (fd, name) in sd_notify::listen_fds_with_names()? {
            if name == "service" || name == "control" {
                sockets.push((name, os::adopt_listener(fd)?));
            } else if name == store::NAME {
                memory.push(os::adopt(fd)?);
            } else {
                tracing::warn!("an inherited descriptor named {name:?} is not used");
            }
        }
        Ok(Self { sockets, memory })
    }

    /// The keys' memory, as it was handed over.
    pub fn take_memory(&mut self) -> Vec<OwnedFd> {
        core::mem::take(&mut self.memory)
    }

    fn take(&mut self, name: &str) -> Option<StdListener> {
        let at = self.sockets.iter().position(|(given, _)| given == name)?;
        Some(self.sockets.swap_remove(at).1)
    }
}
