//! What was found, as a table and as JSON.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::{Check, Finding, requirements};

/// What became of one requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The requirement's number.
    pub id: &'static str,
    /// What was tried; nothing where it cannot be.
    pub what: &'static str,
    /// Nothing where it holds.
    pub finding: Option<Finding>,
}

impl Row {
    /// In a word.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.finding {
            None => "holds",
            Some(Finding::DoesNotHold(_)) => "DOES NOT HOLD",
            Some(Finding::NotFollowed(_)) => "not followed",
            Some(Finding::DoesNotApply(_)) => "does not apply",
        }
    }

    fn detail(&self) -> &str {
        match &self.finding {
            None => self.what,
            Some(Finding::DoesNotHold(how) | Finding::NotFollowed(how)) => how,
            Some(Finding::DoesNotApply(why)) => why,
        }
    }
}

/// A row for each requirement, in the order of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose sockets: `agent`, `client` or `control client`.
    pub role: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// The rows of what was tried, with a row for every requirement that was not.
    #[must_use]
    pub fn complete(role: &'static str, mut rows: Vec<Row>) -> Self {
        for (id, reason) in requirements::not_tried(role) {
            if rows.iter().all(|row| row.id != id) {
                rows.push(Row {
                    id,
                    what: "",
                    finding: Some(Finding::DoesNotApply(reason)),
                });
            }
        }
        rows.sort_by_key(|row| requirements::place(row.id));
        Self { role, rows }
    }

    /// The numbers of the requirements with this verdict.
    #[must_use]
    pub fn with(&self, verdict: &str) -> Vec<&'static str> {
        let rows = self.rows.iter().filter(|row| row.verdict() == verdict);
        rows.map(|row| row.id).collect()
    }

    /// For a person.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for row in &self.rows {
            if let Some(Finding::DoesNotApply(reason)) = &row.finding {
                match reasons.iter_mut().find(|(known, _)| known == reason) {
                    Some((_, ids)) => ids.push(row.id),
                    None => reasons.push((reason, vec![row.id])),
                }
                continue;
            }
            let _ = writeln!(out, "{:8} {:14} {}", row.id, row.verdict(), row.detail());
        }
        for (reason, ids) in reasons {
            let _ = writeln!(out, "does not apply, {reason}:\n    {}", ids.join(" "));
        }
        out + &self.summary() + "\n"
    }

    /// How many there are of each verdict, in a line; which ones, where something is wrong.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |verdict| self.with(verdict).len();
        let named = |verdict| match &self.with(verdict)[..] {
            [] => String::new(),
            ids => format!(" ({})", ids.join(" ")),
        };
        format!(
            "{}: {} hold, {} do not{}, {} are advice that is not followed{}, {} do not apply",
            self.role,
            count("holds"),
            count("DOES NOT HOLD"),
            named("DOES NOT HOLD"),
            count("not followed"),
            named("not followed"),
            count("does not apply"),
        )
    }

    /// For a program.
    #[must_use]
    pub fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({ "requirement": row.id, "verdict": row.verdict().to_lowercase(),
                        "tried": row.what, "detail": row.detail() })
            })
            .collect();
        let count = |verdict| self.with(verdict).len();
        let summary = json!({ "holds": count("holds"), "does not hold": count("DOES NOT HOLD"),
                              "not followed": count("not followed"),
                              "does not apply": count("does not apply") });
        json!({ "role": self.role, "summary": summary, "requirements": rows }).to_string()
    }

    /// 0 where all hold that can be tried, 1 where some do not.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.with("DOES NOT HOLD").is_empty()))
    }
}

/// Tries a check.
pub fn row<Scene>(check: &Check<Scene>, scene: &Scene) -> Row {
    Row {
        id: check.id,
        what: check.what,
        finding: (check.run)(scene).err(),
    }
}
