//! `make bench`: what things cost, beside something that everybody knows the cost of.
//!
//! Figures are ratios or differences of two things measured in turns in this run, so that a busy or
//! slow machine weighs on both. Those that stand against a recorded figure say so; there a busy
//! machine counts against us. One file a group of figures; a group is a function that
//! adds its rows to the [`Report`]. The report goes to standard output as a table and to
//! `target/bench/report.json`. A goal that does not hold is said, but is no failure: the exit
//! code is 0.
#![allow(clippy::unwrap_used)]

mod against_libsodium;
mod against_summed;
mod drop_in;
mod hostile_peers;
mod hot_key;
mod load;
mod measure;
mod processes;
mod report;
mod scale;
mod survival;

use load::Load;
use report::Report;

/// Adds its rows.
type Group = fn(&mut Report);

/// The groups by name, in the report's order.
const GROUPS: [(&str, Group); 8] = [
    ("against-libsodium", against_libsodium::measure),
    ("against-summed", against_summed::measure),
    ("processes", processes::measure),
    ("hot-key", hot_key::measure),
    ("drop-in", drop_in::measure),
    ("hostile-peers", hostile_peers::measure),
    ("survival", survival::measure),
    ("scale", scale::measure),
];

fn main() {
    // `cargo bench -p integration-tests -- drop-in` measures one group. What cargo itself adds
    // begins with a dash.
    let named: Vec<_> = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'))
        .collect();
    let load = Load::now();
    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if named.is_empty() || named.iter().any(|one| one == name) {
            measure(&mut report);
        }
    }
    report.print();
    if let Some(load) = load.filter(Load::disturbs) {
        println!("\n{load}");
    }
    let path = report.write();
    println!("\nWritten to {}", path.display());
}
