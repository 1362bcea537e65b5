//! Pictures of what post-processing measures: the FSC and the Guinier plot.

use crate::{
    Broken, Content, Fsc, Guinier, Picture, Table,
    chart::{self, Axis, Ink, Rule, Series},
};

/// The bounds at which resolutions are told.
const THRESHOLDS: [f64; 2] = [0.143, 0.5];

/// The correlation of the half-maps by resolution: one curve while rounds go on, four once they are post-processed.
pub(crate) fn fsc(fsc: &Fsc) -> Result<Picture, Broken> {
    let frequency = |shell: usize| shell as f64 / fsc.box_angstrom;
    let series = |label, ink, curve: &[f64]| Series {
        label,
        ink,
        points: (0..curve.len())
            .map(|shell| (frequency(shell), curve[shell]))
            .collect(),
        joined: true,
        dots: false,
    };
    // Dashes on top of the whole line: where curves coincide, both are seen.
    let mut all = Vec::new();
    if let Some(found) = &fsc.masked {
        all.push(series("corrected", Ink::Black, &found.corrected));
        all.push(series("masked", Ink::Green, &found.masked));
        all.push(series("random phases", Ink::Orange, &found.randomised));
    }
    all.push(series("unmasked", Ink::Blue, &fsc.unmasked));
    let lowest = all
        .iter()
        .flat_map(|one| &one.points)
        .map(|point| point.1)
        .fold(0.0, f64::min);
    let last = fsc.unmasked.len().max(2) - 1;
    let x = Axis {
        label: "resolution (Å)",
        range: 0.0..frequency(last),
        marks: 8,
        format: Box::new(as_resolution),
    };
    let y = Axis {
        label: "FSC",
        range: (lowest - 0.03).max(-1.0)..1.03,
        marks: 8,
        format: Box::new(|value| format!("{value:.1}")),
    };
    let mut rules: Vec<Rule> = THRESHOLDS.map(|at| Rule::Across(at, at.to_string())).into();
    rules.extend(
        resolution(fsc).map(|angstrom| Rule::Upright(1.0 / angstrom, format!("{angstrom:.1} Å"))),
    );
    let drawn = chart::lines([&x, &y], &all, &rules);
    Ok(Picture {
        name: "fsc",
        title: "Fourier shell correlation".to_owned(),
        caption: match &fsc.masked {
            Some(_) => "How alike the two half-maps are at each resolution. The corrected curve counts: it is the masked one \
                without what the mask itself adds, which random phases show. The resolution, upright, is where it falls below \
                0.143. Good: it stays near 1, falls once, and ends about 0; random phases are near 0 at the resolution. A curve \
                that rises again, or never falls, tells of a mask too tight, of duplicates in both halves, or of pixels too large.",
            None => "How alike the two half-maps of the last round are at each resolution, without a mask; upright where it \
                falls below 0.143. Good: it stays near 1, falls once, and ends about 0, further to the right each round. The \
                masked and corrected curves come when the rounds are over.",
        }
        .to_owned(),
        alt: fsc_in_words(fsc),
        content: Content::Svg(drawn.map_err(|error| broken("fsc", error))?),
        table: Some(fsc_table(fsc)),
    })
}

/// Where the curve that counts falls below 0.143.
fn resolution(fsc: &Fsc) -> Option<f64> {
    match &fsc.masked {
        Some(found) => found.resolution_angstrom,
        None => {
            let first = fsc.unmasked.iter().position(|value| *value < THRESHOLDS[0]);
            let shell = first.filter(|shell| *shell > 0)?;
            Some(fsc.box_angstrom / shell as f64)
        }
    }
}

