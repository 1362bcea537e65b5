//! A kind of one's own, its kernel, and a customer that submits tasks of it and awaits what they come to.

use dewar_sdk::{Client, JobOptions, NewTask};
use dewar_task::{Context, Kernel, Product, RunError, TaskKind};
use std::error::Error;

/// Squares a number. Parameters and output are protobuf messages; a plain `u32` is one.
pub struct Square;

impl TaskKind for Square {
    const NAME: &'static str = "example.square";
    const VERSION: u32 = 1;
    type Parameters = u32;
    type Output = u32;
}

impl Kernel for Square {
    fn run(&self, number: u32, context: &Context) -> Result<Product<u32>, RunError> {
        // A long computation asks at least every 100 ms whether it is still wanted.
        context.check()?;
        let square = number
            .checked_mul(number)
            .ok_or_else(|| RunError::BadInput(format!("{number} is too large to square")))?;
        Ok(square.into())
    }
}

/// Squares numbers on whatever workers there are.
pub async fn squares(client: &Client, numbers: &[u32]) -> Result<Vec<u32>, Box<dyn Error>> {
    let job = client.open_job(JobOptions::named("squares")).await?;
    let tasks = numbers
        .iter()
        .map(|number| NewTask::new::<Square>(number, vec![]))
        .collect();
    job.submit_all(tasks).await?;
    job.close().await?;

    let mut squares = vec![0; numbers.len()];
    let mut outcomes = job.outcomes();
    while let Some(outcome) = outcomes.next().await? {
        // An error here says which task failed, with its class and reason.
        let output = outcome.output::<Square>()?;
        squares[usize::try_from(outcome.index.0)?] = output.message;
    }
    Ok(squares)
}
