//! The operating system: limits, inherited sockets, whether the clock is synchronised.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
#[cfg(feature = "net")]
use std::os::unix::net::UnixListener;

#[cfg(feature = "net")]
use rustix::fs::FileType;
use rustix::fs::fstat;
#[cfg(feature = "net")]
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
#[cfg(feature = "net")]
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, getrlimit};

/// The soft limit for locked memory in bytes; `None` where there is none.
pub fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Whether the kernel says that the wall clock is synchronised; not where it may not be asked.
#[must_use]
pub fn clock_is_synchronised() -> bool {
    ask_whether_clock_is_synchronised().unwrap_or(false)
}

/// Asks the kernel whether the wall clock is synchronised (`adjtimex(2)`). Setting the clock by hand
/// makes it say no, until the daemon that synchronises it has looked.
///
/// # Errors
/// Where a sandbox or a container forbids the question, though it changes nothing.
pub fn ask_whether_clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: a timex is numbers alone, for which all zeros are valid; zero `modes` only read.
    let mut state: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to a timex that lives through the call.
    let answer = unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut state) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

/// Takes over a listening Unix stream socket that the service manager left open at `fd`
/// (`sd_listen_fds(3)`).
///
/// # Errors
/// Where the descriptor is not such a socket; it is closed then.
#[cfg(feature = "net")]
pub fn adopt_listener(fd: RawFd) -> io::Result<UnixListener> {
    let owned = adopt(fd)?;
    let is_socket = FileType::from_raw_mode(fstat(&owned)?.st_mode) == FileType::Socket;
    if !is_socket
        || socket_domain(&owned)? != AddressFamily::UNIX
        || socket_type(&owned)? != SocketType::STREAM
        || !socket_acceptconn(&owned)?
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the inherited descriptor is not a listening Unix stream socket",
        ));
    }
    Ok(UnixListener::from(owned))
}

/// Takes over a descriptor that the service manager left open (`sd_listen_fds(3)`).
///
/// # Errors
/// Where there is no such descriptor.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only the descriptor's number is looked at, and it stays open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fstat(borrowed)?;
    // SAFETY: the descriptor is open (just looked at) and was handed over by the service manager
    // through LISTEN_FDS, which makes this process its owner; nothing else here takes it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Registers a descriptor with the running tokio runtime, to be waited on until it is readable.
///
/// # Errors
/// Where the runtime cannot wait on it.
#[cfg(feature = "net")]
pub fn wait_on(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    use tokio::io::unix::AsyncFd;
    // SAFETY: an OwnedFd always gives the same open descriptor and closes it only when it is
    // dropped, which is after the registration has ended: AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }
        .map_err(io::Error::from)
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn only_a_listening_unix_socket_is_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        adopt_listener(listener.into_raw_fd()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(adopt_listener(file.into_raw_fd()).is_err());
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(adopt_listener(one.into_raw_fd()).is_err());
        assert!(adopt_listener(1_000_000).is_err());
    }
}
