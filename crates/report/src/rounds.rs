//! Pictures of how the refinement went: resolution and poses by round, time by stage and worker.

use crate::{
    Broken, Content, Picture, Round, StageTimes, Table, Worker,
    chart::{self, Axis, Bar, Ink, Series},
    curves::broken,
};

const STAGES: [(&str, Ink); 3] = [
    ("alignment", Ink::Blue),
    ("insertion", Ink::Green),
    ("summing", Ink::Orange),
];

/// Workers that get a bar of their own; the rest share the last.
const WORKERS_SHOWN: usize = 24;

/// Resolution, pose change and time by round; nothing before the first.
pub(crate) fn pictures(rounds: &[Round], last: Option<StageTimes>) -> Vec<Result<Picture, Broken>> {
    if rounds.is_empty() {
        return Vec::new();
    }
    let mut all = vec![resolution(rounds)];
    if rounds.len() > 1 {
        all.push(change(rounds));
    }
    all.push(stages(rounds, last));
    all
}

fn resolution(rounds: &[Round]) -> Result<Picture, Broken> {
    let series = [
        over(rounds, "FSC 0.143", Ink::Blue, |round| {
            Some(round.resolution_angstrom)
        }),
        over(rounds, "finest compared", Ink::Orange, |round| {
            Some(round.limit_angstrom)
        }),
    ];
    let mut table = Table::new(["round", "FSC 0.143 (Å)", "finest compared (Å)"]);
    for round in rounds {
        table.row([
            round.iteration.to_string(),
            format!("{:.2}", round.resolution_angstrom),
            format!("{:.2}", round.limit_angstrom),
        ]);
    }
    let drawn = chart::lines(
        [&by_round(rounds, false), &up_to("resolution (Å)", &series)],
        &series,
        &[],
    );
    let last = rounds.last().map_or(0.0, |round| round.resolution_angstrom);
    Ok(Picture {
        name: "resolution",
        title: "Resolution by round".to_owned(),
        caption: "Where the unmasked FSC of the half-maps falls below 0.143, and the finest detail that alignment compared in \
                  that round. Good: both fall and then stay. Finer detail is compared only once the half-maps agree on more \
                  than the starting map can have given them; if it never is, the particles do not show this structure."
            .to_owned(),
        alt: format!("Resolution of {} rounds; the last has {last:.2} Å.", rounds.len()),
        content: Content::Svg(drawn.map_err(|error| broken("resolution", error))?),
        table: Some(table),
    })
}

fn change(rounds: &[Round]) -> Result<Picture, Broken> {
    let series = [
        over(rounds, "turn (°)", Ink::Blue, |round| round.change_deg),
        over(rounds, "move (Å)", Ink::Orange, |round| {
            round.change_angstrom
        }),
    ];
    let told = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    let mut table = Table::new(["round", "turn (°)", "move (Å)"]);
    for round in rounds {
        table.row([
            round.iteration.to_string(),
            told(round.change_deg),
            told(round.change_angstrom),
        ]);
    }
    let drawn = chart::lines(
        [&by_round(rounds, false), &up_to("median change", &series)],
        &series,
        &[],
    );
    let last = rounds.last().and_then(|round| round.change_deg);
    Ok(Picture {
        name: "pose_change",
        title: "Pose change by round".to_owned(),
        caption: "How far the particles' poses moved since the round before, in the median. Good: both fall towards 0; rounds \
                  end when they no longer do."
            .to_owned(),
        alt: format!(
            "Median change of poses; in the last round {} degrees.",
            told(last)
        ),
        content: Content::Svg(drawn.map_err(|error| broken("pose_change", error))?),
        table: Some(table),
    })
}

fn stages(rounds: &[Round], last: Option<StageTimes>) -> Result<Picture, Broken> {
    let after = rounds.last().map_or(1, |round| round.iteration + 1);
    let all = || {
        let rounds = rounds.iter().map(|round| (round.iteration, round.stages));
        rounds.chain(last.map(|stages| (after, stages)))
    };
    let bars: Vec<Bar> = all()
        .map(|(at, stages)| Bar {
            along: at as f64 - 0.35..at as f64 + 0.35,
            parts: stages.parts().to_vec(),
        })
        .collect();
    let highest = bars
        .iter()
        .map(|bar| bar.parts.iter().sum())
        .fold(0.0, f64::max);
    let y = Axis {
        label: "task time (s)",
        range: 0.0..1.05 * highest.max(1e-3),
        marks: 6,
        format: Box::new(short),
    };
    let told = rounds.iter().map(|round| {
        let names = [round.iteration.to_string(), format!("{:.2}", round.seconds)];
        (names, round.stages)
    });
    let told = told.chain(last.map(|stages| (["final maps", "–"].map(str::to_owned), stages)));
    let table = times(["round", "took (s)"], told);
    let drawn = chart::bars([&by_round(rounds, last.is_some()), &y], &bars, &STAGES);
    let total: f64 = rounds.iter().map(|round| round.seconds).sum();
    Ok(Picture {
        name: "stage_time",
        title: "Time by stage".to_owned(),
        caption: "How long the tasks of each stage ran in each round and for the final maps, added up over workers: more than \
                  the round took where several work at once. Good: nearly all of it is alignment."
            .to_owned(),
        alt: format!("Task time of {} rounds, which took {total:.0} s.", rounds.len()),
        content: Content::Svg(drawn.map_err(|error| broken("stage_time", error))?),
        table: Some(table),
    })
}

