//! What goes to standard output, what to standard error, and what the exit code says.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Output, Stdio};

use integration_tests::pool::{Pool, TestNetwork};
use kes_wire::envelope;
use serde_json::Value;

/// The exit codes of each name of a failure, by the specification's table.
pub(crate) fn specified_codes() -> BTreeMap<String, Vec<i32>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("spec/commands.md")).unwrap();
    let (_, table) = text.split_once("| name of the failure | code |").unwrap();
    let rows = table.lines().skip(2);
    rows.map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .flat_map(|row| {
            let (names, codes) = row.split_once(" | ").unwrap();
            let codes: Vec<i32> = codes.split(" or ").map(|c| c.parse().unwrap()).collect();
            // `name`, `name`: a word on them
            let names = names.split('`').skip(1).step_by(2);
            names
                .map(|name| (name.to_owned(), codes.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(pool: &Pool, args: &[&str]) -> Output {
    pool.command(args).output().unwrap()
}

#[test]
fn a_failure_is_two_lines_on_standard_error_and_nothing_on_standard_output() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for (args, code) in [
        (&["activate"][..], 5),
        (&["import-opcert", "--opcert-file", "genesis.json"], 11),
        (&["probe", "--wait", "0"], 12),
        (&["status", "--control-address", "no-such.socket"], 3),
    ] {
        let output = run(&pool, args);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        let said = text(&output.stderr);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].starts_with("Error: "), "{said}");
        assert!(lines[1].starts_with("Next:  "), "{said}");
    }
    let output = run(&pool, &["keygen"]);
    assert!(output.status.success() && !output.stdout.is_empty());
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_command_line_that_cannot_be_read_prints_nothing_on_standard_output() {
    let pool = Pool::new(TestNetwork::default());
    for args in [
        &["keygen", "--no-such-option"][..],
        &["no-such-command"],
        &["cold", "issue-op-cert", "--kes-period", "soon"],
        &[],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = run(&pool, &[json, args].concat());
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert_eq!(text(&output.stdout), "", "{args:?}");
            assert!(!output.stderr.is_empty(), "{args:?}");
        }
    }
    for args in [&["--help"][..], &["--version"], &["keygen", "--help"]] {
        let output = run(&pool, args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn where_a_file_goes_to_standard_output_the_rest_goes_to_standard_error() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let export = ["export-verkey", "--kes-verification-key-file", "-"];
    let refused = run(&pool, &[&export[..], &["--json"]].concat());
    assert_eq!(refused.status.code(), Some(5));
    assert_eq!(text(&refused.stdout), "");
    let object: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(object["error"]["code"], "nothing-pending");

    pool.cli(&["keygen"]).succeeded();
    let exported = run(&pool, &[&export[..], &["--json"]].concat());
    let vkey = envelope::read_kes_vkey(&exported.stdout).expect("the file and nothing else");
    let object: Value = serde_json::from_slice(&exported.stderr).unwrap();
    assert_eq!(object["kes_verification_key"], vkey.to_string());
    let exported = run(&pool, &export);
    assert_eq!(envelope::read_kes_vkey(&exported.stdout), Ok(vkey));
    assert!(text(&exported.stderr).contains(&vkey.to_string()));
}

/// The commands by both names, and how each ends at an agent without a key. The first generates one
/// where `keygen` is not refused.
const ENDINGS: [(&str, &[&str], i32); 10] = [
    ("kes-cli", &["keygen"], 0),
    ("kes-cli", &["--json", "keygen"], 6),
    ("kes-cli", &["--json", "status"], 0),
    ("kes-cli", &["status"], 0),
    ("kes-cli", &["--json", "drop-active"], 5),
    ("kes-cli", &["check"], 2),
    ("kes-cli", &["--json", "check"], 2),
    ("kes-agent-control", &["info"], 0),
    ("kes-agent-control", &["gen-staged-key"], 1),
    ("kes-agent-control", &["drop-staged-key"], 0),
];

/// How a command of this name ends with this standard output, and what is on standard error.
fn ending(pool: &Pool, name: &str, args: &[&str], stdout: impl Into<Stdio>) -> (i32, String) {
    let output = pool
        .command(args)
        // The program goes by the name that it is called by.
        .arg0(name)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn the_exit_code_says_what_was_done_where_nobody_reads() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for (name, args, code) in ENDINGS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (ended, said) = ending(&pool, name, args, writer);
        assert_eq!(ended, code, "{name} {args:?}: {said}");
        let is_told = !args.contains(&"--json") && code == 1;
        assert_eq!(!said.is_empty(), is_told, "{name} {args:?}: {said}");
    }
}

#[test]
fn output_that_is_lost_is_a_failure_where_there_was_none() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for (name, args, code) in ENDINGS {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let (ended, said) = ending(&pool, name, args, full.unwrap());
        let expected = match code {
            _ if args.contains(&"check") => 3,
            0 => 1,
            code => code,
        };
        assert_eq!(ended, expected, "{name} {args:?}: {said}");
        let is_lost = said.contains("standard output cannot be written");
        assert_eq!(is_lost, code == 0, "{name} {args:?}: {said}");
    }
    assert_eq!(pool.status()["pending"]["state"], "empty", "all was done");
    // These do nothing but print, again and again.
    for (args, of_no_reader) in [(["status", "--watch"], 0), (["probe", "--follow"], 1)] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        assert_eq!(ending(&pool, "kes-cli", &args, full.unwrap()).0, 1);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (ended, said) = ending(&pool, "kes-cli", &args, writer);
        assert_eq!(ended, of_no_reader, "{args:?}: {said}");
    }
}
