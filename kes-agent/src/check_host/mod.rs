//! `kes-agent check-host`: what this host offers for the protection of keys, and what to do where
//! it falls short.

mod checks;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use kes_wire::sys::host;
use kes_wire::sys::os;
use rustix::system::uname;
use serde::Serialize;

use crate::kept::layout::SlotsRegion;

/// All is well.
const EXIT_OK: u8 = 0;
/// There is something to do.
const EXIT_TO_DO: u8 = 1;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could be better.
    Warn,
    /// A protection cannot be had here.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Its stable name.
    pub name: &'static str,
    /// How it stands.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do, where there is something to do.
    pub next_step: Option<String>,
}

/// Looks at the host, prints what was found, and gives the exit code: 0 where all is well, 1 where
/// there is something to do.
#[must_use]
pub fn run(json: bool) -> ExitCode {
    let findings = look();
    let is_well = findings.iter().all(|finding| finding.level == Level::Ok);
    let text = if json {
        let object = serde_json::json!({ "ok": is_well, "checks": findings });
        format!("{object}\n")
    } else {
        in_words(&findings)
    };
    // Whoever reads no further has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    if is_well { EXIT_OK } else { EXIT_TO_DO }.into()
}

/// Looks at everything.
#[must_use]
pub fn look() -> Vec<Finding> {
    let release = uname().release().to_string_lossy().into_owned();
    let swaps = read("/proc/swaps");
    let variable = |name| std::env::var_os(name).is_some();
    vec![
        checks::secret_memory(SlotsRegion::secret().map(drop), &release),
        checks::lockable_memory(os::locked_memory_limit()),
        checks::descriptor_store(checks::ServiceManager {
            is_systemd: Path::new("/run/systemd/system").exists(),
            started_us: variable("NOTIFY_SOCKET"),
            offers_store: variable("FDSTORE"),
        }),
        checks::swap(&swaps),
        checks::hibernation(
            &read("/sys/power/state"),
            &read("/sys/power/disk"),
            checks::has_swap(&swaps),
        ),
        checks::core_dumps(&read("/proc/sys/kernel/core_pattern")),
        checks::clock(os::ask_whether_clock_is_synchronised()),
        checks::landlock(host::landlock_version()),
        checks::seccomp(&read("/proc/sys/kernel/seccomp/actions_avail")),
    ]
}

/// The text of a file of the kernel's; nothing where it has no such file.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "WARN",
            Level::Missing => "MISSING",
        };
        text += &format!("{level:<9}{:<18}{}\n", finding.name, finding.found);
        if let Some(next_step) = &finding.next_step {
            text += &format!("{:<9}why: {}\n{:<9}do:  {next_step}\n", "", finding.why, "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_well_says_what_to_do() {
        let findings = look();
        assert_eq!(findings.len(), 9);
        for finding in &findings {
            let has_step = finding.next_step.is_some();
            assert_eq!(has_step, finding.level != Level::Ok, "{finding:?}");
        }
        let text = in_words(&findings);
        for finding in &findings {
            assert!(text.contains(finding.name) && text.contains(&finding.found));
        }
    }
}
