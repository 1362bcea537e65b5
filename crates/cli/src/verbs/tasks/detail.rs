//! `dewar tasks j7.42`: all of one task.

use super::{failure_json, state, why};
use crate::{
    clock,
    listing::Listed as _,
    output,
    showing::Shown,
    size,
    table::{Column, Table},
};
use dewar_sdk::{Attempt, AttemptState, TaskDetail, TaskInput};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A task for people and for machines.
pub fn shown(name: &str, task: &TaskDetail) -> Shown {
    Shown {
        text: to_text(name, task),
        json: to_json(task),
        notes: Vec::new(),
    }
}

fn to_text(name: &str, task: &TaskDetail) -> String {
    let status = &task.status;
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{}", output::printable(&value));
    };
    let key = status
        .key
        .as_ref()
        .map_or_else(String::new, |key| format!(", {key}"));
    row("task", format!("{name}, {}{key}", status.kind));
    row("state", state_line(task));
    if let Some(failure) = &status.failure {
        row("failure", why(failure));
    }
    if !status.waits_for.is_empty() {
        let indices = status.waits_for.iter().map(ToString::to_string);
        row("waits for", indices.collect::<Vec<_>>().join(", "));
    }
    if status.generation > 0 {
        row("rerun", format!("generation {}", status.generation));
    }
    row("takes", needs(task));
    text += &attempts(task);
    text += &inputs(&task.inputs);
    if !task.outputs.is_empty() {
        let mut table = Table::new(&[Column::Text("OUTPUT"), Column::Number("SIZE")]);
        for blob in &task.outputs {
            table.add(&[blob.digest.to_string(), size::rounded(blob.size_bytes)]);
        }
        text = text + "\n" + &table.render();
    }
    text
}

fn state_line(task: &TaskDetail) -> String {
    let status = &task.status;
    let by = task.worker_name.as_ref();
    let took = clock::duration(Duration::from_millis(status.run_ms));
    match (by, status.reused) {
        (_, true) => format!("{}, answered from an earlier run", state(status.state)),
        (Some(by), _) => format!("{}, by {by} in {took}", state(status.state)),
        (None, _) if status.worker_names.is_empty() => state(status.state).to_owned(),
        (None, _) => format!(
            "{}, {:.0} % on {}",
            state(status.state),
            100.0 * status.progress,
            status.worker_names.join(", ")
        ),
    }
}

fn needs(task: &TaskDetail) -> String {
    let memory = task
        .memory_bytes
        .map(|bytes| format!("{} of memory", size::rounded(bytes)));
    let limit = task.time_limit_ms.map(|ms| {
        let limit = clock::duration(Duration::from_millis(ms));
        format!("{limit} a try at most")
    });
    let slots = match task.slot_count {
        1 => "1 slot".to_owned(),
        count => format!("{count} slots"),
    };
    let tries = match task.attempts_max {
        1 => "1 try".to_owned(),
        count => format!("{count} tries at most"),
    };
    let needs = [Some(slots), memory, limit, Some(tries)];
    needs.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn attempts(task: &TaskDetail) -> String {
    let begun = u64::from(task.status.attempts_begun);
    let forgotten = begun.saturating_sub(task.attempts.len() as u64);
    let mut text = String::new();
    if !task.attempts.is_empty() {
        let mut table = Table::new(&[
            Column::SpareText("TRY"),
            Column::Text("WORKER"),
            Column::Text("STATE"),
            Column::SpareText("GIVEN"),
            Column::SpareText("ENDED"),
            Column::Number("WAITED"),
            Column::Number("FETCHED"),
            Column::Number("RAN"),
        ]);
        for attempt in &task.attempts {
            table.add(&cells(attempt));
        }
        text = text + "\n" + &table.render();
        // Whole, since a table would cut them.
        for attempt in &task.attempts {
            if let Some(failure) = &attempt.failure {
                let line = format!(
                    "{} on {}: {}",
                    attempt.name,
                    attempt.worker_name,
                    why(failure)
                );
                text = text + &output::printable(&line) + "\n";
            }
        }
    }
    if forgotten > 0 {
        let _ = writeln!(text, "{forgotten} earlier tries are not remembered");
    }
    text
}

fn cells(attempt: &Attempt) -> [String; 8] {
    let moment = |unix_ms: Option<u64>| {
        unix_ms.map_or_else(
            || "?".to_owned(),
            |ms| clock::time_of_day_utc(UNIX_EPOCH + Duration::from_millis(ms)),
        )
    };
    let times = Times::of(attempt);
    let length = |ms: Option<u64>| {
        ms.map_or_else(
            || "?".to_owned(),
            |ms| clock::duration(Duration::from_millis(ms)),
        )
    };
    let is_over = attempt.state != AttemptState::Live;
    [
        attempt.name.clone(),
        attempt.worker_name.clone(),
        match attempt.state {
            AttemptState::Live => format!("live, {:.0} %", 100.0 * attempt.progress),
            state => name_of(state).to_owned(),
        },
        moment(attempt.given_unix_ms),
        if is_over {
            moment(attempt.ended_unix_ms)
        } else {
            String::new()
        },
        if is_over {
            length(times.waited_ms)
        } else {
            String::new()
        },
        if is_over {
            length(Some(attempt.fetch_ms))
        } else {
            String::new()
        },
        if is_over {
            length(Some(attempt.run_ms))
        } else {
            length(times.total_ms)
        },
    ]
}

/// What a try spent its time with.
struct Times {
    /// From the broker's word to its end, or until now.
    total_ms: Option<u64>,
    /// On the worker, behind others; the time of words on the wire and of handing in results is counted too.
    waited_ms: Option<u64>,
}

impl Times {
    fn of(attempt: &Attempt) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let until_ms = attempt.ended_unix_ms.unwrap_or(now_ms);
        let total_ms = attempt
            .given_unix_ms
            .map(|given| until_ms.saturating_sub(given));
        let spent_ms = attempt.fetch_ms.saturating_add(attempt.run_ms);
        Self {
            total_ms,
            waited_ms: total_ms.map(|total| total.saturating_sub(spent_ms)),
        }
    }
}

