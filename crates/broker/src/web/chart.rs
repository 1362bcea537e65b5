//! Lines over the last quarter of an hour, as SVG that takes its colours from the page's style.

use super::history::{EVERY, SAMPLE_COUNT};
use maud::{Markup, html};
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 130.0;
/// Room for what stands at the left and below.
const LEFT: f64 = 76.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 12.0;

/// One line. The first is drawn through, the second dashed, so that they differ without colours too.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The newest last; one for each sample at most.
    pub(super) values: Vec<f64>,
}

/// A chart of values that begin at zero.
pub(super) struct Chart<'a> {
    /// What is drawn, for those who do not see it too.
    pub(super) title: &'a str,
    pub(super) lines: Vec<Line>,
    /// A value as people read it.
    pub(super) told: fn(f64) -> String,
    /// The end of a scale that has room for a value: a number that is as round as what is told.
    pub(super) scale: fn(f64) -> f64,
}

impl Chart<'_> {
    pub(super) fn to_markup(&self) -> Markup {
        let values = self.lines.iter().flat_map(|line| &line.values);
        let highest = (self.scale)(values.copied().fold(0.0, f64::max));
        let minutes = EVERY.as_secs() * SAMPLE_COUNT as u64 / 60;
        html! {
            figure.chart {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.said(minutes)) {
                    @for (value, y) in [(highest, TOP), (0.0, HEIGHT - BOTTOM)] {
                        line.grid x1=(LEFT) x2=(WIDTH) y1=(y) y2=(y) {}
                        text x=(LEFT - 8.0) y=(y + 4.0) text-anchor="end" { ((self.told)(value)) }
                    }
                    text x=(LEFT) y=(HEIGHT - 4.0) { (minutes) " min ago" }
                    text x=(WIDTH) y=(HEIGHT - 4.0) text-anchor="end" { "now" }
                    @for (index, line) in self.lines.iter().enumerate() {
                        polyline.line.{ "line-" (index) } points=(points(&line.values, highest)) {}
                    }
                }
                @if self.lines.len() > 1 {
                    figcaption {
                        @for (index, line) in self.lines.iter().enumerate() {
                            span.key {
                                svg viewBox="0 0 28 8" aria-hidden="true" {
                                    line.line.{ "line-" (index) } x1="0" y1="4" x2="28" y2="4" {}
                                }
                                (line.name)
                            }
                        }
                    }
                }
            }
        }
    }

    fn said(&self, minutes: u64) -> String {
        let mut said = format!("{}, over the last {minutes} minutes.", self.title);
        for line in &self.lines {
            let now = (self.told)(line.values.last().copied().unwrap_or(0.0));
            let most = (self.told)(line.values.iter().copied().fold(0.0, f64::max));
            let _ = write!(said, " {}: now {now}, at most {most}.", line.name);
        }
        said
    }
}

fn points(values: &[f64], highest: f64) -> String {
    let step = (WIDTH - LEFT) / (SAMPLE_COUNT - 1) as f64;
    let mut points = String::new();
    for (back, value) in values.iter().rev().enumerate() {
        let x = WIDTH - back as f64 * step;
        let y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / highest;
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    points.truncate(points.trim_end().len());
    points
}

/// The next of 1, 2 and 5 times a power of ten, so that the scale changes seldom.
pub(super) fn round_up(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let next = steps.into_iter().find(|step| *step >= value);
    next.unwrap_or(10.0 * power)
}

/// The same of bytes, which are told in powers of 1024.
pub(super) fn round_up_bytes(value: f64) -> f64 {
    let unit = if value > 1024.0 && value.is_finite() {
        1024.0_f64.powf(value.log(1024.0).floor())
    } else {
        1024.0
    };
    unit * round_up(value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round_and_nothing_divides_by_zero() {
        for (value, scale) in [
            (0.0, 1.0),
            (f64::NAN, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (7.2, 10.0),
            (130.0, 200.0),
        ] {
            assert_eq!(round_up(value), scale, "{value}");
        }
        for (bytes, scale) in [
            (0.0, 1024.0),
            (500.0, 0.5 * 1024.0),
            (500_000.0, 500.0 * 1024.0),
            (3.0e9, 5.0 * 1024.0 * 1024.0 * 1024.0),
        ] {
            assert_eq!(round_up_bytes(bytes), scale, "{bytes}");
        }
    }

    #[test]
    fn the_newest_value_is_at_the_right_and_the_highest_at_the_top() {
        let right = format!("{WIDTH:.1},{TOP:.1}");
        let points = points(&[0.0, 10.0], 10.0);
        assert!(points.starts_with(&right), "{points}");
        assert!(
            points.ends_with(&format!(",{:.1}", HEIGHT - BOTTOM)),
            "{points}"
        );
    }

    #[test]
    fn it_is_told_in_words_too() {
        let chart = Chart {
            title: "Tasks done a second",
            lines: vec![Line {
                name: "tasks",
                values: vec![3.0, 2.0],
            }],
            told: |value| format!("{value:.0}"),
            scale: round_up,
        };
        let said = chart.said(15);
        assert!(said.ends_with("tasks: now 2, at most 3."), "{said}");
    }
}
