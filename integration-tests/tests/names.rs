//! The names that scripts may rely on: the specification's tables have those that the sources have,
//! and no others.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kes_wire::protocol::control::rotation::RefusalCode;
use serde_json::Value;

type Names = BTreeSet<String>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A source file without its tests.
fn source(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let end = text
        .find("\n#[cfg(test)]\nmod tests {")
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// The source files below a folder, by their paths.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut found) = (vec![root().join(folder)], Vec::<PathBuf>::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let with_text = found.into_iter().map(|path| (path.clone(), source(path)));
    with_text.collect()
}

/// What stands between the parentheses that `text` begins in, apart at its commas.
fn arguments(text: &str) -> Vec<&str> {
    let (mut found, mut from, mut depth) = (Vec::new(), 0, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(text[from..at].trim());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The arguments of every call of this function, and the parts of every tuple where it has no name.
fn calls<'a>(source: &'a str, function: &str) -> Vec<Vec<&'a str>> {
    let opening = format!("{function}(");
    let is_part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    source
        .match_indices(&opening)
        .filter(|(at, _)| {
            let before = &source[..*at];
            !before.ends_with(is_part_of_name)
                && !before.ends_with(['!', '>'])
                && !before.ends_with("fn ")
        })
        .map(|(at, opening)| arguments(&source[at + opening.len()..]))
        .collect()
}

/// The name that an argument is, if it is one and no variable or sentence.
fn literal(argument: &str) -> Option<String> {
    let inner = argument.strip_prefix('"')?.strip_suffix('"')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    inner.chars().all(is_name).then(|| inner.to_owned())
}

/// The names in the first column of the table below this heading of the specification.
fn specified(file: &str, heading: &str) -> Names {
    let text = fs::read_to_string(root().join("spec").join(file)).unwrap();
    let (_, below) = text.split_once(heading).expect(heading);
    let table = below.lines().skip_while(|line| !line.starts_with("| ---"));
    let rows = table.skip(1).map_while(|line| line.strip_prefix("| "));
    let mut names = Names::new();
    for row in rows {
        let (first, _) = row.split_once(" | ").unwrap();
        // `name`, `name`: a word on them
        for name in first.split('`').skip(1).step_by(2) {
            assert!(
                names.insert(name.to_owned()),
                "{heading}: {name} has two rows"
            );
        }
    }
    names
}

/// The names of failures that `kes-cli` makes itself. Each stands behind its exit code.
fn failures() -> Names {
    let mut names = Names::new();
    for (_, source) in sources("kes-cli/src") {
        let pairs = calls(&source, "")
            .into_iter()
            .chain(calls(&source, "Failure::new"));
        let pairs = pairs.chain(calls(&source, "Self::new"));
        for pair in pairs.filter(|pair| pair.len() > 1) {
            let is_exit = pair[0] == "exit" || pair[0].starts_with("Exit::");
            names.extend(literal(pair[1]).filter(|_| is_exit));
        }
        for call in calls(&source, "Failure::new") {
            // A name that is not written there is one of a tuple's.
            assert!(literal(call[1]).is_some() || call[1] == "name", "{call:?}");
        }
    }
    names
}

#[test]
fn every_failure_has_a_row() {
    let of_agents = RefusalCode::ALL.iter().map(ToString::to_string);
    let all: Names = failures().into_iter().chain(of_agents).collect();
    assert_eq!(specified("commands.md", "| name of the failure |"), all);
}

const NAMES: &str = "names.md";

/// The names that stand behind this in a source.
fn behind(source: &str, opening: &str) -> Names {
    let rest = source.split(opening).skip(1);
    rest.filter_map(|rest| literal(&rest[..rest[1..].find('"')? + 2]))
        .collect()
}

/// The names that are the argument at this place of every call of a function.
fn named(source: &str, function: &str, at: usize) -> Names {
    let calls = calls(source, function).into_iter();
    calls.filter_map(|call| literal(call.get(at)?)).collect()
}

/// The codes of the notes and warnings that a source makes.
fn codes(source: &str) -> Names {
    let made = [calls(source, "note"), calls(source, "warning")];
    let made = made.iter().flatten().map(|call| {
        let code = literal(call[0]);
        code.unwrap_or_else(|| panic!("a code that is not written there: {call:?}"))
    });
    made.chain(behind(source, "code: ")).collect()
}

