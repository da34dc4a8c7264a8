//! One call fails on one path, and what comes of it is looked at.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use integration_tests::pool::until;
use serde_json::Value;

use crate::calls::{self, Fault};
use crate::paths::{From, Path, When};
use crate::site::{Acted, Site, shape};
use crate::strace::{self, Attached, Trace};

/// How long an agent may take to answer again once nothing fails any more.
const RECOVERY: Duration = Duration::from_secs(20);
/// The first file that the agent itself opens: what comes before it is the loader's and the
/// runtime's.
const OWN_BEGIN: &str = "/cold.vkey";

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How many calls failed.
    pub(crate) injected: usize,
    /// In a line.
    pub(crate) outcome: String,
    /// What must not be.
    pub(crate) harm: Vec<String>,
}

impl Found {
    fn harm(&mut self, what: impl Into<String>) {
        self.harm.push(what.into());
    }
}

/// A path on which nothing fails.
#[derive(Clone)]
struct Undisturbed {
    trace: std::sync::Arc<Trace>,
    after: Value,
}

/// The calls that the agent makes on a path.
pub(crate) fn calls_of(path: &Path) -> Vec<String> {
    undisturbed(path).trace.calls()
}

fn undisturbed(path: &Path) -> Undisturbed {
    static KNOWN: OnceLock<Mutex<BTreeMap<&'static str, Undisturbed>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .entry(path.name)
        .or_insert_with(|| {
            let mut site = Site::new(path.network);
            (path.prepare)(&mut site);
            let acted = act(path, &mut site, None);
            assert_eq!(acted.failed, None, "{}", path.name);
            let trace = Trace::read(&site.trace());
            restart_where_it_stopped(path, &mut site);
            site.await_peers_key();
            Undisturbed {
                trace: trace.into(),
                after: shape(&site.held()),
            }
        })
        .clone()
}

fn restart_where_it_stopped(path: &Path, site: &mut Site) {
    if path.name == "stop" {
        let _ = site.manager.await_end();
        site.start();
    }
}

/// Does what the path is while strace looks on, and lets strace go.
fn act(path: &Path, site: &mut Site, injection: Option<&str>) -> Acted {
    let output = site.trace();
    match path.from {
        From::Start => {
            let usual = site.agent_command();
            site.manager
                .replace_command(strace::around(&usual, injection, &output));
            let acted = (path.act)(site);
            site.manager.replace_command(usual);
            if site.manager.running().ended().is_none() {
                strace::let_go(site.manager.running().pid());
            }
            acted
        }
        From::Running => {
            let strace = Attached::to(site.manager.running().pid(), injection, &output);
            let acted = (path.act)(site);
            strace.detach();
            acted
        }
    }
}

/// Lets the call fail on the path. A panic of the test's own is harm that was found.
pub(crate) fn examine(path: &Path, fault: &Fault<'_>) -> Found {
    let mut found = Found::default();
    let examined = catch_unwind(AssertUnwindSafe(|| look(path, fault, &mut found)));
    if let Err(panic) = examined {
        let words = panic.downcast_ref::<String>().cloned();
        found.injected = found.injected.max(1);
        found.harm(words.unwrap_or_else(|| "something else than words".to_owned()));
    }
    found
}

fn look(path: &Path, fault: &Fault<'_>, found: &mut Found) {
    let usual = undisturbed(path);
    let mut site = Site::new(path.network);
    (path.prepare)(&mut site);
    let before = match path.from {
        From::Start => site.before.clone(),
        From::Running => Some(site.held()),
    };
    let logged = site.manager.log().lines().count();
    let acted = act(path, &mut site, Some(&fault.expression()));
    found.injected = Trace::read(&site.trace()).injected();
    if found.injected == 0 {
        return;
    }
    found.outcome = acted
        .failed
        .as_ref()
        .map_or_else(|| "done".to_owned(), |said| format!("told: {said}"));
    if path.name == "stop" && site.manager.running().ended().is_none() {
        found.outcome += "; the signal's waking was lost: it stops at the next";
        site.manager.running().signal("TERM");
        until("the agent to stop", || site.manager.running().ended());
    }
    if is_gone(&mut site) {
        let log = site.manager.log();
        let (status, errors) = site.manager.await_end();
        let is_early = path.from == From::Start
            && match fault.when {
                When::At(n) => n <= usual.trace.before(OWN_BEGIN, fault.call),
                When::All => usual.trace.before(OWN_BEGIN, fault.call) > 0,
            };
        match ending(path, status, &errors, &log) {
            Ok(said) if path.name == "stop" => {
                found.outcome = format!("{said}{}", found.outcome.trim_start_matches("done"))
            }
            Ok(said) => found.outcome = said,
            Err(why) if is_early => found.outcome = format!("before the agent's own code: {why}"),
            Err(why) => match calls::excuse(fault.call, &why) {
                Some(excuse) => found.outcome = format!("EXCUSED: {why}: {excuse}"),
                None => found.harm(why),
            },
        }
        site.start();
    } else if let Some(said) = new_warning(&site.manager.log(), logged) {
        found.outcome += &format!("; log: {said}");
    }
    // Its second lock leaves out the page of memsec's canary, which holds no secret.
    let is_canary = fault.call == "mlock" && path.from == From::Start && fault.when != When::All;
    // Memory that was given back, wiped, keeps its mark where the mark cannot be taken off.
    if fault.call != "madvise" && !is_canary {
        for unlocked in unlocked(site.manager.running().pid()) {
            found.harm(format!("not locked: {unlocked}"));
        }
    }
    compare(path, fault, before.as_ref(), &acted, &mut site, found);
}

