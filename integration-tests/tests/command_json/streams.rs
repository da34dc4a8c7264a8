//! What goes to standard output, what to standard error, and what the exit code says.

use std::collections::BTreeMap;
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

#[test]
fn the_exit_code_says_what_was_done_where_nobody_reads() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for (args, code) in [
        (&["keygen"][..], 0),
        (&["--json", "keygen"], 6),
        (&["--json", "status"], 0),
        (&["status"], 0),
        (&["--json", "drop-active"], 5),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = pool.command(args);
        let status = command
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}
