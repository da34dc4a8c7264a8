//! Garbage, cuts, floods and races on both sockets, while a node is being served all the time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until};
use serde_json::Value;

struct Scene {
    pool: Pool,
    agent: Agent,
    node: Node,
    seen: usize,
}

impl Scene {
    fn new() -> Self {
        let pool = Pool::new(TestNetwork::default());
        let agent = pool.agent();
        let _ = pool.rotate();
        let node = Node::start(&pool);
        let seen = node.await_event("signed", 0);
        Self {
            pool,
            agent,
            node,
            seen,
        }
    }

    fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(self.pool.path(name)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Everyone else is served as if nothing had happened: a new key reaches the connected node,
    /// which signs with it and confirms.
    fn all_is_well(&mut self) {
        let vkey = self.pool.rotate();
        let probed = self.pool.cli(&["probe"]).succeeded();
        assert_eq!(probed["kes_verification_key"], *vkey);
        self.seen = self.node.await_event("key", self.seen);
        self.seen = self.node.await_event("signed", self.seen);
        until("the node to confirm", || {
            let status = self.pool.status();
            let nodes = status["nodes"].as_array().unwrap();
            nodes
                .iter()
                .any(|node| node["state"] == "confirmed")
                .then_some(())
        });
        for event in self.node.events() {
            assert_ne!(event["event"], "disconnected");
            assert_ne!(event["event"], "not-signed");
        }
        let status = self.pool.status();
        assert_eq!(status["active"]["state"], "serving");
        let memory = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid())).unwrap();
        let resident = memory
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap();
        let kib: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(kib < 64 * 1024, "{resident}");
    }
}

/// Reads until the other side closes; a reset is a close too.
fn until_closed(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the agent keeps a connection that it should close")
        }
        _ => bytes,
    }
}

