//! What the commands print with `--json` is what `spec/commands.schema.json` says, in each state
//! that an agent can be in, on success and on failure; and `spec/commands.md` of streams and codes.
#![allow(missing_docs, clippy::unwrap_used)]

mod files;
mod older_agent;
mod schema;
mod streams;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use integration_tests::pool::{Agent, Node, Outcome, Pool, TestNetwork, program, until};
use integration_tests::tools::succeed;
use schema::Schema;
use serde_json::{Value, json};

/// Runs commands and holds what each prints against the schema.
struct Checked {
    schema: Schema,
    /// What spec/commands.md says of exit codes.
    codes: BTreeMap<String, Vec<i32>>,
    /// The definitions that something was held against.
    seen: RefCell<BTreeSet<String>>,
}

impl Checked {
    fn new() -> Self {
        Self {
            schema: Schema::read(),
            codes: streams::specified_codes(),
            seen: RefCell::default(),
        }
    }

    fn hold(&self, name: &str, object: &Value) {
        self.schema.hold(name, object);
        self.seen.borrow_mut().insert(name.to_owned());
    }

    /// Runs a command and holds its object against the definition of its name, or of a failure.
    fn run(&self, pool: &Pool, args: &[&str]) -> Outcome {
        let outcome = pool.cli(args);
        assert_eq!(outcome.stderr, "", "{outcome:#?}");
        let name = match args {
            ["upload", ..] => "activate".to_owned(),
            ["cold", command, ..] => format!("cold-{command}"),
            [command, ..] => (*command).to_owned(),
            [] => panic!("a command"),
        };
        if name == "check" {
            self.hold(&name, &outcome.json);
            assert_eq!(outcome.json["exit_code"], outcome.code, "{outcome:#?}");
        } else if outcome.code == 0 {
            self.hold(&name, &outcome.json);
        } else {
            self.hold("failure", &outcome.json);
            assert_eq!(outcome.json["exit_code"], outcome.code, "{outcome:#?}");
            let name = outcome.json["error"]["code"].as_str().unwrap();
            let codes = self.codes.get(name);
            assert!(
                codes.is_some_and(|codes| codes.contains(&outcome.code)),
                "{name} ends with {}, spec/commands.md has {codes:?}",
                outcome.code
            );
        }
        outcome
    }

    /// Runs a command that must succeed.
    fn succeeds(&self, pool: &Pool, args: &[&str]) -> Value {
        self.run(pool, args).succeeded()
    }

    /// The status, whose pending and active slot must be in these states.
    fn status(&self, pool: &Pool, pending: &str, active: &str) -> Value {
        let status = self.succeeds(pool, &["status"]);
        let states = json!([status["pending"]["state"], status["active"]["state"]]);
        assert_eq!(states, json!([pending, active]));
        self.run(pool, &["check"]);
        status
    }
}

const KEY_GEN: [&str; 8] = [
    "cold",
    "key-gen",
    "--cold-verification-key-file",
    "new.vkey",
    "--cold-signing-key-file",
    "new.skey",
    "--operational-certificate-issue-counter-file",
    "new.counter",
];
const NEW_COUNTER: [&str; 9] = [
    "cold",
    "new-counter",
    "--cold-verification-key-file",
    "cold.vkey",
    "--counter-value",
    "3",
    "--operational-certificate-issue-counter-file",
    "cold.counter",
    "--force",
];
const EXPORT: [&str; 2] = ["export-verkey", "--force"];
const IMPORT: [&str; 3] = ["import-opcert", "--opcert-file", "opcert.cert"];
const ACTIVATE: [&str; 3] = ["upload", "--opcert-file", "opcert.cert"];

fn issue(period: u64) -> Vec<String> {
    let period = period.to_string();
    let words = [
        "cold",
        "issue-op-cert",
        "--kes-verification-key-file",
        "kes.vkey",
        "--cold-signing-key-file",
        "cold.skey",
        "--operational-certificate-issue-counter-file",
        "cold.counter",
        "--kes-period",
        &period,
        "--out-file",
        "opcert.cert",
        "--force",
    ];
    words.map(str::to_owned).to_vec()
}

/// A certificate for `kes.vkey` from this period on.
fn certify(checked: &Checked, pool: &Pool, period: u64) {
    let words = issue(period);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    checked.succeeds(pool, &words);
}

