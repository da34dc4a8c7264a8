//! The air-gapped machine's part: what is shown before anything is signed.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use integration_tests::pool::{Pool, TestNetwork, with_input};

/// A pool with a key to certify, in a folder, at period 1000.
fn pool() -> Pool {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    pool.cli(&["keygen", "--kes-verification-key-file", "kes.vkey"])
        .succeeded();
    pool
}

fn issue(pool: &Pool, period: &str, more: &[&str]) -> Command {
    issue_to(pool, "opcert.cert", period, more)
}

fn issue_to(pool: &Pool, out_file: &str, period: &str, more: &[&str]) -> Command {
    let args = [
        "cold",
        "issue-op-cert",
        "--kes-verification-key-file",
        "kes.vkey",
        "--cold-signing-key-file",
        "cold.skey",
        "--operational-certificate-issue-counter-file",
        "cold.counter",
        "--out-file",
        out_file,
        "--kes-period",
        period,
    ];
    pool.command(&[&args[..], more].concat())
}

#[test]
fn what_is_signed_is_shown_before() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let generated = pool
        .cli(&["keygen", "--kes-verification-key-file", "kes.vkey"])
        .succeeded();
    let fingerprint = generated["fingerprint"].as_str().unwrap().to_owned();
    // It cannot sign, and has shown all the same what it would have signed.
    fs::rename(pool.path("cold.skey"), pool.path("away")).unwrap();
    let output = issue(&pool, "1000", &[]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(11));
    for part in [
        fingerprint.as_str(),
        "from 1000 on",
        "Number:      0",
        "pool1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("ATTENTION"), "{said}");
}

#[test]
fn without_a_yes_nothing_is_signed() {
    let pool = pool();
    let counter = fs::read(pool.path("cold.counter")).unwrap();
    for answer in ["no\n", "y\n", "", "yes please\n"] {
        let output = with_input(issue(&pool, "1000", &["--ask"]), answer.as_bytes());
        assert_eq!(output.status.code(), Some(1), "{answer:?}");
        assert!(!pool.path("opcert.cert").exists());
    }
    assert_eq!(
        fs::read(pool.path("cold.counter")).unwrap(),
        counter,
        "no number is used up"
    );
    let output = with_input(issue(&pool, "1000", &["--ask"]), b"yes\n");
    assert!(output.status.success(), "{output:?}");
    assert!(pool.path("opcert.cert").exists());
}

#[test]
fn an_odd_period_is_said_and_signed() {
    let pool = pool();
    for (period, code) in [
        ("1003", "period-ahead"),
        ("990", "period-behind"),
        ("900", "period-expired"),
    ] {
        let odd = issue(&pool, period, &["--json", "--force"])
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&odd.stdout).unwrap();
        assert_eq!(json["notes"][0]["code"], code, "{json}");
        let said = issue(&pool, period, &["--force"]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
        assert!(at("ATTENTION: ") < at("Certificate:"), "{said}");
    }
    // Without a genesis file it is not the period of any public network.
    let mut unknown = issue(&pool, "1000", &["--json", "--force"]);
    let unknown = unknown
        .env_remove("KES_AGENT_GENESIS_FILE")
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&unknown.stdout).unwrap();
    assert_eq!(json["notes"][0]["code"], "period-unknown");
}

#[test]
fn a_certificate_on_standard_output_stands_there_alone() {
    let pool = pool();
    let once = issue_to(&pool, "-", "1000", &["--ask"]);
    let output = with_input(once, b"yes\n");
    assert!(output.status.success(), "{output:?}");
    let envelope: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(envelope["type"], "NodeOperationalCertificate");
}

#[test]
fn a_counter_behind_a_link_moves_where_it_is() {
    let pool = pool();
    fs::create_dir(pool.path("stick")).unwrap();
    let (link, counter) = (pool.path("cold.counter"), pool.path("stick/cold.counter"));
    fs::rename(&link, &counter).unwrap();
    std::os::unix::fs::symlink("stick/cold.counter", &link).unwrap();
    let next = || fs::read_to_string(&counter).unwrap();
    assert!(issue(&pool, "1000", &[]).output().unwrap().status.success());
    assert!(link.is_symlink());
    assert!(
        next().contains("Next certificate issue number: 1"),
        "{}",
        next()
    );
    let new_counter = [
        "cold",
        "new-counter",
        "--cold-verification-key-file",
        "cold.vkey",
        "--counter-value",
        "7",
        "--operational-certificate-issue-counter-file",
        "cold.counter",
        "--force",
    ];
    pool.cli(&new_counter).succeeded();
    assert!(link.is_symlink());
    assert!(
        next().contains("Next certificate issue number: 7"),
        "{}",
        next()
    );
}
