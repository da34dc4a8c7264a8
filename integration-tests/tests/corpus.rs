//! Replays, with no fuzzer, every input that fuzzing found worth keeping, and each of them cut and
//! changed in a few places.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use integration_tests::fuzzed::{TARGETS, seeds};

/// An input, and it cut and changed.
fn replay(target: fn(&[u8]), mut bytes: Vec<u8>) {
    target(&bytes);
    target(&bytes[..bytes.len() / 2]);
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x80;
    }
    target(&bytes);
}

#[test]
fn every_input_that_was_kept_still_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            replay(*target, std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
        println!("{name}: {inputs} inputs");
    }
}

#[test]
fn what_fuzzing_begins_with_holds() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        println!("{name}: {} seeds", seeds.len());
        seeds.into_iter().for_each(|seed| replay(*target, seed));
    }
}
