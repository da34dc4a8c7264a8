//! kes-wire as a dependency of programs outside this workspace.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}

fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The dependencies of kes-wire with these features: a line `NAME VERSION|FEATURES` for each.
fn tree(features: &str) -> String {
    let arguments = [
        "tree",
        "--locked",
        "--offline",
        "--package=kes-wire",
        "--edges=normal",
        "--prefix=none",
        "--format={p}|{f}",
        "--no-default-features",
        &format!("--features={features}"),
    ];
    text(&cargo(root(), &arguments))
}

fn has(tree: &str, package: &str) -> bool {
    tree.lines()
        .any(|line| line.split_whitespace().next() == Some(package))
}

fn has_feature(tree: &str, package: &str, feature: &str) -> bool {
    let line = tree
        .lines()
        .find(|line| line.split_whitespace().next() == Some(package));
    let (_, features) = line.and_then(|line| line.split_once('|')).expect("listed");
    features.split([',', ' ']).any(|one| one == feature)
}

#[test]
fn a_program_that_only_verifies_pulls_in_neither_tokio_nor_sockets() {
    let verifying = tree("");
    assert!(has(&verifying, "libsodium-sys-stable"), "{verifying}");
    for package in ["tokio", "mio", "socket2", "arc-swap"] {
        assert!(!has(&verifying, package), "{package}: {verifying}");
    }
    assert!(!has_feature(&verifying, "rustix", "net"), "{verifying}");

    // A hot key on a plain thread needs no runtime.
    let threaded = tree("hot-key");
    assert!(has(&threaded, "arc-swap") && !has(&threaded, "tokio"));
    assert!(has_feature(&threaded, "rustix", "net"), "{threaded}");
    assert!(has(&tree("hot-key,net"), "tokio"));
}

#[test]
fn the_front_pages_example_compiles_in_a_program_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\n\
         name = \"embedding\"\n\
         version = \"0.0.0\"\n\
         edition = \"2024\"\n\
         [dependencies]\n\
         kes-wire = {{ path = {:?} }}\n\
         [workspace]\n\
         # As in this workspace, so that what is built there can be used.\n\
         [profile.dev]\n\
         debug = \"line-tables-only\"\n\
         [profile.dev.package.\"*\"]\n\
         opt-level = 2\n",
        root().join("kes-wire")
    );
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::copy(root().join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    let example = root().join("kes-wire/examples/front_page.rs");
    fs::copy(example, folder.path().join("src/main.rs")).unwrap();
    text(&cargo(folder.path(), &["build", "--offline"]));
    let program = target().join("debug/embedding");
    // There is no cold.vkey in that folder: it says so and ends.
    let output = Command::new(&program)
        .current_dir(folder.path())
        .output()
        .unwrap();
    fs::remove_file(program).unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("cold.vkey"), "{errors}");
}
