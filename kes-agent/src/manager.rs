//! What the service manager is told while the agent runs (`sd_notify(3)`).
//!
//! Rule: nobody waits for it. Its queue fills where it hangs, and who sends then would wait for ever
//! on the one thread that serves nodes and turns keys. Only at the start the agent waits
//! ([`crate::store`], and `READY=1`).

use std::io;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use sd_notify::NotifyState;

/// Tells the service manager, if one has started the agent. What it has no room for is not told.
pub fn tell(states: &[NotifyState<'_>]) {
    match send_at_once(states) {
        // A log line for each would fill the disk while it hangs.
        Ok(()) | Err(Errno::AGAIN) => {}
        Err(error) => tracing::warn!("the service manager cannot be told: {error}"),
    }
}

fn send_at_once(states: &[NotifyState<'_>]) -> Result<(), Errno> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = SocketAddrUnix::new(&*path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &address)?;
    send(&socket, message.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Tells the service manager that the agent is ready, and waits until it has heard.
///
/// # Errors
/// What the system says.
pub fn tell_ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}
