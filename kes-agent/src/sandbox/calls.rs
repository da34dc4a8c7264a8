//! The system calls that the agent may make, as a seccomp filter.
//!
//! What is not on the list is answered ENOSYS, as by a kernel that does not have the call: the C
//! library and Rust's then take their older way where they have one, so that an entry that a
//! later library would need costs a feature and not the key. Not on the list is whatever starts
//! or looks into a process (`fork`, `execve`, `ptrace`, `process_vm_readv`, `pidfd_getfd`), whatever
//! reaches beyond this host (sockets of other families), loads code (executable mappings, `bpf`,
//! modules), changes who the process is, or lifts a protection.
//!
//! A call by another architecture's rules, whose numbers mean other calls, ends the process: nothing
//! that the agent is built of makes one.

use std::collections::BTreeSet;

use seccompiler::{BpfProgram, sock_filter};

/// Calls that may be made with any arguments.
const FREE: &[i64] = &[
    // Reading and writing what is open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    // Files. Which ones is for Landlock to say.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    // Whether kept memory is memory of memfd_secret.
    libc::SYS_fstatfs,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_umask,
    // Connections.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    // Clocks. Setting them needs CAP_SYS_TIME, which no agent has.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Memory. Mappings are below: none is executable.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_memfd_secret,
    libc::SYS_getrandom,
    // Threads, signals, the end.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Who and where we are.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// Older names of calls above, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_link,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// A limit on one argument of a call, of which only the low half is looked at: all that an int
/// has, and all flags that there are.
enum Limit {
    /// It is one of these.
    OneOf(Vec<u32>),
    /// This bit is set.
    Has(u32),
    /// This bit is not set.
    Lacks(u32),
    /// Both halves of it are zero.
    Null,
}

/// Calls that may be made where the argument at this place is as the limit says.
fn limited() -> [(&'static [i64], u32, Limit); 7] {
    let is = |constant: libc::c_int| Limit::OneOf(vec![number(constant)]);
    [
        (
            &[libc::SYS_socket, libc::SYS_socketpair],
            0,
            is(libc::AF_UNIX),
        ),
        (
            &[libc::SYS_mmap, libc::SYS_mprotect],
            2,
            Limit::Lacks(number(libc::PROT_EXEC)),
        ),
        // A thread, not a process. (clone3 has its flags where a filter cannot see them.)
        (
            &[libc::SYS_clone],
            0,
            Limit::Has(number(libc::CLONE_THREAD)),
        ),
        // abort() and the like, against ourselves.
        (
            &[libc::SYS_tgkill],
            0,
            Limit::OneOf(vec![std::process::id()]),
        ),
        // Limits are read, not set.
        (&[libc::SYS_prlimit64], 2, Limit::Null),
        (
            &[libc::SYS_ioctl],
            1,
            Limit::OneOf(vec![
                request(libc::FIONBIO),
                request(libc::FIOCLEX),
                request(libc::FIONREAD),
                // Whether standard output is a terminal.
                request(libc::TCGETS),
            ]),
        ),
        (
            &[libc::SYS_prctl],
            0,
            Limit::OneOf(
                [
                    libc::PR_SET_NAME,
                    libc::PR_GET_NAME,
                    // Names of mappings, by the C library's allocator.
                    libc::PR_SET_VMA,
                    libc::PR_GET_DUMPABLE,
                    libc::PR_GET_NO_NEW_PRIVS,
                ]
                .map(number)
                .to_vec(),
            ),
        ),
    ]
}

/// The filter. It is for this process: it holds its number.
///
/// It is written out here, and not by a compiler of filters, to be short: the kernel translates it
/// and tries it on every number while the agent starts and a node waits.
pub(super) fn filter() -> BpfProgram {
    use To::{Allow, Kill, Next, Refuse};
    let none_such = libc::SECCOMP_RET_ERRNO | number(libc::ENOSYS);
    let mut filter = Draft::default();
    filter.load(ARCHITECTURE_AT);
    filter.test(libc::BPF_JEQ, ARCHITECTURE, Next, Kill);
    filter.load(NUMBER_AT);
    let limits: Vec<_> = (0..).map(To::Limit).zip(limited()).collect();
    for (place, (calls, ..)) in &limits {
        for &call in *calls {
            let call = u32::try_from(call).expect("numbers of calls are small");
            filter.test(libc::BPF_JEQ, call, *place, Next);
        }
    }
    // The free calls as the few runs of numbers that they are, in their order: what is below a run
    // and not in one before is in none.
    for (first, last) in runs(FREE.iter().chain(OLDER).copied()) {
        filter.test(libc::BPF_JGE, first, Next, Refuse);
        filter.test(libc::BPF_JGT, last, Next, Allow);
    }
    filter.answer(Refuse, none_such);
    for (place, (_, argument, limit)) in limits {
        filter.place(place);
        let low = ARGUMENTS_AT + 8 * argument;
        filter.load(low);
        match limit {
            Limit::OneOf(values) => {
                let (last, others) = values.split_last().expect("there is one");
                for value in others {
                    filter.test(libc::BPF_JEQ, *value, Allow, Next);
                }
                filter.test(libc::BPF_JEQ, *last, Allow, Refuse);
            }
            Limit::Has(bit) => filter.test(libc::BPF_JSET, bit, Allow, Refuse),
            Limit::Lacks(bit) => filter.test(libc::BPF_JSET, bit, Refuse, Allow),
            Limit::Null => {
                filter.test(libc::BPF_JEQ, 0, Next, Refuse);
                filter.load(low + 4);
                filter.test(libc::BPF_JEQ, 0, Allow, Refuse);
            }
        }
    }
    filter.answer(Allow, libc::SECCOMP_RET_ALLOW);
    filter.answer(Refuse, none_such);
    filter.answer(Kill, libc::SECCOMP_RET_KILL_PROCESS);
    filter.finish()
}

/// Where `struct seccomp_data` has what a call is, in bytes: its number, the architecture by whose
/// rules it was made, and six arguments of 8 bytes, the low half first on what we run on.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// `AUDIT_ARCH_...` of `linux/audit.h`, as the kernel says what a call was made by.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where a filter goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    Limit(usize),
    Refuse,
    Allow,
    Kill,
}

/// A filter whose jumps are still to names of places; the next of that name is meant.
#[derive(Default)]
struct Draft {
    /// Code and constant, and where it goes on if the test holds and if it does not.
    steps: Vec<(u32, u32, To, To)>,
    places: Vec<(To, usize)>,
}

impl Draft {
    fn place(&mut self, place: To) {
        self.places.push((place, self.steps.len()));
    }

    fn load(&mut self, at: u32) {
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        self.steps.push((load, at, To::Next, To::Next));
    }

    fn test(&mut self, test: u32, constant: u32, holds: To, fails: To) {
        let jump = libc::BPF_JMP | libc::BPF_K | test;
        self.steps.push((jump, constant, holds, fails));
    }

    fn answer(&mut self, place: To, answer: u32) {
        self.place(place);
        let ret = libc::BPF_RET | libc::BPF_K;
        self.steps.push((ret, answer, To::Next, To::Next));
    }

    fn finish(self) -> BpfProgram {
        let distance = |from: usize, to: To| {
            let next = from + 1;
            let mut ahead = self.places.iter().filter(|(_, at)| *at >= next);
            let target = match to {
                To::Next => next,
                // A jump that leads nowhere would be a filter that lets through what it must not.
                named => {
                    ahead
                        .find(|(place, _)| *place == named)
                        .expect("it is ahead")
                        .1
                }
            };
            u8::try_from(target - next).expect("the filter is short")
        };
        let steps = self.steps.iter().enumerate();
        steps
            .map(|(at, &(code, k, holds, fails))| sock_filter {
                code: u16::try_from(code).expect("codes are small"),
                jt: distance(at, holds),
                jf: distance(at, fails),
                k,
            })
            .collect()
    }
}

/// The runs of numbers without a gap, each by its first and last, in their order.
fn runs(calls: impl Iterator<Item = i64>) -> Vec<(u32, u32)> {
    let numbers: BTreeSet<u32> = calls.filter_map(|call| call.try_into().ok()).collect();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) | None => runs.push((number, number)),
        }
    }
    runs
}

