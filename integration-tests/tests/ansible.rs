//! `deploy/ansible` with the real ansible-playbook, on this host: the role below a folder that
//! stands for the root, and a rotation in two halves with the real agent. `make test-ansible` has
//! the rest, in containers.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration_tests::pool::{Agent, Node, Pool, TestNetwork, program};
use integration_tests::tools::is_installed;
use serde_json::{Value, json};

fn playbooks() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy/ansible")
}

/// A pool whose one host is this one.
struct Site {
    pool: Pool,
}

/// How a playbook ended.
struct Run {
    ok: bool,
    output: String,
}

impl Site {
    /// `None`, with a line that says so, where there is no Ansible.
    fn new(vars: impl Fn(&Pool) -> Value) -> Option<Self> {
        if !is_installed("ansible-playbook", "ansible-core") {
            return None;
        }
        let pool = Pool::new(TestNetwork::default());
        let host = json!({ "producer": null });
        let inventory = json!({
            "kes_agents": { "hosts": host, "vars": vars(&pool) },
            "kes_rotated": { "hosts": host },
        });
        fs::write(pool.path("inventory.json"), inventory.to_string()).unwrap();
        Some(Self { pool })
    }

    fn play(&self, playbook: &str, args: &[&str]) -> Run {
        let output = Command::new("ansible-playbook")
            .args(["--inventory", &self.pool.text("inventory.json")])
            .args(args)
            .arg(playbooks().join(playbook))
            .current_dir(self.pool.path("."))
            .env("ANSIBLE_CONFIG", playbooks().join("ansible.cfg"))
            .env("ANSIBLE_HOME", self.pool.path("ansible"))
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Run {
            ok: output.status.success(),
            output: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        }
    }
}

impl Run {
    /// How much a playbook that succeeded has changed.
    fn changed(&self) -> u32 {
        assert!(self.ok, "{}", self.output);
        let recap = self.output.split("PLAY RECAP").nth(1).unwrap();
        let numbers = recap.split("changed=").skip(1);
        numbers
            .map(|rest| rest.split(' ').next().unwrap().parse::<u32>().unwrap())
            .sum()
    }

    /// It failed, and said this.
    fn failed(&self, sentence: &str) {
        // The callback wraps nothing, but writes quotation marks as JSON does.
        let said = self.output.contains(sentence);
        assert!(!self.ok && said, "{sentence}\n{}", self.output);
    }
}

fn installation(pool: &Pool) -> Value {
    let me = |flag: &str| {
        let output = Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    json!({
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "kes_agent_become": false,
        "kes_agent_manage_service": false,
        "kes_agent_root": pool.text("root"),
        "kes_agent_owner": me("-un"),
        "kes_agent_group": me("-gn"),
        "kes_agent_programs": program("kes-agent").parent().unwrap(),
        "kes_agent_cold_vkey": pool.text("cold.vkey"),
        "kes_agent_genesis": pool.text("genesis.json"),
        "kes_agent_settings": { "log-level": "warn", "max-connections": 64, "clock": "trust",
                                "service-allow-users": ["root"] },
    })
}

#[test]
fn the_role_installs_once_and_its_settings_are_understood() {
    let Some(site) = Site::new(installation) else {
        return;
    };
    assert!(site.play("site.yml", &["--check"]).changed() > 5);
    assert!(!site.pool.path("root").exists(), "a check changes nothing");

    assert!(site.play("site.yml", &[]).changed() > 5);
    assert_eq!(site.play("site.yml", &[]).changed(), 0);
    assert_eq!(site.play("site.yml", &["--check"]).changed(), 0);

    let read = |path: &str| fs::read(site.pool.path("root").join(path)).unwrap();
    assert_eq!(
        read("usr/local/bin/kes-cli"),
        fs::read(program("kes-cli")).unwrap()
    );
    let unit = String::from_utf8(read("etc/systemd/system/kes-agent.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/kes-agent run"));
    // The agent takes the settings; where the paths are this host's own, they are given here.
    let settings = site.pool.text("root/etc/kes-agent/agent.toml");
    let _agent = Agent::start(&site.pool, &["--config-file", &settings]);
}

#[test]
fn what_makes_no_sense_is_said_before_anything_is_done() {
    let Some(site) = Site::new(|pool| {
        let mut vars = installation(pool);
        vars["kes_agent_cold_vkey"] = json!("");
        vars
    }) else {
        return;
    };
    site.play("site.yml", &[])
        .failed("Set kes_agent_cold_vkey (the pool's cold.vkey)");
    assert!(!site.pool.path("root").exists());
}

fn rotation(pool: &Pool) -> Value {
    json!({
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "kes_agent_become": false,
        "kes_rotation_cli": pool.text("kes-cli"),
        "kes_rotation_folder": pool.text("rotation"),
        "kes_rotation_control_socket": pool.text("control.socket"),
        "kes_rotation_service_socket": pool.text("service.socket"),
        "kes_rotation_cold_vkey": pool.text("cold.vkey"),
        "kes_rotation_genesis": pool.text("genesis.json"),
        // The periods of the test's network are short.
        "kes_rotation_check": ["--warn", "10p", "--crit", "1p"],
    })
}

/// Puts a program at the place of `kes-cli` that fails at the command `fails`, and otherwise is it.
fn command_line(site: &Site, fails: &str) {
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != '{fails}' ] || exit 70\nexec '{}' \"$@\"\n",
        program("kes-cli").display()
    );
    let path = site.pool.path("kes-cli");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The air-gapped machine: issues `rotation/producer/opcert.cert`.
