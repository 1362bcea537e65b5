//! Kernels that do not stop when told.

use crate::{
    kinds::{Await, Deaf, Echo, EchoParameters, Trouble},
    lab::{Lab, until, within},
    losses::{ended, spawn_worker, terminate},
};
use dewar_sdk::{JobOptions, TaskResult};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_rids_itself_of_a_deaf_kernel_and_hands_back_the_rest() {
    let lab = Lab::open().await;
    let (deaf_job, job) = (lab.job().await, lab.job().await);
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let folder = Trouble { message };
    deaf_job.submit::<Deaf>(&folder, vec![]).await.unwrap();
    job.submit::<Await>(&folder, vec![]).await.unwrap();
    let mut worker = spawn_worker(&lab, 2);
    let have_begun = || ["begun", "deaf"].map(|name| lab.path(name).exists());
    until("both run", || have_begun() == [true; 2]).await;
    std::fs::remove_file(lab.path("begun")).unwrap();
    let before = job.client().workers().await.unwrap();

    deaf_job.cancel().await.unwrap();
    let outcome = within("the outcome", deaf_job.outcomes().next()).await;
    assert_eq!(outcome.unwrap().unwrap().result, TaskResult::Cancelled);
    // It was handed back, and begins again in the new program.
    until("the other runs again", || lab.path("begun").exists()).await;
    assert!(lab.path("stopped").exists());
    let after = job.client().workers().await.unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].id, before[0].id);

    std::fs::write(lab.path("go"), "").unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    outcome.unwrap().output::<Await>().unwrap();
    assert!(worker.try_wait().unwrap().is_none(), "the same process");
    terminate(&worker);
    assert!(ended(&mut worker).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_told_twice_waits_for_nobody() {
    let lab = Lab::open().await;
    let job = lab.job().await;
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let folder = Trouble { message };
    job.submit::<Deaf>(&folder, vec![]).await.unwrap();
    job.submit::<Await>(&folder, vec![]).await.unwrap();
    let mut worker = spawn_worker(&lab, 2);
    let have_begun = || ["begun", "deaf"].map(|name| lab.path(name).exists());
    until("both run", || have_begun() == [true; 2]).await;
    terminate(&worker);
    until("it stops", || lab.path("stopped").exists()).await;
    terminate(&worker);
    // Told once, it would wait for the deaf one, give up and still end well.
    assert!(!ended(&mut worker).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_in_another_process_gives_the_slot_to_another_thread() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let client = lab.client().await;
    let deaf_job = client.open_job(JobOptions::named("deaf")).await.unwrap();
    let message = lab.folder.path().to_str().unwrap().to_owned();
    let folder = Trouble { message };
    deaf_job.submit::<Deaf>(&folder, vec![]).await.unwrap();
    until("the kernel runs", || lab.path("deaf").exists()).await;
    deaf_job.cancel().await.unwrap();

    let job = lab.job().await;
    let echo = EchoParameters::default();
    job.submit::<Echo>(&echo, vec![]).await.unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await;
    outcome.unwrap().unwrap().output::<Echo>().unwrap();

    // When it returns after all, there is one slot as before.
    std::fs::write(lab.path("go-deaf"), "").unwrap();
    job.submit::<Echo>(&echo, vec![]).await.unwrap();
    let outcome = within("the outcome", job.outcomes_after(1).next()).await;
    outcome.unwrap().unwrap().output::<Echo>().unwrap();
}
