//! Why a refinement ended without a map.

use crate::postprocess::PostFilesError;
use dewar_formats::{atomic, mrc, particles};
use dewar_sdk::{CallError, ImportError, TaskFailed};
use std::{io, path::PathBuf};

/// Why a refinement ended without a map.
#[derive(Debug, thiserror::Error)]
pub enum RefineError {
    /// The particle file or one of its stacks is wrong.
    #[error(transparent)]
    Particles(#[from] particles::ReadError),
    /// The reference or a stack is wrong.
    #[error(transparent)]
    Mrc(#[from] mrc::MrcError),
    /// The inputs do not fit one another or the settings.
    #[error("{0}")]
    Input(String),
    /// Several things are wrong with the inputs; never none.
    #[error("{}", .0.join("; "))]
    Inputs(Vec<String>),
    /// The output folder holds something else.
    #[error("{}: {problem}", folder.display())]
    OutputFolder {
        /// The folder.
        folder: PathBuf,
        /// What is in the way.
        problem: String,
    },
    /// A stack did not get to the broker.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The broker refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A task failed for good.
    #[error("{0}")]
    Task(#[from] TaskFailed),
    /// The job was cancelled, here or from elsewhere.
    #[error("the job was cancelled; the same command goes on from the last finished round")]
    Cancelled,
    /// An output could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An output could not be written.
    #[error(transparent)]
    Atomic(#[from] atomic::WriteError),
    /// A map could not be written.
    #[error(transparent)]
    MapWrite(#[from] mrc::MrcWriteError),
    /// A particle file could not be written.
    #[error(transparent)]
    ParticlesWrite(#[from] particles::ParticlesWriteError),
    /// A file of an earlier run cannot be used.
    #[error("{}: {problem}; remove the folder of that round and start again", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The final half-maps or their mask cannot be post-processed.
    #[error("post-processing: {0}")]
    PostProcess(#[from] dewar_compute::postprocess::PostProcessError),
    /// A file of post-processing cannot be read or written.
    #[error(transparent)]
    PostFiles(#[from] PostFilesError),
    /// A task's output makes no sense: a worker of another release, or a bug.
    #[error("{0}")]
    Output(String),
}

impl RefineError {
    /// What is wrong, one line each: inputs may have several faults, anything else has one.
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Inputs(problems) => problems.clone(),
            Self::Particles(particles::ReadError::Problems(problems)) => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => vec![whole(other)],
        }
    }

    /// Whether the user's input was wrong, rather than the work.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Particles(_)
            | Self::Mrc(_)
            | Self::Input(_)
            | Self::Inputs(_)
            | Self::OutputFolder { .. }
            | Self::Checkpoint { .. } => true,
            Self::Import(ImportError::File { .. }) => true,
            Self::PostFiles(error) => error.is_input(),
            Self::Task(TaskFailed::Failed { failure, .. }) => {
                failure.class == dewar_sdk::FailureClass::BadInput
            }
            _ => false,
        }
    }
}

/// An error with its causes, on one line.
fn whole(error: &RefineError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