/// One rotation from the cold keys to the end, with what goes wrong on the way.
fn a_rotation(checked: &Checked) {
    let pool = Pool::new(TestNetwork::default());
    let run = |args: &[&str]| checked.run(&pool, args);
    let succeeds = |args: &[&str]| checked.succeeds(&pool, args);
    succeeds(&KEY_GEN);
    run(&KEY_GEN).refused(11, "file");
    succeeds(&NEW_COUNTER);
    for command in ["status", "keygen", "drop-active", "check", "probe"] {
        assert_ne!(run(&[command]).code, 0, "no agent is there");
    }

    let _agent = pool.agent();
    checked.status(&pool, "empty", "empty");
    run(&["export-verkey"]).refused(5, "nothing-pending");
    run(&["probe", "--wait", "0"]).refused(12, "no-key");
    succeeds(&["keygen"]);
    checked.status(&pool, "key", "empty");
    run(&["keygen"]).refused(6, "already-pending");
    succeeds(&["keygen", "--if-absent"]);
    let file = ["--kes-verification-key-file", "kes.vkey"];
    succeeds(&[&["keygen", "--replace"], &file[..]].concat());
    succeeds(&EXPORT);
    // Its refusal has numbers.
    certify(checked, &pool, 1000 - 62);
    run(&IMPORT).refused(9, "expired");
    certify(checked, &pool, 1000);
    succeeds(&IMPORT);
    checked.status(&pool, "certified", "empty");
    succeeds(&["activate"]);
    checked.status(&pool, "empty", "serving");
    succeeds(&["probe"]);

    // A jump of the counter has a note; a later period is waited for.
    succeeds(&["keygen"]);
    succeeds(&EXPORT);
    succeeds(&NEW_COUNTER);
    succeeds(&[&NEW_COUNTER[..5], &["9"], &NEW_COUNTER[6..]].concat());
    certify(checked, &pool, 1005);
    let scheduled = succeeds(&ACTIVATE);
    assert!(!scheduled["notes"].as_array().unwrap().is_empty());
    assert_eq!(succeeds(&IMPORT)["pending"], "scheduled");
    checked.status(&pool, "scheduled", "serving");
    succeeds(&["drop-pending"]);
    succeeds(&["confirm-clock"]);
    succeeds(&["confirm-clock", "--if-synchronised"]);
    run(&["status", "--format", "shell"]).refused(2, "usage");
    succeeds(&["drop-active"]);
    checked.status(&pool, "empty", "dropped");
}

/// A node that follows what is served, and the agent's word on it.
fn nodes(checked: &Checked) {
    let pool = Pool::new(TestNetwork::default());
    let node = Node::start(&pool);
    let seen = node.await_event("not-connected", 0);
    let agent = pool.agent();
    let _ = pool.rotate();
    let seen = node.await_event("signed", seen);
    until("the node to have confirmed", || {
        let status = checked.status(&pool, "empty", "serving");
        (status["nodes"][0]["state"] == "confirmed").then_some(())
    });
    pool.cli(&["drop-active"]).succeeded();
    let seen = node.await_event("dropped", seen);
    drop(agent);
    let _ = node.await_event("disconnected", seen);
    // One that is asked to stop ends with an object of its own.
    let pid = node.pid().to_string();
    succeed(Command::new("kill").args(["-s", "INT", &pid]));
    let events = until("the node to stop", || {
        let events = node.events();
        (events.last()? == "}").then_some(events)
    });
    let begins = events.iter().position(|line| line == "{").unwrap();
    let (events, end) = events.split_at(begins);
    for event in events {
        checked.hold("probe-event", event);
    }
    let end: String = end.iter().map(|line| line.as_str().unwrap()).collect();
    checked.hold("probe-end", &serde_json::from_str(&end).unwrap());
}