fn fsc_in_words(fsc: &Fsc) -> String {
    match &fsc.masked {
        Some(found) => match found.resolution_angstrom {
            Some(angstrom) => format!(
                "Four curves of correlation against resolution: unmasked, masked, with random phases, corrected. The corrected \
                 curve falls below 0.143 at {angstrom:.2} Å."
            ),
            None => "Four curves of correlation against resolution. The half-maps share nothing."
                .to_owned(),
        },
        None => {
            let end = resolution(fsc).map_or("stays above 0.143".to_owned(), |at| {
                format!("is below 0.143 first at {at:.2} Å")
            });
            format!("One curve of correlation against resolution, unmasked; it {end}.")
        }
    }
}

fn fsc_table(fsc: &Fsc) -> Table {
    let mut table = Table::new([
        "shell",
        "Å",
        "unmasked",
        "masked",
        "random phases",
        "corrected",
    ]);
    for (shell, unmasked) in fsc.unmasked.iter().enumerate().skip(1) {
        let masked = |of: fn(&crate::Masked) -> &Vec<f64>| {
            let value = fsc.masked.as_ref().and_then(|found| of(found).get(shell));
            value.map_or("–".to_owned(), |value| format!("{value:.4}"))
        };
        table.row([
            shell.to_string(),
            format!("{:.2}", fsc.box_angstrom / shell as f64),
            format!("{unmasked:.4}"),
            masked(|found| &found.masked),
            masked(|found| &found.randomised),
            masked(|found| &found.corrected),
        ]);
    }
    table
}

/// ln|F| over 1/d²: the straighter it falls beyond 10 Å, the better the B-factor describes it.
pub(crate) fn guinier(guinier: &Guinier) -> Result<Picture, Broken> {
    let points: Vec<(f64, f64)> = (1..guinier.amplitudes.len())
        .map(|shell| {
            (
                shell as f64 / guinier.box_angstrom,
                guinier.amplitudes[shell],
            )
        })
        .filter(|(_, amplitude)| *amplitude > 0.0)
        .map(|(frequency, amplitude)| (frequency * frequency, amplitude.ln()))
        .collect();
    let of =
        |pick: fn(f64, f64) -> f64, from: f64| points.iter().map(|point| point.1).fold(from, pick);
    let (low, high) = (of(f64::min, f64::INFINITY), of(f64::max, f64::NEG_INFINITY));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = 0.05 * (high - low) + 0.1;
    let x = Axis {
        label: "1/d² (1/Å²)",
        range: 0.0..points.last().map_or(1.0, |point| point.0),
        marks: 6,
        format: Box::new(|value| format!("{value:.4}")),
    };
    let y = Axis {
        label: "ln |F|",
        range: low - margin..high + margin,
        marks: 8,
        format: Box::new(|value| format!("{value:.1}")),
    };
    let mut table = Table::new(["1/d² (1/Å²)", "ln |F|"]);
    for (square, logarithm) in &points {
        table.row([format!("{square:.6}"), format!("{logarithm:.4}")]);
    }
    let mut series = vec![Series {
        label: "amplitudes",
        ink: Ink::Blue,
        points,
        joined: false,
        dots: true,
    }];
    series.extend(guinier.line.map(|line| {
        Series {
            label: "fitted line",
            ink: Ink::Black,
            points: [line.from_angstrom, line.to_angstrom]
                .map(|angstrom| angstrom.powi(-2))
                .map(|square| (square, line.intercept + line.slope * square))
                .to_vec(),
            joined: true,
            dots: false,
        }
    }));
    let drawn = chart::lines([&x, &y], &series, &[]);
    Ok(Picture {
        name: "guinier",
        title: "Guinier plot".to_owned(),
        caption: "How fast the map's amplitudes fall with resolution. The slope of the line is what the B-factor makes up for. \
                  Good: beyond 10 Å (0.01) the dots follow the line; a B-factor of -50 to -200 Å² is usual, less for better \
                  data. Without detail finer than 10 Å there is nothing to fit."
            .to_owned(),
        alt: match guinier.line {
            Some(line) => format!(
                "Amplitudes by resolution with a line fitted from {:.1} to {:.2} Å; the map was sharpened by {:.1} Å².",
                line.from_angstrom, line.to_angstrom, line.b_factor_angstrom2
            ),
            None => "Amplitudes by resolution; no line could be fitted.".to_owned(),
        },
        content: Content::Svg(drawn.map_err(|error| broken("guinier", error))?),
        table: Some(table),
    })
}

