//! The table: what was made to fail where, and what came of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::calls::Fault;
use crate::paths::{PATHS, Path};
use crate::verdict::Found;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    path: &'static str,
    fault: String,
    found: Found,
}

impl Report {
    pub(crate) fn add(&mut self, path: &Path, fault: &Fault<'_>, found: Found) {
        let row = Row {
            path: path.name,
            fault: fault.to_string(),
            found,
        };
        println!("{}", row.line());
        self.rows.push(row);
    }

    /// A call that is not made to fail.
    pub(crate) fn leave_out(&mut self, path: &Path, call: &str) {
        let found = Found {
            outcome: "left out: no kernel fails it with these arguments".to_owned(),
            ..Found::default()
        };
        self.rows.push(Row {
            path: path.name,
            fault: call.to_owned(),
            found,
        });
    }

    /// How many faults were made at all.
    pub(crate) fn injected(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| row.found.injected > 0)
            .count()
    }

    /// What must not be.
    pub(crate) fn harm(&self) -> Vec<String> {
        let harmful = self.rows.iter().filter(|row| !row.found.harm.is_empty());
        harmful.map(Row::line).collect()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|row| PATHS.iter().position(|path| path.name == row.path));
        for row in &rows {
            text += &row.line();
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "\n{} faults on {} paths, {} with harm",
            self.injected(),
            {
                let mut paths: Vec<_> = rows.iter().map(|row| row.path).collect();
                paths.dedup();
                paths.len()
            },
            self.harm().len()
        );
        text
    }

    pub(crate) fn print(&self) {
        println!("{}", self.text().lines().last().unwrap_or(""));
    }

    /// Writes `target/faults/report.txt`.
    pub(crate) fn write(&self) -> PathBuf {
        let folder = integration_tests::pool::program("kes-agent")
            .parent()
            .unwrap()
            .join("../faults");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.canonicalize().unwrap().join("report.txt");
        std::fs::write(&path, self.text()).unwrap();
        path
    }
}

impl Row {
    fn line(&self) -> String {
        let mut line = format!("{:<9} {:<38} ", self.path, self.fault);
        if self.found.harm.is_empty() {
            line += &self.found.outcome;
        } else {
            let _ = write!(line, "HARM: {}", self.found.harm.join("; "));
        }
        line.split('\n').collect::<Vec<_>>().join(" ")
    }
}