/// Whether the agent has ended, or does before it answers.
fn is_gone(site: &mut Site) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < RECOVERY {
        if site.manager.running().ended().is_some() {
            return true;
        }
        if site.pool.cli(&["status"]).code == 0 {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// How a process ended that should not have: in words, or else what is wrong with that.
fn ending(path: &Path, status: ExitStatus, errors: &str, log: &str) -> Result<String, String> {
    let last = log.lines().last().unwrap_or("");
    let all = format!("{status}: {errors} {last}");
    if status.code().is_none() || errors.contains("panicked") {
        return Err(format!("crashed: {all}"));
    }
    match (path.name == "stop", status.success()) {
        (true, true) => return Ok("stopped".to_owned()),
        (false, true) => return Err(format!("ended without being asked to: {all}")),
        (_, false) => {}
    }
    let said = errors.lines().next().unwrap_or("");
    if said.len() < 20 {
        return Err(format!("ended without a sentence: {all}"));
    }
    Ok(format!("ended: {said}"))
}

/// The first warning or error in the log after so many lines, without its time.
fn new_warning(log: &str, after: usize) -> Option<String> {
    let mut lines = log.lines().skip(after);
    let is_warning = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    let line = lines.find(|line| is_warning(line) && !line.contains("no service manager"))?;
    let (_, said) = line.split_once(' ')?;
    Some(said.trim().to_owned())
}

/// Memory that was asked to be left out of dumps, as all memory for secrets is, but is not locked.
fn unlocked(pid: u32) -> Vec<String> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut mapping, mut unlocked) = (String::new(), Vec::new());
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |flag: &str| flags.split_whitespace().any(|one| one == flag);
            // The kernel's own pages (vdso and the like) are marked so too.
            if has("dd") && !has("lo") && !has("io") && !has("pf") && !mapping.contains("[v") {
                unlocked.push(format!("{mapping}: {flags}"));
            }
        } else if line
            .split_once(' ')
            .is_some_and(|(range, _)| range.contains('-'))
        {
            line.clone_into(&mut mapping);
        }
    }
    unlocked
}

/// Compares what is held now, and after a crash and a restart, with what was and what is to be.
fn compare(
    path: &Path,
    fault: &Fault<'_>,
    before: Option<&Value>,
    acted: &Acted,
    site: &mut Site,
    found: &mut Found,
) {
    let after = undisturbed(path).after;
    if site.pool.cli(&["status"]).code != 0 {
        return found.harm("it does not answer, although nothing fails any more");
    }
    let is_unread = site.pool.status()["warnings"]
        .to_string()
        .contains("nothing is served");
    if is_unread {
        found.outcome += "; the kept memory was left alone until the next start";
        let (status, errors) = kill(site);
        check_end(fault, status, &errors, found);
        site.start();
    }
    site.await_peers_key();
    let held = site.held();
    let is_before = before == Some(&held);
    if !is_before && shape(&held) != after {
        found.harm(format!("neither as before nor as after: {held}"));
    }
    if is_before && acted.failed.is_none() && shape(&held) != after {
        found.harm("it was called done and is not");
    }
    if path.name == "start" {
        let _ = site.pool.rotate();
    }
    if let Some(node) = &site.node {
        // Its first key, and the new one where it was installed.
        let keys = if is_before { 1 } else { 2 };
        until("a node to have the key", || {
            let events = node.events();
            let got = events
                .iter()
                .filter(|event| event["event"] == "key")
                .count();
            (got >= keys).then_some(())
        });
    }
    let held = site.held();
    if held["active"]["state"] == "serving" {
        let probed = site.pool.cli(&["probe"]);
        if probed.code != 0 {
            found.harm(format!("a node is not served: {probed:?}"));
        }
    }
    let survives = site.survives();
    let log = site.manager.log();
    let (status, errors) = kill(site);
    check_end(fault, status, &errors, found);
    site.start();
    if survives {
        site.await_peers_key();
        let kept = site.held();
        if kept != held {
            found.harm(format!("kept {kept}\nof {held}"));
        }
    } else if log.contains("a protection is not in force") {
        found.outcome += "; keys do not survive a restart, as the log says";
    } else {
        found.harm("keys do not survive a restart, and the log does not say so");
    }
}

fn kill(site: &mut Site) -> (ExitStatus, String) {
    site.manager.running().signal("KILL");
    site.manager.await_end()
}

/// A thread may have panicked that nobody missed.
fn check_end(fault: &Fault<'_>, status: ExitStatus, errors: &str, found: &mut Found) {
    if let Some(excuse) = calls::excuse(fault.call, errors) {
        found.outcome += &format!("; EXCUSED: {errors}: {excuse}");
    } else if ExitStatusExt::signal(&status) != Some(9) || !errors.is_empty() {
        found.harm(format!("on standard error ({status}): {errors}"));
    }
}
