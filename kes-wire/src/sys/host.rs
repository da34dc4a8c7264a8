//! What this host offers, and what it tells of a peer and of inherited descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::null;

/// Marks every descriptor from 3 on as close-on-exec (`close_range(2)`, Linux 5.11), those of
/// whoever started this process too.
///
/// # Errors
/// Where the kernel does not have the call.
pub fn close_descriptors_on_exec() -> io::Result<()> {
    let (first, last): (libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX);
    // SAFETY: the call takes three numbers; with this flag it closes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    outcome(done).map(drop)
}

/// The version of Landlock that the kernel offers (`landlock_create_ruleset(2)`).
///
/// # Errors
/// ENOSYS where the kernel is built without it, EOPNOTSUPP where it was not switched on at boot.
pub fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: without a ruleset and with this flag the call only returns a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null::<u8>(), 0, VERSION) };
    outcome(version)
}

/// All supplementary groups of the process at the other end of a Unix stream socket, as they were
/// when it connected (`SO_PEERGROUPS`, Linux 4.13). Its primary group is not among them, unless it
/// is a supplementary one too.
///
/// # Errors
/// What the system says.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // The kernel says how many there are where there is no room for them: 0 entries ask.
    let mut groups = Vec::new();
    loop {
        match read_groups(socket.as_fd(), &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(Room::Needed(count)) => groups.resize(count, 0),
            Err(Room::Refused(error)) => return Err(error),
        }
    }
}

enum Room {
    /// So many entries are needed.
    Needed(usize),
    Refused(io::Error),
}

fn read_groups(socket: BorrowedFd<'_>, into: &mut [u32]) -> Result<usize, Room> {
    const ENTRY: usize = size_of::<u32>();
    let mut bytes = libc::socklen_t::try_from(into.len() * ENTRY)
        .map_err(|_| Room::Refused(io::ErrorKind::InvalidData.into()))?;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `bytes`
    // bytes, which is the length of `into`, and any bytes are numbers.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            into.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let entries = usize::try_from(bytes).unwrap_or(usize::MAX) / ENTRY;
    if done == 0 {
        return Ok(entries);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ERANGE) && entries > into.len() {
        Err(Room::Needed(entries))
    } else {
        Err(Room::Refused(error))
    }
}

fn outcome(returned: libc::c_long) -> io::Result<i64> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_that_was_left_open_is_closed_on_exec() {
        let (socket, _other) = UnixStream::pair().unwrap();
        rustix::io::fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        close_descriptors_on_exec().unwrap();
        assert!(fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
    }

    #[test]
    fn the_groups_of_a_peer_are_this_process_own() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("Groups:"));
        let mut expected: Vec<u32> = line
            .unwrap()
            .split_whitespace()
            .map(|group| group.parse().unwrap())
            .collect();
        expected.sort_unstable();
        let mut groups = peer_groups(&socket).unwrap();
        groups.sort_unstable();
        assert_eq!(groups, expected);
        assert!(peer_groups(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn landlock_has_a_version_or_is_not_there() {
        if let Ok(version) = landlock_version() {
            assert!(version >= 1);
        }
    }
}
