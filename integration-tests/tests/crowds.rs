//! Crowds at the doors: silent ones, half-finished handshakes, more than there are descriptors,
//! readers that never read. A well-behaved node is served all the same.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until};
use rustix::process::{Resource, getrlimit, setrlimit};

struct Scene {
    pool: Pool,
    agent: Agent,
    node: Node,
    seen: usize,
}

impl Scene {
    fn new(arguments: &[&str]) -> Self {
        // A crowd takes more descriptors than a shell usually gives.
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let pool = Pool::new(TestNetwork::default());
        let agent = Agent::start(&pool, arguments);
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

    fn connect(&self, socket: &str) -> UnixStream {
        let stream = UnixStream::connect(self.pool.path(socket)).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream
    }

    /// A new key reaches the connected node and one that comes now.
    fn nodes_are_served(&mut self) {
        let vkey = self.pool.rotate();
        self.seen = self.node.await_event("signed", self.seen);
        let probed = self.pool.cli(&["probe"]).succeeded();
        assert_eq!(probed["kes_verification_key"], *vkey);
        for event in self.node.events() {
            assert_ne!(event["event"], "disconnected");
        }
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.agent.pid());
        fs::read_dir(folder).unwrap().count()
    }

    /// Lets the agent open so many descriptors from now on.
    fn limit_descriptors(&self, most: usize) {
        let status = Command::new("prlimit")
            .arg(format!("--pid={}", self.agent.pid()))
            .arg(format!("--nofile={most}:"))
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Processor time that the agent has used, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.agent.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        // proc(5): utime and stime are fields 14 and 15; the state, here the first, is field 3.
        let field = |number: usize| fields[number - 3].parse::<u64>().unwrap();
        field(14) + field(15)
    }
}