fn inputs(inputs: &[TaskInput]) -> String {
    if inputs.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        Column::Number("INPUT"),
        Column::Number("SIZE"),
        Column::Number("READS"),
        Column::Text("NAME"),
    ]);
    for (index, input) in inputs.iter().enumerate() {
        table.add(&[
            index.to_string(),
            input
                .blob
                .as_ref()
                .map_or_else(|| "?".to_owned(), |blob| size::rounded(blob.size_bytes)),
            size::rounded(input.read_bytes),
            input_name(input),
        ]);
    }
    format!("\n{}", table.render())
}

fn input_name(input: &TaskInput) -> String {
    match (&input.file, input.task_index, &input.blob) {
        (Some(file), ..) => file.clone(),
        (None, Some(index), _) => format!("what task {index} gives"),
        (None, None, Some(blob)) => format!("blob {}", blob.digest),
        (None, None, None) => "a message".to_owned(),
    }
}

fn name_of(state: AttemptState) -> &'static str {
    match state {
        AttemptState::Live => "live",
        AttemptState::Succeeded => "succeeded",
        AttemptState::Failed => "failed",
        AttemptState::HandedBack => "handed back",
        AttemptState::Stopped => "stopped",
        AttemptState::Unknown => "unknown",
    }
}

fn to_json(task: &TaskDetail) -> Value {
    let mut json = task.status.to_json();
    let attempts = task.attempts.iter().map(|attempt| {
        json!({
            "attempt": attempt.name,
            "worker": attempt.worker_name,
            "state": name_of(attempt.state),
            "given_unix_ms": attempt.given_unix_ms,
            "ended_unix_ms": attempt.ended_unix_ms,
            "fetch_ms": attempt.fetch_ms,
            "run_ms": attempt.run_ms,
            "failure": attempt.failure.as_ref().map(failure_json),
            "progress": attempt.progress,
        })
    });
    let inputs = task.inputs.iter().map(|input| {
        json!({
            "digest": input.blob.as_ref().map(|blob| blob.digest.to_string()),
            "size_bytes": input.blob.as_ref().map(|blob| blob.size_bytes),
            "file": input.file,
            "task_index": input.task_index.map(|index| index.0),
            "read_bytes": input.read_bytes,
        })
    });
    let outputs = task
        .outputs
        .iter()
        .map(|blob| json!({ "digest": blob.digest.to_string(), "size_bytes": blob.size_bytes }));
    let more = [
        ("computed_by", json!(task.worker_name)),
        ("attempts_max", json!(task.attempts_max)),
        ("time_limit_ms", json!(task.time_limit_ms)),
        ("slot_count", json!(task.slot_count)),
        ("memory_bytes", json!(task.memory_bytes)),
        ("attempts", attempts.collect()),
        ("inputs", inputs.collect()),
        ("outputs", outputs.collect()),
    ];
    for (key, value) in more {
        json[key] = value;
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(state: AttemptState) -> Attempt {
        Attempt {
            name: "1.5".to_owned(),
            worker_name: "w1".to_owned(),
            given_unix_ms: Some(1_000),
            ended_unix_ms: Some(63_000),
            fetch_ms: 2_000,
            run_ms: 50_000,
            state,
            failure: None,
            progress: 0.0,
        }
    }

    #[test]
    fn what_a_try_spent_neither_fetching_nor_running_it_waited() {
        let cells = cells(&attempt(AttemptState::Succeeded));
        assert_eq!(
            cells,
            [
                "1.5",
                "w1",
                "succeeded",
                "00:00:01",
                "00:01:03",
                "10 s",
                "2.0 s",
                "50 s"
            ]
        );
    }

    #[test]
    fn an_input_is_called_what_people_know_it_by() {
        let mut input = TaskInput {
            blob: None,
            file: Some("/data/stack.mrcs".to_owned()),
            task_index: None,
            read_bytes: 0,
        };
        assert_eq!(input_name(&input), "/data/stack.mrcs");
        input.file = None;
        input.task_index = Some(dewar_sdk::TaskIndex(3));
        assert_eq!(input_name(&input), "what task 3 gives");
    }
}
