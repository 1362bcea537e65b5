//! Charts as SVG elements.
//!
//! Colours are written as for a light ground. `chart.css` turns each into its counterpart where the reader prefers dark,
//! and gives each curve its own dashes, so that no two differ by colour alone.

use plotters::{
    coord::Shift,
    coord::types::RangedCoordf64,
    prelude::{
        Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, DrawingArea,
        IntoDrawingArea as _, LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, Text,
    },
    style::{
        BLACK, IntoFont as _, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::ops::Range;

/// What the page and every file add to a chart.
pub(crate) const STYLE: &str = include_str!("chart.css");

const SIZE: (u32, u32) = (640, 400);
const FONT: &str = "sans-serif";
/// The library writes fonts a fifth smaller.
const FONT_PX: i32 = 17;
const MARGIN_PX: u32 = 14;
const X_LABELS_PX: u32 = 48;
/// The strip above a chart that says what is what.
const LEGEND_PX: u32 = 34;

/// Colours that stay apart for the colour-blind (Okabe and Ito).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Black,
    Blue,
    Orange,
    Green,
}

impl Ink {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Black => BLACK,
            Self::Blue => RGBColor(0x00, 0x72, 0xb2),
            Self::Orange => RGBColor(0xd5, 0x5e, 0x00),
            Self::Green => RGBColor(0x00, 0x9e, 0x73),
        }
    }
}

/// One axis of a chart.
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) range: Range<f64>,
    /// How many marks at most.
    pub(crate) marks: usize,
    pub(crate) format: Box<dyn Fn(f64) -> String>,
}

/// A line that is no curve, with a word beside it.
pub(crate) enum Rule {
    /// A threshold.
    Across(f64, String),
    /// A place.
    Upright(f64, String),
}

/// Points of one kind.
pub(crate) struct Series {
    pub(crate) label: &'static str,
    pub(crate) ink: Ink,
    pub(crate) points: Vec<(f64, f64)>,
    /// Drawn as a line, as dots, or as both.
    pub(crate) joined: bool,
    pub(crate) dots: bool,
}

/// One bar: parts lie on one another.
pub(crate) struct Bar {
    pub(crate) along: Range<f64>,
    pub(crate) parts: Vec<f64>,
}

/// What the plotting library says.
type DrawError = Box<dyn std::error::Error + Send + Sync>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Context<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Lines over numbers.
pub(crate) fn lines(
    [x, y]: [&Axis; 2],
    series: &[Series],
    rules: &[Rule],
) -> Result<String, DrawError> {
    on_paper(SIZE, |area| {
        let entries: Vec<_> = series.iter().map(|one| (one.label, one.ink)).collect();
        let area = below_legend(area, &entries, Swatch::Line)?;
        let mut chart = axes(&area, x, y)?;
        for rule in rules {
            draw_rule(&mut chart, rule, [x, y])?;
        }
        series.iter().try_for_each(|one| draw_line(&mut chart, one))
    })
}

fn draw_rule(
    chart: &mut Context<'_, '_>,
    rule: &Rule,
    [x, y]: [&Axis; 2],
) -> Result<(), DrawError> {
    let (points, label, place, side) = match rule {
        Rule::Across(at, label) => (
            [(x.range.start, *at), (x.range.end, *at)],
            label,
            (x.range.end, *at),
            HPos::Right,
        ),
        Rule::Upright(at, label) => (
            [(*at, y.range.start), (*at, y.range.end)],
            label,
            (*at, y.range.end),
            // Beyond the middle the label would be cut off at the edge.
            if *at > 0.5 * (x.range.start + x.range.end) {
                HPos::Right
            } else {
                HPos::Left
            },
        ),
    };
    let line = PathElement::new(points.to_vec(), BLACK.mix(0.45).stroke_width(1));
    chart.draw_series([line])?;
    let vertical = match rule {
        Rule::Upright(..) => VPos::Top,
        Rule::Across(..) => VPos::Bottom,
    };
    let style = text().pos(Pos::new(side, vertical));
    chart.draw_series([Text::new(format!(" {label} "), place, style)])?;
    Ok(())
}

fn draw_line(chart: &mut Context<'_, '_>, series: &Series) -> Result<(), DrawError> {
    let style = series.ink.rgb().stroke_width(2);
    let points = || {
        series
            .points
            .iter()
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    };
    if series.joined {
        chart.draw_series(LineSeries::new(points(), style))?;
    }
    if series.dots {
        let dot = series.ink.rgb().filled();
        chart.draw_series(points().map(|point| Circle::new(point, 3, dot)))?;
    }
    Ok(())
}

