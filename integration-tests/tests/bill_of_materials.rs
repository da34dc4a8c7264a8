//! The bill of materials: whatever is linked into the programs stands in it, with version, licence
//! and checksum. What is linked is found in the programs themselves, which name the source files of
//! every crate whose code they have.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use integration_tests::pool::program;
use integration_tests::tools::succeed;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The bill, as `make man` makes it.
fn bill() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bill.json");
    succeed(
        Command::new(program("bill-of-materials"))
            .arg(&file)
            .current_dir(root())
            .env("SOURCE_DATE_EPOCH", "1700000000"),
    );
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Crates with their versions, such as `hex-0.4.3`, that a program says its code is from.
fn crates_in(program: &[u8]) -> BTreeSet<String> {
    const SOURCES: &[u8] = b"/registry/src/";
    let starts = memchr::memmem::find_iter(program, SOURCES);
    let name = |start: usize| {
        // The folder of the registry, the one of the crate.
        let mut folders = program[start + SOURCES.len()..].split(|byte| *byte == b'/');
        let name = folders.nth(1)?;
        let is_one = name.len() < 80 && name.is_ascii() && !name.contains(&0);
        is_one.then(|| String::from_utf8(name.to_vec()).unwrap())
    };
    starts.filter_map(name).collect()
}

/// The checksums of Cargo.lock, read line by line.
fn locked() -> BTreeMap<String, String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let value = |block: &str, field: &str| {
        let line = block.lines().find(|line| line.starts_with(field))?;
        Some(line.split('"').nth(1).unwrap().to_owned())
    };
    let entry = |block: &str| {
        let name = format!("{}-{}", value(block, "name =")?, value(block, "version =")?);
        Some((name, value(block, "checksum =")?))
    };
    lock.split("[[package]]").filter_map(entry).collect()
}

/// The components of the bill by name and version.
fn components(bill: &Value) -> BTreeMap<String, &Value> {
    let all = bill["components"].as_array().unwrap().iter();
    let text = |component: &Value, field: &str| component[field].as_str().unwrap().to_owned();
    all.map(|c| (format!("{}-{}", text(c, "name"), text(c, "version")), c))
        .collect()
}

#[test]
fn every_crate_in_the_programs_is_listed() {
    let bill = bill();
    let components = components(&bill);
    let locked = locked();
    let metadata = succeed(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--offline"])
            .args([
                "--filter-platform",
                &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
            ])
            .current_dir(root()),
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let licence = |name: &str| {
        let packages = metadata["packages"].as_array().unwrap();
        let is_it = |package: &&Value| {
            let [id, version] = ["name", "version"].map(|field| package[field].as_str().unwrap());
            format!("{id}-{version}") == name
        };
        packages.iter().find(is_it).unwrap()["license"].clone()
    };
    for shipped in ["kes-agent", "kes-cli"] {
        let linked = crates_in(&fs::read(program(shipped)).unwrap());
        assert!(linked.len() > 15, "{shipped}: {linked:?}");
        for name in linked {
            let component = components
                .get(&name)
                .unwrap_or_else(|| panic!("{name} is in {shipped} and is not listed"));
            assert_eq!(component["scope"], "required", "{name}");
            let hash = &component["hashes"][0];
            assert_eq!(hash["alg"], "SHA-256", "{name}");
            assert_eq!(hash["content"], locked[&name], "{name}");
            let expected = licence(&name).as_str().unwrap().replace('/', " OR ");
            assert_eq!(component["licenses"][0]["expression"], expected, "{name}");
        }
    }
}

#[test]
fn what_c_brings_along_is_listed() {
    let bill = bill();
    for (name, licence) in [
        ("libsodium", "ISC"),
        ("glibc", "LGPL-2.1-or-later"),
        ("libgcc_eh", "GPL-3.0-or-later WITH GCC-exception-3.1"),
        ("rust-std", "MIT OR Apache-2.0"),
    ] {
        let all = bill["components"].as_array().unwrap();
        let one = all.iter().find(|component| component["name"] == name);
        let one = one.unwrap_or_else(|| panic!("{name}"));
        assert_eq!(one["licenses"][0]["expression"], licence);
        let version = one["version"].as_str().unwrap();
        assert!(
            version.starts_with(|c: char| c.is_ascii_digit()),
            "{version}"
        );
    }
}

#[test]
fn every_reference_is_to_a_component() {
    let bill = bill();
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = bill["components"].as_array().unwrap();
    let mut known: BTreeSet<_> = all.iter().map(|one| text(&one["bom-ref"])).collect();
    assert_eq!(known.len(), all.len(), "each has a name of its own");
    known.insert(text(&bill["metadata"]["component"]["bom-ref"]));
    let mut reached = BTreeSet::new();
    for entry in bill["dependencies"].as_array().unwrap() {
        assert!(known.contains(&text(&entry["ref"])), "{entry}");
        for on in entry["dependsOn"].as_array().unwrap() {
            assert!(known.contains(&text(on)), "{on}");
            reached.insert(text(on));
        }
    }
    // Each is there because something that is listed needs it.
    known.retain(|name| !reached.contains(name));
    assert_eq!(known.into_iter().collect::<Vec<_>>(), ["kes-agent"]);
}
