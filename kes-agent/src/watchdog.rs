//! The service manager's watchdog (WatchdogSec=, `sd_watchdog_enabled(3)`).
//!
//! Rule: it is fed by the thread that serves nodes and turns keys, between those tasks, and by
//! nothing else. An agent in which they no longer get their turn starves it and is started anew,
//! with its keys.

use core::convert::Infallible;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::manager;

/// Feeds the watchdog twice in the interval that the service manager has set; does nothing where
/// there is none.
pub async fn feed() -> Infallible {
    let Some(within) = sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) else {
        return core::future::pending().await;
    };
    let mut turns = interval(within / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        manager::tell(&[NotifyState::Watchdog]);
    }
}
