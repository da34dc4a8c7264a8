//! `kes-cli` at an agent of a later version: a refusal code that it does not know.
#![allow(missing_docs, clippy::unwrap_used)]

use std::os::unix::net::UnixListener;
use std::thread;

use ciborium::Value;
use integration_tests::conformance::rotation::{frame, map, read_frame, request};
use integration_tests::conformance::wire::{Wire, id, offer};
use integration_tests::pool::{Pool, TestNetwork};

const CODE: &str = "moon-is-full";
const SENTENCE: &str = "The moon is full tonight.";
const NEXT_STEP: &str = "wait for the new moon";

/// Answers each request with the refusal.
fn agent_of_a_later_version(listener: &UnixListener) {
    let chosen = id("Control:Rotation:1.0");
    let text = |text: &str| Value::Text(text.to_owned());
    let refusal = map(vec![
        (0, text(CODE)),
        (1, text(SENTENCE)),
        (2, text(NEXT_STEP)),
    ]);
    let answer = frame(&request(1, vec![(0, refusal)]));
    for stream in listener.incoming().map_while(Result::ok) {
        let wire = Wire::new(stream).unwrap();
        wire.send(&offer(&[chosen])).unwrap();
        wire.read(1 + 32 + 32).unwrap();
        while read_frame(&wire).is_ok() {
            wire.send(&answer).unwrap();
        }
    }
}

#[test]
fn a_code_that_is_not_known_is_shown_as_it_is() {
    let pool = Pool::new(TestNetwork::default());
    let listener = UnixListener::bind(pool.path("control.socket")).unwrap();
    thread::spawn(move || agent_of_a_later_version(&listener));
    for command in ["keygen", "activate", "drop-pending", "status"] {
        let outcome = pool.cli(&[command]);
        assert_ne!(outcome.code, 0, "{outcome:#?}");
        let error = &outcome.json["error"];
        assert_eq!(error["code"], CODE, "{outcome:#?}");
        assert_eq!(error["sentence"], SENTENCE, "{outcome:#?}");
        assert_eq!(error["next_step"], NEXT_STEP, "{outcome:#?}");
        // To a person, too.
        let output = pool.command(&[command]).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        for part in [CODE, SENTENCE, NEXT_STEP] {
            assert!(shown.contains(part), "{command}: {shown}");
        }
    }
}
