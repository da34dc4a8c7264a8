//! Many nodes on one machine: how long until the last of them has a new key, and what operators and
//! forging nodes notice while all of them are connected.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use integration_tests::pool::{Agent, Pool, TestNetwork};
use kes_wire::net::{self, ControlClient};
use kes_wire::protocol::control::rotation::{Answer, Request};
use kes_wire::protocol::handshake::Kind;
use kes_wire::protocol::service::{ServiceResult, v2_0};
use kes_wire::protocol::version::SERVICE_2_0;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

use super::measure::at_share;
use super::processes::programs;
use super::report::{Goal, Report, Row};

mod plot;

const NUMBERS: [usize; 4] = [100, 1_000, 3_000, 10_000];
/// How many nodes connect at a time.
const AT_A_TIME: usize = 64;
const COMMANDS_A_SECOND: u32 = 1_000;
const RECONNECTIONS_A_SECOND: u32 = 50;
const MIXED: Duration = Duration::from_secs(5);
/// Descriptors of this process beside the nodes' connections.
const OTHERS: u64 = 200;

/// What was measured with so many nodes; times in milliseconds.
pub(crate) struct Figures {
    nodes: usize,
    first: f64,
    median: f64,
    last: f64,
    command: f64,
    command_p99: f64,
    commands_a_second: f64,
    reconnection: f64,
    reconnection_p99: f64,
    kib_a_node: f64,
}

pub(crate) fn measure(report: &mut Report) {
    if ["kes-agent", "kes-cli"]
        .iter()
        .any(|name| !programs().join(name).exists())
    {
        println!("kes-agent and kes-cli are not built (make build): not measured");
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let mut all = Vec::new();
    for nodes in NUMBERS {
        let room = limit.maximum.unwrap_or(u64::MAX);
        if room < nodes as u64 + OTHERS {
            println!(
                "{nodes} nodes: not measured, this process may open {room} files (ulimit -Hn)"
            );
            continue;
        }
        let figures = with_nodes(nodes);
        add(report, &figures);
        all.push(figures);
    }
    plot::draw(&all);
}

fn add(report: &mut Report, figures: &Figures) {
    let n = figures.nodes;
    let mut row = |name: String, value: f64, unit: &'static str, goal: Goal| {
        report.add(Row {
            name: format!("{n} nodes: {name}"),
            value,
            unit,
            against: None,
            goal,
        });
    };
    // A key is wanted within a slot, which is a second.
    row(
        "a key pushed, the first has it".into(),
        figures.first,
        "ms",
        Goal::None,
    );
    row(
        "a key pushed, the median".into(),
        figures.median,
        "ms",
        Goal::None,
    );
    row(
        "a key pushed, the last".into(),
        figures.last,
        "ms",
        Goal::AtMost(1_000.0),
    );
    row(
        "commands a second, besides".into(),
        figures.commands_a_second,
        "/s",
        Goal::None,
    );
    row(
        "a command, median".into(),
        figures.command,
        "ms",
        Goal::None,
    );
    row(
        "a command, p99".into(),
        figures.command_p99,
        "ms",
        Goal::None,
    );
    row(
        "a node that reconnects, median".into(),
        figures.reconnection,
        "ms",
        Goal::None,
    );
    row(
        "a node that reconnects, p99".into(),
        figures.reconnection_p99,
        "ms",
        Goal::None,
    );
    row(
        "the agent's memory a node".into(),
        figures.kib_a_node,
        "KiB",
        Goal::AtMost(32.0),
    );
}

