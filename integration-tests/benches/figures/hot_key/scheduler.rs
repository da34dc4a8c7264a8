//! The scheduler's part in a time that was taken, where others want the processor too.

use std::thread;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};

use super::super::measure::nanoseconds;

/// Keeps this thread, and those that it makes, on one processor, where there are several.
pub(super) fn stay_on(processor: usize) {
    if thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set).unwrap();
    }
}

/// Lets this thread run anywhere again.
pub(super) fn roam() {
    let mut set = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|processor| set.set(processor));
    sched_setaffinity(None, &set).unwrap();
}

/// Takes times and sets those aside in which the scheduler gave this thread's processor to
/// somebody else. Times in which the thread waited by itself, as for a lock, are kept.
pub(super) struct Stopwatch {
    /// What took longer, in microseconds, may have been interrupted: only then is it worth asking.
    suspicious: f64,
    known: Switches,
    pub(super) set_aside: u32,
}

/// How often this thread has given up its processor.
#[derive(PartialEq)]
struct Switches {
    /// Because it waited for something.
    own: u64,
    /// Because the scheduler took it.
    forced: u64,
}

impl Stopwatch {
    /// A watch that lets times up to this go unasked.
    pub(super) fn new(suspicious: f64) -> Self {
        Self {
            suspicious,
            known: Switches::now(),
            set_aside: 0,
        }
    }

    /// How long `work` took, in microseconds; `None` where it was interrupted.
    pub(super) fn time(&mut self, work: impl FnOnce()) -> Option<f64> {
        let begin = Instant::now();
        work();
        let took = nanoseconds(begin.elapsed()) / 1e3;
        if took <= self.suspicious {
            return Some(took);
        }
        let now = Switches::now();
        let was_interrupted = now.forced > self.known.forced && now.own == self.known.own;
        self.known = now;
        self.set_aside += u32::from(was_interrupted);
        (!was_interrupted).then_some(took)
    }
}

impl Switches {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            own: field("voluntary_ctxt_switches:"),
            forced: field("nonvoluntary_ctxt_switches:"),
        }
    }
}
