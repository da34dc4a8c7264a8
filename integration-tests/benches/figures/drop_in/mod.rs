//! Our agent beside the one whose place it takes, driven by what both speak: the deployed
//! protocol and the reference programs' command line.
//!
//! `KES_BENCH_OTHER_AGENT` and `KES_BENCH_OTHER_CONTROL` name another agent's programs; both
//! agents are measured in turns then. Without them, ours stands against the figures that were
//! taken of the reference agent, and the row says so.

mod latency;
mod node;
mod operator;
mod resources;
mod site;

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::measure::at_share;
use super::processes::programs;
use super::report::{Goal, Report, Row};
use site::{Programs, Site};

/// Descriptors for the clients of both agents, and some for everything else.
const DESCRIPTORS: u64 = 2048;
const MEASURED: &str = "the other agent, measured";
const RECORDED: &str = "the reference, recorded";

pub(crate) fn measure(report: &mut Report) {
    let ours = Programs {
        agent: programs().join("kes-agent"),
        control: programs().join("kes-cli"),
    };
    if !ours.agent.exists() || !ours.control.exists() {
        println!("kes-agent and kes-cli are not built (make build): not measured");
        return;
    }
    if !room_for_clients() {
        return;
    }
    let mut both = Both {
        ours: Site::new(ours),
        other: other().map(Site::new),
    };
    latency::measure(report, &mut both);
    resources::measure(report, &mut both);
}

/// Raises the soft limit of descriptors, which the agents inherit, as far as it goes.
fn room_for_clients() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let enough = limit.maximum.is_none_or(|most| most >= DESCRIPTORS);
    if !enough {
        println!("fewer than {DESCRIPTORS} descriptors (ulimit -Hn): not measured");
    }
    enough
}

/// The other agent's programs, where they are named.
fn other() -> Option<Programs> {
    match (
        named("KES_BENCH_OTHER_AGENT"),
        named("KES_BENCH_OTHER_CONTROL"),
    ) {
        (Some(agent), Some(control)) => Some(Programs { agent, control }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            println!("KES_BENCH_OTHER_AGENT and KES_BENCH_OTHER_CONTROL belong together");
            None
        }
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os(variable)?);
    if path.is_absolute() && path.exists() {
        return Some(path);
    }
    println!(
        "{variable}={}: give the full path of a program",
        path.display()
    );
    None
}

/// Our agent and perhaps another; or a figure of each.
struct Both<T> {
    ours: T,
    other: Option<T>,
}

impl<T> Both<T> {
    fn map<R>(&mut self, mut figure: impl FnMut(&mut T) -> R) -> Both<R> {
        Both {
            ours: figure(&mut self.ours),
            other: self.other.as_mut().map(figure),
        }
    }

    /// Each together with what is made for it.
    fn each_with<R>(&mut self, mut make: impl FnMut(&mut T) -> R) -> Both<(R, &mut T)> {
        Both {
            ours: (make(&mut self.ours), &mut self.ours),
            other: self.other.as_mut().map(|one| (make(one), one)),
        }
    }

    /// Takes a sample of each in turns, `samples` times.
    fn in_turns<R>(&mut self, samples: usize, mut sample: impl FnMut(&mut T) -> R) -> Both<Vec<R>> {
        let mut taken = self.map(|_| Vec::new());
        for _ in 0..samples {
            taken.ours.push(sample(&mut self.ours));
            if let (Some(one), Some(all)) = (&mut self.other, &mut taken.other) {
                all.push(sample(one));
            }
        }
        taken
    }
}

impl Both<Vec<f64>> {
    /// The value that this share of the samples does not exceed; 0.5 is the median.
    fn at(&mut self, share: f64) -> Both<f64> {
        self.map(|samples| at_share(samples, share))
    }
}

impl Both<f64> {
    /// A row against the other agent, or else against the reference's recorded figure.
    fn row(
        &self,
        name: impl Into<String>,
        unit: &'static str,
        recorded: Option<f64>,
        goal: Goal,
    ) -> Row {
        let measured = self.other.map(|value| (MEASURED, value));
        let against = measured.or(recorded.map(|value| (RECORDED, value)));
        Row {
            name: name.into(),
            value: self.ours,
            unit,
            against,
            goal,
        }
    }
}
