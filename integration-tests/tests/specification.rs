//! The specification: every numbered requirement names the test that holds it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const TABLE: &str = "requirements.md";

/// Where the second table begins, of the vectors that show a requirement.
const VECTORS: &str = "## Vectors";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The ids that a text defines, in order: `**[HS-1]**`.
fn defined(text: &str) -> Vec<String> {
    text.split("**[")
        .skip(1)
        .filter_map(|rest| rest.split_once("]**"))
        .map(|(id, _)| id.to_owned())
        .collect()
}

/// The table's rows: the id and what holds it.
fn rows(table: &str) -> Vec<(String, String)> {
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter_map(|row| row.split_once(" | "))
        .filter(|(id, _)| !["requirement", "---"].contains(id))
        .map(|(id, test)| (id.to_owned(), test.trim_matches('`').to_owned()))
        .collect()
}

/// Whether the source has this function and the attribute of a test shortly before it.
fn has_test(source: &str, function: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {function}(");
    let is_attribute = |line: &&&str| line.starts_with("#[") || line.starts_with("//");
    lines.iter().enumerate().any(|(at, line)| {
        let named = line.strip_prefix("async ").unwrap_or(line);
        named.starts_with(&head)
            && lines[..at]
                .iter()
                .rev()
                .take_while(is_attribute)
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Whether there is a test of this name: `file::function`.
fn is_test(name: &str) -> bool {
    name.split_once("::").is_some_and(|(file, function)| {
        fs::read_to_string(root().join(file)).is_ok_and(|source| has_test(&source, function))
    })
}

/// What is wrong with a table, and the requirements that no test holds.
fn compare(ids: &[String], rows: &[(String, String)]) -> (Vec<String>, Vec<String>) {
    let (mut wrong, mut untested) = (Vec::new(), Vec::new());
    let known: BTreeSet<&String> = ids.iter().collect();
    if known.len() != ids.len() {
        wrong.push("an id is defined twice".to_owned());
    }
    let table: BTreeMap<&String, &String> = rows.iter().map(|(id, test)| (id, test)).collect();
    if table.len() != rows.len() {
        wrong.push("an id has two rows".to_owned());
    }
    wrong.extend(
        known
            .iter()
            .filter(|id| !table.contains_key(*id))
            .map(|id| format!("{id} has no row")),
    );
    for (id, test) in table {
        if !known.contains(id) {
            wrong.push(format!("the row {id} has no requirement"));
        }
        if test.starts_with("none: ") {
            untested.push(format!("{id} {test}"));
            continue;
        }
        let tests = test.split(", ").map(|test| test.trim_matches('`'));
        let missing = tests.filter(|test| !is_test(test));
        wrong.extend(missing.map(|test| format!("{id}: there is no test {test}")));
    }
    (wrong, untested)
}

#[test]
fn every_requirement_names_a_test_that_exists() {
    let mut ids = Vec::new();
    for entry in fs::read_dir(root().join("spec")).unwrap() {
        let path = entry.unwrap().path();
        let is_text = path.extension().is_some_and(|extension| extension == "md");
        if is_text && !path.ends_with(TABLE) {
            ids.extend(defined(&fs::read_to_string(path).unwrap()));
        }
    }
    let text = fs::read_to_string(root().join("spec").join(TABLE)).unwrap();
    let (table, _) = text.split_once(VECTORS).unwrap();
    assert!(!ids.is_empty(), "no requirement was found");
    let (wrong, untested) = compare(&ids, &rows(table));
    assert!(wrong.is_empty(), "spec/{TABLE}:\n{}", wrong.join("\n"));
    assert!(untested.is_empty(), "without a test: {untested:?}");
}

/// The headings of a proposal in the order of CIP-0001, with those that it must have below them.
const HEADINGS: [&str; 10] = [
    "## Abstract",
    "## Motivation: why is this CIP necessary?",
    "## Specification",
    "### Security considerations",
    "### Versioning",
    "## Rationale: how does this CIP achieve its goals?",
    "## Path to Active",
    "### Acceptance Criteria",
    "### Implementation Plan",
    "## Copyright",
];

/// The fields of its preamble.
const PREAMBLE: [&str; 9] = [
    "CIP",
    "Title",
    "Category",
    "Status",
    "Authors",
    "Implementors",
    "Discussions",
    "Created",
    "License",
];

#[test]
fn the_specification_has_the_shape_of_a_cip() {
    let text = fs::read_to_string(root().join("spec/README.md")).unwrap();
    let (preamble, body) = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .expect("a preamble");
    let fields: Vec<&str> = preamble
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    assert_eq!(fields, PREAMBLE);
    assert!(preamble.contains("\nLicense: Apache-2.0"), "{preamble}");
    let headings = body.lines().filter(|line| line.starts_with('#'));
    let headings: Vec<&str> = headings.filter(|line| *line != "### Use cases").collect();
    assert_eq!(headings, HEADINGS);
    let (_, rest) = body.split_once("## Abstract").unwrap();
    let words = rest.split("\n## ").next().unwrap().split_whitespace();
    assert!(
        (100..250).contains(&words.count()),
        "an abstract of about 200 words"
    );
}

/// A heading's anchor, as it is made of it where such texts are shown.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

/// The links in a text that lead nowhere; links to the web are not followed.
fn dead_links(text: &str, path: &Path) -> Vec<String> {
    let links = text.split("](").skip(1);
    links
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .filter(|link| !link.contains("://"))
        .filter(|link| {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().unwrap().join(file);
            let target = if file.is_empty() {
                path.to_owned()
            } else {
                target
            };
            if heading.is_empty() {
                return !target.exists();
            }
            let text = fs::read_to_string(target).unwrap_or_default();
            let mut headings = text.lines().filter(|line| line.starts_with('#'));
            !headings.any(|line| anchor(line) == heading)
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_link_of_the_specification_leads_nowhere() {
    for folder in ["spec", "spec/vectors", "spec/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let dead = dead_links(&fs::read_to_string(&path).unwrap(), &path);
            assert!(dead.is_empty(), "{}: {dead:?}", path.display());
        }
    }
    let readme = root().join("spec/README.md");
    let wrong = "[a](nowhere.md) [b](protocol.md#nothing-like-it) [c](state.md) [d](https://x.y/z)";
    assert_eq!(
        dead_links(wrong, &readme),
        ["nowhere.md", "protocol.md#nothing-like-it"]
    );
}

/// Pairs of a requirement and a vector that shows it.
type Shown = BTreeSet<(String, String)>;

/// The pairs that the second table has: `| SVC-1 | `service-2.0/key`, ... |`.
fn cited(table: &str) -> Shown {
    rows(table)
        .iter()
        .flat_map(|(id, names)| {
            let names = names.split(", ").map(|name| name.trim_matches('`'));
            names.map(|name| (id.clone(), name.to_owned()))
        })
        .collect()
}

/// The pairs that the vectors' files have; and the vectors that name no requirement.
fn shown(folder: &Path) -> (Shown, Vec<String>) {
    let (mut shown, mut homeless) = (Shown::new(), Vec::new());
    let groups = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    for group in groups.filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(group.path()).unwrap() {
            let path = file.unwrap().path();
            let group = group.file_name().into_string().unwrap();
            let name = format!("{group}/{}", path.file_stem().unwrap().display());
            let text = fs::read_to_string(path).unwrap();
            let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
            let ids: Vec<String> = serde_json::from_value(vector["requirements"].clone()).unwrap();
            if ids.is_empty() {
                homeless.push(name.clone());
            }
            shown.extend(ids.into_iter().map(|id| (id, name.clone())));
        }
    }
    (shown, homeless)
}

#[test]
fn every_vector_is_cited_by_the_requirements_it_shows() {
    let text = fs::read_to_string(root().join("spec").join(TABLE)).unwrap();
    let (table, citations) = text.split_once(VECTORS).unwrap();
    let known: BTreeSet<String> = rows(table).into_iter().map(|(id, _)| id).collect();
    let cited = cited(citations);
    let (shown, homeless) = shown(&root().join("spec/vectors"));
    assert!(shown.len() > 100, "the vectors are there");
    let empty: Vec<String> = Vec::new();
    assert_eq!(homeless, empty, "vectors that no requirement is named in");
    let strangers: Vec<_> = shown.iter().filter(|(id, _)| !known.contains(id)).collect();
    assert!(strangers.is_empty(), "no such requirement: {strangers:?}");
    let uncited: Vec<_> = shown.difference(&cited).collect();
    assert!(uncited.is_empty(), "shown, and not cited: {uncited:?}");
    let missing: Vec<_> = cited.difference(&shown).collect();
    assert!(missing.is_empty(), "cited, and not shown: {missing:?}");
}

#[test]
fn a_table_that_is_wrong_is_found() {
    let ids = defined("**[A-1]** x **[A-2]** y");
    let here = "integration-tests/tests/specification.rs";
    let test = format!("{here}::a_table_that_is_wrong_is_found");
    let row = |id: &str, test: &str| (id.to_owned(), test.to_owned());
    let wrong = |rows: &[(String, String)]| compare(&ids, rows).0.len();
    assert_eq!(
        wrong(&[row("A-1", &test), row("A-2", "none: it is a rule")]),
        0
    );
    assert_eq!(wrong(&[row("A-1", &test)]), 1, "a missing row");
    let further = [row("A-1", &test), row("A-2", &test), row("A-3", &test)];
    assert_eq!(wrong(&further), 1, "a row without a requirement");
    let several = format!("{test}`, `{test}");
    assert_eq!(wrong(&[row("A-1", &several), row("A-2", &test)]), 0);
    let one_is_none = format!("{test}`, `{here}::compare");
    assert_eq!(wrong(&[row("A-1", &one_is_none), row("A-2", &test)]), 1);
    let helper = format!("{here}::compare");
    let no_test = [row("A-1", &test), row("A-2", &helper)];
    assert_eq!(wrong(&no_test), 1, "a function that is no test");
    let no_file = [row("A-1", &test), row("A-2", "nowhere.rs::nothing")];
    assert_eq!(wrong(&no_file), 1, "a file that is not there");
}
