//! Keys outlive the agent's restarts and crashes under a service manager, and nothing else does:
//! with the real agent and a stand-in for systemd.
#![allow(missing_docs, clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use integration_tests::kept::{self, KeptMemory};
use integration_tests::pool::{Node, Pool, TestNetwork};
use integration_tests::service_manager::ServiceManager;
use kes_agent::kept::layout::Head;
use kes_agent::kept::record::Record;
use kes_agent::state::Active;
use kes_wire::period::Evolution;
use kes_wire::sys::region;
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Whether keys can outlive an agent here at all.
fn kernel_keeps() -> bool {
    let keeps = region::probe().is_ok();
    if !keeps {
        integration_tests::shared::skipped("this kernel gives out no memory of memfd_secret");
    }
    keeps
}

fn managed(pool: &Pool) -> ServiceManager {
    let state = pool.text("state");
    std::fs::create_dir_all(&state).unwrap();
    ServiceManager::of_agent(pool, &["--state-dir", &state])
}

/// What must outlive a restart, out of the status: not the time, which goes on.
fn held(pool: &Pool) -> Value {
    let status = pool.status();
    let mut held = serde_json::json!({
        "pending": status["pending"],
        "active": status["active"],
        "mark": status["counter_high_water_mark"],
    });
    for slot in ["pending", "active"] {
        if let Some(opcert) = held[slot].get_mut("opcert") {
            opcert.as_object_mut().unwrap().remove("periods_left");
        }
    }
    held
}

fn protection(pool: &Pool, name: &str) -> (bool, String) {
    let status = pool.status();
    let listed = status["memory"]["protections"].as_array().unwrap().clone();
    let found = listed.into_iter().find(|p| p["name"] == name).unwrap();
    let meaning = found["meaning"].as_str().unwrap().to_owned();
    (found["in_force"].as_bool().unwrap(), meaning)
}

fn kept_memory(manager: &ServiceManager) -> KeptMemory {
    kept::map(&manager.descriptor(kept::NAME).unwrap()).unwrap()
}

#[test]
fn every_state_outlives_a_restart_and_a_crash() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let mut manager = managed(&pool);
    manager.start();
    assert_eq!(manager.stored(), [kept::NAME]);
    assert!(protection(&pool, "survives-restart").0);
    let now = pool.period();
    let mut survives = |stage: &str, keys: usize| {
        let before = held(&pool);
        manager.restart();
        assert_eq!(held(&pool), before, "{stage}: restart");
        manager.kill_and_restart();
        assert_eq!(held(&pool), before, "{stage}: SIGKILL");
        assert_eq!(manager.stored(), [kept::NAME], "{stage}: handed over once");
        let cells = kept::cells_in_use(&kept_memory(&manager));
        assert_eq!(cells, keys, "{stage}: no key is there that does not count");
        before
    };
    survives("nothing", 0);
    pool.prepare(now);
    assert_eq!(survives("a key", 1)["pending"]["state"], "key");
    pool.cli(&["import-opcert", "--opcert-file", "opcert.cert"])
        .succeeded();
    assert_eq!(
        survives("a certificate", 1)["pending"]["state"],
        "certified"
    );
    pool.cli(&["activate"]).succeeded();
    assert_eq!(survives("active", 1)["active"]["state"], "serving");
    // The node is served the same key after a crash.
    let node = Node::start(&pool);
    let seen = node.await_event("key", 0);
    drop(node);
    assert_eq!(seen, seen.max(1));
    pool.prepare(now + 5);
    pool.cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    let both = survives("active and scheduled", 2);
    assert_eq!(both["pending"]["state"], "scheduled");
    pool.cli(&["drop-pending"]).succeeded();
    survives("dropped pending", 1);
    pool.prepare(now - 3);
    pool.cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    let evolved = survives("evolved at once", 1);
    assert_eq!(evolved["active"]["evolution"], 3);
    pool.cli(&["drop-active"]).succeeded();
    assert_eq!(survives("dropped", 0)["active"]["state"], "dropped");
    assert_eq!(manager.complaints(), Vec::<String>::new());
}

