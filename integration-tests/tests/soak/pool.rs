//! The two agents and their operator.

use std::collections::BTreeMap;
use std::path::PathBuf;

use integration_tests::pool::{Pool, TestNetwork, until};
use integration_tests::service_manager::ServiceManager;
use serde_json::Value;

/// Which agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// It is restarted and killed.
    First,
    /// It runs from the beginning to the end: what grows is seen in it.
    Steady,
}

pub(crate) struct Site {
    pub(crate) pool: Pool,
    first: ServiceManager,
    steady: ServiceManager,
    counter: u64,
    rotated_in: u64,
    active: Option<String>,
    /// How often what was done.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let pool = Pool::new(TestNetwork {
            slots_per_period: 20,
            ..TestNetwork::default()
        });
        let manager = |which, other| {
            let mut command = pool.agent_command();
            let folder = pool.path(&format!("state-{which}"));
            std::fs::create_dir(&folder).unwrap();
            command
                .arg("--state-dir")
                .arg(folder)
                .args(["--service-address", &pool.text(&format!("{which}.service"))])
                .args(["--control-address", &pool.text(&format!("{which}.control"))])
                .args([
                    "--bootstrap-address",
                    &pool.text(&format!("{other}.service")),
                ]);
            ServiceManager::new(command)
        };
        let (mut first, mut steady) = (manager("first", "steady"), manager("steady", "first"));
        first.start();
        steady.start();
        Self {
            pool,
            first,
            steady,
            counter: 0,
            rotated_in: 0,
            active: None,
            counts: BTreeMap::new(),
        }
    }

    fn socket(&self, which: Which, kind: &str) -> PathBuf {
        let name = match which {
            Which::First => "first",
            Which::Steady => "steady",
        };
        self.pool.path(&format!("{name}.{kind}"))
    }

    pub(crate) fn service(&self, which: Which) -> PathBuf {
        self.socket(which, "service")
    }

    pub(crate) fn pid(&mut self, which: Which) -> u32 {
        match which {
            Which::First => self.first.running().pid(),
            Which::Steady => self.steady.running().pid(),
        }
    }

    /// The key that nodes are to have.
    pub(crate) fn active_vkey(&self) -> Option<&str> {
        self.active.as_deref()
    }

    pub(crate) fn periods_since_rotation(&self) -> u64 {
        self.status_of(Which::Steady)["current_period"]
            .as_u64()
            .unwrap()
            - self.rotated_in
    }

    fn cli(&self, which: Which, arguments: &[&str]) -> Value {
        let mut command = self.pool.command(&[&["--json"], arguments].concat());
        command
            .env("KES_AGENT_CONTROL_PATH", self.socket(which, "control"))
            .env("KES_AGENT_SERVICE_PATH", self.socket(which, "service"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn status_of(&self, which: Which) -> Value {
        self.cli(which, &["status"])
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Both agents hold what was installed last: else an operator would answer to an older state.
    fn agree(&self) {
        let Some(wanted) = &self.active else { return };
        for which in [Which::First, Which::Steady] {
            until("the agents to agree", || {
                let vkey = self.status_of(which)["active"]["vkey"].clone();
                (vkey == wanted.as_str()).then_some(())
            });
        }
    }

    fn certify(&mut self, which: Which, later: u64) {
        self.agree();
        self.cli(which, &["keygen", "--replace"]);
        self.cli(which, &["export-verkey", "--force"]);
        self.pool.set_counter("cold", self.counter);
        self.counter += 1;
        let period = self.status_of(which)["current_period"].as_u64().unwrap();
        self.pool.issue("cold", period + later);
    }

    pub(crate) fn rotate(&mut self, which: Which) {
        self.certify(which, 0);
        let active = self.cli(which, &["activate", "--opcert-file", "opcert.cert"]);
        let vkey = active["kes_verification_key"].as_str().unwrap();
        self.active = Some(vkey.to_owned());
        self.rotated_in = self.status_of(which)["current_period"].as_u64().unwrap();
        self.count("rotation");
        self.agree();
    }

    /// A key that begins later, and is dropped before it does or begins.
    pub(crate) fn schedule(&mut self, which: Which) {
        self.certify(which, 20);
        self.cli(which, &["activate", "--opcert-file", "opcert.cert"]);
        self.cli(which, &["drop-pending"]);
        self.count("scheduled and dropped");
    }

    pub(crate) fn keygen_and_drop(&mut self, which: Which) {
        self.cli(which, &["keygen", "--replace"]);
        self.cli(which, &["drop-pending"]);
        self.count("generated and dropped");
    }

    pub(crate) fn drop_and_rotate(&mut self, which: Which) {
        self.agree();
        self.cli(which, &["drop-active"]);
        self.active = None;
        self.count("active dropped");
        self.rotate(which);
    }

    pub(crate) fn restart_first(&mut self) {
        let before = self.status_of(Which::First)["pending"].clone();
        self.first.restart();
        assert_eq!(self.status_of(Which::First)["pending"], before);
        self.count("restart");
    }

    pub(crate) fn kill_first(&mut self) {
        let before = self.status_of(Which::First)["pending"].clone();
        self.first.kill_and_restart();
        assert_eq!(self.status_of(Which::First)["pending"], before);
        self.count("SIGKILL");
    }

    pub(crate) fn reload(&mut self, which: Which) {
        match which {
            Which::First => self.first.reload(),
            Which::Steady => self.steady.reload(),
        }
        self.count("reload");
    }

    pub(crate) fn probe(&mut self, which: Which) {
        self.agree();
        self.cli(which, &["probe"]);
        self.count("node that comes and goes");
    }

    pub(crate) fn status(&mut self, which: Which) {
        self.status_of(which);
        self.count("status");
    }
}
