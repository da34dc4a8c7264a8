//! Which errors a call fails with.

use std::fmt;

use crate::paths::When;

/// One call that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault<'a> {
    /// Its name.
    pub(crate) call: &'a str,
    /// The error's name, or for `brk` the value that says failure.
    pub(crate) errno: &'a str,
    /// Which of its occurrences.
    pub(crate) when: When,
}

impl Fault<'_> {
    /// The expression for strace.
    pub(crate) fn expression(&self) -> String {
        let Self { call, errno, when } = self;
        // brk has no error: the kernel gives the old end of the heap.
        let answer = if *call == "brk" { "retval" } else { "error" };
        match when {
            When::At(n) => format!("{call}:{answer}={errno}:when={n}"),
            When::All => format!("{call}:{answer}={errno}"),
        }
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(n) => write!(f, "{} no. {n}: {}", self.call, self.errno),
            When::All => write!(f, "every {}: {}", self.call, self.errno),
        }
    }
}

/// The errors with which a call is made to fail. Empty: with the arguments that programs give it,
/// no kernel fails it, and an answer that cannot be would test nothing.
pub(crate) fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        // They end something, or only tell; a wake-up that is lost is no error of futex.
        "exit" | "exit_group" | "rt_sigreturn" | "restart_syscall" | "execve" | "futex"
        | "clock_gettime" | "gettimeofday" | "getpid" | "gettid" | "getuid" | "geteuid"
        | "getgid" | "getegid" | "umask" | "sched_yield" | "set_tid_address" | "arch_prctl" => &[],
        "brk" => &["0"],
        "mmap" | "mprotect" | "munmap" | "mremap" | "madvise" | "mlock" | "munlock"
        | "epoll_ctl" | "poll" | "sigaltstack" => &["ENOMEM"],
        "memfd_secret" => &["ENOMEM", "ENOSYS"],
        "clone" | "clone3" => &["EAGAIN"],
        // With a good descriptor it fails in this way alone.
        "epoll_wait" | "epoll_pwait" | "nanosleep" | "clock_nanosleep"
        // Every kernel that the agent runs on has it; before it is seeded a wait can be broken off.
        | "getrandom" => &["EINTR"],
        "openat" | "open" | "socket" | "socketpair" | "accept4" | "eventfd2" | "epoll_create1"
        | "timerfd_create" | "pipe2" | "fcntl" => &["EMFILE"],
        "statx" | "newfstatat" | "readlink" | "readlinkat" | "unlink" | "unlinkat" | "access" => {
            &["EACCES"]
        }
        "fchmod" | "fchmodat" | "chmod" | "prlimit64" | "adjtimex" | "clock_adjtime" => &["EPERM"],
        "bind" | "listen" => &["EADDRINUSE"],
        "connect" => &["ECONNREFUSED"],
        "sendto" | "sendmsg" => &["ENOBUFS", "EPIPE"],
        "recvfrom" | "recvmsg" => &["ECONNRESET"],
        "getsockopt" | "setsockopt" => &["ENOBUFS"],
        "write" | "writev" => &["ENOSPC"],
        "flock" => &["EWOULDBLOCK"],
        "prctl" | "rt_sigaction" | "rt_sigprocmask" | "timerfd_settime" | "sched_getaffinity"
        | "seccomp" => &["EINVAL"],
        "set_robust_list" | "rseq" | "close_range" | "clock_getres" => &["ENOSYS"],
        "landlock_create_ruleset" | "landlock_add_rule" | "landlock_restrict_self" => {
            &["EOPNOTSUPP"]
        }
        _ => &["EIO"],
    }
}

/// Whether a call may fail each time that it is made. A wait that is broken off each time is a
/// loop, which strace's leaving cuts with an answer that no kernel gives; and among all that is
/// written are the wakings of threads.
pub(crate) fn may_fail_always(call: &str) -> bool {
    !["epoll_wait", "epoll_pwait", "getrandom", "write"].contains(&call)
}

/// What libraries take to be impossible, as it is on a real kernel: the call, what the process says
/// at its end, and why it cannot come about.
const EXCUSES: [(&str, &str, &str); 8] = [
    (
        "mprotect",
        "SIGSEGV",
        "memsec frees as if memory could always be made writable again; that joins mappings, for \
         which the kernel needs nothing",
    ),
    (
        "prlimit64",
        "rustix",
        "every kernel lets a process read its own limits",
    ),
    (
        "write",
        "failed to wake I/O driver",
        "a write to an eventfd has no disk that could be full",
    ),
    (
        "recvfrom",
        "Bad read on self-pipe",
        "both ends of a pair of sockets are the process's own: nobody resets it",
    ),
    (
        "rseq",
        "rseq registration failed",
        "glibc: what the first thread could register every thread can",
    ),
    (
        "set_robust_list",
        "SIGABRT",
        "glibc: what the first thread could register every thread can",
    ),
    (
        "mmap",
        "failed to allocate an alternative stack",
        "Rust's runtime ends a process whose new thread has no memory; at the end alone threads \
         are made while keys are held, and they are kept",
    ),
    (
        "mprotect",
        "alternative stack guard page",
        "Rust's runtime ends a process whose new thread has no memory; at the end alone threads \
         are made while keys are held, and they are kept",
    ),
];

/// Why an end is not the agent's to prevent.
pub(crate) fn excuse(call: &str, ending: &str) -> Option<&'static str> {
    let fits = |(of, says, _): &&(&str, &str, &str)| *of == call && ending.contains(says);
    EXCUSES.iter().find(fits).map(|(_, _, why)| *why)
}