#[test]
fn a_stop_forgets_the_keys_and_the_disk_keeps_the_marks() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let mut manager = managed(&pool);
    manager.start();
    pool.set_counter("cold", 7);
    let _ = pool.rotate();
    manager.stop();
    manager.start();
    let status = pool.status();
    assert_eq!(status["active"]["state"], "empty");
    assert_eq!(status["counter_high_water_mark"], 7);
    // The mark gates what comes.
    pool.set_counter("cold", 6);
    pool.prepare(pool.period());
    pool.cli(&["activate", "--opcert-file", "opcert.cert"])
        .refused(8, "counter-too-low");
    pool.set_counter("cold", 8);
    pool.issue("cold", pool.period());
    pool.cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    pool.cli(&["drop-active"]).succeeded();
    let dropped = held(&pool);
    manager.stop();
    manager.start();
    assert_eq!(held(&pool), dropped, "a drop that was the last word stays");
    // A damaged file is told and stops nothing.
    manager.stop();
    let state = std::fs::read_dir(pool.path("state")).unwrap();
    let marks = state.map(|entry| entry.unwrap().path()).next().unwrap();
    std::fs::write(&marks, "{").unwrap();
    manager.start();
    let status = pool.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("kes-period-info"), "{warnings}");
    assert_eq!(status["counter_high_water_mark"], Value::Null);
}

#[test]
fn marks_that_cannot_be_written_are_told() {
    let pool = Pool::new(TestNetwork::default());
    let agent = integration_tests::pool::Agent::start(&pool, &["--state-dir", "missing"]);
    pool.prepare(pool.period());
    let activated = pool
        .cli(&["activate", "--opcert-file", "opcert.cert"])
        .succeeded();
    let notes = activated["notes"].to_string();
    assert!(notes.contains("not-on-disk"), "{notes}");
    drop(agent);
}

/// An agent with an active and a pending key, killed; its memory is in the store.
fn killed_with_keys(pool: &Pool) -> (ServiceManager, Value) {
    let mut manager = managed(pool);
    manager.start();
    let _ = pool.rotate();
    pool.cli(&["keygen"]).succeeded();
    let before = held(pool);
    manager.kill();
    (manager, before)
}

#[test]
fn what_another_program_wrote_is_left_alone() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let (mut manager, before) = killed_with_keys(&pool);
    kept_memory(&manager).head.expose_mut()[kept::VERSION_AT + 3] = 2;
    manager.start();
    let refused_with = "kept by a newer version (layout 2): upgrade again, or stop the service to";
    for command in [
        &["keygen"][..],
        &["export-verkey", "--force"],
        &["activate"],
        &["drop-pending"],
        &["drop-active"],
    ] {
        let refused = pool.cli(command).refused(13, "kept-unread");
        let sentence = refused["error"]["sentence"].as_str().unwrap();
        assert!(sentence.contains(refused_with), "{command:?}: {sentence}");
    }
    let warnings = pool.status()["warnings"].to_string();
    assert!(warnings.contains(refused_with), "{warnings}");
    pool.cli(&["probe"]).refused(12, "no-key");
    manager.kill();
    // The program that knows it finds all of it.
    kept_memory(&manager).head.expose_mut()[kept::VERSION_AT + 3] = 1;
    manager.start();
    assert_eq!(held(&pool), before);
}

#[test]
fn another_pools_keys_are_left_alone() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let (mut manager, before) = killed_with_keys(&pool);
    pool.cold_keys("other");
    let mut command = pool.agent_command();
    command.env("KES_AGENT_COLD_VK", pool.path("other.vkey"));
    manager.replace_command(command);
    manager.start();
    let refused = pool.cli(&["keygen"]).refused(13, "kept-unread");
    let sentence = refused["error"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("another pool"), "{sentence}");
    manager.terminate();
    manager.replace_command(pool.agent_command());
    manager.start();
    assert_eq!(held(&pool), before);
}

#[test]
fn another_networks_keys_are_left_alone() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let (mut manager, before) = killed_with_keys(&pool);
    let mut command = pool.agent_command();
    // Mainnet, where these keys have not begun or expired long ago.
    command.env_remove("KES_AGENT_GENESIS_FILE");
    manager.replace_command(command);
    manager.start();
    for command in ["keygen", "confirm-clock"] {
        let refused = pool.cli(&[command]).refused(13, "kept-unread");
        let sentence = refused["error"]["sentence"].as_str().unwrap();
        assert!(
            sentence.contains("another network (magic 42)"),
            "{sentence}"
        );
    }
    manager.terminate();
    manager.replace_command(pool.agent_command());
    manager.start();
    assert_eq!(held(&pool), before);
}

