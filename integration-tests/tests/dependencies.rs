//! Dependencies: each has a reason beside it, and a licence that Apache-2.0 software may use.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// Licences that may stand in a dependency.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BlueOak-1.0.0",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether one way through a licence expression is allowed: alternatives by OR, all of AND.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" OR ").any(|way| {
        way.split(" AND ")
            .all(|licence| ALLOWED.contains(&licence.trim()))
    })
}

#[test]
fn every_licence_is_an_allowed_one() {
    // What other systems would need was never downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "the list is complete");
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            is_allowed(licence),
            "{} has the licence {licence}",
            package["name"]
        );
    }
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    assert!(is_allowed("MIT OR GPL-3.0"));
    assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_allowed("GPL-3.0"));
    assert!(!is_allowed("MIT AND GPL-3.0"));
    assert!(!is_allowed("none"));
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[workspace.dependencies]").unwrap();
    let (section, _) = rest.split_once("\n[").unwrap();
    let lines = section
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#'));
    for line in lines.filter(|line| !line.contains("path =")) {
        assert!(line.contains(" # "), "no reason beside: {line}");
    }
}

/// What this lock file says that one of our packages needs, by name: versions may differ.
fn locked_needs(lock: &str, package: &str) -> Vec<String> {
    let (_, rest) = lock
        .split_once(&format!("\nname = \"{package}\"\n"))
        .unwrap_or_else(|| panic!("{package} is in the lock file"));
    let entry = rest.split("\n\n").next().unwrap();
    let needs = entry.lines().filter_map(|line| {
        let need = line.strip_prefix(" \"")?.strip_suffix("\",")?;
        need.split(' ').next().map(str::to_owned)
    });
    needs.collect()
}

/// What a package's manifest says that it needs to be built as a library.
fn declared_needs(package: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    let needs = section.lines().filter_map(|line| {
        let name = line.split(['.', ' ', '=']).next()?;
        (!name.is_empty() && !name.starts_with('#')).then(|| name.to_owned())
    });
    needs.collect()
}

#[test]
fn the_fuzzing_programs_lock_file_is_in_step() {
    let lock = root().join("integration-tests/fuzz/Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    for package in ["integration-tests", "kes-agent", "kes-wire"] {
        let (declared, locked) = (declared_needs(package), locked_needs(&lock, package));
        assert!(declared.len() > 5, "{package}: {declared:?}");
        for need in declared {
            assert!(
                locked.contains(&need),
                "{package} needs {need}, which integration-tests/fuzz/Cargo.lock does not know: \
                 cargo metadata --manifest-path integration-tests/fuzz/Cargo.toml brings it in step"
            );
        }
    }
}
