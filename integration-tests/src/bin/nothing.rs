//! Starts and exits: what any program costs, for `make bench` to compare with.

fn main() {}
