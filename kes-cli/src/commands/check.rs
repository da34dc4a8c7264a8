//! `kes-cli check`: one line and an exit code, as Nagios and the monitors like it want them.

use std::process::ExitCode;
use std::time::Duration;

use kes_wire::protocol::control::rotation::{ActiveStatus, Request, Status};
use serde_json::json;
use tokio::time::timeout;

use super::{Outcome, block_on, call_async, deployed};
use crate::arguments::Check;
use crate::coverage::periods_left;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::margin::Margin;
use crate::output;
use crate::verdict::{Demands, Severity, Verdict, judge, judge_other_make};

/// Asks the agent, prints the verdict, and gives its exit code. Where this process itself is not
/// `closed` to others, that is the verdict.
pub(crate) fn check(args: &Check, json: bool, closed: Result<(), Failure>) -> ExitCode {
    let (verdict, status) = match closed {
        Ok(()) => verdict(args),
        Err(failure) => (of_failure(&failure), None),
    };
    let text = if json {
        as_json(&verdict)
    } else {
        one_line(&verdict, status.as_deref(), args)
    };
    match output::put(&text) {
        Ok(()) => ExitCode::from(verdict.state as u8),
        // A monitor that is told nothing knows nothing.
        Err(_) => ExitCode::from(Severity::Unknown as u8),
    }
}

fn verdict(args: &Check) -> (Verdict, Option<Box<Status>>) {
    if is_turned_round(args.warn, args.crit) {
        let sentence = format!(
            "--warn {} comes later than --crit {}: give the longer one to --warn",
            args.warn, args.crit
        );
        return (
            Verdict::without_status(Severity::Unknown, "usage", sentence),
            None,
        );
    }
    let demands = Demands {
        warn: args.warn,
        crit: args.crit,
        nodes: args.nodes,
        without: args.without.clone(),
    };
    match ask(args) {
        Ok(Outcome::Ours(done)) => (judge(&done.status, &demands), Some(Box::new(done.status))),
        Ok(Outcome::Deployed(deployed::Done::Info(info))) => (judge_other_make(&info), None),
        Ok(Outcome::Deployed(_)) => (of_failure(&Failure::contradiction()), None),
        Err(failure) => (of_failure(&failure), None),
    }
}

fn ask(args: &Check) -> Result<Outcome, Failure> {
    let patience = Duration::from_secs(args.timeout);
    let answer =
        block_on(async { timeout(patience, call_async(&args.agent, &Request::Status {})).await })?;
    answer.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::NotReachable,
            "connection-lost",
            format!(
                "{}: the agent did not answer within {} s",
                args.agent.control_address.display(),
                args.timeout
            ),
            "see the agent's log (journalctl -u kes-agent)",
        ))
    })
}

/// An agent that is away or silent is critical. One that may not be asked, or whose answer cannot
/// be read, is unknown: it may well be serving.
fn of_failure(failure: &Failure) -> Verdict {
    let severity = match failure.exit {
        Exit::NotReachable => Severity::Critical,
        _ => Severity::Unknown,
    };
    let sentence = format!("{}; {}", failure.sentence, failure.next_step);
    Verdict::without_status(severity, &failure.code, sentence)
}

/// Whether the warning comes later than the alarm. Lengths of time and periods are not compared.
fn is_turned_round(warn: Margin, crit: Margin) -> bool {
    match (warn, crit) {
        (Margin::Seconds(warn), Margin::Seconds(crit))
        | (Margin::Periods(warn), Margin::Periods(crit)) => warn < crit,
        (Margin::Seconds(_), Margin::Periods(_)) | (Margin::Periods(_), Margin::Seconds(_)) => {
            false
        }
    }
}

/// `KES WARNING - no node is connected; next: ... | expires_in=...`
fn one_line(verdict: &Verdict, status: Option<&Status>, args: &Check) -> String {
    let mut said: Vec<&str> = verdict
        .findings
        .iter()
        .map(|f| f.sentence.as_str())
        .collect();
    if said.is_empty() {
        said.push(&verdict.summary);
    }
    let mut text = said.join("; ");
    if let Some(next) = verdict
        .next_step
        .as_ref()
        .filter(|_| !verdict.findings.is_empty())
    {
        text.push_str("; next: ");
        text.push_str(&next.sentence);
    }
    let numbers = status
        .map(|status| numbers(status, args))
        .unwrap_or_default();
    format!(
        "KES {} - {}{numbers}\n",
        verdict.state.word(),
        in_one_line(&text)
    )
}

