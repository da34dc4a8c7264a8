//! The operating system: limits.

use rustix::process::{Resource, getrlimit};

/// The soft limit for locked memory in bytes; `None` where there is none.
pub fn locked_memory_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