/// Upright bars; `labels` name their parts, from below.
pub(crate) fn bars(
    [x, y]: [&Axis; 2],
    bars: &[Bar],
    labels: &[(&'static str, Ink)],
) -> Result<String, DrawError> {
    on_paper(SIZE, |area| {
        let area = below_legend(area, labels, Swatch::Field)?;
        let mut chart = axes(&area, x, y)?;
        for (part, (_, ink)) in labels.iter().enumerate() {
            let style = ink.rgb().filled();
            let boxes = bars.iter().map(|bar| {
                let below: f64 = bar.parts[..part].iter().sum();
                Rectangle::new(
                    [
                        (bar.along.start, below),
                        (bar.along.end, below + bar.parts[part]),
                    ],
                    style,
                )
            });
            chart.draw_series(boxes)?;
        }
        Ok(())
    })
}

/// Bars lying one under another, each under its name.
pub(crate) fn lying_bars(
    x: &Axis,
    rows: &[(&str, Vec<f64>)],
    labels: &[(&'static str, Ink)],
) -> Result<String, DrawError> {
    const ROW_PX: u32 = 44;
    let height = LEGEND_PX + 2 * MARGIN_PX + X_LABELS_PX + ROW_PX * rows.len() as u32;
    on_paper((SIZE.0, height), |area| {
        let area = below_legend(area, labels, Swatch::Field)?;
        // Row i is from i to i + 1, counted downwards.
        let bottom = rows.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN_PX)
            .x_label_area_size(X_LABELS_PX)
            .build_cartesian_2d(x.range.clone(), bottom..0.0)?;
        mesh(&mut chart, x, None)?;
        for (part, (_, ink)) in labels.iter().enumerate() {
            let style = ink.rgb().filled();
            let boxes = rows.iter().enumerate().map(|(row, (_, parts))| {
                let below: f64 = parts[..part].iter().sum();
                let top = row as f64;
                Rectangle::new(
                    [(below, top + 0.5), (below + parts[part], top + 0.9)],
                    style,
                )
            });
            chart.draw_series(boxes)?;
        }
        let names = rows.iter().enumerate().map(|(row, (name, _))| {
            Text::new(
                (*name).to_owned(),
                (x.range.start, row as f64 + 0.08),
                (FONT, FONT_PX),
            )
        });
        chart.draw_series(names)?;
        Ok(())
    })
}

/// Fields of one chart in shades from 0 to `most`, the first row on top.
pub(crate) fn fields<'v>(
    [x, y]: [&Axis; 2],
    rows: impl Iterator<Item = &'v [u64]>,
    (columns, row_count): (usize, usize),
    most: u64,
) -> Result<String, DrawError> {
    on_paper(SIZE, |area| {
        let (picture, scale) = area.split_horizontally(SIZE.0 - 100);
        let mut chart = axes(&picture, x, y)?;
        let step = |axis: &Axis, count: usize| (axis.range.end - axis.range.start) / count as f64;
        let (dx, dy) = (step(x, columns), step(y, row_count));
        let mut boxes = Vec::new();
        for (row, counts) in rows.enumerate() {
            for (column, count) in counts.iter().enumerate() {
                let (left, top) = (
                    x.range.start + column as f64 * dx,
                    y.range.end - row as f64 * dy,
                );
                let shade = shade(*count as f64 / most.max(1) as f64).filled();
                boxes.push(Rectangle::new([(left, top), (left + dx, top - dy)], shade));
            }
        }
        chart.draw_series(boxes)?;
        shades(&scale, most)
    })
}

/// The scale beside shaded fields.
fn shades(area: &Area<'_>, most: u64) -> Result<(), DrawError> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(MARGIN_PX)
        .margin_bottom(MARGIN_PX + X_LABELS_PX)
        .margin_right(MARGIN_PX)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..1.0, 0.0..most.max(1) as f64)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_x_axis()
        .axis_style(BLACK.mix(0.6))
        .y_labels(5)
        .y_label_formatter(&|count| format!("{count:.0}"))
        .label_style((FONT, FONT_PX).into_font())
        .draw()?;
    const STEPS: usize = 32;
    let at = |step: usize| step as f64 / STEPS as f64;
    chart.draw_series((0..STEPS).map(|step| {
        let high = most.max(1) as f64;
        Rectangle::new(
            [(0.0, at(step) * high), (1.0, at(step + 1) * high)],
            shade(at(step)).filled(),
        )
    }))?;
    Ok(())
}

/// From dark blue through green to yellow, ever lighter: readable in grey too (viridis, five of its colours).
fn shade(part: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 5] = [
        [68.0, 1.0, 84.0],
        [59.0, 82.0, 139.0],
        [33.0, 145.0, 140.0],
        [94.0, 201.0, 98.0],
        [253.0, 231.0, 37.0],
    ];
    let at = part.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (at as usize).min(STOPS.len() - 2);
    let mix = |channel: usize| {
        let (a, b) = (STOPS[low][channel], STOPS[low + 1][channel]);
        (a + (b - a) * (at - low as f64)).round() as u8
    };
    RGBColor(mix(0), mix(1), mix(2))
}

