//! Files that commands write where their name is `-`: alone on standard output, or not there.

use std::collections::BTreeSet;
use std::process::Output;

use integration_tests::pool::{Pool, TestNetwork};
use kes_wire::envelope;
use serde_json::Value;

/// What stands on standard output where an option's file goes there.
enum Written {
    /// A file that this takes for the right one.
    File(fn(&[u8]) -> bool),
    /// Nothing: it has to have a name.
    Refused,
}
use Written::{File, Refused};

const COUNTER: &str = "--operational-certificate-issue-counter-file";

/// Every command with an option that names a file to be written, in an order in which each can do
/// its part; the option stands last.
fn commands() -> Vec<(&'static [&'static str], &'static str, Written)> {
    let is_vkey = |bytes: &[u8]| envelope::read_kes_vkey(bytes).is_ok();
    let is_object = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
    let is_counter = |bytes: &[u8]| envelope::read_opcert_counter(bytes).is_ok();
    let is_opcert = |bytes: &[u8]| envelope::read_opcert(bytes).is_ok();
    const KEY_GEN: [&str; 3] = ["cold", "key-gen", "--json"];
    const ISSUE: [&str; 9] = [
        "cold",
        "issue-op-cert",
        "--kes-verification-key-file",
        "kes.vkey",
        "--cold-signing-key-file",
        "cold.skey",
        "--kes-period",
        "1000",
        "--json",
    ];
    const NEW_COUNTER: [&str; 7] = [
        "cold",
        "new-counter",
        "--cold-verification-key-file",
        "cold.vkey",
        "--counter-value",
        "3",
        "--json",
    ];
    vec![
        (
            &["keygen", "--json"],
            "--kes-verification-key-file",
            File(is_vkey),
        ),
        (
            &["export-verkey", "--json"],
            "--kes-verification-key-file",
            File(is_vkey),
        ),
        (
            &["status", "--format", "json"],
            "--out-file",
            File(is_object),
        ),
        (&KEY_GEN, "--cold-signing-key-file", Refused),
        (&KEY_GEN, COUNTER, Refused),
        (&ISSUE, COUNTER, Refused),
        (&ISSUE, "--out-file", File(is_opcert)),
        (&NEW_COUNTER, COUNTER, File(is_counter)),
        (
            &KEY_GEN,
            "--cold-verification-key-file",
            File(|bytes| envelope::read_cold_vkey(bytes).is_ok()),
        ),
    ]
}

/// Options whose file is read alone.
const READ: [&str; 8] = [
    "import-opcert --opcert-file",
    "activate --opcert-file",
    "probe --cold-verification-key",
    "probe --genesis-file",
    "cold issue-op-cert --kes-verification-key-file",
    "cold issue-op-cert --cold-signing-key-file",
    "cold issue-op-cert --genesis-file",
    "cold new-counter --cold-verification-key-file",
];

const COMMANDS: [&str; 13] = [
    "keygen",
    "export-verkey",
    "import-opcert",
    "activate",
    "status",
    "check",
    "drop-pending",
    "drop-active",
    "confirm-clock",
    "probe",
    "cold key-gen",
    "cold issue-op-cert",
    "cold new-counter",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(pool: &Pool, words: &[&str]) -> Output {
    pool.command(words).output().unwrap()
}

/// The name of a command: its words up to the first option.
fn name(words: &[&str]) -> String {
    let words = words.iter().take_while(|word| !word.starts_with('-'));
    words.copied().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_option_that_names_a_file_is_known_here() {
    let pool = Pool::new(TestNetwork::default());
    let mut found = BTreeSet::new();
    for command in COMMANDS {
        let words: Vec<&str> = command.split(' ').collect();
        let help = text(&run(&pool, &[&words[..], &["--help"]].concat()).stdout);
        let options = help.lines().map(str::trim).filter_map(|line| {
            let (option, rest) = line.split_once(' ')?;
            let is_file = option.starts_with("--") && rest.starts_with("<FILE>");
            is_file.then(|| format!("{command} {option}"))
        });
        found.extend(options);
    }
    let written = commands();
    let written = written
        .iter()
        .map(|(words, option, _)| format!("{} {option}", name(words)));
    let known: BTreeSet<String> = written.chain(READ.map(str::to_owned)).collect();
    assert_eq!(found, known);
    let overview = text(&run(&pool, &["--help"]).stdout);
    let (_, listed) = overview.split_once("Commands:\n").unwrap();
    let listed = listed
        .lines()
        .map_while(|line| line.split_whitespace().next());
    let listed: BTreeSet<&str> = listed.filter(|word| *word != "help").collect();
    let here = COMMANDS.map(|command| command.split(' ').next().unwrap());
    assert_eq!(listed, BTreeSet::from(here));
}

/// The command with `-` for this option's file, and names for those of its other options.
fn line_with(words: &[&'static str], option: &'static str) -> Vec<&'static str> {
    let files: &[(&str, &str)] = match name(words).as_str() {
        "cold key-gen" => &[
            ("--cold-verification-key-file", "new.vkey"),
            ("--cold-signing-key-file", "new.skey"),
            (COUNTER, "new.counter"),
        ],
        "cold issue-op-cert" => &[("--out-file", "opcert.cert"), (COUNTER, "cold.counter")],
        _ => &[],
    };
    let others = files.iter().filter(|(other, _)| *other != option);
    let mut line = words.to_vec();
    line.extend(others.flat_map(|(other, file)| [*other, *file]));
    line.extend([option, "-"]);
    line
}

#[test]
fn a_file_has_standard_output_alone_or_must_have_a_name() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for (words, option, written) in commands() {
        let line = line_with(words, option);
        let before = std::fs::read_dir(pool.path(".")).unwrap().count();
        let output = run(&pool, &line);
        let said = text(&output.stderr);
        match written {
            File(is_right) => {
                assert_eq!(output.status.code(), Some(0), "{line:?}: {output:?}");
                assert!(is_right(&output.stdout), "{line:?}: {output:?}");
                // A status has nothing to say beside itself.
                if name(words) != "status" {
                    let object: Value = serde_json::from_str(&said).unwrap();
                    assert_eq!(object["changed"], true, "{line:?}: {object:#}");
                }
            }
            Refused => {
                assert_eq!(output.status.code(), Some(11), "{line:?}: {output:?}");
                assert_eq!(said, "", "{line:?}");
                let object: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(object["error"]["code"], "file", "{line:?}: {object:#}");
                let after = std::fs::read_dir(pool.path(".")).unwrap().count();
                assert_eq!(before, after, "{line:?}: nothing is written");
            }
        }
        if name(words) == "export-verkey" {
            std::fs::write(pool.path("kes.vkey"), &output.stdout).unwrap();
        }
    }
}
