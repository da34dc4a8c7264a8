//! `make bench`: what things cost, beside something that everybody knows the cost of.
//!
//! Every figure is a ratio or a difference of two things measured in turns in this run, so that a
//! busy or slow machine weighs on both. One file a group of figures; a group is a function that
//! adds its rows to the [`Report`]. The report goes to standard output as a table and to
//! `target/bench/report.json`. A goal that does not hold is said, but is no failure: the exit
//! code is 0.
#![allow(clippy::unwrap_used)]

mod against_libsodium;
mod against_summed;
mod hot_key;
mod measure;
mod processes;
mod report;

use report::Report;

fn main() {
    let mut report = Report::default();
    against_libsodium::measure(&mut report);
    against_summed::measure(&mut report);
    processes::measure(&mut report);
    hot_key::measure(&mut report);
    report.print();
    let path = report.write();
    println!("\nWritten to {}", path.display());
}
