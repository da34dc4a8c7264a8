//! Replays, with no fuzzer, every input that fuzzing found worth keeping, and each of them cut and
//! changed in a few places.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use integration_tests::fuzzed::TARGETS;

#[test]
fn every_input_that_was_kept_still_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            target(&bytes);
            target(&bytes[..bytes.len() / 2]);
            let mut changed = bytes;
            if let Some(last) = changed.last_mut() {
                *last ^= 0x80;
            }
            target(&changed);
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
        println!("{name}: {inputs} inputs");
    }
}