#[test]
fn marks_outlive_an_agent_that_dies_before_anything_changes() {
    let pool = Pool::new(TestNetwork::default());
    let mut manager = managed(&pool);
    manager.start();
    pool.set_counter("cold", 7);
    let _ = pool.rotate();
    pool.cli(&["drop-active"]).succeeded();
    let dropped = held(&pool);
    let marks = || {
        let folder = std::fs::read_dir(pool.path("state")).unwrap();
        let file = folder.map(|entry| entry.unwrap().path()).next().unwrap();
        std::fs::read_to_string(file).unwrap()
    };
    let on_disk = marks();
    // The machine restarts, and then the agent at once.
    manager.stop();
    manager.start();
    for _ in 0..3 {
        manager.kill_and_restart();
        assert_eq!(held(&pool), dropped);
        assert_eq!(marks(), on_disk);
    }
}

#[test]
fn memory_that_is_damaged_or_foreign_is_refused_in_words_and_nothing_is_served() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut noise = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[0]
    };
    type Damage<'a> = Box<dyn FnMut(&mut KeptMemory) + 'a>;
    let record = |at: usize| -> Damage<'static> {
        Box::new(move |memory| {
            let head = memory.head.expose_mut();
            let odd = head[kept::COMMIT_WORD_AT + 7] % 2 == 1;
            head[kept::RECORDS_AT + if odd { 896 } else { 0 } + at] ^= 1;
        })
    };
    let cases: Vec<(&str, Damage<'_>)> = vec![
        ("all zero", Box::new(|m| m.head.expose_mut().fill(0))),
        (
            "random",
            Box::new(|m| m.head.expose_mut().iter_mut().for_each(|b| *b = noise())),
        ),
        (
            "a number that was never written",
            Box::new(|m| m.head.expose_mut()[kept::COMMIT_WORD_AT] ^= 1),
        ),
        ("a record's number", record(7)),
        ("a record's length", record(8)),
        ("a record's sum", record(12)),
        ("a record's body", record(60)),
    ];
    for (case, mut damage) in cases {
        let (mut manager, _) = killed_with_keys(&pool);
        damage(&mut kept_memory(&manager));
        let held_by_test = kept_memory(&manager);
        manager.start();
        let status = pool.status();
        assert_eq!(status["active"]["state"], "empty", "{case}");
        assert_eq!(status["pending"]["state"], "empty", "{case}");
        let warnings = status["warnings"].to_string();
        assert!(
            warnings.contains("cannot be used and was wiped"),
            "{case}: {warnings}"
        );
        assert_eq!(kept::cells_in_use(&held_by_test), 0, "{case}: wiped");
        assert_eq!(
            manager.stored(),
            [kept::NAME],
            "{case}: fresh memory instead"
        );
        let _ = pool.rotate();
        manager.kill_and_restart();
        assert_eq!(
            pool.status()["active"]["state"],
            "serving",
            "{case}: which keeps"
        );
        manager.stop();
    }
}

#[test]
fn a_damaged_key_is_given_up_and_the_other_stays() {
    if !kernel_keeps() {
        return;
    }
    for damaged in 0..3 {
        let pool = Pool::new(TestNetwork::default());
        let (mut manager, before) = killed_with_keys(&pool);
        let mut memory = kept_memory(&manager);
        // The first byte is the leaf's seed's.
        memory.cells[damaged].expose_mut()[0] ^= 1;
        drop(memory);
        manager.start();
        let after = held(&pool);
        let states = (
            after["pending"]["state"].as_str().unwrap(),
            after["active"]["state"].as_str().unwrap(),
        );
        let warnings = pool.status()["warnings"].to_string();
        match states {
            ("empty", "serving") => {
                assert_eq!(after["active"], before["active"]);
                assert!(
                    warnings.contains("the pending key was given up"),
                    "{warnings}"
                );
            }
            ("key", "empty") => {
                assert_eq!(after["pending"], before["pending"]);
                assert!(
                    warnings.contains("the active key was given up"),
                    "{warnings}"
                );
            }
            // The third cell held nothing that counts.
            ("key", "serving") => assert_eq!(after, before),
            other => panic!("{other:?}"),
        }
        let keys = usize::from(states.0 == "key") + usize::from(states.1 == "serving");
        assert_eq!(kept::cells_in_use(&kept_memory(&manager)), keys);
    }
}

/// What somebody wrote into the record in force, whose hash is right again.
fn rewrite(manager: &ServiceManager, change: impl FnOnce(&mut Record)) {
    let (mut head, body) = Head::read(kept_memory(manager).head).unwrap();
    let mut record = Record::from_bytes(&body.unwrap()).unwrap();
    change(&mut record);
    head.commit(&record.to_bytes().unwrap());
}

