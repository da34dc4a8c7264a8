//! The vectors of `spec/vectors`: made by our programs, read by them and by a second
//! implementation, which is itself held against the recordings.
//!
//! `KES_WRITE_VECTORS=1 cargo test -p integration-tests --test vectors` writes those that are
//! missing, and the index.
#![allow(missing_docs, clippy::unwrap_used)]

mod cddl;
mod cddl_file;
mod file;
mod make;
mod ours;
mod recordings;
mod second;

use std::fs;

use cddl_file::{Cddl, Seen};
use file::Vector;

/// The versions to read a vector in.
fn versions(vector: &Vector) -> Vec<Option<&str>> {
    match &vector.versions[..] {
        [] => vec![None],
        versions => versions.iter().map(|v| Some(v.as_str())).collect(),
    }
}

#[test]
fn they_are_what_our_programs_make() {
    let made = make::vectors();
    if std::env::var_os("KES_WRITE_VECTORS").is_some() {
        file::write(&made);
    }
    let kept = file::read();
    for (name, vector) in &made {
        assert_eq!(kept.get(name), Some(vector), "{name}");
    }
    for name in kept.keys() {
        assert!(made.contains_key(name), "nothing makes {name}");
    }
    let readme = fs::read_to_string(file::folder().join("README.md")).unwrap();
    let (_, index) = readme.split_once(file::INDEX).unwrap();
    assert_eq!(index, file::index(&kept), "the index in README.md");
}

#[test]
fn our_programs_read_them_as_they_say() {
    for (name, vector) in file::read() {
        for version in versions(&vector) {
            let read = ours::read(&vector, version);
            assert_eq!(read, vector.outcome, "{name} in {version:?}");
        }
    }
}

#[test]
fn a_second_implementation_reads_them_the_same() {
    for (name, vector) in file::read() {
        for version in versions(&vector) {
            let read = second::read(&vector, version);
            assert_eq!(read, vector.outcome, "{name} in {version:?}");
        }
    }
}

/// What is cut short has not been sent.
#[test]
fn no_part_of_a_message_is_a_message() {
    let mut cuts = 0;
    for (name, whole) in file::read() {
        if whole.versions.is_empty() || whole.outcome.is_err() {
            continue;
        }
        for length in 0..whole.bytes.len() {
            let mut cut = whole.clone();
            cut.bytes.truncate(length);
            for version in versions(&whole) {
                for read in [ours::read(&cut, version), second::read(&cut, version)] {
                    assert_eq!(read, Err("incomplete".to_owned()), "{name} cut at {length}");
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 10_000, "{cuts}");
}

/// A published vector is never changed, so its numbers go on meaning what it says; here each number
/// of `Control:Rotation:1.0` is in one.
#[test]
fn every_number_of_our_control_version_is_in_a_vector() {
    let mut seen = cddl::Numbered::new();
    for (name, vector) in file::read() {
        if name.starts_with("rotation/") && vector.outcome.is_ok() {
            seen.extend(cddl::numbers_of(
                &ciborium::from_reader(&vector.bytes[4..]).unwrap(),
            ));
        }
    }
    let missing = &cddl::all_numbers() - &seen;
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Holds the vectors that are read so against a rule, and gives what of the rules they have.
fn hold(cddl: &Cddl, rule: &str, read_as: &str, skip: usize) -> Seen {
    let mut seen = Seen::new();
    for (name, vector) in file::read() {
        if vector.read_as != read_as {
            continue;
        }
        let mut rest = vector.bytes.get(skip..).unwrap_or_default();
        let item: Option<ciborium::Value> = ciborium::from_reader(&mut rest).ok();
        let is_one = |strict: bool, seen: &mut Seen| {
            let fits = |item| rest.is_empty() && cddl.is(rule, item, strict, seen);
            item.as_ref().is_some_and(fits)
        };
        let is_refused = match vector.outcome.as_ref().err() {
            // This is not a matter of form.
            Some(reason) => reason != "contradictory",
            None => false,
        };
        assert_eq!(is_one(false, &mut Seen::new()), !is_refused, "{name}");
        // A later version's fields are the only ones that are not listed.
        if !is_refused && vector.requirements != ["VER-1"] {
            assert!(is_one(true, &mut seen), "{name} has more than is listed");
        }
    }
    seen
}

/// The rules say what the vectors do: nothing else, and nothing more.
#[test]
fn the_cddl_has_what_the_vectors_have() {
    let text = fs::read_to_string(file::folder().join("../control-rotation.cddl")).unwrap();
    let cddl = Cddl::read(&text);
    let mut everything = Seen::new();
    let mut seen = Seen::new();
    for rule in ["request", "answer"] {
        everything.extend(cddl.everything(rule));
        seen.extend(hold(&cddl, rule, &format!("rotation-{rule}"), 4));
    }
    assert!(everything.len() > 100, "{everything:?}");
    let missing = &everything - &seen;
    assert!(missing.is_empty(), "in no vector: {missing:#?}");
}

#[test]
fn the_cddl_of_kept_memory_has_what_the_vectors_have() {
    let text = fs::read_to_string(file::folder().join("../kept-memory.md")).unwrap();
    let (_, block) = text.split_once("```cddl\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    // What it takes from the other file.
    let cddl = Cddl::read(&format!(
        "{block}\nopcert = bytes .size 112\nvkey = bytes .size 32"
    ));
    let seen = hold(&cddl, "body", "kept-record", 0);
    let missing = &cddl.everything("body") - &seen;
    assert!(missing.is_empty(), "in no vector: {missing:#?}");
}