fn id(name: &str) -> [u8; 32] {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

/// Whether the agent has closed this connection.
fn is_closed(stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match (&*stream).read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn a_thousand_silent_ones_and_a_hundred_half_handshakes() {
    let mut scene = Scene::new(&["--max-connections-per-user=2000"]);
    let silent: Vec<_> = (0..1000).map(|_| scene.connect("service.socket")).collect();
    let hello = [&[1][..], &id("Service:2.0")].concat();
    let half: Vec<_> = (0..100)
        .map(|cut| {
            let name = ["service.socket", "control.socket"][cut % 2];
            let mut stream = scene.connect(name);
            stream.write_all(&hello[..cut % hello.len()]).unwrap();
            stream
        })
        .collect();
    until("all of them to be let in", || {
        (scene.descriptors() > 1100).then_some(())
    });
    scene.nodes_are_served();
    drop((silent, half));
    until("all of them to be gone", || {
        (scene.descriptors() < 100).then_some(())
    });
    scene.nodes_are_served();
}

#[test]
fn a_user_has_its_share_of_each_socket_and_no_more() {
    // The node of the scene is one of the ten.
    let mut scene = Scene::new(&["--max-connections-per-user=10"]);
    let silent: Vec<_> = (0..9).map(|_| scene.connect("service.socket")).collect();
    let refused: Vec<_> = (0..50).map(|_| scene.connect("service.socket")).collect();
    for stream in &refused {
        until("one too many to be let go", || {
            is_closed(stream).then_some(())
        });
    }
    assert!(!silent.iter().any(is_closed));
    scene.agent.await_log("max-connections-per-user");
    // A flood leaves one line, not fifty.
    let lines = scene.agent.log().matches("connection refused").count();
    assert!(lines < 10, "{lines}");
    // Commands have places of their own.
    let vkey = scene.pool.rotate();
    scene.seen = scene.node.await_event("signed", scene.seen);
    assert_eq!(scene.pool.status()["active"]["vkey"], vkey);
    // A place that is given back is there again.
    drop(silent);
    until("a place", || {
        (scene.pool.cli(&["probe"]).code == 0).then_some(())
    });
    scene.nodes_are_served();
}

#[test]
fn no_more_are_let_in_than_are_configured_or_than_there_are_descriptors() {
    let scene = Scene::new(&["--max-connections=5"]);
    let silent: Vec<_> = (0..4).map(|_| scene.connect("service.socket")).collect();
    let refused = scene.connect("service.socket");
    until("one too many to be let go", || {
        is_closed(&refused).then_some(())
    });
    assert!(!silent.iter().any(is_closed));
    scene
        .agent
        .await_log("as many connections as max-connections lets");

    let scene = Pool::new(TestNetwork::default());
    let mut few = Command::new("prlimit");
    let agent = scene.agent_command();
    few.args(["--nofile=100:100", "--"])
        .arg(agent.get_program())
        .args(agent.get_args())
        .current_dir(agent.get_current_dir().unwrap());
    for (name, value) in agent.get_envs() {
        few.env(name, value.unwrap());
    }
    let agent = Agent::spawn(few, &scene.path("control.socket"));
    agent.await_log("27 nodes and 9 commands are let in");
}

#[test]
fn without_descriptors_the_agent_waits_and_those_inside_are_served() {
    let mut scene = Scene::new(&[]);
    // A command's connection, made while that is possible: it will drop the key.
    let mut control = scene.connect("control.socket");
    let rotation = id("Control:Rotation:1.0");
    control
        .write_all(&[&[1][..], &rotation, &rotation].concat())
        .unwrap();
    let mut first = [0; 4];
    control.read_exact(&mut first).unwrap();

    scene.limit_descriptors(scene.descriptors());
    let outside: Vec<_> = (0..50).map(|_| scene.connect("service.socket")).collect();
    scene.agent.await_log("cannot accept a connection");
    // A second in which it could do nothing but spin.
    let before = scene.ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = scene.ticks() - before;
    assert!(used < 20, "{used} ticks of 10 ms within a second");
    let lines = scene.agent.log().matches("cannot accept").count();
    assert_eq!(lines, 1, "{}", scene.agent.log());

    // [6, {}] in a frame: drop the active key. The node that is inside hears it at once.
    control.write_all(&[0, 0, 0, 3, 0x82, 0x06, 0xa0]).unwrap();
    scene.seen = scene.node.await_event("dropped", scene.seen);

    drop(outside);
    scene.limit_descriptors(1000);
    until("a command to be let in", || {
        (scene.pool.cli(&["status"]).code == 0).then_some(())
    });
    scene.nodes_are_served();
}

#[test]
fn readers_that_never_read_delay_nobody() {
    let mut scene = Scene::new(&[]);
    let rotation = id("Control:Rotation:1.0");
    let hello = [&[1][..], &rotation, &rotation].concat();
    let status = [0, 0, 0, 3, 0x82, 0x04, 0xa0];
    // Commands without end, none of whose answers is read: until the agent takes no more of them.
    let commands: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = scene.connect("control.socket");
            stream.write_all(&hello).unwrap();
            stream.set_nonblocking(true).unwrap();
            while stream.write_all(&status).is_ok() {}
            stream
        })
        .collect();
    // Nodes that take a key into their buffer and never read it.
    let hello = [&[1][..], &id("Service:2.0")].concat();
    let nodes: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = scene.connect("service.socket");
            stream.write_all(&hello).unwrap();
            stream
        })
        .collect();
    scene.nodes_are_served();
    // Nodes that say that they have it, and read nothing: theirs is full one day.
    for mut stream in &nodes {
        // One that was let go already is not asked.
        let _ = stream.write_all(&[0; 4]);
    }
    for _ in 0..5 {
        scene.nodes_are_served();
    }
    drop((commands, nodes));
    scene.nodes_are_served();
}

#[test]
fn a_log_that_nobody_reads_delays_nobody() {
    let pool = Pool::new(TestNetwork::default());
    let mut command = pool.agent_command();
    // A pipe that takes 64 KiB and then no more.
    let mut agent = command.stdout(Stdio::piped()).spawn().unwrap();
    let unread = agent.stdout.take().unwrap();
    until("the agent to be ready", || {
        UnixStream::connect(pool.path("control.socket")).ok()
    });
    let _ = pool.rotate();
    let node = Node::start(&pool);
    let mut seen = node.await_event("signed", 0);
    // Each leaves a line: more than the pipe and the queue before it take.
    for _ in 0..8000 {
        let mut stream = UnixStream::connect(pool.path("service.socket")).unwrap();
        stream.write_all(&[0xff]).unwrap();
    }
    for _ in 0..3 {
        let _ = pool.rotate();
        seen = node.await_event("signed", seen);
    }
    let _ = seen;
    assert!(agent.try_wait().unwrap().is_none());
    let pid = agent.id().to_string();
    let asked = Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(asked.unwrap().success());
    let ended = until("the agent to stop", || agent.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    drop(unread);
}
