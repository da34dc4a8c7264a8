//! Watching an agent: check, metrics, the live screen, and the alerts and dashboard made for them,
//! with the real tools where they are installed.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use integration_tests::nobody;
use integration_tests::pool::{
    Agent, Node, Outcome, Pool, TestNetwork, program, until, with_input,
};
use integration_tests::shared::skipped;
use integration_tests::tools::{is_installed, succeed};
use serde_json::Value;

/// What monitors take an exit code for.
const OK: i32 = 0;
const WARNING: i32 = 1;
const CRITICAL: i32 = 2;
const UNKNOWN: i32 = 3;

/// The test network's keys last 62 hours. Protections depend on the machine.
const IN_PERIODS: [&str; 7] = [
    "check",
    "--warn",
    "10p",
    "--crit",
    "1p",
    "--without",
    "survives-restart",
];

fn deploy(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy").join(name)
}

/// The one line that `check` prints, which begins with the word for its exit code.
fn line(output: &Output) -> String {
    let line = String::from_utf8(output.stdout.clone()).unwrap();
    let words = ["OK", "WARNING", "CRITICAL", "UNKNOWN"];
    let code = usize::try_from(output.status.code().unwrap()).unwrap();
    assert!(
        line.starts_with(&format!("KES {} - ", words[code])),
        "{line}"
    );
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
    assert!(output.stderr.is_empty(), "{output:?}");
    line
}

/// Runs `check --json` and holds its exit code against what it says; without `--json` it says it in
/// a line.
fn check(pool: &Pool, args: &[&str]) -> Outcome {
    line(&pool.command(args).output().unwrap());
    let outcome = pool.cli(args);
    assert_eq!(outcome.json["exit_code"], outcome.code, "{outcome:#?}");
    outcome
}

