//! The plots, as SVG.

use plotters::prelude::*;

use super::super::measure::median;
use super::boundaries::HeldUp;
use super::{bench_file, percentile};

const SIZE: (u32, u32) = (900, 520);
const OURS: RGBColor = RGBColor(0, 114, 178);
const PLAIN: RGBColor = RGBColor(120, 120, 120);
const OTHER: RGBColor = RGBColor(213, 94, 0);

/// A line with its name.
struct Series<'a> {
    name: &'a str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The distribution of signing times: the time against how rare it is, so that the tail is seen.
/// Takes sorted times in microseconds.
pub(super) fn replacement(plain: &[f64], replaced: &[f64]) {
    let curve = |sorted: &[f64]| -> Vec<(f64, f64)> {
        // One point for each tenth of a nine: 90 %, 99 %, ...; the last is the worst.
        let nines = (0..=60).map(|tenths| f64::from(tenths) / 10.0);
        nines
            .map(|nines| (nines, percentile(sorted, 1.0 - 10f64.powf(-nines))))
            .collect()
    };
    let series = [
        Series {
            name: "another node's key is replaced",
            colour: PLAIN,
            points: curve(plain),
        },
        Series {
            name: "the signing node's key is replaced",
            colour: OURS,
            points: curve(replaced),
        },
    ];
    draw(
        "hot_key_replacement.svg",
        "A signature while keys are replaced 1,000 times a second",
        "nines (1: 90 %, 3: 99.9 %, to the right end the worst)",
        "microseconds",
        &series,
    );
}

/// What each boundary costs, by the way of evolving.
pub(super) fn boundaries(ours: &HeldUp, locked: &HeldUp, summed: &HeldUp) {
    let medians = |held_up: &HeldUp| -> Vec<(f64, f64)> {
        (1u32..)
            .zip(held_up)
            // A logarithm has no place for what lies in the noise.
            .map(|(to, times)| (f64::from(to), median(times.clone()).max(0.05)))
            .collect()
    };
    let series = [
        Series {
            name: "kes-summed-ed25519, evolving under a lock",
            colour: OTHER,
            points: medians(summed),
        },
        Series {
            name: "this SignKey, evolving under a lock",
            colour: PLAIN,
            points: medians(locked),
        },
        Series {
            name: "the hot key",
            colour: OURS,
            points: medians(ours),
        },
    ];
    draw(
        "hot_key_boundaries.svg",
        "How long the first signature of a period is held up",
        "to evolution",
        "microseconds beyond a plain signature (median)",
        &series,
    );
}

/// Draws lines over a logarithmic ordinate.
fn draw(file: &str, title: &str, abscissa: &str, ordinate: &str, series: &[Series<'_>]) {
    let path = bench_file(file);
    let all = || series.iter().flat_map(|series| series.points.iter());
    let last = all().map(|point| point.0).fold(0.0, f64::max);
    let low = all().map(|point| point.1).fold(f64::MAX, f64::min);
    let high = all().map(|point| point.1).fold(0.0, f64::max);
    let root = SVGBackend::new(&path, SIZE).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, (low * 0.8..high * 4.0).log_scale())
        .unwrap();
    chart
        .configure_mesh()
        .x_desc(abscissa)
        .y_desc(ordinate)
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(WHITE)
        .draw()
        .unwrap();
    for Series {
        name,
        colour,
        points,
    } in series
    {
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .unwrap()
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .unwrap();
    root.present().unwrap();
    drop(chart);
    drop(root);
    println!("plotted: {}", path.display());
}
