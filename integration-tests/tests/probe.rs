//! `kes-cli probe --follow` at an agent that goes back: what is older is declined, told in words,
//! and not signed with.
#![allow(missing_docs, clippy::unwrap_used)]

// The other test of what the commands print has use of all of it.
#[allow(dead_code)]
#[path = "command_json/schema.rs"]
mod schema;

use std::collections::BTreeMap;

use integration_tests::conformance::keys::Served;
use integration_tests::conformance::pool::cold_key;
use integration_tests::pool::{Node, Pool, TestNetwork, until};
use integration_tests::scripted_peer::{Conversation, ScriptedPeer};
use schema::Schema;
use serde_json::Value;

const OK: u32 = 0;
const OUTDATED: u32 = 1;
const INVALID: u32 = 2;

fn answer(agent: &mut Conversation, message: &[u8]) -> u32 {
    agent.send(message);
    agent.answer()
}

fn drop_message(stamp: u64) -> Vec<u8> {
    [&[1][..], &stamp.to_be_bytes()].concat()
}

/// What the node has told of last, but for its signatures.
fn told_last(node: &Node) -> (String, String) {
    let told = until("a word of the node", || {
        let mut events = node.events().into_iter();
        events.rfind(|event| event["event"] != "signed")
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&told["event"]), text(&told["sentence"]))
}

/// Waits until the node has told of this.
fn await_told(node: &Node, event: &str, part: &str) {
    until(&format!("{event}: {part}"), || {
        let (told, sentence) = told_last(node);
        (told == event && sentence.contains(part)).then_some(())
    });
}

/// Waits for a signature of which the node tells from now on, and gives its sentence.
fn next_signature(node: &Node) -> String {
    let before = node.events().len();
    let at = node.await_event("signed", before);
    node.events()[at - 1]["sentence"].to_string()
}

/// Holds every kind of event that the node has told of against the specification.
fn hold_events(node: &Node) {
    let mut kinds = BTreeMap::new();
    for event in node.events() {
        let kind = event["event"].as_str().unwrap().to_owned();
        kinds.insert(kind, event);
    }
    for kind in [
        "connected",
        "key",
        "signed",
        "outdated",
        "declined",
        "dropped",
    ] {
        assert!(kinds.contains_key(kind), "no {kind} among {kinds:?}");
    }
    let schema = Schema::read();
    for event in kinds.values() {
        schema.hold("probe-event", event);
    }
}

#[test]
fn what_is_older_is_declined_in_words_and_not_signed_with() {
    let pool = Pool::new(TestNetwork::default());
    let cold = cold_key(&pool.path("cold.skey")).unwrap();
    let agent = ScriptedPeer::listen(&pool.path("service.socket"));
    let node = Node::start(&pool);
    let mut on_first = agent.accept();

    // Stamp 20, certificate number 5; then what was before it, and what is no newer.
    let held = Served::new(&cold, 20, 5, 1000, 0);
    assert_eq!(answer(&mut on_first, &held.bytes_2_0()), OK);
    await_told(&node, "key", "certificate number 5");
    let signature = next_signature(&node);
    for stamp in [19, 20] {
        let older = Served::new(&cold, stamp, 6, 1000, 0);
        assert_eq!(answer(&mut on_first, &older.bytes_2_0()), OUTDATED);
        let sentence = format!("key declined: its stamp, {stamp}, is not newer than 20");
        await_told(&node, "outdated", &sentence);
        assert_eq!(answer(&mut on_first, &drop_message(stamp)), OUTDATED);
        let sentence = format!("drop declined: its stamp, {stamp}, is not newer than 20");
        await_told(&node, "outdated", &sentence);
    }
    // A newer stamp on an older certificate; one that has expired.
    let lower = Served::new(&cold, 21, 4, 1000, 0);
    assert_eq!(answer(&mut on_first, &lower.bytes_2_0()), INVALID);
    await_told(&node, "declined", "of certificate number 4; 5 was taken");
    let expired = Served::new(&cold, 22, 6, 1000 - 62, 61);
    assert_eq!(answer(&mut on_first, &expired.bytes_2_0()), INVALID);
    await_told(&node, "declined", "expired");
    assert_eq!(next_signature(&node), signature);

    // On the next connection stamps are counted anew, and certificates are not.
    drop(on_first);
    let mut on_second = agent.accept();
    assert_eq!(answer(&mut on_second, &lower.bytes_2_0()), INVALID);
    await_told(&node, "declined", "of certificate number 4; 5 was taken");
    assert_eq!(answer(&mut on_second, &held.bytes_2_0()), OK);
    await_told(&node, "key", "key received again");
    assert_eq!(next_signature(&node), signature);

    // A drop forgets the number.
    assert_eq!(answer(&mut on_second, &drop_message(23)), OK);
    await_told(&node, "dropped", "not signing any more");
    let lower = Served { stamp: 24, ..lower };
    assert_eq!(answer(&mut on_second, &lower.bytes_2_0()), OK);
    await_told(&node, "key", "certificate number 4");
    assert_ne!(next_signature(&node), signature);
    hold_events(&node);
}

#[test]
fn an_expired_key_is_refused_by_the_single_probe_too() {
    let pool = Pool::new(TestNetwork::default());
    let cold = cold_key(&pool.path("cold.skey")).unwrap();
    let agent = ScriptedPeer::listen(&pool.path("service.socket"));
    let outcome = std::thread::scope(|scope| {
        let probe = scope.spawn(|| pool.cli(&["probe"]));
        let expired = Served::new(&cold, 1, 6, 1000 - 62, 61);
        assert_eq!(answer(&mut agent.accept(), &expired.bytes_2_0()), INVALID);
        probe.join().unwrap()
    });
    let told = outcome.refused(12, "bad-key");
    let sentence = told["error"]["sentence"].to_string();
    assert!(sentence.contains("expired"), "{told}");
}