fn on_paper(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

fn axes<'a, 'b>(area: &'a Area<'b>, x: &Axis, y: &Axis) -> Result<Context<'a, 'b>, DrawError> {
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN_PX)
        .x_label_area_size(X_LABELS_PX)
        .y_label_area_size(66)
        .build_cartesian_2d(x.range.clone(), y.range.clone())?;
    mesh(&mut chart, x, Some(y))?;
    Ok(chart)
}

fn mesh(chart: &mut Context<'_, '_>, x: &Axis, y: Option<&Axis>) -> Result<(), DrawError> {
    let x_format = |value: &f64| (x.format)(*value);
    let y_format = |value: &f64| y.map_or(String::new(), |y| (y.format)(*value));
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x.label)
        .x_labels(x.marks)
        .x_label_formatter(&x_format)
        .y_label_formatter(&y_format)
        .label_style((FONT, FONT_PX).into_font())
        .axis_desc_style((FONT, FONT_PX).into_font())
        .axis_style(BLACK.mix(0.6))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(BLACK.mix(0.0));
    match y {
        Some(y) => mesh.y_desc(y.label).y_labels(y.marks),
        None => mesh.disable_y_axis().disable_y_mesh(),
    };
    mesh.draw()?;
    Ok(())
}

/// How a legend shows what it names.
#[derive(Clone, Copy)]
enum Swatch {
    Line,
    Field,
}

/// Names what is drawn, above what is left of the area: inside it would hide curves. One thing needs no name: its axis says
/// what it is.
fn below_legend<'a>(
    area: &Area<'a>,
    entries: &[(&str, Ink)],
    swatch: Swatch,
) -> Result<Area<'a>, DrawError> {
    /// Wide enough for the font's letters on the average; which font it is only the reader knows.
    const LETTER_PX: i32 = 8;
    const SWATCH_PX: i32 = 26;
    const GAP_PX: i32 = 8;
    if entries.len() < 2 {
        return Ok(area.clone());
    }
    let (strip, rest) = area.split_vertically(LEGEND_PX);
    let (mut x, y) = (80, LEGEND_PX as i32 - 12);
    for (label, ink) in entries {
        match swatch {
            Swatch::Line => {
                let line = vec![(x, y), (x + SWATCH_PX, y)];
                strip.draw(&PathElement::new(line, ink.rgb().stroke_width(2)))?;
            }
            Swatch::Field => {
                let corners = [(x, y - 6), (x + SWATCH_PX, y + 6)];
                strip.draw(&Rectangle::new(corners, ink.rgb().filled()))?;
            }
        }
        x += SWATCH_PX + GAP_PX;
        let style = text().pos(Pos::new(HPos::Left, VPos::Center));
        strip.draw(&Text::new((*label).to_owned(), (x, y), style))?;
        x += LETTER_PX * label.chars().count() as i32 + 3 * GAP_PX;
    }
    Ok(rest)
}

fn text() -> TextStyle<'static> {
    (FONT, FONT_PX).into_font().color(&BLACK)
}

/// The chart as an element of a page, read out as `alt`.
pub(crate) fn inline(svg: &str, alt: &str) -> String {
    let alt = maud::html! { (alt) }.into_string();
    svg.replacen(
        "<svg ",
        &format!("<svg class=\"chart\" role=\"img\" aria-label=\"{alt}\" "),
        1,
    )
}

/// The chart as a file of its own.
pub(crate) fn standalone(svg: &str, alt: &str) -> String {
    let svg = inline(svg, alt);
    match svg.split_once('>') {
        Some((open, rest)) => format!("{open}>\n<style>{STYLE}</style>{rest}"),
        None => svg,
    }
}
