//! The cost as the number of nodes grows.

use plotters::prelude::*;

use super::Figures;
use crate::processes::programs;

/// What is drawn of the figures.
type Part = fn(&Figures) -> f64;

/// Writes `target/bench/scale.svg`, both axes logarithmic.
pub(super) fn draw(all: &[Figures]) {
    let lines: [(&str, RGBColor, Part); 5] = [
        ("key pushed: the last has it", RGBColor(213, 94, 0), |f| {
            f.last
        }),
        ("key pushed: the median", RGBColor(230, 159, 0), |f| {
            f.median
        }),
        ("key pushed: the first", RGBColor(120, 120, 120), |f| {
            f.first
        }),
        ("a command, p99", RGBColor(0, 114, 178), |f| f.command_p99),
        ("a node that reconnects, p99", RGBColor(0, 158, 115), |f| {
            f.reconnection_p99
        }),
    ];
    let points = |part: Part| -> Vec<(f64, f64)> {
        #[allow(clippy::cast_precision_loss)]
        all.iter()
            .map(|f| (f.nodes as f64, part(f).max(0.01)))
            .collect()
    };
    let heights = || {
        lines
            .iter()
            .flat_map(|line| points(line.2))
            .map(|point| point.1)
    };
    let (low, high) = (
        heights().fold(f64::MAX, f64::min),
        heights().fold(0.0, f64::max),
    );
    if all.len() < 2 {
        return;
    }
    let folder = programs().join("../bench");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.canonicalize().unwrap().join("scale.svg");
    let root = SVGBackend::new(&path, (900, 520)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&root)
        .caption("Nodes connected to one agent", ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (90.0..11_000.0).log_scale(),
            (low * 0.7..high * 6.0).log_scale(),
        )
        .unwrap();
    chart
        .configure_mesh()
        .x_desc("nodes")
        .y_desc("milliseconds")
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(WHITE)
        .draw()
        .unwrap();
    for (name, colour, part) in lines {
        chart
            .draw_series(LineSeries::new(points(part), colour.stroke_width(2)).point_size(3))
            .unwrap()
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .unwrap();
    root.present().unwrap();
    println!("plotted: {}", path.display());
}
