//! One target under libFuzzer, named by `KES_FUZZ_TARGET`. With `KES_FUZZ_SEEDS` it writes what that
//! target begins with into this folder, a file each, and ends.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use integration_tests::fuzzed::{TARGETS, Target, seeds};
use libfuzzer_sys::fuzz_target;

static WANTED: LazyLock<String> =
    LazyLock::new(|| std::env::var("KES_FUZZ_TARGET").unwrap_or_default());

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let found = TARGETS.iter().find(|(name, _)| *name == *WANTED);
    found.unwrap_or_else(|| panic!("no target {:?}", *WANTED)).1
});

fn write_seeds(folder: &Path) {
    for (number, seed) in seeds(&WANTED).iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed is written");
    }
}

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("KES_FUZZ_SEEDS") {
            write_seeds(Path::new(&folder));
            std::process::exit(0);
        }
    },
    |bytes: &[u8]| TARGET(bytes)
);
