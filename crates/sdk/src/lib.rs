//! For customers: connect, open a job, submit tasks, await outcomes.
