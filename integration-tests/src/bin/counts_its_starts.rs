//! A service that knows how often it was started, from a number that it keeps with its service
//! manager. The stand-in for the manager is tested with it.
//!
//! `counts_its_starts [end]`: with `end` it ends at once instead of waiting for a signal.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use sd_notify::NotifyState;

const NAME: &str = "starts";

fn main() -> Result<(), Box<dyn Error>> {
    let given: Vec<(i32, String)> = sd_notify::listen_fds_with_names()?.collect();
    let kept = given.iter().find(|(_, name)| name == NAME);
    let number = match kept {
        Some((fd, _)) => File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{fd}"))?,
        None => File::from(memfd_create(NAME, MemfdFlags::CLOEXEC)?),
    };
    let mut starts = [0];
    // A new one is empty: then it is the first start.
    let _ = number.read_at(&mut starts, 0)?;
    starts[0] += 1;
    number.write_all_at(&starts, 0)?;
    if kept.is_none() {
        let states = [NotifyState::FdStore, NotifyState::FdName(NAME)];
        // Twice, which is once.
        sd_notify::notify_with_fds(&states, &[number.as_fd()])?;
        sd_notify::notify_with_fds(&states, &[number.as_fd()])?;
    }
    barrier()?;
    let names: Vec<&str> = given.iter().map(|(_, name)| name.as_str()).collect();
    let status = format!("start {} with {}", starts[0], names.join(" "));
    sd_notify::notify(&[NotifyState::Status(&status), NotifyState::Ready])?;
    if std::env::args().nth(1).as_deref() == Some("end") {
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

/// Waits until the manager has taken in what was sent: it closes its end of a pipe then.
fn barrier() -> Result<(), Box<dyn Error>> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
    drop(theirs);
    File::from(ours).read_to_end(&mut Vec::new())?;
    Ok(())
}
