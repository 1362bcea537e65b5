//! What was computed before is answered, and not computed again.

use crate::{
    kinds::{Count, Echo, EchoParameters, runs},
    lab::{Lab, next},
};
use dewar_sdk::{Input, Job, JobOptions, NewTask};

async fn job(lab: &Lab, reuse: bool) -> Job {
    let options = JobOptions {
        reuse,
        ..JobOptions::named("reusing")
    };
    lab.job_with(options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_job_is_answered_from_the_first() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    for (reuse, reused, run_count) in [(true, false, 1), (true, true, 1), (false, false, 2)] {
        let job = job(&lab, reuse).await;
        job.submit::<Count>(&lab.count("runs"), vec![])
            .await
            .unwrap();
        let outcome = next(&mut job.outcomes()).await;
        assert_eq!(outcome.reused, reused);
        assert_eq!(outcome.worker_name, "tester");
        outcome.output::<Count>().unwrap();
        assert_eq!(runs(&lab.path("runs")), run_count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_blob_feeds_others_and_outlives_its_first_job() {
    let lab = Lab::open().await;
    let _worker = lab.worker(1);
    let given = EchoParameters {
        blob_bytes: 3_000_000,
        ..Default::default()
    };
    let reading = EchoParameters {
        reads: vec![2_999_990, 10],
        ..Default::default()
    };
    let mut blobs = Vec::new();
    for reused in [false, true] {
        let job = job(&lab, true).await;
        let first = job.submit::<Echo>(&given, vec![]).await.unwrap();
        let input = Input::output_blob(first, 0);
        job.submit_all(vec![NewTask::new::<Echo>(&reading, vec![input])])
            .await
            .unwrap();
        let mut outcomes = job.outcomes();
        let (made, read) = (next(&mut outcomes).await, next(&mut outcomes).await);
        assert_eq!((made.reused, read.reused), (reused, reused));
        blobs.push((job, made.output::<Echo>().unwrap().blobs[0]));
    }
    let (first, blob) = &blobs[0];
    first.release(&[blob.digest]).await.unwrap();
    let (second, blob) = &blobs[1];
    assert_eq!(second.read_blob(blob).await.unwrap().len(), 3_000_000);
}
