//! The wall clock, and a wait that ends when a period does.

use std::io;
use std::os::fd::OwnedFd;

use kes_wire::sys::os;
use kes_wire::unix_time::UnixTime;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The wall clock of this machine.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::now()
}

/// A timer on the wall clock. It fires at a moment of that clock, at once after a suspend that
/// slept through the moment, and when somebody sets the clock: the kernel tells all three.
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Makes an alarm that is not set.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        Ok(Self {
            timer: os::wait_on(timer)?,
        })
    }

    /// Waits until the wall clock has reached `moment` or was set.
    ///
    /// # Errors
    /// Where the timer cannot be set.
    pub async fn wait_until(&self, moment: UnixTime) -> io::Result<()> {
        let (seconds, nanoseconds) = moment.as_timespec();
        // A moment of zero would disarm the timer.
        let it_value = Timespec {
            tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX).max(1),
            tv_nsec: i64::from(nanoseconds),
        };
        let it_interval = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(
            self.timer.get_ref(),
            flags,
            &Itimerspec {
                it_interval,
                it_value,
            },
        )?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut expirations) {
                // ECANCELED says that the clock was set.
                Ok(_) | Err(rustix::io::Errno::CANCELED) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