fn id(name: &str) -> [u8; 32] {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

#[test]
fn wrong_first_words_end_the_connection_and_nothing_else() {
    let mut scene = Scene::new();
    let unknown = [&[1][..], &id("Service:9.9")].concat();
    let mismatch = [&[1][..], &id("Control:Rotation:1.0"), &id("Service:2.0")].concat();
    let cases: [(&str, &[u8]); 8] = [
        ("service.socket", &[0]),
        ("service.socket", &[2]),
        ("service.socket", &[0xff; 4096]),
        ("service.socket", &unknown),
        ("control.socket", &[0]),
        ("control.socket", b"GET / HTTP/1.1\r\n\r\n"),
        ("control.socket", &unknown),
        ("control.socket", &mismatch),
    ];
    for (socket, bytes) in cases {
        let mut stream = scene.connect(socket);
        // At once: sooner than it would end for being silent.
        stream
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        // The agent may close before all is written.
        let _ = stream.write_all(bytes);
        until_closed(&mut stream);
    }
    scene.all_is_well();
}

#[test]
fn conversations_cut_at_every_byte_disturb_nobody() {
    let mut scene = Scene::new();
    let rotation = id("Control:Rotation:1.0");
    // Choice, repetition, and a status request: [4, {}] in a frame.
    let control = [
        &[1][..],
        &rotation,
        &rotation,
        &[0, 0, 0, 3, 0x82, 0x04, 0xa0],
    ]
    .concat();
    let service = [&[1][..], &id("Service:2.0"), &[0, 0, 0, 0]].concat();
    for (socket, bytes) in [("control.socket", &control), ("service.socket", &service)] {
        for cut in 0..=bytes.len() {
            let mut stream = scene.connect(socket);
            let _ = stream.write_all(&bytes[..cut]);
        }
    }
    // A node that takes its key and leaves in the middle of its answer.
    for cut in 0..4 {
        let mut stream = scene.connect("service.socket");
        stream.write_all(&service[..33]).unwrap();
        let mut offer = [0; 4];
        stream.read_exact(&mut offer).unwrap();
        let versions = usize::try_from(u32::from_be_bytes(offer)).unwrap();
        let mut key = vec![0; 32 * versions + 32 + 733];
        stream.read_exact(&mut key).unwrap();
        stream.write_all(&[0; 4][..cut]).unwrap();
    }
    // The whole conversation has an answer.
    let mut stream = scene.connect("control.socket");
    stream.write_all(&control).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = until_closed(&mut stream);
    assert!(String::from_utf8_lossy(&answer).contains("pool1"));
    scene.all_is_well();
}

#[test]
fn requests_that_are_none_are_refused_in_words_or_end_the_connection() {
    let mut scene = Scene::new();
    let rotation = id("Control:Rotation:1.0");
    let hello = [&[1][..], &rotation, &rotation].concat();
    // A frame of nonsense is answered, and the connection goes on.
    let mut stream = scene.connect("control.socket");
    stream.write_all(&hello).unwrap();
    for nonsense in [
        &[0xff][..],
        &[0x82, 0x18, 0x63, 0xa0],
        &[0x9f; 1000],
        &[0; 65_536],
    ] {
        stream
            .write_all(&u32::try_from(nonsense.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(nonsense).unwrap();
    }
    stream.write_all(&[0, 0, 0, 3, 0x82, 0x04, 0xa0]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = String::from_utf8_lossy(&until_closed(&mut stream)).into_owned();
    assert_eq!(answers.matches("not-understood").count(), 4);
    assert!(answers.contains("pool1"));
    // A frame of an absurd length ends it.
    for length in [0u32, 65_537, u32::MAX] {
        let mut stream = scene.connect("control.socket");
        stream.write_all(&hello).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        until_closed(&mut stream);
    }
    scene.all_is_well();
}

#[test]
fn a_node_that_speaks_unasked_is_let_go() {
    let mut scene = Scene::new();
    for unasked in [1, 3, 4, 8] {
        let mut stream = has_the_key(&scene);
        // The answer for the key that it was sent, and bytes for nothing.
        stream.write_all(&vec![0; 4 + unasked]).unwrap();
        until_closed(&mut stream);
        // And without the answer before them in the same breath.
        let mut stream = has_the_key(&scene);
        stream.write_all(&[0; 4]).unwrap();
        until("the answer to be taken", || confirmed(&scene, 2));
        stream.write_all(&vec![0; unasked]).unwrap();
        until_closed(&mut stream);
        until("the node to be gone", || confirmed(&scene, 1));
    }
    scene.all_is_well();
}

/// So many nodes are connected, and all have confirmed.
fn confirmed(scene: &Scene, count: usize) -> Option<()> {
    let status = scene.pool.status();
    let nodes = status["nodes"].as_array().unwrap();
    let confirmed = nodes.iter().filter(|node| node["state"] == "confirmed");
    (nodes.len() == count && confirmed.count() == count).then_some(())
}

#[test]
fn what_a_node_says_too_early_never_answers_what_it_is_sent_next() {
    let mut scene = Scene::new();
    let mut stream = has_the_key(&scene);
    // It waits to be sent until the first is answered.
    let _ = scene.pool.rotate();
    stream.write_all(&[0, 0, 0, 0, 0]).unwrap();
    let sent = until_closed(&mut stream);
    assert!(sent.is_empty(), "another key was sent");
    scene.all_is_well();
}

/// A node that has been sent its key and has not answered.
fn has_the_key(scene: &Scene) -> UnixStream {
    let mut stream = scene.connect("service.socket");
    let hello = [&[1][..], &id("Service:2.0")].concat();
    stream.write_all(&hello).unwrap();
    let mut offer = [0; 4];
    stream.read_exact(&mut offer).unwrap();
    let versions = usize::try_from(u32::from_be_bytes(offer)).unwrap();
    let mut key = vec![0; 32 * versions + 32 + 733];
    stream.read_exact(&mut key).unwrap();
    stream
}

#[test]
fn silent_and_deaf_connections_delay_nobody() {
    let mut scene = Scene::new();
    let silent: Vec<_> = (0..200)
        .flat_map(|_| {
            [
                scene.connect("service.socket"),
                scene.connect("control.socket"),
            ]
        })
        .collect();
    // Nodes that take their key and never answer.
    let hello = [&[1][..], &id("Service:2.0")].concat();
    let deaf: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = scene.connect("service.socket");
            stream.write_all(&hello).unwrap();
            stream
        })
        .collect();
    scene.all_is_well();
    drop((silent, deaf));
    scene.all_is_well();
}

#[test]
fn ten_nodes_at_once_are_all_served_and_all_confirm() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let nodes: Vec<_> = (0..10).map(|_| Node::start(&pool)).collect();
    let confirm = || {
        until("ten nodes to confirm", || {
            let status = pool.status();
            let nodes = status["nodes"].as_array().unwrap();
            let confirmed = nodes
                .iter()
                .filter(|node| node["state"] == "confirmed")
                .count();
            (confirmed == 10).then_some(())
        });
    };
    for node in &nodes {
        let _ = node.await_event("connected", 0);
    }
    for _ in 0..3 {
        let _ = pool.rotate();
        confirm();
    }
    for node in &nodes {
        let keys = node
            .events()
            .iter()
            .filter(|event| event["event"] == "key")
            .count();
        assert!((1..=3).contains(&keys), "{keys}");
    }
}

#[test]
fn commands_that_race_have_one_of_the_legal_outcomes() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let race = |one: &[&str], two: &[&str]| {
        std::thread::scope(|scope| {
            let one = scope.spawn(|| pool.cli(one));
            let two = scope.spawn(|| pool.cli(two));
            (one.join().unwrap(), two.join().unwrap())
        })
    };
    for _ in 0..15 {
        // Two keygens: exactly one generates.
        let (one, two) = race(&["keygen"], &["keygen"]);
        let mut codes = [one.code, two.code];
        codes.sort_unstable();
        assert_eq!(codes, [0, 6]);
        let winner = if one.code == 0 { one } else { two };
        pool.cli(&["export-verkey", "--force"]).succeeded();
        let status = pool.status();
        assert_eq!(
            status["pending"]["vkey"],
            winner.json["kes_verification_key"]
        );

        // Activate against drop-pending: exactly one of them gets the key.
        pool.issue("cold", 1000);
        let before = status["active"]["vkey"].clone();
        let (activated, dropped) = race(
            &["activate", "--opcert-file", "opcert.cert"],
            &["drop-pending"],
        );
        let after = pool.status();
        assert_eq!(after["pending"]["state"], "empty");
        match (activated.code, dropped.code) {
            (0, 5) => assert_eq!(after["active"]["vkey"], status["pending"]["vkey"]),
            (5, 0) => assert_eq!(after["active"]["vkey"], before),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            after["active"]["vkey"],
            Value::String(_) | Value::Null
        ));
    }
}
