//! The second implementation itself, held against what the reference programs said and wrote: what
//! it makes of their bytes is what our programs make of them, and the keys of the vectors are the
//! reference's.

use std::fs;

use integration_tests::session::{Session, recorded};
use integration_tests::shared;
use serde_json::{Map, Value};

use crate::file::{self, Vector};
use crate::{ours, second};

/// Both read the bytes, and alike. Gives what they say.
fn both(read_as: &str, version: &str, given: &[(&str, &str)], bytes: &[u8]) -> Value {
    let given: Map<String, Value> = given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    let vector = Vector {
        shows: String::new(),
        requirements: Vec::new(),
        versions: Vec::new(),
        read_as: read_as.to_owned(),
        given,
        bytes: bytes.to_vec(),
        outcome: Err(String::new()),
    };
    let read = second::read(&vector, Some(version));
    assert_eq!(read, ours::read(&vector, Some(version)), "{read_as}");
    read.unwrap_or_else(|reason| panic!("a recorded {read_as} is refused: {reason}"))
}

/// The recordings whose name begins so; none where they are not at hand.
fn recordings(part: &str) -> Vec<(String, Session)> {
    let Some(folder) = shared::vectors("transcripts") else {
        return Vec::new();
    };
    let mut sessions: Vec<(String, Session)> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".jsonl")?.to_owned()))
        .filter(|name| name.contains(part))
        .map(|name| (name.clone(), recorded(&name).unwrap()))
        .collect();
    sessions.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(!sessions.is_empty(), "no recording of {part}");
    sessions
}

#[test]
fn control_sessions_are_read_alike() {
    let mut commands = Vec::new();
    for (name, session) in recordings("control-") {
        let (offer, answer) = session.from_agent.split_at(4 + 4 * 32);
        both("offer", "", &[("socket", "control")], offer);
        let (choice, request) = session.from_client.split_at(1 + 32 + 32);
        let chosen = both("answer-to-offer", "", &[("socket", "control")], choice);
        let version = chosen["chosen"].as_str().unwrap();
        let request = both("control-request", version, &[], request);
        let command = request["command"].as_str().unwrap();
        let to = match command {
            "gen-staged-key" | "drop-staged-key" => "export-staged-vkey",
            "install-key" => "drop-key",
            other => other,
        };
        let says = both("control-answer", version, &[("to", to)], answer);
        assert!(says.is_object(), "{name}");
        commands.push(command.to_owned());
    }
    commands.sort();
    commands.dedup();
    assert!(commands.is_empty() || commands.len() == 6, "{commands:?}");
    for (name, version) in [
        ("extra-Control_2.0-info", "Control:2.0"),
        ("extra-Control_StandardCrypto_0.5-info", "Control:1.0"),
    ] {
        let Some(bytes) = extra(name) else { return };
        let says = both("control-answer", version, &[("to", "info")], &bytes);
        assert!(says["installed"]["key"].is_object(), "{says}");
    }
}

/// What the agent said in a recording of an older version.
fn extra(name: &str) -> Option<Vec<u8>> {
    let lines = shared::json(&format!("transcripts/{name}.json"))?;
    let hex = lines.as_array().unwrap().iter().map(|line| {
        assert_eq!(line["dir"], "server->client");
        line["hex"].as_str().unwrap()
    });
    Some(hex::decode(hex.collect::<String>()).unwrap())
}

#[test]
fn service_sessions_are_read_alike() {
    let mut messages = 0;
    for (name, session) in recordings("service-") {
        let mut rest = &session.from_agent[..];
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            (taken, left)
        };
        let offer = take(4 + 3 * 32).0;
        both("offer", "", &[("socket", "service")], offer);
        let (repeated, mut left) = take(32);
        both("repeated-id", "", &[("chosen", "Service:2.0")], repeated);
        let (choice, mut results) = session.from_client.split_at(1 + 32);
        both("answer-to-offer", "", &[("socket", "service")], choice);
        while let Some(first) = left.first() {
            let (message, more) = left.split_at(if *first == 0 { 733 } else { 9 });
            left = more;
            let says = both("service-message", "Service:2.0", &[], message);
            assert_ne!(says["sign_key_is_whole"], false, "{name}");
            messages += 1;
        }
        while !results.is_empty() {
            let (result, more) = results.split_at(4);
            results = more;
            both("service-result", "Service:2.0", &[], result);
        }
    }
    let Some(bytes) = extra("extra-Service_1.0") else {
        return;
    };
    assert!(messages >= 5, "{messages}");
    let says = both("service-message", "Service:1.0", &[], &bytes[32..]);
    assert_eq!(says["sign_key_is_whole"], true);
}

#[test]
fn the_references_keys_and_files_are_read_alike() {
    let Some(reference) = shared::json("sum6kes.json") else {
        return;
    };
    let kept = file::read();
    for (name, field) in [
        ("keys/sign-key-evolution-0", "sign_key_evolution_0"),
        ("keys/sign-key-evolution-1", "sign_key_evolution_1"),
        ("keys/signature-evolution-0", "signature_evolution_0"),
    ] {
        assert_eq!(reference[field], hex::encode(&kept[name].bytes), "{name}");
    }
    for name in ["kes.vkey", "cold.vkey", "opcert.cert", "opcert.counter"] {
        let text = shared::text(&format!("files/{name}")).unwrap();
        both("text-envelope", "", &[("wanted", name)], text.as_bytes());
    }
}