/// A key that has expired, and agents that follow each other.
fn peers_and_an_expired_key(checked: &Checked) {
    let pool = Pool::new(TestNetwork {
        slots_per_period: 20,
        max_evolutions: 2,
        ..TestNetwork::default()
    });
    let agent = pool.agent();
    let other = |peer: &str| {
        let mut command = pool.agent_command();
        command
            .env("KES_AGENT_CONTROL_PATH", pool.path("other.socket"))
            .env("KES_AGENT_SERVICE_PATH", pool.path("other-service.socket"))
            .args(["-b", peer]);
        Agent::spawn(command, &pool.path("other.socket"))
    };
    let at_other = ["status", "--control-address", "other.socket"];
    let await_peer = |state: &str| {
        until(state, || {
            let status = checked.succeeds(&pool, &at_other);
            (status["peers"][0]["state"]["state"] == state).then_some(status)
        })
    };
    {
        let _other = other("no-such.socket");
        await_peer("connecting");
    }
    let _ = pool.rotate();
    let _other = other("service.socket");
    until("a key from the peer", || {
        let status = await_peer("up");
        status["peers"][0]["last_answer"].is_object().then_some(())
    });
    until("the key to expire", || {
        let status = checked.succeeds(&pool, &["status"]);
        (status["active"]["state"] == "expired").then_some(())
    });
    checked.status(&pool, "empty", "expired");
    drop(agent);
    await_peer("down");
}

/// Agents of another make, in the best and in the oldest of the deployed control versions.
fn other_makes(checked: &Checked) {
    for version in ["Control:3.0", "Control:StandardCrypto:0.5"] {
        let pool = Pool::new(TestNetwork::default());
        let _agent = pool.agent();
        let run = |args: &[&str]| {
            let address = ["--control-address", "older.socket"];
            checked.run(&pool, &[args, &address[..]].concat())
        };
        let (older, own) = (pool.path("older.socket"), pool.path("control.socket"));
        older_agent::stand_in_front(&older, &own, version);
        let status = run(&["status"]).succeeded();
        assert_eq!(
            status["agent_version"].is_null(),
            version != "Control:3.0",
            "{status:#}"
        );
        run(&["keygen"]).succeeded();
        run(&["keygen"]).refused(6, "already-pending");
        run(&["status"]).succeeded();
        run(&EXPORT).succeeded();
        certify(checked, &pool, 1000);
        run(&IMPORT).refused(10, "not-supported");
        run(&ACTIVATE).succeeded();
        run(&["status"]).succeeded();
        run(&["check"]);
        run(&["keygen"]).succeeded();
        run(&["drop-pending"]).succeeded();
        run(&["drop-pending"]).refused(5, "nothing-pending");
        let dropped = run(&["drop-active"]);
        assert_eq!(dropped.code == 0, version == "Control:3.0", "{dropped:?}");
        run(&["confirm-clock"]).refused(10, "not-supported");
    }
}

/// What the agent's own program prints with `--json`.
fn the_host(checked: &Checked) {
    let mut command = Command::new(program("kes-agent"));
    let output = command.args(["check-host", "--json"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    checked.hold("check-host", &object);
    assert_eq!(object["ok"], output.status.success());
}

#[test]
fn everything_the_commands_print_is_as_specified() {
    let checked = Checked::new();
    a_rotation(&checked);
    nodes(&checked);
    peers_and_an_expired_key(&checked);
    other_makes(&checked);
    the_host(&checked);
    let seen: Vec<String> = checked.seen.take().into_iter().collect();
    let mut specified = checked.schema.outputs();
    specified.sort();
    assert_eq!(
        seen, specified,
        "each definition was held against something"
    );
}

#[test]
fn the_schema_is_one_and_closed() {
    let schema = Schema::read();
    let whole = schema.whole();
    assert!(jsonschema::meta::is_valid(whole));
    fn is_closed(value: &Value, at: &str) {
        if value["type"] == "object" {
            assert!(!value["additionalProperties"].is_null(), "{at} is open");
        }
        let below: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(elements) => elements.iter().map(|v| (String::new(), v)).collect(),
            _ => Vec::new(),
        };
        for (name, value) in below {
            is_closed(value, &format!("{at}/{name}"));
        }
    }
    is_closed(whole, "");
    let failure = schema.definition("failure");
    let mut object = json!({
        "changed": false,
        "error": { "code": "file", "sentence": "a sentence", "next_step": "a step" },
        "exit_code": 11,
    });
    assert!(failure.is_valid(&object));
    for (pointer, wrong) in [
        ("/changed", json!(true)),
        ("/exit_code", json!(0)),
        ("/exit_code", json!("11")),
        ("/error/sentence", json!("")),
        ("/error/code", Value::Null),
    ] {
        let right = std::mem::replace(object.pointer_mut(pointer).unwrap(), wrong);
        assert!(!failure.is_valid(&object), "{object:#}");
        *object.pointer_mut(pointer).unwrap() = right;
    }
}
