//! Pictures of the particles' poses: where they look from, how sure that is, how far off the centre they lie.

use crate::{
    Broken, Content, Picture, Poses, Table,
    chart::{self, Axis, Bar, Ink},
    curves::broken,
    sky,
};

/// Bars of a histogram.
const BARS: usize = 20;

/// Viewing directions as a heat map.
pub(crate) fn directions(poses: &Poses) -> Result<Picture, Broken> {
    let x = Axis {
        label: "rot (degrees)",
        range: -180.0..180.0,
        marks: 8,
        format: Box::new(|value| format!("{value:.0}")),
    };
    // Height is the cosine of the tilt: fields of equal height have equal area on the sphere.
    let y = Axis {
        label: "tilt (degrees)",
        range: -1.0..1.0,
        marks: 5,
        format: Box::new(|value| format!("{:.0}", value.clamp(-1.0, 1.0).acos().to_degrees())),
    };
    let sky = &poses.sky;
    let drawn = chart::fields([&x, &y], sky.rows(), (sky::COLUMNS, sky::ROWS), sky.most());
    Ok(Picture {
        name: "directions",
        title: "Viewing directions".to_owned(),
        caption: "How many particles look along each direction, counted at every mate of the symmetry. Fields have equal areas \
                  on the sphere. Good: no large dark regions; a few bright spots on dark are a preferred orientation, and smear \
                  the map along them."
            .to_owned(),
        alt: format!(
            "Heat map of viewing directions. The fullest field has {} views; {:.0} % of the fields have none.",
            sky.most(),
            100.0 * sky.empty_part()
        ),
        content: Content::Svg(drawn.map_err(|error| broken("directions", error))?),
        table: None,
    })
}

/// How sure poses are, and how far particles lie off the centre.
pub(crate) fn histograms(poses: &Poses) -> [Result<Picture, Broken>; 2] {
    let furthest = poses
        .shifts_angstrom
        .iter()
        .copied()
        .filter(|shift| shift.is_finite());
    let furthest = furthest.fold(0.0, f64::max).max(1.0).ceil();
    [
        histogram(Histogram {
            name: "weights",
            title: "Weight of the best pose",
            caption: "The part of each particle's posterior that its best pose has (rlnMaxValueProbDistribution). Good: a pile at \
                      the right, which grows from round to round; a pile at the left means that many poses explain a particle \
                      as well.",
            label: "weight",
            range: 0.0..1.0,
            format: |value| format!("{value:.1}"),
            values: &poses.weights,
        }),
        histogram(Histogram {
            name: "shifts",
            title: "Shifts",
            caption: "How far each particle lies off the centre of its image. Good: most are near 0. A pile at the right end means that the largest \
                      shift allowed (--max-shift) is too small.",
            label: "shift (Å)",
            range: 0.0..furthest,
            format: |value| format!("{value:.1}"),
            values: &poses.shifts_angstrom,
        }),
    ]
}

struct Histogram<'a> {
    name: &'static str,
    title: &'static str,
    caption: &'static str,
    label: &'static str,
    range: std::ops::Range<f64>,
    format: fn(f64) -> String,
    values: &'a [f64],
}

fn histogram(of: Histogram<'_>) -> Result<Picture, Broken> {
    let width = (of.range.end - of.range.start) / BARS as f64;
    let counts = counted(of.values, of.range.start, width);
    let highest = counts.iter().copied().max().unwrap_or(0).max(1);
    let from = |bar: usize| of.range.start + bar as f64 * width;
    let bars: Vec<Bar> = counts
        .iter()
        .enumerate()
        .map(|(bar, count)| Bar {
            along: from(bar)..from(bar) + 0.92 * width,
            parts: vec![*count as f64],
        })
        .collect();
    let x = Axis {
        label: of.label,
        range: of.range.clone(),
        marks: 10,
        format: Box::new(of.format),
    };
    let y = Axis {
        label: "particles",
        range: 0.0..1.05 * highest as f64,
        marks: 6,
        format: Box::new(|value| format!("{value:.0}")),
    };
    let mut table = Table::new(["from", "to", "particles"]);
    for (bar, count) in counts.iter().enumerate() {
        table.row([
            format!("{:.2}", from(bar)),
            format!("{:.2}", from(bar + 1)),
            count.to_string(),
        ]);
    }
    let drawn = chart::bars([&x, &y], &bars, &[("particles", Ink::Blue)]);
    Ok(Picture {
        name: of.name,
        title: of.title.to_owned(),
        caption: of.caption.to_owned(),
        alt: format!(
            "Histogram of {} particles; the median is {:.2}.",
            of.values.len(),
            median(of.values)
        ),
        content: Content::Svg(drawn.map_err(|error| broken(of.name, error))?),
        table: Some(table),
    })
}

/// How many values each bar holds; what lies outside is in the outermost.
fn counted(values: &[f64], start: f64, width: f64) -> [usize; BARS] {
    let mut counts = [0; BARS];
    for value in values.iter().filter(|value| value.is_finite()) {
        counts[(((value - start) / width) as usize).min(BARS - 1)] += 1;
    }
    counts
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilt_0_is_on_top() {
        let mut poses = Poses::default();
        poses.sky.add([0.0, 0.0, 1.0]);
        let Content::Svg(svg) = directions(&poses).unwrap().content else {
            panic!("no chart")
        };
        let number = |line: &str, name: &str| -> f64 {
            let value = line.split_once(&format!(" {name}=\"")).unwrap().1;
            value.split_once('"').unwrap().0.parse().unwrap()
        };
        // The fullest field has the scale's lightest colour, and that is in the chart's first row, its label beside it.
        let field = svg.lines().find(|line| line.contains("#FDE725")).unwrap();
        let label = svg.lines().position(|line| line == "180").unwrap();
        let label = svg.lines().nth(label - 1).unwrap();
        assert!(
            number(field, "y") + 200.0 < number(label, "y"),
            "{field} {label}"
        );
    }

    #[test]
    fn every_value_is_in_one_bar() {
        let values: Vec<f64> = (0..=1000).map(|value| value as f64 / 1000.0).collect();
        let counts = counted(&values, 0.0, 0.05);
        assert_eq!(counts.iter().sum::<usize>(), 1001);
        assert!(
            counts.iter().all(|count| (49..=51).contains(count)),
            "{counts:?}"
        );
        let [weights, _] = histograms(&Poses {
            weights: values,
            ..Poses::default()
        });
        let table = weights.unwrap().table.unwrap();
        assert_eq!(table.rows.len(), BARS);
        assert_eq!(table.rows[0][..2], ["0.00", "0.05"]);
    }
}
