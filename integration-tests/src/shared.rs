//! The folder of recordings, real blocks and vectors, which is not part of the project.
//!
//! It is found by the environment variable `KES_SHARED_DIR` (the Makefile sets it to `../shared`
//! where that exists). Tests that need it skip with a line that says so where it is absent.

use std::io::Write;
use std::path::PathBuf;

/// The path of `name` below the folder's `vectors`; `None`, with a line on standard error, where
/// the folder is not given.
///
/// # Panics
/// Where the folder is given but holds no such file: then the tests would be skipped unseen.
#[must_use]
pub fn vectors(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("KES_SHARED_DIR").filter(|v| !v.is_empty()) else {
        skipped(&format!(
            "KES_SHARED_DIR is not set, so {name} cannot be tested against"
        ));
        return None;
    };
    let path = PathBuf::from(folder).join("vectors").join(name);
    assert!(
        path.exists(),
        "KES_SHARED_DIR is set but has no vectors/{name}"
    );
    Some(path)
}

/// Says that a test is skipped, and why: straight to standard error, because the test harness
/// hides what a passing test prints.
pub fn skipped(why: &str) {
    // Where even that cannot be written, nobody would read it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// The text of `name` below the folder's `vectors`.
///
/// # Panics
/// Where the folder is given but the file cannot be read.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    vectors(name).map(|path| std::fs::read_to_string(path).expect("a readable vector"))
}

/// The JSON of `name` below the folder's `vectors`.
///
/// # Panics
/// Where the folder is given but the file is not JSON.
#[must_use]
pub fn json(name: &str) -> Option<serde_json::Value> {
    text(name).map(|text| serde_json::from_str(&text).expect("a vector in JSON"))
}
