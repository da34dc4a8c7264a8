//! Every system call that the agent makes on its paths fails in turn (`strace --inject`): it does
//! not crash, no slot is lost, no secret is in unlocked memory, and a sentence says what is wrong.
//!
//! `make test` runs the calls that matter most; `make faults` runs every call of every path and
//! writes a table to `target/faults/report.txt`.
#![allow(missing_docs, clippy::unwrap_used)]

mod calls;
mod paths;
mod report;
mod site;
mod strace;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use calls::Fault;
use paths::{PATHS, Path, When};
use report::Report;
use verdict::examine;

/// The most occurrences of one call on one path that fail one at a time.
const MOST_OCCURRENCES: u32 = 120;
/// How many paths are tried at a time.
const AT_A_TIME: usize = 3;

fn can_inject() -> bool {
    if !integration_tests::tools::is_installed("strace", "strace") {
        return false;
    }
    let root = rustix::process::geteuid().is_root();
    if !root {
        integration_tests::shared::skipped("only root may trace the agent, which closes itself");
    }
    let keeps = kes_wire::sys::region::probe().is_ok();
    if !keeps {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
    }
    root && keeps
}

fn path(name: &str) -> &'static Path {
    PATHS.iter().find(|path| path.name == name).unwrap()
}

/// What matters most: memory that cannot be had or locked, descriptors and threads that are not
/// there, a disk and a service manager that refuse.
#[test]
fn the_calls_that_matter_most_fail_without_harm() {
    if !can_inject() {
        return;
    }
    let cases = [
        ("start", "mlock", "ENOMEM", When::All),
        ("start", "memfd_secret", "ENOMEM", When::All),
        ("start", "madvise", "ENOMEM", When::All),
        ("start", "socket", "EMFILE", When::All),
        ("start", "socketpair", "EMFILE", When::All),
        ("start", "clone", "EAGAIN", When::All),
        ("start", "timerfd_create", "EMFILE", When::All),
        ("restart", "mmap", "ENOMEM", When::All),
        ("restart", "fstatfs", "EIO", When::All),
        ("keygen", "mlock", "ENOMEM", When::All),
        ("keygen", "accept4", "EMFILE", When::At(1)),
        ("activate", "fsync", "EIO", When::All),
        ("activate", "sendto", "ENOBUFS", When::All),
        ("serve", "sendto", "ENOBUFS", When::All),
        ("stop", "close", "EIO", When::All),
    ];
    let mut report = Report::default();
    for (name, call, errno, when) in cases {
        let fault = Fault { call, errno, when };
        report.add(path(name), &fault, examine(path(name), &fault));
    }
    report.print();
    let harm = report.harm();
    assert!(harm.is_empty(), "{harm:#?}");
    assert!(report.injected() >= 12, "most of them are made at all");
}

/// `KES_FAULTS_PATHS` and `KES_FAULTS_CALLS` name some of them, with commas.
#[test]
#[ignore = "takes a quarter of an hour and more: make faults"]
fn every_call_of_every_path_fails_without_harm() {
    if !can_inject() {
        return;
    }
    let chosen = |variable: &str, name: &str| {
        std::env::var(variable).map_or(true, |list| list.split(',').any(|one| one == name))
    };
    let paths: Vec<_> = PATHS
        .iter()
        .filter(|path| chosen("KES_FAULTS_PATHS", path.name))
        .collect();
    let (next, report) = (AtomicUsize::new(0), Mutex::new(Report::default()));
    // Most of the time is spent waiting.
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for call in verdict::calls_of(path) {
                        if chosen("KES_FAULTS_CALLS", &call) {
                            fail_in_turn(path, &call, &report);
                        }
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    report.print();
    println!("Written to {}", report.write().display());
    let harm = report.harm();
    assert!(harm.is_empty(), "{harm:#?}");
}

/// Each occurrence of a call on a path fails, and then all of them.
fn fail_in_turn(path: &Path, call: &str, report: &Mutex<Report>) {
    let errors = calls::errors_of(call);
    if errors.is_empty() {
        report.lock().unwrap().leave_out(path, call);
    }
    for errno in errors {
        let is_made = |when| {
            let fault = Fault { call, errno, when };
            let found = examine(path, &fault);
            let is_made = found.injected > 0;
            if is_made {
                let mut report = report.lock().unwrap();
                report.add(path, &fault, found);
                report.write();
            }
            is_made
        };
        // Until there are no more of them.
        let _ = (1..=MOST_OCCURRENCES).all(|n| is_made(When::At(n)));
        if calls::may_fail_always(call) {
            is_made(When::All);
        }
    }
}