/// Time by worker, the busiest first; none without workers.
pub(crate) fn workers(workers: &[Worker]) -> Option<Result<Picture, Broken>> {
    if workers.is_empty() {
        return None;
    }
    let shown = busiest(workers);
    let rows: Vec<(&str, Vec<f64>)> = shown
        .iter()
        .map(|worker| (worker.name.as_str(), worker.stages.parts().to_vec()))
        .collect();
    let longest = rows
        .iter()
        .map(|(_, parts)| parts.iter().sum())
        .fold(0.0, f64::max);
    let x = Axis {
        label: "task time (s)",
        range: 0.0..1.05 * longest.max(1e-3),
        marks: 8,
        format: Box::new(short),
    };
    let told = workers.iter().map(|worker| {
        let names = [worker.name.clone(), worker.task_count.to_string()];
        (names, worker.stages)
    });
    let table = times(["worker", "tasks"], told);
    let drawn = chart::lying_bars(&x, &rows, &STAGES);
    Some(drawn.map_err(|error| broken("worker_time", error)).map(|svg| Picture {
        name: "worker_time",
        title: "Time by worker".to_owned(),
        caption: "How long each worker's tasks ran, over all rounds and the final maps. Slots of one worker run at once, and \
                  their times add up. Good: machines of a kind have bars of a length."
            .to_owned(),
        alt: format!("Task time of {} workers.", workers.len()),
        content: Content::Svg(svg),
        table: Some(table),
    }))
}

/// Times by stage, with two columns of something before them.
fn times(names: [&str; 2], rows: impl Iterator<Item = ([String; 2], StageTimes)>) -> Table {
    let [first, second] = names;
    let mut table = Table::new([
        first,
        second,
        "alignment (s)",
        "insertion (s)",
        "summing (s)",
    ]);
    for ([first, second], stages) in rows {
        let [align, insert, sum] = stages.parts().map(|part| format!("{part:.2}"));
        table.row([first, second, align, insert, sum]);
    }
    table
}

fn busiest(workers: &[Worker]) -> Vec<Worker> {
    let mut shown = workers.to_vec();
    let total = |worker: &Worker| worker.stages.parts().iter().sum::<f64>();
    shown.sort_by(|a, b| total(b).total_cmp(&total(a)));
    if shown.len() > WORKERS_SHOWN {
        let rest = shown.split_off(WORKERS_SHOWN - 1);
        let sum = |of: fn(&StageTimes) -> f64| rest.iter().map(|worker| of(&worker.stages)).sum();
        shown.push(Worker {
            name: format!("{} others", rest.len()),
            task_count: rest.iter().map(|worker| worker.task_count).sum(),
            stages: StageTimes {
                align: sum(|stages| stages.align),
                insert: sum(|stages| stages.insert),
                sum: sum(|stages| stages.sum),
            },
        });
    }
    shown
}

fn over(
    rounds: &[Round],
    label: &'static str,
    ink: Ink,
    value: fn(&Round) -> Option<f64>,
) -> Series {
    let points = rounds
        .iter()
        .filter_map(|round| Some((round.iteration as f64, value(round)?)));
    Series {
        label,
        ink,
        points: points.collect(),
        joined: true,
        dots: true,
    }
}

/// One mark for each round, and one for the final maps.
fn by_round(rounds: &[Round], has_final: bool) -> Axis {
    let last = rounds.last().map_or(1, |round| round.iteration);
    let count = last + usize::from(has_final);
    Axis {
        label: "round",
        range: 0.5..count as f64 + 0.5,
        marks: count.min(12),
        // Marks between two rounds say nothing.
        format: Box::new(move |value| match value.round() {
            whole if (value - whole).abs() > 1e-6 => String::new(),
            whole if whole > last as f64 => "final".to_owned(),
            whole => format!("{whole:.0}"),
        }),
    }
}

fn up_to(label: &'static str, series: &[Series]) -> Axis {
    let highest = series
        .iter()
        .flat_map(|one| &one.points)
        .map(|point| point.1);
    let highest = highest
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max);
    Axis {
        label,
        range: 0.0..1.15 * highest.max(1e-3),
        marks: 8,
        format: Box::new(short),
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_workers_share_the_last_bar() {
        let workers: Vec<Worker> = (0..30)
            .map(|at| Worker {
                name: format!("w{at}"),
                task_count: 1,
                stages: StageTimes {
                    align: at as f64,
                    ..StageTimes::default()
                },
            })
            .collect();
        let shown = busiest(&workers);
        assert_eq!(shown.len(), WORKERS_SHOWN);
        assert_eq!(shown[0].name, "w29");
        let last = shown.last().unwrap();
        assert_eq!((last.name.as_str(), last.task_count), ("7 others", 7));
        assert_eq!(last.stages.align, 21.0);
    }

    #[test]
    fn marks_are_short() {
        assert_eq!(
            [0.0, 10.0, 0.25, 1234.5].map(short),
            ["0", "10", "0.25", "1234.5"]
        );
    }
}
