//! The system calls that the agent may make, as a seccomp filter.
//!
//! What is not on the list is answered ENOSYS, as by a kernel that does not have the call: the C
//! library and Rust's then take their older way where they have one, so that an entry that a
//! later library would need costs a feature and not the key. Not on the list is whatever starts
//! or looks into a process (`fork`, `execve`, `ptrace`, `process_vm_readv`, `pidfd_getfd`), whatever
//! reaches beyond this host (sockets of other families), loads code (executable mappings, `bpf`,
//! modules), changes who the process is, or lifts a protection.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

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

/// Compiles the filter. It is for this process: it holds its number.
///
/// The free calls stand before the rest, as the few runs of numbers that they are: the kernel
/// compiles the filter and tries it on every number while the agent starts.
pub(super) fn filter() -> Result<BpfProgram, BackendError> {
    let mut filter = free();
    filter.extend(others()?);
    Ok(filter)
}

/// Lets the free calls through; what is none of them, or is made by another architecture's rules,
/// goes on to what follows.
fn free() -> BpfProgram {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_K;
    let instruction = |code: u32, k: u32, jt: usize, jf: usize| sock_filter {
        code: u16::try_from(code).expect("codes are small"),
        // A jump too far would be a filter that lets through what it must not.
        jt: u8::try_from(jt).expect("the free calls are few runs"),
        jf: u8::try_from(jf).expect("the free calls are few runs"),
        k,
    };
    let runs = runs(FREE.iter().chain(OLDER).copied());
    // Three instructions each: below it? beyond it? else it is free.
    let length = 3 * runs.len();
    let mut program = vec![
        // struct seccomp_data: the number at 0, the architecture at 4.
        instruction(LOAD, 4, 0, 0),
        instruction(JUMP | libc::BPF_JEQ, ARCHITECTURE, 0, 1 + length),
        instruction(LOAD, 0, 0, 0),
    ];
    for (at, (first, last)) in runs.into_iter().enumerate() {
        let to_end = length - 3 * at - 1;
        program.extend([
            instruction(JUMP | libc::BPF_JGE, first, 0, to_end),
            instruction(JUMP | libc::BPF_JGT, last, 1, 0),
            instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        ]);
    }
    program
}

/// `AUDIT_ARCH_...` of `linux/audit.h`, as the kernel says what a call was made by.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

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

/// The calls that are limited, and the answer to all that are on no list.
fn others() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, conditions) in limited() {
        let conditions: Result<Vec<_>, _> = conditions
            .into_iter()
            .map(|one| SeccompRule::new(vec![one?]))
            .collect();
        rules.insert(call, conditions?);
    }
    let (allow, none_such) = (
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
    );
    SeccompFilter::new(rules, none_such, allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

type Conditions = Vec<Result<SeccompCondition, BackendError>>;

/// Calls that may be made where one of these conditions holds.
fn limited() -> [(i64, Conditions); 9] {
    let unix = || vec![equals(0, number(libc::AF_UNIX))];
    let not_executable = || vec![lacks(2, number(libc::PROT_EXEC))];
    [
        (libc::SYS_socket, unix()),
        (libc::SYS_socketpair, unix()),
        (libc::SYS_mmap, not_executable()),
        (libc::SYS_mprotect, not_executable()),
        // A thread, not a process. (clone3 has its flags where a filter cannot see them.)
        (libc::SYS_clone, vec![has(0, number(libc::CLONE_THREAD))]),
        // abort() and the like, against ourselves.
        (
            libc::SYS_tgkill,
            vec![equals(0, u64::from(std::process::id()))],
        ),
        // Limits are read, not set.
        (libc::SYS_prlimit64, vec![is_null(2)]),
        (
            libc::SYS_ioctl,
            vec![
                equals(1, request(libc::FIONBIO)),
                equals(1, request(libc::FIOCLEX)),
                equals(1, request(libc::FIONREAD)),
                // Whether standard output is a terminal.
                equals(1, request(libc::TCGETS)),
            ],
        ),
        (
            libc::SYS_prctl,
            vec![
                equals(0, number(libc::PR_SET_NAME)),
                equals(0, number(libc::PR_GET_NAME)),
                // Names of mappings, by the C library's allocator.
                equals(0, number(libc::PR_SET_VMA)),
                equals(0, number(libc::PR_GET_DUMPABLE)),
                equals(0, number(libc::PR_GET_NO_NEW_PRIVS)),
            ],
        ),
    ]
}

/// A constant of the C library as the kernel's registers have it.
fn number(constant: libc::c_int) -> u64 {
    u64::from(constant.unsigned_abs())
}

/// The same of a request to a device, whose type is another in other C libraries.
#[allow(clippy::unnecessary_cast)]
fn request(constant: libc::Ioctl) -> u64 {
    constant as u64
}

/// The argument's low half, all that an int has, is this.
fn equals(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_null(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

/// All of these bits are set.
fn has(argument: u8, bits: u64) -> Result<SeccompCondition, BackendError> {
    let masked = SeccompCmpOp::MaskedEq(bits);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, masked, bits)
}

/// None of these bits is set.
fn lacks(argument: u8, bits: u64) -> Result<SeccompCondition, BackendError> {
    let masked = SeccompCmpOp::MaskedEq(bits);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, masked, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call, by the filter's rules (`bpf(4)`'s classic machine, as
    /// far as the free part uses it). `None`: it goes on.
    fn answer(program: &BpfProgram, architecture: u32, number: u32) -> Option<u32> {
        let mut accumulator = 0;
        let mut at = 0;
        while let Some(sock_filter { code, jt, jf, k }) = program.get(at).cloned() {
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match u32::from(code) {
                0x20 => accumulator = if k == 4 { architecture } else { number },
                0x15 => at += jump(accumulator == k),
                0x35 => at += jump(accumulator >= k),
                0x25 => at += jump(accumulator > k),
                0x06 => return Some(k),
                other => panic!("an instruction {other:#x}"),
            }
        }
        assert_eq!(
            at,
            program.len(),
            "it goes on at the first instruction after"
        );
        None
    }

    #[test]
    fn exactly_the_free_calls_are_let_through_and_only_by_this_architecture() {
        let program = free();
        for number in 0..2_000 {
            let is_free = FREE
                .iter()
                .chain(OLDER)
                .any(|&call| call == i64::from(number));
            let expected = is_free.then_some(libc::SECCOMP_RET_ALLOW);
            assert_eq!(answer(&program, ARCHITECTURE, number), expected, "{number}");
            // 32-bit x86, whose numbers mean other calls.
            assert_eq!(answer(&program, 0x4000_0003, number), None, "{number}");
            // x32, whose numbers have this bit.
            assert_eq!(answer(&program, ARCHITECTURE, 0x4000_0000 | number), None);
        }
        assert!(filter().unwrap().len() < 400);
    }
}