fn as_resolution(frequency: f64) -> String {
    if frequency <= 0.0 {
        "∞".to_owned()
    } else {
        format!("{:.1}", 1.0 / frequency)
    }
}

pub(crate) fn broken(name: &'static str, problem: impl ToString) -> Broken {
    Broken {
        name,
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points of the one curve of this colour.
    fn curve(svg: &str, colour: &str) -> Vec<(f64, f64)> {
        // The legend, where there is one, is drawn before.
        let line = svg
            .lines()
            .rfind(|line| line.starts_with("<polyline") && line.contains(colour))
            .unwrap();
        let points = line.split_once("points=\"").unwrap().1;
        let number = |text: &str| text.parse::<f64>().unwrap();
        let (points, _) = points.split_once('"').unwrap();
        let points = points
            .split_whitespace()
            .map(|point| point.split_once(',').unwrap());
        points.map(|(x, y)| (number(x), number(y))).collect()
    }

    #[test]
    fn the_curve_drawn_is_the_curve_given() {
        let unmasked: Vec<f64> = (0..33).map(|shell| 1.0 - shell as f64 / 32.0).collect();
        let picture = fsc(&Fsc {
            box_angstrom: 256.0,
            unmasked: unmasked.clone(),
            masked: None,
        })
        .unwrap();
        let Content::Svg(svg) = &picture.content else {
            panic!("no chart")
        };
        let points = curve(svg, "#0072B2");
        assert_eq!(points.len(), unmasked.len());
        // A straight line with equal steps, drawn in whole pixels.
        let (first, last) = (points[0], points[32]);
        for (shell, point) in points.iter().enumerate() {
            let part = shell as f64 / 32.0;
            assert!(
                (point.0 - first.0 - part * (last.0 - first.0)).abs() <= 1.0,
                "{shell}"
            );
            assert!(
                (point.1 - first.1 - part * (last.1 - first.1)).abs() <= 1.0,
                "{shell}"
            );
        }
        assert!(
            last.1 - first.1 > 200.0 && last.0 - first.0 > 400.0,
            "{points:?}"
        );
        assert!(
            picture.alt.contains("below 0.143 first at 9.14 Å"),
            "{}",
            picture.alt
        );
        assert_eq!(picture.table.unwrap().rows[3][2], "0.8750");
    }

    #[test]
    fn four_curves_have_four_colours() {
        let flat = |value: f64| vec![value; 17];
        let picture = fsc(&Fsc {
            box_angstrom: 64.0,
            unmasked: flat(0.9),
            masked: Some(crate::Masked {
                masked: flat(0.8),
                randomised: flat(0.1),
                corrected: flat(0.7),
                resolution_angstrom: Some(4.25),
            }),
        })
        .unwrap();
        let Content::Svg(svg) = &picture.content else {
            panic!("no chart")
        };
        let heights = ["#0072B2", "#009E73", "#D55E00"].map(|colour| curve(svg, colour)[0].1);
        assert!(
            heights[0] < heights[1] && heights[1] < heights[2],
            "{heights:?}"
        );
        for name in ["unmasked", "masked", "random phases", "corrected"] {
            assert!(svg.contains(name), "{name}");
        }
        assert!(picture.alt.contains("4.25 Å"));
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        let empty = Guinier {
            box_angstrom: 100.0,
            amplitudes: vec![0.0; 5],
            line: None,
        };
        guinier(&empty).unwrap();
        fsc(&Fsc {
            box_angstrom: 100.0,
            unmasked: vec![f64::NAN; 5],
            masked: None,
        })
        .unwrap();
    }
}
