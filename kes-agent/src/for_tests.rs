//! What only tests have, in a program of its own (`kes-agent-for-tests`): a clock that they turn,
//! seeds that they choose, a leak, and points at which the process dies.

use std::io::Read;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kes_wire::sys::memory::{LockError, LockedBytes};
use kes_wire::unix_time::UnixTime;

use crate::trusted_time::{BootTime, Reading};

/// How often the test's clock is looked at.
pub const LOOK_AT_CLOCK: Duration = Duration::from_millis(5);

/// The file named by `KES_AGENT_TEST_CLOCK` has one line: microseconds to add to the wall clock,
/// microseconds to add to the boot clock, and `sync` or `unsync`, what the kernel is to say.
static CLOCK: LazyLock<Option<PathBuf>> =
    LazyLock::new(|| std::env::var_os("KES_AGENT_TEST_CLOCK").map(PathBuf::from));

/// The reading as the test wants it.
pub fn turned(reading: Reading) -> Reading {
    let Some(line) = CLOCK.as_ref().map(|path| {
        // Written whole by renaming, so it is always there.
        std::fs::read_to_string(path).expect("the test's clock can be read")
    }) else {
        return reading;
    };
    let mut words = line.split_whitespace();
    let mut number = || -> i64 {
        let word = words.next().expect("two numbers");
        word.parse().expect("a number of microseconds")
    };
    let (wall, boot) = (number(), number());
    Reading {
        wall: UnixTime(reading.wall.0.saturating_add_signed(wall)),
        boot: BootTime(reading.boot.0.saturating_add_signed(boot)),
        is_synchronised: words.next() == Some("sync"),
    }
}

/// A key's seed: the file named by `KES_AGENT_TEST_SEED`, where there is one, is read into locked
/// memory and removed; else a random one. Where `KES_AGENT_TEST_LEAK` is set a copy of it is left
/// in ordinary heap, for the search for such copies to find.
///
/// # Errors
/// [`LockError`] where memory cannot be locked.
pub fn seed() -> Result<LockedBytes<32>, LockError> {
    let Some(path) = std::env::var_os("KES_AGENT_TEST_SEED").map(PathBuf::from) else {
        return LockedBytes::random();
    };
    let Ok(mut file) = std::fs::File::open(&path) else {
        return LockedBytes::random();
    };
    let mut seed = LockedBytes::zeroed()?;
    file.read_exact(seed.expose_mut())
        .expect("32 bytes of the test's seed");
    std::fs::remove_file(path).expect("the test's seed can be removed");
    if std::env::var_os("KES_AGENT_TEST_LEAK").is_some() {
        Box::leak(Box::new(*seed.expose()));
    }
    Ok(seed)
}

static PASSED: AtomicU64 = AtomicU64::new(0);

/// The file named by `KES_AGENT_TEST_CRASH` holds a number: at the point of that number, counted
/// from the moment the file is there, the process kills itself.
pub fn crash_point() {
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("KES_AGENT_TEST_CRASH").map(PathBuf::from));
    let Some(file) = FILE.as_ref() else { return };
    let Ok(text) = std::fs::read_to_string(file) else {
        return;
    };
    let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    let at: u64 = text.trim().parse().expect("the number of a point");
    if passed == at {
        // No destructor, no handler: as if the machine's owner had sent it.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}
