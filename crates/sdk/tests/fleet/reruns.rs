//! Tasks that are run again, and tasks that are cancelled one by one.

use crate::{
    kinds::{Await, Count, Trouble, runs},
    lab::{Lab, next, until, within},
};
use dewar_sdk::{
    CallError, JobSelector, NewTask, Selected, TaskFilter, TaskIndex, TaskResult, TaskSelection,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerun_has_an_outcome_of_its_own() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let mut failing = lab.count("failing");
    failing.needs = lab.path("mended").to_str().unwrap().to_owned();
    let tasks = vec![
        NewTask::new::<Count>(&lab.count("fine"), vec![]),
        NewTask::new::<Count>(&failing, vec![]),
    ];
    job.submit_all(tasks).await.unwrap();
    job.close().await.unwrap();
    let mut outcomes = job.outcomes();
    next(&mut outcomes).await;
    next(&mut outcomes).await;
    let end = within("the end", outcomes.next()).await.unwrap();
    assert_eq!(end, None);

    // Of a whole job, what failed.
    std::fs::write(lab.path("mended"), "").unwrap();
    let whole = TaskSelection::Job(job.id().into());
    let changed = job.client().rerun(&whole, false).await.unwrap();
    let one = Selected {
        job_count: 1,
        task_count: 1,
        skipped: Vec::new(),
    };
    assert_eq!(changed, one);
    let outcome = next(&mut outcomes).await;
    assert_eq!(
        (outcome.index, outcome.sequence, outcome.generation),
        (TaskIndex(1), 3, 1)
    );
    outcome.output::<Count>().unwrap();

    // By name, what succeeded too.
    let first = TaskSelection::Tasks(JobSelector::Number(job.number()), vec![TaskIndex(0)]);
    assert_eq!(job.client().rerun(&first, false).await.unwrap(), one);
    let outcome = next(&mut outcomes).await;
    assert_eq!(
        (outcome.index, outcome.sequence, outcome.generation),
        (TaskIndex(0), 4, 1)
    );
    let end = within("the end", outcomes.next()).await.unwrap();
    assert_eq!(end, None);
    assert_eq!(
        (runs(&lab.path("fine")), runs(&lab.path("failing"))),
        (2, 2)
    );

    let status = job.status().await.unwrap();
    assert_eq!((status.succeeded_count, status.last_sequence), (2, 4));
    let none = job.client().rerun(&whole, false).await.unwrap();
    assert_eq!(none, Selected::default());
    let both = job.client().rerun(&whole, true).await.unwrap();
    assert_eq!(both.task_count, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_task_is_cancelled_and_the_others_go_on() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    job.submit::<Await>(&Trouble { message }, vec![])
        .await
        .unwrap();
    job.submit::<Count>(&lab.count("runs"), vec![])
        .await
        .unwrap();
    until("the kernel runs", || lab.path("begun").exists()).await;

    let select = |index| TaskSelection::Tasks(job.id().into(), vec![TaskIndex(index)]);
    let changed = job.client().cancel_tasks(&select(0)).await.unwrap();
    assert_eq!((changed.job_count, changed.task_count), (1, 1));
    until("the kernel stops", || lab.path("stopped").exists()).await;
    let mut outcomes = job.outcomes();
    let first = next(&mut outcomes).await;
    assert_eq!(
        (first.index, &first.result),
        (TaskIndex(0), &TaskResult::Cancelled)
    );
    next(&mut outcomes).await.output::<Count>().unwrap();
    assert!(!job.status().await.unwrap().closed);
    let again = job.client().cancel_tasks(&select(0)).await.unwrap();
    assert_eq!(again, Selected::default(), "it has ended");
    let unknown = job.client().cancel_tasks(&select(2)).await;
    assert!(
        matches!(unknown, Err(CallError::NotFound { .. })),
        "{unknown:?}"
    );

    let own = TaskSelection::Owner(job.status().await.unwrap().owner);
    job.submit::<Count>(&lab.count("runs"), vec![])
        .await
        .unwrap();
    job.client().cancel_tasks(&own).await.unwrap();
    assert!(job.status().await.unwrap().closed);
    let page = job.client().tasks(job.id(), TaskFilter::default()).await;
    assert_eq!(page.unwrap().tasks.len(), 3);
}
