//! One target under libFuzzer, named by `KES_FUZZ_TARGET`.
#![no_main]

use std::sync::LazyLock;

use integration_tests::fuzzed::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let wanted = std::env::var("KES_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no target {wanted:?}")).1
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