fn with_nodes(nodes: usize) -> Figures {
    let pool = Pool::new(TestNetwork::default());
    let many = "20000";
    let limits = [
        "--max-connections",
        many,
        "--max-connections-per-user",
        many,
    ];
    let agent = Agent::start(&pool, &[&limits[..], &["--log-level", "warning"]].concat());
    let _ = pool.rotate();
    pool.prepare(pool.period());
    pool.cli(&["import-opcert", "--opcert-file", "opcert.cert"])
        .succeeded();
    let alone = rss_kib(agent.pid());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let service = pool.path("service.socket");
        let (tell, mut told) = mpsc::unbounded_channel();
        gather(nodes, &service, &tell).await;
        for _ in 0..nodes {
            told.recv().await.unwrap();
        }
        assert_eq!(pool.status()["connected_nodes"], nodes);
        let crowded = rss_kib(agent.pid());
        let mut control = ControlClient::connect(&pool.path("control.socket"))
            .await
            .unwrap();
        let begun = Instant::now();
        let activate = Request::Activate {
            import: None,
            allow_lower_counter: false,
        };
        let answer = control.call(&activate).await.unwrap();
        assert!(matches!(answer, Answer::Done { changed: true, .. }));
        let mut pushed = Vec::with_capacity(nodes);
        for _ in 0..nodes {
            let at: Instant = told.recv().await.unwrap();
            pushed.push(milliseconds(at - begun));
        }
        let commands = std::thread::spawn({
            let path = pool.path("control.socket");
            move || command_at_pace(&path)
        });
        let mut reconnections = reconnect_at_pace(&service).await;
        let (mut times, rate) = commands.join().unwrap();
        #[allow(clippy::cast_precision_loss)]
        Figures {
            nodes,
            first: at_share(&mut pushed, 0.0),
            median: at_share(&mut pushed, 0.5),
            last: at_share(&mut pushed, 1.0),
            command: at_share(&mut times, 0.5),
            command_p99: at_share(&mut times, 0.99),
            commands_a_second: rate,
            reconnection: at_share(&mut reconnections, 0.5),
            reconnection_p99: at_share(&mut reconnections, 0.99),
            kib_a_node: crowded.saturating_sub(alone) as f64 / nodes as f64,
        }
    })
}

/// Connects so many nodes. Each tells when it has a key, and goes on.
async fn gather(nodes: usize, service: &Path, tell: &mpsc::UnboundedSender<Instant>) {
    for begin in (0..nodes).step_by(AT_A_TIME) {
        let coming: Vec<_> = (begin..nodes.min(begin + AT_A_TIME))
            .map(|_| tokio::task::spawn_local(connect(service.to_owned())))
            .collect();
        for stream in coming {
            let mut stream = stream.await.unwrap();
            let tell = tell.clone();
            tokio::task::spawn_local(async move {
                loop {
                    take_key(&mut stream).await;
                    if tell.send(Instant::now()).is_err() {
                        return;
                    }
                }
            });
        }
    }
}

async fn connect(service: PathBuf) -> UnixStream {
    let stream = loop {
        match StdUnixStream::connect(&service) {
            Ok(stream) => break stream,
            // The queue of those that wait is full.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    stream.set_nonblocking(true).unwrap();
    let stream = UnixStream::from_std(stream).unwrap();
    let patience = Duration::from_secs(30);
    net::client_handshake(&stream, Kind::Service, &[SERVICE_2_0], patience)
        .await
        .unwrap();
    stream
}

/// Reads a key as bytes: of so many nodes in one process none has a locked page of its own.
async fn take_key(stream: &mut UnixStream) {
    let mut key = [0; v2_0::KEY_BYTES];
    // The measurement is over when the agent is gone.
    if stream.read_exact(&mut key).await.is_ok() {
        let answer = ServiceResult::Ok.to_u32().to_be_bytes();
        stream.write_all(&answer).await.unwrap();
    } else {
        core::future::pending::<()>().await;
    }
}

/// Nodes that come, take the key and leave, one after the other.
async fn reconnect_at_pace(service: &Path) -> Vec<f64> {
    let mut pace = interval(Duration::from_secs(1) / RECONNECTIONS_A_SECOND);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < MIXED {
        pace.tick().await;
        let begin = Instant::now();
        let mut stream = connect(service.to_owned()).await;
        take_key(&mut stream).await;
        times.push(milliseconds(begin.elapsed()));
    }
    times
}

/// Asks for the status at a pace; the times, and how many there were a second.
fn command_at_pace(control: &Path) -> (Vec<f64>, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut control = ControlClient::connect(control).await.unwrap();
        let mut pace = interval(Duration::from_secs(1) / COMMANDS_A_SECOND);
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < MIXED {
            pace.tick().await;
            let begin = Instant::now();
            control.call(&Request::Status {}).await.unwrap();
            times.push(milliseconds(begin.elapsed()));
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        (times, rate)
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