/// A text that cannot be taken for a second line, nor for the numbers.
fn in_one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars()
        .map(plain)
        .collect::<String>()
        .replace('|', "/")
}

/// Performance data: `label=value;warn;crit`, where `N:` means alarm below N.
fn numbers(status: &Status, args: &Check) -> String {
    let seconds = |margin: Margin| match margin {
        Margin::Seconds(seconds) => format!("{seconds}:"),
        Margin::Periods(_) => String::new(),
    };
    let periods = |margin: Margin| match margin {
        Margin::Periods(periods) => format!("{}:", periods.saturating_add(1)),
        Margin::Seconds(_) => String::new(),
    };
    let (warn, crit) = (args.warn, args.crit);
    let mut numbers = String::from(" |");
    if let ActiveStatus::Serving { opcert, .. } = &status.active {
        let left = opcert.expires_at.0.saturating_sub(status.now.0) / 1_000_000;
        numbers.push_str(&format!(
            " expires_in={left}s;{};{} periods_left={};{};{}",
            seconds(warn),
            seconds(crit),
            periods_left(opcert, status),
            periods(warn),
            periods(crit)
        ));
    }
    numbers.push_str(&format!(
        " nodes={};{}:",
        status.connected_nodes, args.nodes
    ));
    numbers
}

fn as_json(verdict: &Verdict) -> String {
    let object = json!({
        "changed": false,
        "state": verdict.state,
        "exit_code": verdict.state as u8,
        "summary": verdict.summary,
        "findings": verdict.findings,
        "next_step": verdict.next_step,
    });
    serde_json::to_string_pretty(&object).expect("values serialise") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::testing::{PERIOD, peer, serving, well};
    use clap::Parser;
    use kes_wire::protocol::control::rotation::PeerState;

    fn args(more: &[&str]) -> Check {
        let line = [&["kes-cli", "check"], more].concat();
        match Arguments::parse_from(line).command {
            Command::Check(args) => args,
            _ => panic!("a check"),
        }
    }

    fn line(status: &Status, more: &[&str]) -> String {
        let args = args(more);
        let demands = Demands {
            warn: args.warn,
            crit: args.crit,
            nodes: args.nodes,
            without: args.without.clone(),
        };
        one_line(&judge(status, &demands), Some(status), &args)
    }

    #[test]
    fn the_line_has_the_word_first_and_the_numbers_last() {
        assert_eq!(
            line(&well(), &[]),
            "KES OK - certificate number 4 expires in 62 days 23 h, 42 periods left; 1 node \
             connected, 1 with the newest key \
             | expires_in=5439600s;1209600:;259200: periods_left=42;; nodes=1;1:\n"
        );
        let mut status = well();
        status.active = serving(PERIOD - 61);
        let line = line(&status, &["--warn", "10p", "--crit", "1p", "--nodes", "0"]);
        assert!(
            line.starts_with("KES CRITICAL - the key expires in 1 day 11 h"),
            "{line}"
        );
        assert!(line.contains("; next: the key expires"), "{line}");
        assert!(
            line.ends_with(" | expires_in=126000s;; periods_left=1;11:;2: nodes=1;0:\n"),
            "{line}"
        );
    }

    #[test]
    fn it_is_one_line_whatever_the_agent_says() {
        let mut status = well();
        status.peers = vec![peer(PeerState::Down {
            why: "a\nb | c=1".to_owned(),
        })];
        let line = line(&status, &[]);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.matches('|').count(), 1);
    }

    #[test]
    fn margins_turned_round_are_found() {
        for (warn, crit, expected) in [
            ("3d", "14d", true),
            ("3d", "3d", false),
            ("1p", "2p", true),
            ("1p", "3d", false),
        ] {
            let (warn, crit) = (warn.parse().unwrap(), crit.parse().unwrap());
            assert_eq!(is_turned_round(warn, crit), expected);
        }
    }

    #[test]
    fn an_agent_that_is_away_is_critical_and_one_that_cannot_be_asked_unknown() {
        for (exit, expected) in [
            (Exit::NotReachable, Severity::Critical),
            (Exit::NotPermitted, Severity::Unknown),
            (Exit::NotSupported, Severity::Unknown),
            (Exit::Failure, Severity::Unknown),
        ] {
            let failure = Failure::new(exit, "code", "a sentence", "a step");
            assert_eq!(of_failure(&failure).state, expected);
        }
    }
}
