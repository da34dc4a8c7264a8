//! What the agents take of the machine, over time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::prelude::*;

use crate::nodes::Periods;
use crate::pool::{Site, Which};

/// How many samples there are in all.
const SAMPLES: u32 = 120;
/// By how much the steady agent's memory may be larger in the last quarter than in the second: the
/// allocator's arenas fill while things are first done.
const MEMORY_MARGIN_KIB: u64 = 1024;
/// By how many descriptors it may have more: a connection that has just come.
const DESCRIPTOR_MARGIN: u64 = 3;

struct Sample {
    at: Duration,
    first: Taken,
    steady: Taken,
    signatures: u64,
}

#[derive(Clone, Copy)]
struct Taken {
    rss_kib: u64,
    descriptors: u64,
    threads: u64,
}

impl Taken {
    fn by(pid: u32) -> Self {
        let process = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap().split_whitespace().next().unwrap();
            number.parse().unwrap()
        };
        Self {
            rss_kib: field("VmRSS:"),
            threads: field("Threads:"),
            descriptors: std::fs::read_dir(process.join("fd")).unwrap().count() as u64,
        }
    }
}

pub(crate) struct Samples {
    every: Duration,
    taken: Vec<Sample>,
}

impl Samples {
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            every: lasts / SAMPLES,
            taken: Vec::new(),
        }
    }

    /// Takes one where it is time.
    pub(crate) fn take(&mut self, at: Duration, site: &mut Site, signatures: u64) {
        let is_time = self
            .taken
            .last()
            .is_none_or(|last| at >= last.at + self.every);
        if is_time {
            self.taken.push(Sample {
                at,
                first: Taken::by(site.pid(Which::First)),
                steady: Taken::by(site.pid(Which::Steady)),
                signatures,
            });
        }
    }

    /// The steady agent's figure in the middle of this part of the samples, of so many quarters.
    fn in_quarter(&self, quarter: usize, figure: impl Fn(&Taken) -> u64) -> u64 {
        let length = (self.taken.len() / 4).max(1);
        let part = self.taken.iter().skip(quarter * length).take(length);
        let mut figures: Vec<u64> = part.map(|sample| figure(&sample.steady)).collect();
        figures.sort_unstable();
        figures.get(figures.len() / 2).copied().unwrap_or(0)
    }

    /// What has grown that must not.
    pub(crate) fn grown(&self) -> Vec<String> {
        let mut grown = Vec::new();
        let mut compare = |what: &str, figure: fn(&Taken) -> u64, margin: u64| {
            let (before, after) = (self.in_quarter(1, figure), self.in_quarter(3, figure));
            if after > before + margin {
                grown.push(format!("{what}: from {before} to {after}"));
            }
        };
        compare("memory in KiB", |t| t.rss_kib, MEMORY_MARGIN_KIB);
        compare("descriptors", |t| t.descriptors, DESCRIPTOR_MARGIN);
        compare("threads", |t| t.threads, 0);
        grown
    }

    /// The table.
    pub(crate) fn report(
        &self,
        seed: u64,
        counts: &BTreeMap<&str, u64>,
        nodes: &[Periods],
    ) -> String {
        let mut text = format!(
            "KES_SOAK_SEED={seed}\n\n{:>8} | steady agent: {:>7} {:>5} {:>7} | restarted agent: {:>7} \
             {:>5} {:>7} | {:>10}\n",
            "seconds", "KiB", "files", "threads", "KiB", "files", "threads", "signatures"
        );
        for sample in self.taken.iter().step_by((self.taken.len() / 24).max(1)) {
            let (steady, first) = (sample.steady, sample.first);
            let _ = writeln!(
                text,
                "{:>8.1} | {:>21} {:>5} {:>7} | {:>24} {:>5} {:>7} | {:>10}",
                sample.at.as_secs_f64(),
                steady.rss_kib,
                steady.descriptors,
                steady.threads,
                first.rss_kib,
                first.descriptors,
                first.threads,
                sample.signatures
            );
        }
        let _ = writeln!(text, "\nDone: {counts:?}");
        for (n, node) in (1..).zip(nodes) {
            let _ = writeln!(
                text,
                "Node {n}: valid signatures in {} periods, none in {}",
                node.signed, node.missed
            );
        }
        let (before, after) = (
            self.in_quarter(1, |t| t.rss_kib),
            self.in_quarter(3, |t| t.rss_kib),
        );
        let _ = writeln!(
            text,
            "The steady agent's memory: {before} KiB in the second quarter, {after} KiB in the last \
             ({MEMORY_MARGIN_KIB} more are let pass)"
        );
        text
    }

    /// Writes `target/soak/report.txt` and `memory.svg`.
    pub(crate) fn write(&self, report: &str) -> PathBuf {
        let programs = integration_tests::pool::program("kes-agent");
        let folder = programs.parent().unwrap().join("../soak");
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        std::fs::write(folder.join("report.txt"), report).unwrap();
        self.plot(&folder.join("memory.svg"));
        folder
    }

    #[allow(clippy::cast_precision_loss)]
    fn plot(&self, path: &Path) {
        let line = |figure: fn(&Sample) -> u64| -> Vec<(f64, f64)> {
            let point = |sample: &Sample| (sample.at.as_secs_f64(), figure(sample) as f64);
            self.taken.iter().map(point).collect()
        };
        let series = [
            (
                "memory of the steady agent, KiB",
                RGBColor(0, 114, 178),
                line(|s| s.steady.rss_kib),
            ),
            (
                "memory of the restarted agent, KiB",
                RGBColor(120, 120, 120),
                line(|s| s.first.rss_kib),
            ),
            (
                "descriptors of the steady agent, times 100",
                RGBColor(213, 94, 0),
                line(|s| s.steady.descriptors * 100),
            ),
        ];
        let all = || series.iter().flat_map(|(_, _, points)| points.iter());
        let last = all().map(|point| point.0).fold(1.0, f64::max);
        let high = all().map(|point| point.1).fold(1.0, f64::max);
        let root = SVGBackend::new(path, (900, 520)).into_drawing_area();
        root.fill(&WHITE).unwrap();
        let mut chart = ChartBuilder::on(&root)
            .caption(
                "Two agents under random commands, nodes, restarts and periods",
                ("sans-serif", 22),
            )
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..last, 0.0..high * 1.3)
            .unwrap();
        chart
            .configure_mesh()
            .x_desc("seconds")
            .light_line_style(WHITE)
            .draw()
            .unwrap();
        for (name, colour, points) in series {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))
                .unwrap()
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()
            .unwrap();
        root.present().unwrap();
    }
}
