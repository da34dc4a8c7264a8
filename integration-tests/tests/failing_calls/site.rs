//! An agent under a service manager, in a folder, with what is around it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, until};
use integration_tests::service_manager::ServiceManager;
use serde_json::Value;

/// How fast periods pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// None ends during a test.
    Slow,
    /// One takes three seconds.
    Fast,
}

/// What came of the command.
#[derive(Debug, Default)]
pub(crate) struct Acted {
    /// What it said where it failed.
    pub(crate) failed: Option<String>,
}

pub(crate) struct Site {
    pub(crate) pool: Pool,
    pub(crate) manager: ServiceManager,
    pub(crate) node: Option<Node>,
    /// What was held before, where no agent runs that could be asked.
    pub(crate) before: Option<Value>,
    peer: Option<Agent>,
}

impl Site {
    pub(crate) fn new(network: Network) -> Self {
        let slots_per_period = match network {
            Network::Slow => 36_000,
            Network::Fast => 30,
        };
        let pool = Pool::new(TestNetwork {
            slots_per_period,
            ..TestNetwork::default()
        });
        std::fs::create_dir(pool.path("state")).unwrap();
        let manager = ServiceManager::of_agent(&pool, &["--state-dir", &pool.text("state")]);
        Self {
            pool,
            manager,
            node: None,
            before: None,
            peer: None,
        }
    }

    pub(crate) fn trace(&self) -> PathBuf {
        self.pool.path("trace")
    }

    /// The command that runs the agent.
    pub(crate) fn agent_command(&self) -> std::process::Command {
        let mut command = self.pool.agent_command();
        command.args(["--state-dir", &self.pool.text("state")]);
        if self.peer.is_some() {
            command.args(["--bootstrap-address", &self.pool.text("peer.service")]);
        }
        command
    }

    pub(crate) fn start(&mut self) {
        self.manager.start();
    }

    /// Starts the agent, until it is ready or has ended.
    pub(crate) fn launch(&mut self) -> Acted {
        let before = self.manager.notifications().len();
        self.manager.launch();
        until("an agent that is ready or has ended", || {
            let ready = self.manager.notifications()[before..]
                .iter()
                .any(|line| line == "READY=1");
            // Where the service manager cannot be told it is ready all the same.
            let answers = || self.manager_silent_but_ready();
            let is_done = ready || answers() || self.manager.running().ended().is_some();
            is_done.then_some(())
        });
        Acted::default()
    }

    fn manager_silent_but_ready(&self) -> bool {
        self.manager
            .log()
            .contains("the service manager cannot be told")
            && std::os::unix::net::UnixStream::connect(self.pool.path("control.socket")).is_ok()
    }

    pub(crate) fn command(&mut self, arguments: &[&str]) -> Acted {
        let outcome = self.pool.cli(arguments);
        let error = &outcome.json["error"]["sentence"];
        let failed = (outcome.code != 0).then(|| {
            let said = error.as_str().unwrap_or(&outcome.stderr);
            assert!(said.len() > 10, "a failure without a sentence: {outcome:?}");
            said.to_owned()
        });
        Acted { failed }
    }

    /// Waits until the period has changed, and a little: the agent's own look at it comes first.
    pub(crate) fn wait_for_a_turn(&mut self) {
        let log = |site: &Self| {
            site.manager
                .log()
                .matches("the keys follow the time")
                .count()
        };
        let (before, begun) = (log(self), Instant::now());
        while begun.elapsed() < Duration::from_secs(5) && log(self) == before {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts another agent, which ours follows from its next start on.
    pub(crate) fn with_peer(&mut self) {
        let (service, control) = (self.pool.text("peer.service"), self.peer_control());
        let mut command = self.pool.agent_command();
        command.args(["--service-address", &service, "--control-address"]);
        command.arg(&control);
        self.peer = Some(Agent::spawn(command, &control));
        let command = self.agent_command();
        self.manager.replace_command(command);
    }

    fn peer_control(&self) -> PathBuf {
        self.pool.path("peer.control")
    }

    fn on_peer(&self, arguments: &[&str]) -> Value {
        let mut command = self.pool.command(&[&["--json"], arguments].concat());
        command.env("KES_AGENT_CONTROL_PATH", self.peer_control());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A new key on the peer; its verification key.
    pub(crate) fn peer_installs(&self, counter: u64) -> Value {
        self.pool.set_counter("cold", counter);
        self.on_peer(&["keygen"]);
        self.on_peer(&["export-verkey", "--force"]);
        // Behind its period: whoever takes it has to evolve it.
        self.pool.issue("cold", 1000);
        self.on_peer(&["activate", "--opcert-file", "opcert.cert"]);
        self.on_peer(&["status"])["active"]["vkey"].clone()
    }

    /// Waits until ours has the key that the peer has.
    pub(crate) fn await_peers_key(&self) {
        if self.peer.is_none() {
            return;
        }
        let theirs = self.on_peer(&["status"])["active"]["vkey"].clone();
        until("the peer's key", || {
            (self.active_vkey() == theirs).then_some(())
        });
    }

    pub(crate) fn active_vkey(&self) -> Value {
        self.pool.cli(&["status"]).json["active"]["vkey"].clone()
    }

    /// What counts, out of the status. The evolution is shown as whether it is the period's.
    pub(crate) fn held(&self) -> Value {
        let status = self.pool.status();
        let slot = |name: &str| {
            let mut slot = status[name].clone();
            let start = slot["opcert"]["start_period"].as_u64();
            let fields = slot.as_object_mut().unwrap();
            fields.remove("since");
            if let Some(evolution) = fields.remove("evolution") {
                let is = start.zip(evolution.as_u64()).map(|(start, n)| start + n);
                fields.insert(
                    "in_step".into(),
                    (is == status["current_period"].as_u64()).into(),
                );
            }
            if let Some(Value::Object(opcert)) = fields.get_mut("opcert") {
                opcert.remove("periods_left");
            }
            slot
        };
        serde_json::json!({
            "pending": slot("pending"),
            "active": slot("active"),
            "mark": status["counter_high_water_mark"],
        })
    }

    /// Whether the agent says that its keys outlive it.
    pub(crate) fn survives(&self) -> bool {
        let status = self.pool.status();
        let listed = status["memory"]["protections"].as_array().unwrap();
        let found = listed.iter().find(|p| p["name"] == "survives-restart");
        found.unwrap()["in_force"] == true
    }
}

/// A state without what differs from run to run: which keys they are.
pub(crate) fn shape(held: &Value) -> Value {
    let mut shape = held.clone();
    for slot in ["pending", "active"] {
        let fields = shape[slot].as_object_mut().unwrap();
        fields.remove("vkey");
        if let Some(Value::Object(opcert)) = fields.get_mut("opcert") {
            // Networks begin when their tests do.
            opcert.retain(|name, _| !name.ends_with("_at"));
        }
    }
    shape
}
