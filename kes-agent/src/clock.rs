//! The machine's clocks, and a wait that ends when a moment comes or the wall clock is set.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use kes_wire::sys::os;
use kes_wire::unix_time::UnixTime;
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::trusted_time::{BootTime, Reading};

/// The wall clock of this machine: for what is only shown.
#[must_use]
pub fn now() -> UnixTime {
    glance().wall
}

/// Reads the clocks, and asks the kernel whether the wall clock is synchronised.
#[must_use]
pub fn read() -> Reading {
    read_with(os::clock_is_synchronised)
}

/// Reads the clocks without asking: the kernel takes its time over that answer.
#[must_use]
pub fn glance() -> Reading {
    read_with(|| false)
}

fn read_with(is_synchronised: impl FnOnce() -> bool) -> Reading {
    let reading = Reading {
        wall: UnixTime::now(),
        boot: boot_time(),
        is_synchronised: is_synchronised(),
    };
    #[cfg(feature = "for-tests")]
    let reading = crate::for_tests::turned(reading);
    reading
}

fn boot_time() -> BootTime {
    let time = clock_gettime(ClockId::Boottime);
    let micros = |n: i64| u64::try_from(n).unwrap_or(0);
    BootTime(micros(time.tv_sec) * 1_000_000 + micros(time.tv_nsec) / 1_000)
}

/// The name of this start of the machine, by which is known whether a boot time of before a
/// restart still counts from the same moment. `None` where the system does not tell.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Waits for moments of the boot clock, which sleep does not stop: the wait ends at once after a
/// suspend that slept through its end. It also ends when somebody sets the wall clock: the kernel
/// tells.
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    clock_was_set: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Makes an alarm that is not set.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let clock_was_set = timerfd_create(TimerfdClockId::Realtime, flags)?;
        watch_the_wall_clock(&clock_was_set)?;
        Ok(Self {
            timer: os::wait_on(timer)?,
            clock_was_set: os::wait_on(clock_was_set)?,
        })
    }

    /// Waits for `most`, or until the wall clock is set.
    ///
    /// # Errors
    /// Where the timers cannot be set.
    pub async fn wait(&self, most: Duration) -> io::Result<()> {
        #[cfg(feature = "for-tests")]
        let most = most.min(crate::for_tests::LOOK_AT_CLOCK);
        // A time of zero would disarm the timer.
        let most = most.max(Duration::from_micros(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        set(self.timer.get_ref(), TimerfdTimerFlags::empty(), it_value)?;
        tokio::select! {
            rung = rings(&self.timer) => rung,
            set = rings(&self.clock_was_set) => {
                watch_the_wall_clock(self.clock_was_set.get_ref())?;
                set
            }
        }
    }
}

/// Arms a timer for the end of time, which is cancelled when the clock is set.
fn watch_the_wall_clock(timer: &OwnedFd) -> io::Result<()> {
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    let it_value = Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    };
    match set(timer, flags, it_value) {
        // It was cancelled by a setting of the clock that is being told already.
        Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => Ok(()),
        armed => armed,
    }
}

fn set(timer: &OwnedFd, flags: TimerfdTimerFlags, it_value: Timespec) -> io::Result<()> {
    let it_interval = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let wanted = Itimerspec {
        it_interval,
        it_value,
    };
    timerfd_settime(timer, flags, &wanted)?;
    Ok(())
}

async fn rings(timer: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut ready = timer.readable().await?;
        let mut expirations = [0; 8];
        match rustix::io::read(timer.get_ref(), &mut expirations) {
            // ECANCELED says that the clock was set.
            Ok(_) | Err(Errno::CANCELED) => return Ok(()),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
}
