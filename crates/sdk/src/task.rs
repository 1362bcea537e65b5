//! Tasks as people ask about them, a page at a time.

use crate::{CallError, Failure, JobSelector, TaskIndex};
use dewar_proto::v1;
use dewar_task::Kind;

/// Where a task is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// No worker has it.
    Waiting,
    /// At least one try runs.
    Running,
    /// It has an output.
    Succeeded,
    /// It will not be tried again.
    Failed,
    /// Its job was cancelled first.
    Cancelled,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only tasks in this state.
    pub state: Option<TaskState>,
    /// Only tasks that a worker of this name has or had, as far as the broker remembers; it must be of minor 5 or later.
    pub worker_name: Option<String>,
    /// First index of the page.
    pub from_index: u64,
    /// Most tasks on the page; 0 for as many as the broker gives at once, 1000.
    pub limit: u32,
}

/// One page of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPage {
    /// In order of index.
    pub tasks: Vec<TaskStatus>,
    /// Where the next page begins; none when this was the last.
    pub next_index: Option<u64>,
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskStatus {
    /// Its position in the job.
    pub index: TaskIndex,
    /// What it computes.
    pub kind: Kind,
    /// Where it is on its way.
    pub state: TaskState,
    /// Tries that were begun.
    pub attempts_begun: u32,
    /// Workers that run it now.
    pub worker_names: Vec<String>,
    /// Why it failed, or why its last try did.
    pub failure: Option<Failure>,
    /// How long the successful try ran; 0 when there was none.
    pub run_ms: u64,
    /// 0 to 1, as its kernel last told.
    pub progress: f32,
    /// The customer's own name for it.
    pub key: Option<String>,
    /// How often it was rerun.
    pub generation: u32,
    /// It was answered from an equal task that had been computed before.
    pub reused: bool,
    /// Tasks it waits for that have not succeeded yet; the first few.
    pub waits_for: Vec<TaskIndex>,
}

impl TaskFilter {
    pub(crate) fn request(self, job: JobSelector) -> v1::ListTasksRequest {
        let state = match self.state {
            None => v1::TaskState::Unspecified,
            Some(TaskState::Waiting) => v1::TaskState::Waiting,
            Some(TaskState::Running) => v1::TaskState::Running,
            Some(TaskState::Succeeded) => v1::TaskState::Succeeded,
            Some(TaskState::Failed) => v1::TaskState::Failed,
            Some(TaskState::Cancelled) => v1::TaskState::Cancelled,
        };
        v1::ListTasksRequest {
            job: Some(job.into()),
            state: state.into(),
            from_index: self.from_index,
            limit: self.limit,
            worker_name: self.worker_name.unwrap_or_default(),
        }
    }
}

impl TaskPage {
    pub(crate) fn from_wire(
        call: &'static str,
        page: v1::ListTasksResponse,
    ) -> Result<Self, CallError> {
        let tasks = page.tasks.into_iter();
        Ok(Self {
            tasks: tasks
                .map(|task| TaskStatus::from_wire(call, task))
                .collect::<Result<_, _>>()?,
            next_index: Some(page.next_index).filter(|index| *index > 0),
        })
    }
}

impl TaskStatus {
    pub(crate) fn from_wire(call: &'static str, task: v1::Task) -> Result<Self, CallError> {
        let problem = |problem: String| CallError::Answer { call, problem };
        let state = match task.state() {
            v1::TaskState::Waiting => TaskState::Waiting,
            v1::TaskState::Running => TaskState::Running,
            v1::TaskState::Succeeded => TaskState::Succeeded,
            v1::TaskState::Failed => TaskState::Failed,
            v1::TaskState::Cancelled => TaskState::Cancelled,
            v1::TaskState::Unspecified => {
                return Err(problem(format!("task {} has no state", task.index)));
            }
        };
        let kind = task
            .kind
            .ok_or_else(|| problem(format!("task {} has no kind", task.index)))?;
        Ok(Self {
            index: TaskIndex(task.index),
            kind: Kind {
                name: kind.name,
                version: kind.version,
            },
            state,
            attempts_begun: task.attempts_begun,
            worker_names: task.worker_names,
            failure: task.failure.map(Failure::from),
            run_ms: task.run_ms,
            progress: task.progress,
            key: Some(task.key).filter(|key| !key.is_empty()),
            generation: task.generation,
            reused: task.reused,
            waits_for: task.waits_for.into_iter().map(TaskIndex).collect(),
        })
    }
}
