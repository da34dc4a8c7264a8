//! What a process that holds a secret asks of the system for itself, before it has one.

use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};
use rustix::process::{dumpable_behavior, set_dumpable_behavior};

/// Keeps other processes of the same user, and core dumps, away from this process's memory: makes
/// it "not dumpable" (`PR_SET_DUMPABLE` in prctl(2)) and sets its limit for core files to 0.
///
/// Must come after a change of user, which sets the first anew. A program that is started from
/// this one does not inherit it.
///
/// # Errors
/// What the system says; then the process must not handle secrets.
pub fn close_to_others() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A refusal is seen above; this sees a system that only says yes.
    if dumpable_behavior()? != DumpableBehavior::NotDumpable {
        return Err(std::io::Error::other(
            "the process is dumpable although the system was told otherwise",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getrlimit;

    #[test]
    fn a_closed_process_leaves_no_core_and_is_not_traced() {
        close_to_others().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        // The kernel shows such a process as root's: proc(5), "/proc/pid".
        let owner = std::fs::metadata("/proc/self/environ").unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    }
}
