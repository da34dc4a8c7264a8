//! The rows, as a table and as JSON.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::measure::Pair;

/// What a figure shall be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// None: the figure is for information.
    None,
    /// At most this many times what it stands against.
    AtMostTimes(f64),
    /// At least this many times faster than what it stands against.
    TimesFaster(f64),
    /// At most so much more, in the figure's unit, than what it stands against.
    AtMostMore(f64),
    /// At most so much, in the figure's unit.
    AtMost(f64),
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared with, and that one's value in the same unit.
    pub(crate) against: Option<(&'static str, f64)>,
    pub(crate) goal: Goal,
}

impl Row {
    /// A row of a pair of times, in microseconds.
    pub(crate) fn of(
        name: impl Into<String>,
        pair: Pair,
        against: &'static str,
        goal: Goal,
    ) -> Self {
        Self {
            name: name.into(),
            value: pair.ours / 1e3,
            unit: "us",
            against: Some((against, pair.theirs / 1e3)),
            goal,
        }
    }

    /// The value as a multiple of what it stands against; there is none of nothing.
    fn ratio(&self) -> Option<f64> {
        let ratio = self.against.map(|(_, theirs)| self.value / theirs);
        ratio.filter(|ratio| ratio.is_finite())
    }

    fn holds(&self) -> Option<bool> {
        match (self.goal, self.against) {
            (Goal::AtMostTimes(most), Some((_, theirs))) => Some(self.value <= most * theirs),
            (Goal::TimesFaster(least), Some((_, theirs))) => Some(self.value * least <= theirs),
            (Goal::AtMostMore(most), Some((_, theirs))) => Some(self.value - theirs <= most),
            (Goal::AtMost(most), _) => Some(self.value <= most),
            (Goal::None, _)
            | (Goal::AtMostTimes(_) | Goal::TimesFaster(_) | Goal::AtMostMore(_), None) => None,
        }
    }

    fn goal(&self) -> String {
        let unit = self.unit;
        match self.goal {
            Goal::None => String::new(),
            Goal::AtMostTimes(most) => format!("at most {most:.2} times"),
            Goal::TimesFaster(least) => format!("at least {least} times faster"),
            Goal::AtMostMore(most) => format!("at most {most} {unit} more"),
            Goal::AtMost(most) => format!("at most {most} {unit}"),
        }
    }

    /// How the value compares, in the words of its goal.
    fn comparison(&self) -> String {
        let Some((_, theirs)) = self.against else {
            return String::new();
        };
        match self.goal {
            Goal::TimesFaster(_) => format!("{:.2} times faster", theirs / self.value),
            Goal::AtMostMore(_) => format!("{:+.2} {}", self.value - theirs, self.unit),
            Goal::None | Goal::AtMostTimes(_) | Goal::AtMost(_) => self
                .ratio()
                .map_or_else(String::new, |ratio| format!("{ratio:.3} times")),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "against": self.against.map(|(what, _)| what),
            "ratio": self.ratio(),
            "goal": Some(self.goal()).filter(|goal| !goal.is_empty()),
            "holds": self.holds(),
        })
    }
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("measured: {}", row.name);
        self.rows.push(row);
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let head = [
            "figure",
            "value",
            "against",
            "",
            "comparison",
            "goal",
            "holds",
        ];
        let mut lines = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let amount = |value: f64| format!("{value:.2} {}", row.unit);
            lines.push([
                row.name.clone(),
                amount(row.value),
                row.against.map_or_else(String::new, |(_, v)| amount(v)),
                row.against
                    .map_or_else(String::new, |(what, _)| what.to_owned()),
                row.comparison(),
                row.goal(),
                match row.holds() {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "",
                }
                .to_owned(),
            ]);
        }
        let widths: [usize; 7] =
            std::array::from_fn(|at| lines.iter().map(|l| l[at].len()).max().unwrap_or(0));
        println!();
        for line in &lines {
            let mut text = String::new();
            for (at, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Amounts stand flush right.
                text += &if at == 1 || at == 2 {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
            }
            println!("{}", text.trim_end());
        }
        let missed: Vec<_> = self
            .rows
            .iter()
            .filter(|r| r.holds() == Some(false))
            .collect();
        if missed.is_empty() {
            println!("\nEvery goal holds.");
        } else {
            println!("\nGOALS THAT DO NOT HOLD: {}", missed.len());
            for row in missed {
                println!("  {}: {} ({})", row.name, row.comparison(), row.goal());
            }
        }
    }

    /// Writes `target/bench/report.json`.
    pub(crate) fn write(&self) -> PathBuf {
        let folder = super::processes::programs().join("../bench");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.canonicalize().unwrap().join("report.json");
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let text = serde_json::to_string_pretty(&rows).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
        path
    }
}
