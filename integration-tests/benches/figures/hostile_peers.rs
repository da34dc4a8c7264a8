//! What a well-behaved node notices of the others, and of the agent's protections: from its
//! connecting to the whole key in its memory.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use integration_tests::pool::{Agent, Pool, TestNetwork};
use kes_wire::net::ServiceClient;
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use super::measure::{Pair, in_turns};
use super::processes::programs;
use super::report::{Goal, Report, Row};

const SAMPLES: usize = 600;
const SILENT: usize = 1000;
const HALF: usize = 100;

pub(crate) fn measure(report: &mut Report) {
    if ["kes-agent", "kes-cli"]
        .iter()
        .any(|name| !programs().join(name).exists())
    {
        println!("kes-agent and kes-cli are not built (make build): not measured");
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let most = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();

    let (crowded, quiet) = (Served::new(&[]), Served::new(&[]));
    let crowd = Crowd::gather(&crowded);
    let name = format!("node time to key, under {SILENT} silent connections");
    let pair = crowded.beside(&quiet);
    report.add(Row::of(name, pair, "with none", Goal::AtMostTimes(2.0)));
    drop(crowd);

    let crowd: Vec<_> = (0..HALF).map(|cut| crowded.half_handshake(cut)).collect();
    let name = format!("node time to key, under {HALF} half-finished handshakes");
    let pair = crowded.beside(&quiet);
    report.add(Row::of(name, pair, "with none", Goal::AtMostTimes(2.0)));
    drop(crowd);

    let deaf: Vec<_> = (0..HALF).map(|_| crowded.deaf_node()).collect();
    let name = format!("node time to key, beside {HALF} nodes that never read");
    let pair = crowded.beside(&quiet);
    report.add(Row::of(name, pair, "with none", Goal::AtMostTimes(2.0)));
    drop(deaf);

    let bare = Served::new(&["--sandbox", "off"]);
    let pair = quiet.beside(&bare);
    let name = "node time to key, with the sandbox";
    report.add(Row::of(name, pair, "without it", Goal::AtMostTimes(1.2)));
}

/// An agent with a key.
struct Served {
    pool: Pool,
    runtime: Runtime,
    _agent: Agent,
}

impl Served {
    fn new(arguments: &[&str]) -> Self {
        let pool = Pool::new(TestNetwork::default());
        let most = ["--max-connections-per-user", "4000"];
        let agent = Agent::start(&pool, &[&most, arguments].concat());
        let _ = pool.rotate();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            pool,
            runtime,
            _agent: agent,
        }
    }

    /// A node comes, takes the key and leaves.
    fn serve_a_node(&self) {
        let path = self.pool.path("service.socket");
        self.runtime.block_on(async {
            let mut node = ServiceClient::connect(&path).await.unwrap();
            let message = node.next().await.unwrap();
            assert!(matches!(message, ServiceMessage::Key(_)));
            node.answer(ServiceResult::Ok).await.unwrap();
        });
    }

    fn beside(&self, other: &Self) -> Pair {
        in_turns(SAMPLES, 1, || self.serve_a_node(), || other.serve_a_node())
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.pool.path("service.socket")).unwrap()
    }

    fn half_handshake(&self, cut: usize) -> UnixStream {
        let mut stream = self.connect();
        let hello = hello();
        stream.write_all(&hello[..cut % hello.len()]).unwrap();
        stream
    }

    fn deaf_node(&self) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(&hello()).unwrap();
        stream
    }
}

/// A node's choice of Service 2.0.
fn hello() -> [u8; 33] {
    let mut hello = [0; 33];
    hello[0] = 1;
    hello[1..][..11].copy_from_slice(b"Service:2.0");
    hello
}

/// Connections that say nothing. The agent lets them go after 10 s; they come back at once.
struct Crowd {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn gather(served: &Served) -> Self {
        let path = served.pool.path("service.socket");
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (gathered, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let connect = || UnixStream::connect(&path).unwrap();
            let mut crowd: Vec<_> = (0..SILENT).map(|_| connect()).collect();
            gathered.send(()).unwrap();
            // Well before the agent's deadline.
            let rest = Duration::from_secs(5);
            while stopped.recv_timeout(rest) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                for stream in &mut crowd {
                    *stream = connect();
                }
            }
        });
        ready.recv().unwrap();
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // A thread that has ended already shows at the join.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
