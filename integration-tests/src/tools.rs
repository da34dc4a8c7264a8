//! Programs of others that tests use where they are installed.

use std::process::{Command, Stdio};

use crate::shared::skipped;

/// Whether a program can be run; where not, a line on standard error says what is skipped.
#[must_use]
pub fn is_installed(program: &str, package: &str) -> bool {
    let runs = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !runs {
        skipped(&format!(
            "{program} is not installed (Debian's package {package})"
        ));
    }
    runs
}

/// Runs a command that must succeed, and gives its standard output.
///
/// # Panics
/// Where it does not.
pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