#[test]
fn every_note_and_warning_has_a_row() {
    let in_their_own_tables = ["src/status.rs", "src/peers.rs"];
    let mut notes = codes(&source("kes-cli/src/plausibility.rs"));
    notes.extend(codes(&source("kes-cli/src/commands/rotation.rs")));
    for (path, source) in sources("kes-agent/src") {
        if !in_their_own_tables.iter().any(|own| path.ends_with(own)) {
            notes.extend(codes(&source));
        }
    }
    assert_eq!(specified(NAMES, "## Notes"), notes);
    let warnings = codes(&source("kes-agent/src/status.rs"));
    assert_eq!(specified(NAMES, "## Warnings"), warnings);
    let hints = codes(&source("kes-agent/src/peers.rs"));
    assert_eq!(specified(NAMES, "The codes of its `hint`"), hints);
}

#[test]
fn every_answer_to_a_peer_has_a_row() {
    let source = source("kes-agent/src/state/peer_answers.rs");
    let (_, names) = source.split_once("fn name(self)").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    assert_eq!(specified(NAMES, "## Peers"), behind(names, "=> "));
}

#[test]
fn every_finding_has_a_row() {
    let mut findings = Names::new();
    for file in ["kes-cli/src/verdict.rs", "kes-cli/src/commands/check.rs"] {
        let source = source(file);
        findings.extend(named(&source, "finding", 1));
        findings.extend(named(&source, "critical", 0));
        findings.extend(named(&source, "without_status", 1));
        findings.extend(named(&source, "Failure::new", 1));
    }
    assert_eq!(specified(NAMES, "## Findings"), findings);
}

#[test]
fn every_next_step_has_a_row() {
    let source = source("kes-cli/src/next_step.rs");
    let steps = named(&source, "step", 0).into_iter();
    let steps: Names = steps.chain(behind(&source, "code: ")).collect();
    assert_eq!(specified(NAMES, "## Next steps"), steps);
}

#[test]
fn every_protection_and_every_check_of_the_host_has_a_row() {
    let mut protections = Names::new();
    for file in ["kes-agent/src/status.rs", "kes-agent/src/process.rs"] {
        protections.extend(named(&source(file), "protection", 0));
    }
    protections.extend(behind(&source("kes-agent/src/sandbox/mod.rs"), ": &str = "));
    assert_eq!(specified(NAMES, "## Protections"), protections);
    let looked_at = kes_agent::check_host::look().into_iter();
    let looked_at: Names = looked_at.map(|finding| finding.name.to_owned()).collect();
    assert_eq!(specified(NAMES, "## The host"), looked_at);
}

#[test]
fn every_number_of_a_refusal_has_a_row() {
    let source = source("kes-agent/src/state/wording/refusals.rs");
    assert_eq!(specified(NAMES, "## Numbers"), named(&source, "", 0));
}

#[test]
fn the_schema_has_the_probes_events() {
    let text = fs::read(root().join("spec/commands.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&text).unwrap();
    let events = &schema["$defs"]["probe-event"]["properties"]["event"]["enum"];
    let events: Names = serde_json::from_value(events.clone()).unwrap();
    let told = named(&source("kes-cli/src/commands/probe.rs"), "tell", 0);
    assert_eq!(events, told);
}

#[test]
fn a_call_is_read_as_it_is_written() {
    let source = "fn note(code: &str) {}\n note(\"a\", format!(\"b, {}\", f(1, 2)));\n\
                  connote(\"c\");\n x => (Exit::File, \"d\\\",\", [1, 2]),";
    let notes = calls(source, "note");
    assert_eq!(notes, [["\"a\"", "format!(\"b, {}\", f(1, 2))"]]);
    assert_eq!(literal(notes[0][0]).as_deref(), Some("a"));
    assert_eq!(calls(source, ""), [["Exit::File", "\"d\\\",\"", "[1, 2]"]]);
    assert_eq!(literal("x"), None);
    assert_eq!(literal("\"a sentence\""), None);
}
