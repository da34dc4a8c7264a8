//! Each check: what the kernel said goes in, a finding comes out.

use std::io;

use rustix::io::Errno;

use super::{Finding, Level};

/// The first Linux with `memfd_secret`.
const SECRET_MEMORY_SINCE: (u32, u32) = (5, 14);
/// Locked memory with which an agent does all that it does, with room to spare: 1 MiB.
const ENOUGH_LOCKED: u64 = 1024 * 1024;

fn ok(name: &'static str, why: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        name,
        level: Level::Ok,
        found: found.into(),
        why,
        next_step: None,
    }
}

impl Finding {
    fn with_step(mut self, level: Level, next_step: impl Into<String>) -> Self {
        self.level = level;
        self.next_step = Some(next_step.into());
        self
    }
}

/// Whether keys can stand in memory that the kernel itself does not map.
pub(super) fn secret_memory(tried: io::Result<()>, release: &str) -> Finding {
    let finding = |found: String| {
        ok(
            "secret-memory",
            "without it keys are in locked memory, which root's debuggers can read and which \
             does not outlive the agent",
            found,
        )
    };
    let Err(error) = tried else {
        return finding("memfd_secret works".to_owned());
    };
    let missing = |found: String, step: &str| finding(found).with_step(Level::Missing, step);
    match Errno::from_io_error(&error) {
        Some(Errno::NOSYS) if version(release).is_some_and(|v| v < SECRET_MEMORY_SINCE) => missing(
            format!("Linux {release} does not have memfd_secret"),
            "upgrade to Linux 5.14 or later (6.5 or later has it switched on)",
        ),
        Some(Errno::NOSYS) => missing(
            format!("memfd_secret is switched off, or kept from this process (Linux {release})"),
            "on Debian 12 and Ubuntu 22.04 add secretmem.enable=1 to GRUB_CMDLINE_LINUX in \
             /etc/default/grub, then: update-grub && reboot; in a container let the call through",
        ),
        Some(Errno::PERM) => missing(
            "memfd_secret is kept from this process by a system-call filter".to_owned(),
            "add memfd_secret to SystemCallFilter= in the unit, or to the container's seccomp \
             profile",
        ),
        Some(Errno::AGAIN | Errno::NOMEM) => missing(
            "memfd_secret works, but the limit for locked memory leaves no room".to_owned(),
            "raise it: LimitMEMLOCK=8M in the unit, or ulimit -l 8192",
        ),
        _ => missing(
            format!("memfd_secret fails: {error}"),
            "look for the reason in the kernel's log (dmesg)",
        ),
    }
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// Whether enough memory can be locked.
pub(super) fn lockable_memory(limit: Option<u64>) -> Finding {
    let why = "the agent refuses to keep a key where it cannot lock the memory";
    let Some(bytes) = limit else {
        return ok("lockable-memory", why, "any amount can be locked");
    };
    let found = format!("{} KiB can be locked by whoever runs this", bytes / 1024);
    let finding = ok("lockable-memory", why, found);
    if bytes >= ENOUGH_LOCKED {
        return finding;
    }
    finding.with_step(
        Level::Warn,
        "raise it: LimitMEMLOCK=8M in the unit, or memlock in /etc/security/limits.conf",
    )
}

/// What is known of the service manager.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServiceManager {
    /// systemd runs this host.
    pub(super) is_systemd: bool,
    /// A service manager started this program (`NOTIFY_SOCKET`).
    pub(super) started_us: bool,
    /// It said that it keeps descriptors (`FDSTORE`, systemd 254).
    pub(super) offers_store: bool,
}

/// Whether a key can outlive the agent.
pub(super) fn descriptor_store(manager: ServiceManager) -> Finding {
    let finding = |found: &str| {
        ok(
            "descriptor-store",
            "systemd keeps the keys' memory while the agent restarts or is upgraded; without it \
             they are forgotten whenever the agent stops",
            found,
        )
    };
    match manager {
        ServiceManager {
            offers_store: true, ..
        } => finding("the service manager keeps descriptors for this service"),
        ServiceManager {
            started_us: true, ..
        } => finding("the service manager does not say that it keeps descriptors").with_step(
            Level::Warn,
            "add FileDescriptorStoreMax=16 to the unit; systemd before 254 keeps them without \
             saying so",
        ),
        ServiceManager {
            is_systemd: true, ..
        } => finding(
            "systemd runs this host; it keeps descriptors where the agent's unit says so \
             (systemctl show kes-agent -p FileDescriptorStoreMax)",
        ),
        ServiceManager { .. } => finding("systemd does not run this host").with_step(
            Level::Missing,
            "run the agent as a systemd service, or keep a second agent that gives the key back \
             (--bootstrap-address)",
        ),
    }
}

/// Whether `/proc/swaps` lists any.
pub(super) fn has_swap(swaps: &str) -> bool {
    swaps.lines().nth(1).is_some()
}

