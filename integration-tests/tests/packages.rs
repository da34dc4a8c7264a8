//! Packages: what is in them, what they ask for, and the settings that come with them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::pool::{Pool, TestNetwork, program};
use integration_tests::tools::{is_installed, succeed};
use tempfile::TempDir;

fn deploy(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy").join(name)
}

/// Packages of the programs that the tests run, in a folder `out`; the manuals are in `share`.
fn build() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    succeed(Command::new(program("manuals")).arg(path("share")));
    succeed(
        Command::new(program("bill-of-materials"))
            .arg(path("share/kes-agent.cdx.json"))
            .current_dir(deploy("..")),
    );
    // As shipped: lintian takes minutes over programs with debugging symbols.
    fs::create_dir(path("programs")).unwrap();
    for name in ["kes-agent", "kes-cli"] {
        let copy = path("programs").join(name);
        fs::copy(program(name), &copy).unwrap();
        if is_installed("strip", "binutils") {
            succeed(Command::new("strip").arg(copy));
        }
    }
    succeed(
        Command::new("sh")
            .arg(deploy("packages/build.sh"))
            .args([path("programs"), path("share"), path("out")])
            .arg("1.2.3")
            .env("COMPRESSION", "gzip"),
    );
    folder
}

/// The one file in `out` whose name begins so.
fn made(folder: &TempDir, begins: &str) -> PathBuf {
    let entries = fs::read_dir(folder.path().join("out")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(begins)
    };
    paths.find(is_it).unwrap_or_else(|| panic!("{begins}"))
}

#[test]
fn packages_have_all_that_is_named() {
    if !is_installed("dpkg-deb", "dpkg") {
        return;
    }
    let folder = build();
    let out = folder.path().join("out");
    succeed(
        Command::new("sha256sum")
            .args(["--check", "--quiet", "SHA256SUMS"])
            .current_dir(&out),
    );

    // The bill of materials is beside them, and is one of the files with a checksum.
    let bill = made(&folder, "kes-agent-1.2.3.cdx.json");
    let sums = fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 4, "{sums}");
    assert!(sums.contains("kes-agent-1.2.3.cdx.json"), "{sums}");

    let agent = made(&folder, "kes-agent_1.2.3_");
    let cli = made(&folder, "kes-cli_1.2.3_");
    let fields = succeed(
        Command::new("dpkg-deb")
            .arg("--field")
            .arg(&agent)
            .arg("Depends"),
    );
    assert!(fields.contains("kes-cli (= 1.2.3)"), "{fields}");
    assert!(fields.contains("libc6"), "{fields}");
    let root = folder.path().join("root");
    for package in [&agent, &cli] {
        succeed(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(&root),
        );
    }
    for name in [
        "usr/bin/kes-agent",
        "usr/bin/kes-cli",
        "usr/share/kes-agent/rotate.sh",
        "usr/lib/sysusers.d/kes-agent.conf",
        "usr/lib/tmpfiles.d/kes-agent.conf",
        "usr/share/man/man1/kes-agent.1.gz",
        "usr/share/man/man1/kes-cli-check.1.gz",
        "usr/share/bash-completion/completions/kes-cli",
        "usr/share/kes-agent/monitoring/kes-agent.rules.yml",
        "usr/share/doc/kes-agent/guide/README.md",
        "usr/share/doc/kes-agent/kes-agent.cdx.json",
        "usr/share/doc/kes-cli/kes-agent.cdx.json",
        "usr/share/doc/kes-agent/guide/troubleshooting.md",
        "etc/kes-agent/agent.toml",
    ] {
        assert!(root.join(name).is_file(), "{name}");
    }
    for name in ["kes-agent", "kes-cli"] {
        let inside = root.join(format!("usr/share/doc/{name}/kes-agent.cdx.json"));
        assert_eq!(fs::read(inside).unwrap(), fs::read(&bill).unwrap());
    }
    let link = fs::read_link(root.join("usr/bin/kes-agent-control")).unwrap();
    assert_eq!(link, Path::new("kes-cli"));
    // All units of the project, and none that names a program which is not there.
    for entry in fs::read_dir(deploy("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let is_unit = ["service", "socket", "target", "timer"]
            .iter()
            .any(|kind| path.extension().is_some_and(|ending| ending == *kind));
        let name = path.file_name().unwrap();
        let packed = root.join("usr/lib/systemd/system").join(name);
        assert_eq!(packed.is_file(), is_unit, "{name:?}");
    }
    // An operator's settings are kept over an upgrade.
    let control = folder.path().join("control");
    succeed(
        Command::new("dpkg-deb")
            .arg("--control")
            .arg(&agent)
            .arg(&control),
    );
    let conffiles = fs::read_to_string(control.join("conffiles")).unwrap();
    assert_eq!(conffiles, "/etc/kes-agent/agent.toml\n");
    for script in ["postinst", "prerm", "postrm"] {
        let mode = fs::metadata(control.join(script))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755, "{script}");
    }

    if is_installed("lintian", "lintian") {
        let said = succeed(
            Command::new("lintian")
                .args(["--allow-root", "--fail-on=error,warning"])
                .args([&agent, &cli]),
        );
        assert_eq!(said, "");
    }
}

#[test]
fn the_tarball_can_be_unpacked_below_usr_local() {
    let folder = build();
    let tarball = made(&folder, "kes-agent-1.2.3-linux-");
    let root = folder.path().join("tar");
    fs::create_dir(&root).unwrap();
    succeed(
        Command::new("tar")
            .arg("-xzf")
            .arg(tarball)
            .arg("-C")
            .arg(&root),
    );
    let inside = fs::read_dir(&root).unwrap().next().unwrap().unwrap().path();
    for name in [
        "INSTALL",
        "LICENSE",
        "README.md",
        "bin/kes-cli",
        "etc/kes-agent/agent.toml",
    ] {
        assert!(inside.join(name).is_file(), "{name}");
    }
    let unit = fs::read_to_string(inside.join("lib/systemd/system/kes-agent.service")).unwrap();
    assert!(
        unit.contains("ExecStart=/usr/local/bin/kes-agent run"),
        "{unit}"
    );
}

#[test]
fn the_example_settings_are_settings() {
    let pool = Pool::new(TestNetwork::default());
    let example = fs::read_to_string(deploy("agent.toml")).unwrap();
    // As it is shipped: only the cold verification key is missing.
    let lines = example
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["cold-vkey = \"/etc/kes-agent/cold.vkey\""]
    );
    // With everything in it that it offers. Each line is known, so what is missed is a file.
    let all: String = example
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .filter(|line| line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(all.lines().count() > 20, "{all}");
    let all = all.replace("/etc/kes-agent", "/no/such/folder");
    fs::write(pool.path("agent.toml"), all).unwrap();
    let output = Command::new(program("kes-agent"))
        .args(["run", "--config-file", "agent.toml"])
        .current_dir(pool.path("."))
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/no/such/folder/"), "{said}");
}

#[test]
fn shellcheck_has_nothing_to_say_of_the_scripts() {
    if !is_installed("shellcheck", "shellcheck") {
        return;
    }
    for entry in fs::read_dir(deploy("packages")).unwrap() {
        let path = entry.unwrap().path();
        let ending = path
            .extension()
            .unwrap_or_default()
            .to_str()
            .unwrap()
            .to_owned();
        if ["sh", "postinst", "prerm", "postrm"].contains(&ending.as_str()) {
            succeed(Command::new("shellcheck").arg(path));
        }
    }
}