fn codes(outcome: &Outcome) -> Vec<&str> {
    let findings = outcome.json["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect()
}

fn metrics(pool: &Pool) -> String {
    succeed(&mut pool.command(&["status", "--format", "prometheus"]))
}

#[test]
fn check_follows_an_agent_through_its_states() {
    let pool = Pool::new(TestNetwork::default());
    let away = check(&pool, &IN_PERIODS);
    assert_eq!((away.code, codes(&away)), (CRITICAL, vec!["not-reachable"]));

    let agent = pool.agent();
    let no_key = check(&pool, &IN_PERIODS);
    assert_eq!(no_key.code, CRITICAL);
    assert_eq!(codes(&no_key), ["no-key", "nodes-missing"]);
    assert_eq!(no_key.json["next_step"]["code"], "keygen");

    let _ = pool.rotate();
    let no_node = check(&pool, &IN_PERIODS);
    assert_eq!(
        (no_node.code, codes(&no_node)),
        (WARNING, vec!["nodes-missing"])
    );
    let backup = check(&pool, &[&IN_PERIODS[..], &["--nodes", "0"]].concat());
    assert_eq!((backup.code, codes(&backup)), (OK, vec![]));

    let _node = Node::start(&pool);
    until("the node to have confirmed", || {
        (check(&pool, &IN_PERIODS).code == OK).then_some(())
    });
    let said = line(&pool.command(&IN_PERIODS).output().unwrap());
    assert!(
        said.starts_with("KES OK - certificate number 0 expires in "),
        "{said}"
    );
    // 62 hours are less than three days.
    let soon = check(&pool, &["check"]);
    assert_eq!(soon.code, CRITICAL);
    assert_eq!(codes(&soon)[0], "expires-soon");
    let turned_round = check(&pool, &["check", "--warn", "3d", "--crit", "14d"]);
    assert_eq!(
        (turned_round.code, codes(&turned_round)),
        (UNKNOWN, vec!["usage"])
    );

    pool.cli(&["drop-active"]).succeeded();
    assert_eq!(codes(&check(&pool, &IN_PERIODS))[0], "dropped");
    agent.stop("TERM");
    assert_eq!(check(&pool, &IN_PERIODS).code, CRITICAL);
}

/// Another agent of the pool, which follows the first.
fn follower(pool: &Pool) -> Agent {
    let mut command = pool.agent_command();
    command.env("KES_AGENT_CONTROL_PATH", pool.path("2.control"));
    command.env("KES_AGENT_SERVICE_PATH", "");
    command.env("KES_AGENT_BOOTSTRAP_PATHS", pool.path("service.socket"));
    Agent::spawn(command, &pool.path("2.control"))
}

/// The states of the connected nodes, or of the peer agents that follow, once each has confirmed.
fn await_confirmed(pool: &Pool, peers: bool, count: usize) {
    until("each to have confirmed", || {
        let status = pool.status();
        let mut those = status["nodes"].as_array().unwrap().clone();
        those.retain(|node| node["is_peer"] == peers);
        let is_done = |node: &Value| node["state"] == "confirmed";
        (those.len() == count && those.iter().all(is_done)).then_some(())
    });
}

#[test]
fn a_peer_agent_that_follows_is_no_node() {
    let pool = Pool::new(TestNetwork::default());
    let me = rustix::process::geteuid().as_raw().to_string();
    let settings = |users: &str| {
        fs::write(pool.path("agent.toml"), format!("peer-users = [{users}]\n")).unwrap();
    };
    settings(&format!("\"{me}\""));
    let agent = Agent::start(&pool, &["-F", "agent.toml"]);
    let _follower = follower(&pool);
    let _ = pool.rotate();
    await_confirmed(&pool, true, 1);
    assert_eq!(pool.status()["connected_nodes"], 0);
    assert_eq!(pool.status()["next_step"]["code"], "connect-node");
    assert_eq!(codes(&check(&pool, &IN_PERIODS)), ["nodes-missing"]);
    let text = metrics(&pool);
    assert!(text.contains("\nkes_agent_connected_nodes 0\n"), "{text}");
    let mut states = text.lines().filter(|l| l.starts_with("kes_agent_nodes{"));
    assert!(states.all(|line| line.ends_with(" 0")), "{text}");
    let person = succeed(&mut pool.command(&["status"]));
    assert!(
        person.contains("Followers 1 peer agent connected"),
        "{person}"
    );

    // Without the setting, which a reload takes over, it is counted as before.
    settings("");
    agent.signal("HUP");
    agent.await_log("configuration reloaded");
    await_confirmed(&pool, false, 1);
    assert_eq!(pool.status()["connected_nodes"], 1);
    assert_eq!(check(&pool, &IN_PERIODS).code, OK);
    agent.stop("TERM");
    // The command line is stronger than the environment, and that than the file.
    for (args, env, is_peer) in [
        (&["--peer-users", &me][..], Some(""), true),
        (&[], Some(me.as_str()), true),
        (&["--peer-users="], Some(me.as_str()), false),
        (&[], None, false),
    ] {
        let mut command = pool.agent_command();
        command.args(["-F", "agent.toml"]).args(args);
        if let Some(users) = env {
            command.env("KES_AGENT_PEER_USERS", users);
        }
        let agent = Agent::spawn(command, &pool.path("control.socket"));
        let node = Node::start(&pool);
        let listed = until("the client to be listed", || {
            let listed = pool.status()["nodes"].clone();
            listed.get(0).map(|node| node["is_peer"].clone())
        });
        assert_eq!(listed, is_peer, "{args:?} {env:?}");
        drop(node);
        agent.stop("TERM");
    }
}

#[test]
fn a_node_is_told_from_a_peer_agent_by_its_user() {
    if !nobody::may_become() {
        return;
    }
    let pool = nobody::pool();
    let agent = [
        "--service-socket-mode=0666",
        "--service-allow-users=65534",
        "--peer-users=root",
    ];
    let agent = Agent::start(&pool, &agent);
    let _follower = follower(&pool);
    let _ = pool.rotate();
    await_confirmed(&pool, true, 1);
    agent.await_log("peer agent connected");
    assert_eq!(codes(&check(&pool, &IN_PERIODS)), ["nodes-missing"]);
    let probe = pool.command(&["probe", "--follow", "--json"]);
    let mut probe = nobody::by_limited(&pool, 4_096, &probe);
    let _node = Running(probe.stdout(Stdio::null()).spawn().unwrap());
    await_confirmed(&pool, false, 1);
    assert_eq!(pool.status()["connected_nodes"], 1);
    assert_eq!(check(&pool, &IN_PERIODS).code, OK);
}

#[test]
fn a_wrong_command_line_is_unknown_and_help_is_not() {
    let pool = Pool::new(TestNetwork::default());
    for args in [
        &["check", "--warn", "soon"][..],
        &["check", "--warn", "3d", "--crit", "14d"],
        &["check", "--no-such-option"],
        &["--json", "check", "--nodes", "many"],
    ] {
        let output = pool.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(UNKNOWN), "{args:?}");
    }
    let help = pool.command(&["check", "--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    // Everywhere else it is 2, as the table of exit codes says.
    let other = pool
        .command(&["status", "--no-such-option"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn an_agent_that_hangs_is_critical_and_down() {
    let pool = Pool::new(TestNetwork::default());
    // It listens, and never says a word.
    let _silent = UnixListener::bind(pool.path("control.socket")).unwrap();
    let hanging = check(&pool, &["check", "--timeout", "1"]);
    assert_eq!(
        (hanging.code, codes(&hanging)),
        (CRITICAL, vec!["connection-lost"])
    );
}

#[test]
fn who_may_not_ask_knows_nothing() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    // Another user, who can reach the program but not the pool's folder.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cli = folder.path().join("kes-cli");
    fs::copy(program("kes-cli"), &cli).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&cli).args(args).current_dir("/");
        command.env("KES_AGENT_CONTROL_PATH", pool.path("control.socket"));
        command.output().unwrap()
    };
    if !is_installed("setpriv", "util-linux") || !as_nobody(&["--version"]).status.success() {
        skipped("this user cannot become another one");
        return;
    }
    let checked = as_nobody(&["check"]);
    assert_eq!(checked.status.code(), Some(UNKNOWN));
    line(&checked);
    // It is counted as down, so that the alert fires, and the unit that wrote it fails.
    let written = as_nobody(&["status", "--format", "prometheus"]);
    assert_eq!(written.status.code(), Some(4));
    let text = String::from_utf8(written.stdout).unwrap();
    assert!(text.contains("\nkes_agent_up 0\n"), "{text}");
    assert!(String::from_utf8_lossy(&written.stderr).contains("Next:  "));
}

#[test]
fn a_key_that_expires_is_told_by_each() {
    let pool = Pool::new(TestNetwork {
        max_evolutions: 3,
        ..TestNetwork::default()
    });
    let _agent = pool.agent();
    let _ = pool.rotate();
    let soon = check(&pool, &IN_PERIODS);
    assert_eq!(soon.code, WARNING);
    assert_eq!(codes(&soon)[0], "expires-soon");
    assert_eq!(pool.status()["next_step"]["code"], "keygen");
    let text = metrics(&pool);
    assert!(text.contains("kes_agent_covered_periods 3\n"), "{text}");
    assert!(
        text.contains("kes_agent_attention{code=\"expires-soon\"} 1\n"),
        "{text}"
    );
}

#[test]
fn metrics_are_a_file_that_is_whole_and_new_each_time() {
    let pool = Pool::new(TestNetwork::default());
    let to_file = [
        "status",
        "--format",
        "prometheus",
        "--out-file",
        "kes-agent.prom",
    ];
    // An agent that is away is written down, and the command succeeds: the timer goes on.
    let away = pool.command(&to_file).output().unwrap();
    assert!(away.status.success());
    assert_eq!(away.stdout, b"");
    assert!(String::from_utf8_lossy(&away.stderr).contains("there is no socket"));
    let text = fs::read_to_string(pool.path("kes-agent.prom")).unwrap();
    assert!(text.contains("\nkes_agent_up 0\n"), "{text}");

    let _agent = pool.agent();
    succeed(&mut pool.command(&to_file));
    let text = fs::read_to_string(pool.path("kes-agent.prom")).unwrap();
    assert!(text.contains("\nkes_agent_up 1\n"), "{text}");
    // Somewhere else it cannot be written, and what was there stays.
    let missing = [
        "status",
        "--format",
        "prometheus",
        "--out-file",
        "no/such/folder/x.prom",
    ];
    assert_eq!(
        pool.command(&missing).output().unwrap().status.code(),
        Some(11)
    );
    let folder = fs::read_dir(pool.path(".")).unwrap();
    let left: Vec<_> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.') || name.contains("tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn formats_do_not_mix() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    for args in [
        &["status", "--json", "--format", "prometheus"][..],
        &["status", "--json", "--watch"],
        &["status", "--watch", "--format", "json"],
        &["status", "--format", "shell", "--label", "a=b"],
        &["status", "--format", "prometheus", "--label", "a-b=c"],
    ] {
        let output = pool.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let json = succeed(&mut pool.command(&["status", "--format", "json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["next_step"]["code"], "keygen");
    let person = succeed(&mut pool.command(&["status", "--format", "human"]));
    assert!(
        person.contains("Next      generate the first key"),
        "{person}"
    );
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watching_goes_on_through_a_restart_and_ends_with_an_interrupt() {
    let pool = Pool::new(TestNetwork::default());
    let agent = pool.agent();
    let mut watching = pool.command(&["status", "--watch"]);
    let mut watching = Running(watching.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut await_line = |text: &str| {
        // Some fifteen a second come.
        let found = lines.by_ref().take(2_000).any(|line| {
            let line = line.unwrap();
            assert!(
                !line.contains('\x1b'),
                "no terminal, nothing that steers one"
            );
            line.contains(text)
        });
        assert!(found, "{text}");
    };
    await_line("Next      generate the first key");
    pool.cli(&["keygen"]).succeeded();
    await_line("--kes-period 1000");
    agent.stop("TERM");
    await_line("there is no socket");
    let _agent = pool.agent();
    await_line("Next      generate the first key");
    let pid = watching.0.id().to_string();
    succeed(Command::new("kill").args(["-s", "INT", &pid]));
    assert!(watching.0.wait().unwrap().success());
}

#[test]
fn watching_ends_when_nobody_reads() {
    let pool = Pool::new(TestNetwork::default());
    let _agent = pool.agent();
    let mut watching = pool.command(&["status", "--watch"]);
    let mut watching = Running(watching.stdout(Stdio::piped()).spawn().unwrap());
    drop(watching.0.stdout.take());
    assert!(watching.0.wait().unwrap().success());
}

/// All metrics' names in a text. `kes_agent_...` stands in nothing else there.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("kes_agent_"))
        .map(str::to_owned)
        .collect()
}

/// Metrics of an agent that has something in every slot, a peer that is down, and a warning.
fn full_metrics() -> String {
    let pool = Pool::new(TestNetwork {
        max_evolutions: 3,
        ..TestNetwork::default()
    });
    let _agent = Agent::start(&pool, &["--bootstrap-address", "nowhere.socket"]);
    let _ = pool.rotate();
    let next = pool.period() + 1;
    pool.prepare(next);
    pool.cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    metrics(&pool)
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deploy("monitoring/kes-agent.dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The dashboard's queries, for any host.
fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|p| p["targets"].as_array().unwrap());
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    let all = targets
        .chain(annotations)
        .map(|t| t["expr"].as_str().unwrap());
    all.map(|expr| expr.replace("$instance", ".+")).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_there() {
    let there = names(&full_metrics());
    let rules = fs::read_to_string(deploy("monitoring/kes-agent.rules.yml")).unwrap();
    let rules_test = fs::read_to_string(deploy("monitoring/kes-agent.rules.test.yml")).unwrap();
    let asked = names(&rules);
    assert!(asked.len() > 8, "{asked:?}");
    for (what, text) in [
        ("rules", rules),
        ("their tests", rules_test),
        ("dashboard", dashboard().to_string()),
    ] {
        let missing: Vec<String> = names(&text).difference(&there).cloned().collect();
        assert!(
            missing.is_empty(),
            "{what} ask for what is not there: {missing:?}"
        );
    }
}

#[test]
fn every_alert_is_tested() {
    let rules = fs::read_to_string(deploy("monitoring/kes-agent.rules.yml")).unwrap();
    let tests = fs::read_to_string(deploy("monitoring/kes-agent.rules.test.yml")).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 8);
    for alert in alerts {
        assert!(tests.contains(alert), "{alert} has no test");
    }
}

#[test]
fn promtool_takes_the_metrics_the_rules_and_the_queries() {
    if !is_installed("promtool", "prometheus") {
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]);
    let checked = with_input(promtool, full_metrics().as_bytes());
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");

    let rules = deploy("monitoring/kes-agent.rules.yml");
    succeed(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(&rules),
    );
    let tests = deploy("monitoring/kes-agent.rules.test.yml");
    succeed(Command::new("promtool").args(["test", "rules"]).arg(&tests));

    // The dashboard's queries in the form of rules.
    let records = queries().into_iter().enumerate().map(
        |(number, expr)| serde_json::json!({ "record": format!("query:{number}"), "expr": expr }),
    );
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard",
        "rules": records.collect::<Vec<_>>() }] });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    // JSON is YAML.
    fs::write(&file, groups.to_string()).unwrap();
    succeed(Command::new("promtool").args(["check", "rules"]).arg(&file));
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_real_prometheus_answers_the_dashboard() {
    if !is_installed("prometheus-node-exporter", "prometheus-node-exporter")
        || !is_installed("prometheus", "prometheus")
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("textfile")).unwrap();
    fs::write(path("textfile/kes-agent.prom"), full_metrics()).unwrap();
    // A second agent on the same host, which is down.
    let pool = Pool::new(TestNetwork::default());
    let mut second = pool.command(&["status", "--format", "prometheus", "--label", "agent=two"]);
    second.arg("--out-file").arg(path("textfile/second.prom"));
    succeed(second.stderr(Stdio::null()));

    let (exporter_port, port) = (free_port(), free_port());
    let mut exporter = Command::new("prometheus-node-exporter");
    exporter
        .args(["--collector.disable-defaults", "--collector.textfile"])
        .arg("--collector.textfile.directory")
        .arg(path("textfile"))
        .arg(format!("--web.listen-address=127.0.0.1:{exporter_port}"));
    let _exporter = spawn(exporter);
    let config = serde_json::json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [deploy("monitoring/kes-agent.rules.yml")],
        "scrape_configs": [{ "job_name": "node",
            "static_configs": [{ "targets": [format!("127.0.0.1:{exporter_port}")] }] }],
    });
    fs::write(path("prometheus.yml"), config.to_string()).unwrap();
    let mut prometheus = Command::new("prometheus");
    prometheus
        .arg("--config.file")
        .arg(path("prometheus.yml"))
        .arg("--storage.tsdb.path")
        .arg(path("data"))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _prometheus = spawn(prometheus);

    let server = format!("http://127.0.0.1:{port}");
    let ask = |expr: &str| {
        let mut promtool = Command::new("promtool");
        promtool.args(["query", "instant", "--format=json", &server, expr]);
        let output = promtool.output().unwrap();
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        answer.and_then(|answer| answer.as_array().cloned())
    };
    let up = until("both agents to be scraped", || {
        ask("kes_agent_up").filter(|samples| samples.len() == 2)
    });
    let down = up.iter().find(|sample| sample["value"][1] == "0").unwrap();
    assert_eq!(down["metric"]["agent"], "two");
    for expr in queries() {
        let samples = ask(&expr);
        assert!(samples.is_some(), "{expr} is not answered");
        // These two are empty where all is well; the annotation until a number has changed.
        let may_be_empty = expr.contains("in_force") || expr.contains("changes(");
        assert!(
            may_be_empty || !samples.unwrap().is_empty(),
            "{expr} finds nothing"
        );
    }
    let alerts = until("the rules to be evaluated", || {
        ask("ALERTS{alertname=\"KesKeyExpiresIn14Days\",alertstate=\"firing\"}")
            .filter(|samples| !samples.is_empty())
    });
    assert_eq!(alerts.len(), 1);
}

fn spawn(mut command: Command) -> Running {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    Running(quiet.stderr(Stdio::null()).spawn().unwrap())
}
