//! How soon nodes are served again after a restart or a crash, from memory that outlived the
//! agent, and what the protections cost.

use std::time::{Duration, Instant};

use integration_tests::pool::{Pool, TestNetwork, without_calls};
use integration_tests::service_manager::ServiceManager;
use kes_wire::net::ServiceClient;
use kes_wire::period::Evolution;
use kes_wire::protocol::service::{ServiceMessage, ServiceResult};
use kes_wire::sum6kes::{SIGN_KEY_BYTES, SignKey};
use kes_wire::sys::memory::SecretBytes;
use kes_wire::sys::region::{Region, RegionBytes};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::runtime::Runtime;

use super::measure::{Pair, in_turns, median, nanoseconds};
use super::processes::programs;
use super::report::{Goal, Report, Row};

const RESTARTS: usize = 100;
const SAMPLES: usize = 600;
/// The evolution that takes longest: the whole right half of the tree begins.
const LONGEST: Evolution = Evolution(32);

type OneCell = Region<0, SIGN_KEY_BYTES, 1>;

pub(crate) fn measure(report: &mut Report) {
    let built = ["kes-agent", "kes-cli", "without-calls"];
    if built.iter().any(|name| !programs().join(name).exists()) {
        println!("the programs are not built (make build): not measured");
        return;
    }
    let Ok((region, _)) = OneCell::secret() else {
        println!("this kernel gives out no memory of memfd_secret: survival is not measured");
        return;
    };

    let mut protected = Managed::new(true);
    let (mut restarts, mut crashes) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        protected.manager.terminate();
        restarts.push(nanoseconds(protected.start_until_served()));
        crashes.push(nanoseconds(protected.crash_until_served()));
    }
    let names = [
        ("restart with a kept key, start to a node served", restarts),
        ("SIGKILL to a node served, without RestartSec=", crashes),
    ];
    for (name, times) in names {
        report.add(Row {
            name: name.to_owned(),
            value: median(times) / 1e6,
            unit: "ms",
            against: None,
            goal: Goal::AtMost(10.0),
        });
    }

    let bare = Managed::new(false);
    let pair = in_turns(
        SAMPLES,
        1,
        || protected.serve_a_node(),
        || bare.serve_a_node(),
    );
    report.add(Row::of(
        "node time to key, with sandbox and memfd_secret",
        pair,
        "without both",
        Goal::AtMostTimes(1.2),
    ));
    report.add(Row::of(
        "longest evolution, in memfd_secret",
        evolutions(region),
        "in guarded memory",
        Goal::AtMostTimes(1.1),
    ));
}

/// Evolutions as the agent makes them, into a cell beside the key.
fn evolutions(secret: OneCell) -> Pair {
    let mut key = SignKey::generate().unwrap();
    key.evolve_to(Evolution(LONGEST.0 - 1)).unwrap();
    let [secret] = secret.cells;
    let [guarded] = OneCell::guarded().unwrap().cells;
    let (mut secret, mut guarded) = (Some(secret), Some(guarded));
    in_turns(
        SAMPLES,
        1,
        || evolve(&key, &mut secret),
        || evolve(&key, &mut guarded),
    )
}

fn evolve<S: SecretBytes<SIGN_KEY_BYTES>>(
    key: &SignKey<S>,
    cell: &mut Option<RegionBytes<SIGN_KEY_BYTES>>,
) {
    let evolved = key.evolved_into(cell.take().unwrap(), LONGEST);
    *cell = Some(evolved.map_err(|(error, _)| error).unwrap().into_secret());
}

/// An agent with a key under a manager that holds its sockets, as systemd does: whoever connects
/// while it is down is served once it is up.
struct Managed {
    pool: Pool,
    manager: ServiceManager,
    runtime: Runtime,
}

impl Managed {
    fn new(is_protected: bool) -> Self {
        let pool = Pool::new(TestNetwork::default());
        let mut command = pool.agent_command();
        if !is_protected {
            command.args(["--sandbox", "off"]);
            command = without_calls("memfd_secret", &command);
        }
        let mut manager = ServiceManager::new(command)
            .with_socket("service", &pool.path("service.socket"))
            .with_socket("control", &pool.path("control.socket"));
        manager.start();
        let _ = pool.rotate();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            pool,
            manager,
            runtime,
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

    /// From the start of the process (by a shell, which costs a millisecond) to a node that has the
    /// key.
    fn start_until_served(&mut self) -> Duration {
        let begin = Instant::now();
        self.manager.launch();
        self.serve_a_node();
        begin.elapsed()
    }

    /// From SIGKILL to the process's end, and from its next start to a node that has the key. What
    /// the manager does between the two is not counted.
    fn crash_until_served(&mut self) -> Duration {
        let pid = i32::try_from(self.manager.running().pid()).unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        let begin = Instant::now();
        kill_process(pid, Signal::KILL).unwrap();
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), ended).unwrap();
        let died = begin.elapsed();
        let _ = self.manager.await_end();
        died + self.start_until_served()
    }
}
