//! `without-calls CALL,CALL... PROGRAM ARGUMENT...`: runs a program on a kernel that does not have
//! these system calls, or in a container that refuses them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The calls that can be taken away.
const KNOWN: [(&str, i64); 6] = [
    ("clock_adjtime", libc::SYS_clock_adjtime),
    ("close_range", libc::SYS_close_range),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("seccomp", libc::SYS_seccomp),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let calls = arguments.next().unwrap_or_default();
    let program = arguments.next().unwrap_or_default();
    let number = |name: &str| KNOWN.iter().find(|(known, _)| *known == name).map(|k| k.1);
    let rules = calls
        .split(',')
        .map(|name| number(name).map(|number| (number, Vec::new())))
        .collect::<Option<_>>()
        .expect("calls that are known here");
    let none_such = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().expect("one of seccomp's");
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, none_such, architecture)
            .and_then(TryInto::try_into)
            .expect("a filter");
    seccompiler::apply_filter(&filter).expect("a kernel with seccomp");
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("{program}: {error}");
    std::process::exit(127);
}