#[test]
fn a_key_is_taken_back_only_with_this_pools_certificate() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let (mut manager, before) = killed_with_keys(&pool);
    // The key itself is whole.
    rewrite(&manager, |record| match &mut record.state.active {
        Active::Bundle { opcert, .. } => opcert.cold_signature.0[0] ^= 1,
        other => panic!("{other:?}"),
    });
    manager.start();
    let after = held(&pool);
    assert_eq!(after["active"]["state"], "empty");
    assert_eq!(after["pending"], before["pending"]);
    let warnings = pool.status()["warnings"].to_string();
    assert!(
        warnings.contains("not signed by this pool's cold key"),
        "{warnings}"
    );
    assert_eq!(kept::cells_in_use(&kept_memory(&manager)), 1);
}

#[test]
fn a_cell_and_an_evolution_that_there_is_not_cost_that_key_alone() {
    if !kernel_keeps() {
        return;
    }
    let changes: [fn(&mut Record); 2] = [
        |record| record.active_cell = Some(7),
        |record| match &mut record.state.active {
            Active::Bundle { evolution, .. } => *evolution = Evolution(64),
            other => panic!("{other:?}"),
        },
    ];
    for change in changes {
        let pool = Pool::new(TestNetwork::default());
        let (mut manager, before) = killed_with_keys(&pool);
        rewrite(&manager, change);
        manager.start();
        let after = held(&pool);
        assert_eq!(after["active"]["state"], "empty");
        assert_eq!(after["pending"], before["pending"]);
    }
}

#[test]
fn descriptors_of_other_things_are_no_memory() {
    let pool = Pool::new(TestNetwork::default());
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    let (pipe, _end) = std::io::pipe().unwrap();
    for (case, descriptor) in [("a file", file), ("a pipe", pipe.into())] {
        let mut manager = managed(&pool);
        manager.hand_in(kept::NAME, descriptor);
        manager.start();
        let warnings = pool.status()["warnings"].to_string();
        assert!(warnings.contains("cannot be used"), "{case}: {warnings}");
        let _ = pool.rotate();
        manager.stop();
    }
}

#[test]
fn memory_of_another_size_is_left_alone() {
    if !kernel_keeps() {
        return;
    }
    let pool = Pool::new(TestNetwork::default());
    let (mut larger, descriptor) = region::Region::<4096, 608, 5>::secret().unwrap();
    larger.cells[4].expose_mut().fill(7);
    let mut manager = managed(&pool);
    manager.hand_in(kept::NAME, descriptor);
    manager.start();
    let refused = pool.cli(&["keygen"]).refused(13, "kept-unread");
    let sentence = refused["error"]["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("another version (7136 bytes)"),
        "{sentence}"
    );
    assert_eq!(manager.stored(), [kept::NAME]);
    assert_eq!(larger.cells[4].expose(), &[7; 608]);
}

#[test]
fn where_keys_do_not_survive_it_is_said_why() {
    let pool = Pool::new(TestNetwork::default());
    let alone = pool.agent();
    let (in_force, meaning) = protection(&pool, "survives-restart");
    assert!(
        !in_force && meaning.contains("no service manager"),
        "{meaning}"
    );
    drop(alone);
    if !kernel_keeps() {
        return;
    }
    // As systemd does from version 254 on for a unit without FileDescriptorStoreMax=.
    let mut command = pool.agent_command();
    command.env("MEMORY_PRESSURE_WATCH", "/sys/fs/cgroup/memory.pressure");
    let mut forgetful = ServiceManager::new(command).with_store_max(0);
    forgetful.start();
    let (in_force, meaning) = protection(&pool, "survives-restart");
    assert!(
        !in_force && meaning.contains("FileDescriptorStoreMax="),
        "{meaning}"
    );
    forgetful.stop();
}

/// Who stops an agent as soon as its socket answers is not killing it: it ends as at any other time.
#[test]
fn a_stop_in_the_first_moment_is_a_stop() {
    let pool = Pool::new(TestNetwork::default());
    for _ in 0..20 {
        let mut agent = pool.agent_command().stdout(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        // Without a pause: the moment is short.
        while UnixStream::connect(pool.path("service.socket")).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(30), "no socket");
        }
        rustix::process::kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
        let status = agent.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}
