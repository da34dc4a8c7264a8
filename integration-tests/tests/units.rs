//! The units: systemd has nothing against them, they are tight, and those for several pools say
//! the same as those for one.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use integration_tests::shared::skipped;

/// Exposure that a unit may have by `systemd-analyze security`, in tenths of its points of 10.
const EXPOSURE: &[(&str, u32)] = &[
    ("kes-agent.service", 5),
    ("kes-agent@.service", 5),
    // It reads whether the clock is synchronised, which ProtectClock= forbids.
    ("kes-agent-clock.service", 9),
    ("kes-agent-clock@.service", 9),
    // It needs the network.
    ("kes-agent-peer@.service", 15),
];

/// Units for one pool and for one of several, and what the latter may say otherwise: `%i` is the
/// pool's name.
const PAIRS: &[(&str, &str)] = &[
    ("kes-agent.service", "kes-agent@.service"),
    ("kes-agent-service.socket", "kes-agent-service@.socket"),
    ("kes-agent-control.socket", "kes-agent-control@.socket"),
    ("kes-agent-clock.service", "kes-agent-clock@.service"),
    ("kes-agent-clock.timer", "kes-agent-clock@.timer"),
];

fn units() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    project.join("deploy/systemd")
}

fn text(unit: &str) -> String {
    fs::read_to_string(units().join(unit)).unwrap()
}

/// Runs systemd-analyze; `None` where there is none, or one that is older than what is asked of it.
fn analyze(arguments: &[&str]) -> Option<Output> {
    let version = Command::new("systemctl").arg("--version").output();
    let version = version.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    // --offline= came with 250.
    if version.is_none_or(|version| version < 250) {
        skipped("units are not checked: there is no systemd-analyze from 250 on");
        return None;
    }
    let output = Command::new("systemd-analyze").args(arguments).output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(&format!("units are not checked: systemd-analyze: {error}"));
            None
        }
    }
}

/// Everything an analysis says.
fn said(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(stdout).into_owned() + &String::from_utf8_lossy(stderr)
}

/// A root with the units and with programs where they say they are.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let own = root.path().join("etc/systemd/system");
    fs::create_dir_all(&own).unwrap();
    for entry in fs::read_dir(units()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), own.join(entry.file_name())).unwrap();
    }
    // What every system has, such as sockets.target.
    let systems = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&systems).unwrap();
    let given = ["/usr/lib/systemd/system", "/lib/systemd/system"];
    let given = given.iter().find(|folder| Path::new(folder).is_dir());
    for entry in fs::read_dir(given.unwrap()).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), systems.join(entry.file_name())).unwrap();
        }
    }
    for program in [
        "usr/bin/kes-agent",
        "usr/bin/kes-cli",
        "usr/bin/ssh",
        "bin/sh",
    ] {
        let program = root.path().join(program);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        // Executable, which is all that is asked.
        fs::copy("/bin/sh", program).unwrap();
    }
    root
}

#[test]
fn systemd_has_nothing_against_the_units() {
    let root = root();
    let at = format!("--root={}", root.path().display());
    for units in [
        [
            "kes-agent.service",
            "kes-agent-service.socket",
            "kes-agent-control.socket",
        ],
        [
            "kes-agent@pool.service",
            "kes-agent-service@pool.socket",
            "kes-agent-control@pool.socket",
        ],
        ["kes-agent-peer@far.service"; 3],
        [
            "kes-agent-clock.service",
            "kes-agent-clock.timer",
            "kes-agent-clock@pool.timer",
        ],
    ] {
        let arguments = [&["verify", "--man=no", &at], &units[..]].concat();
        let Some(output) = analyze(&arguments) else {
            return;
        };
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output), "", "{units:?}");
    }
}

#[test]
fn a_unit_that_is_wrong_is_found() {
    let root = root();
    let unit = root.path().join("etc/systemd/system/kes-agent.service");
    let wrong = text("kes-agent.service").replace("memfd_secret", "memfd_secrets");
    fs::write(&unit, wrong).unwrap();
    let at = format!("--root={}", root.path().display());
    if let Some(output) = analyze(&["verify", "--man=no", &at, "kes-agent.service"]) {
        assert!(said(&output).contains("memfd_secrets"), "{}", said(&output));
    }
}

#[test]
fn the_units_are_tight() {
    for (unit, most) in EXPOSURE {
        let path = units().join(unit);
        let threshold = format!("--threshold={most}");
        let arguments = ["security", "--offline=yes", "--no-pager", &threshold];
        let Some(output) = analyze(&[&arguments[..], &[path.to_str().unwrap()]].concat()) else {
            return;
        };
        assert!(output.status.success(), "{unit}: {}", said(&output));
        assert!(said(&output).contains("Overall exposure level"));
    }
}

#[test]
fn a_unit_for_several_pools_says_the_same_as_the_one_for_one() {
    for (one, several) in PAIRS {
        // Lines are joined where they go on; the sections' order and every setting count.
        let settings = |unit: &str| -> Vec<String> {
            let joined = text(unit).replace("\\\n", " ");
            let lines = joined.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines
                .filter(|line| {
                    !line.starts_with("Description=") && !line.starts_with("DirectoryMode=")
                })
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        };
        let as_one = |line: String| {
            line.replace("@%i.", ".")
                .replace(" --config-file /etc/kes-agent/%i.toml", "")
                .replace(" --service-address /run/kes-agent/%i/service.socket", "")
                .replace(" --control-address /run/kes-agent/%i/control.socket", "")
                .replace("/run/kes-agent/%i/", "/run/kes-agent/")
                .replace("StateDirectory=kes-agent/%i", "StateDirectory=kes-agent")
        };
        let several: Vec<String> = settings(several).into_iter().map(as_one).collect();
        assert_eq!(settings(one), several, "{one}");
    }
}

#[test]
fn what_keeps_a_key_is_in_the_units() {
    // Each of these was seen to lose a key where it is missing; `make test-systemd` sees it too.
    for unit in ["kes-agent.service", "kes-agent@.service"] {
        let text = text(unit);
        let has = |line: &str| text.lines().any(|given| given == line);
        for line in [
            "StartLimitIntervalSec=0",
            "Restart=always",
            "FileDescriptorStoreMax=16",
            "MemorySwapMax=0",
            "LimitCORE=0",
        ] {
            assert!(has(line), "{unit} lacks {line}");
        }
        // With a socket unit it removes the socket at a restart.
        assert!(!text.contains("\nRuntimeDirectory="), "{unit}");
        // Every user that connects would be shown as nobody.
        assert!(!text.contains("\nPrivateUsers="), "{unit}");
    }
}