/// Whether memory may be written to swap space.
pub(super) fn swap(swaps: &str) -> Finding {
    let names: Vec<_> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let why = "the agent's keys are locked and never swapped, but a node or a tool that was given \
               one might be";
    if names.is_empty() {
        return ok("swap", why, "no swap is in use");
    }
    ok("swap", why, format!("swap is in use: {}", names.join(", "))).with_step(
        Level::Warn,
        "swapoff -a, and take the swap lines out of /etc/fstab; or encrypt swap with a key that is \
         new at each boot (crypttab: swap)",
    )
}

/// Whether all memory may be written to disk at once.
pub(super) fn hibernation(state: &str, disk: &str, has_swap: bool) -> Finding {
    let why = "hibernation writes all memory to disk, locked memory too; the kernel refuses it \
               only while there is secret memory";
    let can = state.split_whitespace().any(|word| word == "disk")
        && !disk.split_whitespace().any(|word| word == "[disabled]");
    match (can, has_swap) {
        (false, _) => ok("hibernation", why, "the kernel does not offer hibernation"),
        (true, false) => ok(
            "hibernation",
            why,
            "the kernel offers hibernation, but there is no swap to write to",
        ),
        (true, true) => ok("hibernation", why, "this host can hibernate").with_step(
            Level::Warn,
            "add nohibernate to the kernel's parameters, or: systemctl mask hibernate.target \
             hybrid-sleep.target suspend-then-hibernate.target",
        ),
    }
}

/// Whether memory of a crashed program is written to disk.
pub(super) fn core_dumps(pattern: &str) -> Finding {
    const NEVER: [&str; 3] = ["|/bin/false", "|/usr/bin/false", "/dev/null"];
    let pattern = pattern.trim();
    let why = "the agent leaves no core dump, but a node that crashes with a key would";
    if pattern.is_empty() || NEVER.contains(&pattern) {
        return ok("core-dumps", why, "core dumps are not kept");
    }
    let found = match pattern.strip_prefix('|') {
        Some(program) => {
            let program = program.split(' ').next().unwrap_or_default();
            format!("core dumps are handed to {program}")
        }
        None => format!("core dumps become files named {pattern}"),
    };
    ok("core-dumps", why, found).with_step(
        Level::Warn,
        "echo 'kernel.core_pattern=|/bin/false' > /etc/sysctl.d/50-no-core.conf && sysctl --system",
    )
}

/// Whether the kernel calls the clock synchronised.
pub(super) fn clock(is_synchronised: io::Result<bool>) -> Finding {
    let finding = |found: &str| {
        ok(
            "clock",
            "a key is evolved when the clock says so, which cannot be undone; an unsynchronised \
             clock is believed only after a confirmation",
            found,
        )
    };
    match is_synchronised {
        Ok(true) => finding("the kernel calls the clock synchronised"),
        Ok(false) => finding("the kernel does not call the clock synchronised").with_step(
            Level::Warn,
            "timedatectl set-ntp true, or install and enable chrony; then wait until \
             `timedatectl` says synchronized: yes",
        ),
        Err(error) => {
            let found = format!("the kernel may not be asked here about the clock: {error}");
            finding(&found).with_step(
                Level::Warn,
                "look on the host itself, outside of containers and sandboxes; inside, kes-cli \
                 confirm-clock after each start, or clock = \"trust\" where the host is synchronised",
            )
        }
    }
}

/// Whether files can be restricted.
pub(super) fn landlock(version: io::Result<i64>) -> Finding {
    let finding = |found: String| {
        ok(
            "landlock",
            "without it the agent can reach every file that its user can",
            found,
        )
    };
    match version {
        Ok(version) => finding(format!("Landlock version {version}")),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => {
            finding("Landlock is not switched on".to_owned()).with_step(
                Level::Missing,
                "add landlock to the list in the kernel parameter lsm= (the present list: cat \
                 /sys/kernel/security/lsm), and reboot",
            )
        }
        Err(_) => finding("there is no Landlock here".to_owned()).with_step(
            Level::Missing,
            "use Linux 5.13 or later; in a container let landlock_create_ruleset, \
             landlock_add_rule and landlock_restrict_self through",
        ),
    }
}