fn issue(site: &Site, cold: &str) {
    fs::copy(
        site.pool.path("rotation/producer/kes.vkey"),
        site.pool.path("kes.vkey"),
    )
    .unwrap();
    site.pool.issue(cold, site.pool.period());
    fs::copy(
        site.pool.path("opcert.cert"),
        site.pool.path("rotation/producer/opcert.cert"),
    )
    .unwrap();
}

#[test]
#[ignore = "takes minutes: make test-ansible"]
fn a_rotation_in_two_halves_is_resumed_where_it_failed() {
    let Some(site) = Site::new(rotation) else {
        return;
    };
    let pool = &site.pool;
    command_line(&site, "none");
    let _agent = pool.agent();
    let node = Node::start(pool);

    // The first half.
    assert_eq!(site.play("prepare.yml", &["--check"]).changed(), 0);
    assert_eq!(pool.status()["pending"]["state"], "empty");
    site.play("finish.yml", &[])
        .failed("opcert.cert is not there");
    let first = site.play("prepare.yml", &[]);
    assert!(first.changed() > 0);
    assert!(first.output.contains("STOP: now to the air-gapped machine"));
    let vkey = pool.status()["pending"]["vkey"].clone();
    let fingerprint = pool.cli(&["keygen", "--if-absent"]).succeeded()["fingerprint"].clone();
    let note = fs::read_to_string(pool.path("rotation/producer/rotation.txt")).unwrap();
    assert!(note.contains(fingerprint.as_str().unwrap()), "{note}");
    assert_eq!(site.play("prepare.yml", &[]).changed(), 0);

    // A certificate that is no good costs nothing.
    pool.cold_keys("other");
    issue(&site, "other");
    site.play("finish.yml", &[])
        .failed("the certificate was issued with another cold key");
    assert_eq!(pool.status()["pending"]["vkey"], vkey);

    // The second half, broken off in the middle.
    issue(&site, "cold");
    assert_eq!(site.play("finish.yml", &["--check"]).changed(), 0);
    command_line(&site, "activate");
    site.play("finish.yml", &[])
        .failed("What was done before stays done: run the same playbook again.");
    assert_eq!(pool.status()["pending"]["state"], "certified");
    site.play("prepare.yml", &[])
        .failed("A key with its certificate waits in the agent already");
    command_line(&site, "none");
    assert_eq!(site.play("finish.yml", &[]).changed(), 1);
    assert_eq!(pool.status()["active"]["vkey"], vkey);
    let _ = node.await_event("signed", 0);
    assert_eq!(site.play("finish.yml", &[]).changed(), 0);

    // What is left of it does not come in the way of the next one.
    assert!(site.play("prepare.yml", &[]).changed() > 0);
    assert!(pool.path("rotation/producer/opcert.cert.old").exists());
    assert!(!pool.path("rotation/producer/opcert.cert").exists());

    let word = site.play("status.yml", &[]);
    assert_eq!(word.changed(), 0);
    assert!(
        word.output
            .contains("1 node connected, 1 with the newest key"),
        "{}",
        word.output
    );
    pool.cli(&["drop-active"]).succeeded();
    site.play("status.yml", &[]).failed("the key was dropped");
}
