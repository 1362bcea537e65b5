//! What kernels find on their slots.

use crate::{
    kinds::{self, Where},
    lab::{Lab, within},
};
use dewar_worker::{Config, Worker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernels_stand_back_by_as_much_as_was_said() {
    let lab = Lab::open().await;
    let config = Config {
        nice: 7,
        ..lab.worker_config(1)
    };
    let _worker = Worker::start(config, kinds::registry()).unwrap();
    let job = lab.job().await;
    job.submit::<Where>(&(), vec![]).await.unwrap();
    let outcome = within("the outcome", job.outcomes().next()).await.unwrap();
    let output = outcome.unwrap().output::<Where>().unwrap();
    let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let own = own.rsplit(')').next().unwrap().split_whitespace().nth(16);
    let own: i32 = own.unwrap().parse().unwrap();
    assert_eq!(output.message.niceness, (own + 7).min(19));
    assert_eq!(output.message.slot_count, 1);
}