/// Whether system calls can be filtered.
pub(super) fn seccomp(actions: &str) -> Finding {
    let why = "without it the agent can make every system call that its user can";
    if actions.split_whitespace().any(|action| action == "errno") {
        return ok("seccomp", why, "system calls can be filtered");
    }
    ok("seccomp", why, "the kernel offers no system-call filters").with_step(
        Level::Missing,
        "use a kernel with CONFIG_SECCOMP_FILTER, as every distribution's is; in a container check \
         that /proc/sys is there",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(error: Errno) -> io::Error {
        error.into()
    }

    fn step(finding: &Finding) -> &str {
        finding.next_step.as_deref().unwrap_or_default()
    }

    #[test]
    fn secret_memory_that_fails_has_a_remedy_for_its_reason() {
        let tried = |error: Errno, release| secret_memory(Err(errno(error)), release);
        assert_eq!(secret_memory(Ok(()), "6.12.0").level, Level::Ok);
        // Debian 12, Ubuntu 22.04: there, but off.
        for release in ["6.1.0-28-amd64", "5.15.0-130-generic"] {
            let off = tried(Errno::NOSYS, release);
            assert_eq!(off.level, Level::Missing);
            assert!(step(&off).contains("secretmem.enable=1"));
        }
        // Debian 11.
        let old = tried(Errno::NOSYS, "5.10.0-33-amd64");
        assert!(step(&old).contains("upgrade to Linux 5.14"));
        assert!(step(&tried(Errno::PERM, "6.12.0")).contains("SystemCallFilter="));
        assert!(step(&tried(Errno::AGAIN, "6.12.0")).contains("LimitMEMLOCK="));
        assert!(tried(Errno::MFILE, "6.12.0").found.contains("fails"));
    }

    #[test]
    fn releases_are_told_apart() {
        assert_eq!(version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.167.4-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("6.12-rc1"), Some((6, 12)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn a_small_limit_for_locked_memory_is_seen() {
        assert_eq!(lockable_memory(None).level, Level::Ok);
        assert_eq!(lockable_memory(Some(8 << 20)).level, Level::Ok);
        let small = lockable_memory(Some(64 << 10));
        assert_eq!(small.level, Level::Warn);
        assert!(small.found.starts_with("64 KiB"));
    }

    #[test]
    fn swap_is_listed() {
        let none = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap(none).level, Level::Ok);
        assert_eq!(swap("").level, Level::Ok);
        let some = format!(
            "{none}/dev/dm-1                               partition\t999420\t\t0\t\t-2\n\
             /swapfile                               file\t\t2097148\t\t512\t\t-3\n"
        );
        let found = swap(&some);
        assert_eq!(found.level, Level::Warn);
        assert!(found.found.ends_with("/dev/dm-1, /swapfile"));
        assert!(has_swap(&some) && !has_swap(none));
    }

    #[test]
    fn hibernation_needs_the_kernel_and_swap() {
        let level = |state, disk, swap| hibernation(state, disk, swap).level;
        let disk = "[platform] shutdown reboot suspend test_resume\n";
        assert_eq!(level("freeze mem disk\n", disk, true), Level::Warn);
        assert_eq!(level("freeze mem disk\n", disk, false), Level::Ok);
        assert_eq!(level("freeze mem\n", "[disabled]\n", true), Level::Ok);
        assert_eq!(level("freeze mem disk\n", "[disabled]\n", true), Level::Ok);
        assert_eq!(level("", "", true), Level::Ok);
    }

    #[test]
    fn core_patterns_are_read() {
        assert_eq!(core_dumps("\n").level, Level::Ok);
        assert_eq!(core_dumps("|/bin/false\n").level, Level::Ok);
        let file = core_dumps("core\n");
        assert_eq!(file.level, Level::Warn);
        assert!(file.found.ends_with("named core"));
        let program = core_dumps(
            "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h\n",
        );
        assert_eq!(program.level, Level::Warn);
        assert!(
            program
                .found
                .ends_with("to /usr/lib/systemd/systemd-coredump")
        );
    }

    #[test]
    fn a_clock_that_is_not_synchronised_is_seen() {
        assert_eq!(clock(Ok(true)).level, Level::Ok);
        let unsynchronised = clock(Ok(false));
        assert_eq!(unsynchronised.level, Level::Warn);
        assert!(step(&unsynchronised).contains("set-ntp"));
        // To set up a synchronisation would not help.
        let forbidden = clock(Err(errno(Errno::PERM)));
        assert_eq!(forbidden.level, Level::Warn);
        assert!(forbidden.found.contains("not be asked"));
        assert!(!step(&forbidden).contains("set-ntp"));
    }

    #[test]
    fn parts_of_the_sandbox_are_seen() {
        assert_eq!(landlock(Ok(7)).found, "Landlock version 7");
        assert!(step(&landlock(Err(errno(Errno::OPNOTSUPP)))).contains("lsm="));
        assert!(step(&landlock(Err(errno(Errno::NOSYS)))).contains("5.13"));
        let actions = "kill_process kill_thread trap errno user_notif trace log allow\n";
        assert_eq!(seccomp(actions).level, Level::Ok);
        assert_eq!(seccomp("").level, Level::Missing);
    }

    #[test]
    fn the_service_manager_says_what_it_keeps() {
        let level = |is_systemd, started_us, offers_store| {
            descriptor_store(ServiceManager {
                is_systemd,
                started_us,
                offers_store,
            })
            .level
        };
        assert_eq!(level(true, true, true), Level::Ok);
        assert_eq!(level(true, true, false), Level::Warn);
        assert_eq!(level(true, false, false), Level::Ok);
        assert_eq!(level(false, false, false), Level::Missing);
    }
}
