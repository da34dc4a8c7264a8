//! The names that scripts may rely on: the specification's tables have those that the sources have,
//! and no others.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kes_wire::protocol::control::rotation::RefusalCode;

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

/// The sources below a folder.
fn sources(folder: &str) -> Vec<String> {
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
    found.iter().map(source).collect()
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
    for source in sources("kes-cli/src") {
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