/// A constant of the C library as the kernel has it.
fn number(constant: libc::c_int) -> u32 {
    constant.unsigned_abs()
}

/// The same of a request to a device, whose type is another in other C libraries; the kernel looks
/// at its low half.
#[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]
fn request(constant: libc::Ioctl) -> u32 {
    constant as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: u32 = 0x4000_0003;

    /// What the kernel would answer to a call, by the rules of `bpf(4)`'s classic machine.
    fn answer(program: &BpfProgram, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let holds = match u32::from(code) {
                0x20 => {
                    accumulator = match k {
                        0 => number,
                        4 => architecture,
                        _ => {
                            let argument = arguments[(k as usize - 16) / 8];
                            let half = if k % 8 == 0 { argument } else { argument >> 32 };
                            half as u32
                        }
                    };
                    assert_eq!((jt, jf), (0, 0));
                    true
                }
                0x15 => accumulator == k,
                0x35 => accumulator >= k,
                0x25 => accumulator > k,
                0x45 => accumulator & k != 0,
                0x06 => return k,
                other => panic!("an instruction {other:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;
    /// `SECCOMP_RET_ERRNO` with ENOSYS.
    const NO_SUCH_CALL: u32 = 0x0005_0026;

    #[test]
    fn exactly_the_free_calls_are_let_through_and_only_by_this_architecture() {
        let program = filter();
        let is = |calls: &[i64], number: u32| calls.contains(&i64::from(number));
        for number in 0..2_000 {
            // These arguments are within no limit but that of clone, which wants a bit.
            let all_bits = [u64::MAX; 6];
            let is_free = is(FREE, number) || is(OLDER, number) || is(&[libc::SYS_clone], number);
            let expected = if is_free { ALLOW } else { NO_SUCH_CALL };
            assert_eq!(
                answer(&program, ARCHITECTURE, number, all_bits),
                expected,
                "{number}"
            );
            // 32-bit x86, whose numbers mean other calls.
            assert_eq!(answer(&program, X86, number, [0; 6]), KILL, "{number}");
            // x32, whose numbers have this bit.
            let x32 = 0x4000_0000 | number;
            assert_eq!(answer(&program, ARCHITECTURE, x32, [0; 6]), NO_SUCH_CALL);
        }
    }

    #[test]
    fn limited_calls_are_let_through_within_their_limits() {
        let program = filter();
        let high = 1 << 32;
        let own = u64::from(std::process::id());
        let prctl = |option: libc::c_int| (libc::SYS_prctl, 0, u64::from(option.unsigned_abs()));
        for ((call, place, value), expected) in [
            ((libc::SYS_socket, 0, 1), true),
            ((libc::SYS_socket, 0, 2), false),
            ((libc::SYS_socket, 0, 10), false),
            ((libc::SYS_socketpair, 0, 1), true),
            ((libc::SYS_socketpair, 0, 16), false),
            ((libc::SYS_mmap, 2, 3), true),
            ((libc::SYS_mmap, 2, 4), false),
            ((libc::SYS_mmap, 2, 7), false),
            ((libc::SYS_mmap, 2, high | 5), false),
            ((libc::SYS_mprotect, 2, 0), true),
            ((libc::SYS_mprotect, 2, 5), false),
            ((libc::SYS_clone, 0, 0x3d_0f00), true),
            // vfork, and fork as the C library does it.
            ((libc::SYS_clone, 0, 0x4111), false),
            ((libc::SYS_clone, 0, 0x0120_0011), false),
            ((libc::SYS_tgkill, 0, own), true),
            ((libc::SYS_tgkill, 0, own + 1), false),
            ((libc::SYS_prlimit64, 2, 0), true),
            ((libc::SYS_prlimit64, 2, 1), false),
            ((libc::SYS_prlimit64, 2, high), false),
            ((libc::SYS_ioctl, 1, 0x5421), true),
            ((libc::SYS_ioctl, 1, 0x5451), true),
            ((libc::SYS_ioctl, 1, 0x541b), true),
            ((libc::SYS_ioctl, 1, 0x5401), true),
            // TIOCSTI writes into a terminal's input.
            ((libc::SYS_ioctl, 1, 0x5412), false),
            (prctl(libc::PR_SET_NAME), true),
            (prctl(libc::PR_GET_NAME), true),
            (prctl(libc::PR_SET_VMA), true),
            (prctl(libc::PR_GET_DUMPABLE), true),
            (prctl(libc::PR_GET_NO_NEW_PRIVS), true),
            (prctl(libc::PR_SET_DUMPABLE), false),
            (prctl(libc::PR_SET_SECCOMP), false),
        ] {
            let call_number = u32::try_from(call).unwrap();
            let mut arguments = [0; 6];
            arguments[place] = value;
            let answer = answer(&program, ARCHITECTURE, call_number, arguments);
            let wanted = if expected { ALLOW } else { NO_SUCH_CALL };
            assert_eq!(answer, wanted, "{call}: argument {place} is {value:#x}");
        }
    }
}
