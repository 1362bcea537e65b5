use super::*;
use crate::swarm::Arrival;
use dewar_blobs::hash_bytes;

mod histories;
mod leaving;

const STAMP: u64 = 7;

const PATIENCE: NearPatience = NearPatience {
    away_max: Duration::from_secs(60),
    lost_after: Duration::from_secs(300),
};

fn id(n: u8) -> WorkerId {
    WorkerId([n; 16])
}

fn store(n: u8) -> StoreId {
    StoreId([n; 16])
}

fn list(n: u8) -> ChunkList {
    hash_bytes(&[n; 100])
}

fn blob(n: u8) -> BlobRef {
    list(n).blob()
}

/// Workers whose folders have the same number; those of ten are of one site, and each is a machine.
struct Scene {
    registry: Registry,
    now: Instant,
    /// What the broker was to take.
    taken_in: Vec<Digest>,
}

impl Scene {
    fn new(workers: &[u8]) -> Self {
        let mut scene = Self {
            registry: Registry::default(),
            now: Instant::now(),
            taken_in: Vec::new(),
        };
        for worker in workers {
            scene.come(*worker, &[]);
        }
        scene.told();
        scene
    }

    fn come(&mut self, worker: u8, kept: &[(BlobRef, u64)]) {
        self.come_with(worker, worker, kept);
    }

    fn come_with(&mut self, worker: u8, of: u8, kept: &[(BlobRef, u64)]) {
        let arrival = Arrival {
            name: format!("w{worker}").into(),
            site: format!("s{}", worker / 10).into(),
            node: format!("n{of}").into(),
            is_local: false,
        };
        let said = Announcement {
            store: store(of),
            kept: kept.to_vec(),
            takes_more: true,
        };
        self.registry
            .announce(id(worker), &arrival, true, said, self.now);
    }

    fn claim(&mut self, worker: u8, n: u8) {
        self.registry
            .note_kept(id(worker), list(n), STAMP, true, self.now);
    }

    fn copied(&mut self, worker: u8, n: u8) {
        self.registry
            .note_kept(id(worker), list(n), STAMP, false, self.now);
    }

    fn later(&mut self, wait: Duration) {
        self.now += wait;
        self.registry.tick(self.now);
    }

    /// What workers are told; all that is to be written is written meanwhile.
    fn told(&mut self) -> Vec<(u8, ToKeeper)> {
        let mut told = Vec::new();
        loop {
            let orders = self.registry.take_orders();
            if orders.is_empty() {
                return told;
            }
            for order in orders {
                match order {
                    Order::Tell(worker, message) => told.push((worker.0[0], message)),
                    Order::Write(number, record) => {
                        let digest = record.list.blob().digest;
                        self.registry.note_written(number, digest, true, self.now);
                    }
                    Order::TakeIn(taking) => self.taken_in.push(taking.digest),
                    Order::Erase(_)
                    | Order::IsNear(_)
                    | Order::IsNearNoMore(_)
                    | Order::Serves(..)
                    | Order::ServesNoMore(..) => {}
                }
            }
        }
    }

    /// A blob that two workers keep.
    fn safe(&mut self, n: u8, by: [u8; 2]) {
        self.claim(by[0], n);
        assert_eq!(self.told(), [(by[1], ToKeeper::Keep(blob(n)))]);
        self.copied(by[1], n);
        assert_eq!(self.told(), [(by[0], ToKeeper::Safe(blob(n)))]);
    }

    fn at(&self, n: u8) -> Vec<u8> {
        let at = self.registry.whereabouts(&blob(n).digest, self.now);
        let workers = at.unwrap().workers.into_iter();
        workers.map(|worker| worker.0[0]).collect()
    }

    fn is_known(&self, n: u8) -> bool {
        self.registry
            .whereabouts(&blob(n).digest, self.now)
            .is_some()
    }
}

fn not_safe(told: &[(u8, ToKeeper)]) -> bool {
    told.iter()
        .any(|(_, told)| matches!(told, ToKeeper::NotSafe(..)))
}

#[test]
fn an_output_is_safe_once_two_folders_have_it_and_the_disk_says_so() {
    let mut scene = Scene::new(&[1, 2, 11]);
    scene.claim(1, 5);
    // Not the one of another site.
    assert_eq!(scene.told(), [(2, ToKeeper::Keep(blob(5)))]);
    scene.copied(2, 5);
    let orders = scene.registry.take_orders();
    assert!(
        !orders.iter().any(|order| matches!(order, Order::Tell(..))),
        "it is not written"
    );
    let written = orders.into_iter().find_map(|order| match order {
        Order::Write(number, record) => Some((number, record)),
        _ => None,
    });
    let (number, record) = written.unwrap();
    assert_eq!(
        record.keepers,
        [(store(1), "w1".into()), (store(2), "w2".into())]
    );
    scene
        .registry
        .note_written(number, blob(5).digest, true, scene.now);
    assert_eq!(scene.told(), [(1, ToKeeper::Safe(blob(5)))]);
    assert_eq!(scene.at(5), [1, 2]);
    assert!(scene.registry.restless.is_empty());
}

#[test]
fn who_is_alone_at_its_site_is_told_so() {
    let mut scene = Scene::new(&[1, 11]);
    // A second process with the same folder is no second copy.
    scene.come_with(3, 1, &[]);
    scene.claim(1, 5);
    let told = scene.told();
    assert!(not_safe(&told), "{told:?}");
    assert!(!scene.is_known(5));
}

#[test]
fn who_cannot_be_reached_waits_for_nobody() {
    let mut scene = Scene::new(&[1, 2]);
    scene.registry.set_reached(id(1), false, scene.now);
    scene.claim(1, 5);
    assert_eq!(scene.told(), [], "it may be reached in a moment");
    scene.later(REACHED_WITHIN);
    let told = scene.told();
    assert!(not_safe(&told), "{told:?}");
    scene.claim(1, 6);
    assert!(not_safe(&scene.told()), "at once, this time");
}

#[test]
fn one_that_cannot_keep_a_copy_and_one_that_takes_too_long_are_passed_over() {
    let mut scene = Scene::new(&[1, 2, 3, 4]);
    scene.claim(1, 5);
    assert_eq!(scene.told(), [(2, ToKeeper::Keep(blob(5)))]);
    scene
        .registry
        .note_not_kept(id(2), blob(5).digest, scene.now);
    assert_eq!(scene.told(), [(3, ToKeeper::Keep(blob(5)))]);
    scene.later(COPY_MAX);
    assert_eq!(scene.told(), [(4, ToKeeper::Keep(blob(5)))]);
    scene.registry.leave(id(4), scene.now);
    let told = scene.told();
    assert!(not_safe(&told), "{told:?}");
}

#[test]
fn a_disk_that_takes_nothing_makes_nothing_safe() {
    let mut scene = Scene::new(&[1, 2]);
    scene.claim(1, 5);
    scene.copied(2, 5);
    let orders = scene.registry.take_orders();
    let number = orders.iter().find_map(|order| match order {
        Order::Write(number, _) => Some(*number),
        _ => None,
    });
    scene
        .registry
        .note_written(number.unwrap(), blob(5).digest, false, scene.now);
    assert!(not_safe(&scene.told()));
    assert!(!scene.is_known(5));
}

#[test]
fn what_nobody_needs_is_let_go() {
    let mut scene = Scene::new(&[1, 2]);
    scene.safe(5, [1, 2]);
    scene
        .registry
        .give_up(&[blob(5).digest, blob(6).digest], scene.now);
    let let_go = ToKeeper::LetGo(blob(5), STAMP);
    assert_eq!(scene.told(), [(1, let_go.clone()), (2, let_go)]);
    assert!(!scene.is_known(5));
    // And so is what comes with somebody who was away.
    scene.come(3, &[(blob(5), 9)]);
    assert_eq!(scene.told(), [(3, ToKeeper::LetGo(blob(5), 9))]);
}

#[test]
fn what_is_given_once_more_outlives_its_former_holder() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.safe(5, [1, 2]);
    scene.claim(3, 5);
    assert_eq!(scene.told(), [(3, ToKeeper::Safe(blob(5)))]);
    scene.registry.give_up(&[blob(5).digest], scene.now);
    assert!(scene.is_known(5), "an outcome that names it is on its way");
    assert_eq!(scene.registry.reported(scene.now), []);
    scene.later(REPORTED_WITHIN);
    assert_eq!(scene.registry.reported(scene.now), [blob(5).digest]);
    scene.registry.give_up(&[blob(5).digest], scene.now);
    assert!(!scene.is_known(5));
}

#[test]
fn a_folder_that_is_away_for_long_is_replaced() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.safe(5, [1, 2]);
    scene.registry.leave(id(1), scene.now);
    assert_eq!(scene.at(5), [2]);
    assert_eq!(scene.told(), []);
    scene.later(PATIENCE.away_max);
    assert_eq!(scene.told(), [(3, ToKeeper::Keep(blob(5)))]);
    scene.copied(3, 5);
    assert_eq!(scene.told(), []);
    assert_eq!(scene.at(5), [2, 3]);
    // Two are enough.
    scene.come(1, &[(blob(5), STAMP)]);
    assert_eq!(scene.told(), [(1, ToKeeper::LetGo(blob(5), STAMP))]);
}

#[test]
fn who_comes_later_takes_what_nobody_took() {
    let mut scene = Scene::new(&[1, 2]);
    scene.safe(5, [1, 2]);
    scene.registry.leave(id(1), scene.now);
    scene.later(PATIENCE.away_max);
    scene.later(Duration::from_secs(1));
    assert_eq!(scene.told(), []);
    scene.come(3, &[]);
    assert_eq!(scene.told(), [(3, ToKeeper::Keep(blob(5)))]);
}

#[test]
fn another_process_with_the_same_folder_takes_its_place() {
    let mut scene = Scene::new(&[1, 2]);
    scene.come_with(3, 1, &[]);
    scene.safe(5, [1, 2]);
    scene.registry.leave(id(1), scene.now);
    assert_eq!(scene.at(5), [3, 2]);
    scene.later(PATIENCE.away_max);
    assert_eq!(scene.told(), []);
}

#[test]
fn a_restarted_broker_knows_what_is_where() {
    let record = |n| Record {
        list: Arc::new(list(n)),
        site: "s0".into(),
        keepers: vec![(store(1), "w1".into()), (store(2), "w2".into())],
    };
    let mut scene = Scene::new(&[]);
    scene.registry = Registry::of_records(vec![record(5), record(6)], PATIENCE, scene.now);
    let at = |scene: &Scene| {
        scene
            .registry
            .whereabouts(&blob(5).digest, scene.now)
            .unwrap()
    };
    assert!(at(&scene).workers.is_empty());
    assert_eq!(at(&scene).keepers, ["w1".into(), "w2".into()]);
    scene.later(PATIENCE.lost_after);
    assert_eq!(scene.registry.lost(scene.now).len(), 2);
    // Somebody removed the other from the folder.
    scene.come(1, &[(blob(5), STAMP)]);
    scene.come(2, &[(blob(5), STAMP), (blob(6), STAMP)]);
    assert_eq!(scene.told(), [(1, ToKeeper::Keep(blob(6)))]);
    scene.copied(1, 6);
    assert_eq!(scene.registry.lost(scene.now), []);
    assert_eq!((scene.at(5), scene.at(6)), (vec![1, 2], vec![1, 2]));
    // What waits for its outcome is said again, and is safe at once.
    scene.claim(1, 5);
    assert_eq!(scene.told(), [(1, ToKeeper::Safe(blob(5)))]);
}

#[test]
fn one_that_gives_wrong_bytes_or_lost_some_is_not_counted_on() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.safe(5, [1, 2]);
    scene
        .registry
        .note_gone(id(2), blob(5).digest, Some(STAMP + 1), scene.now);
    assert_eq!(scene.told(), [], "that was another");
    scene
        .registry
        .note_gone(id(2), blob(5).digest, Some(STAMP), scene.now);
    // It may take it again.
    let told = scene.told();
    assert!(
        matches!(&told[..], [(2 | 3, ToKeeper::Keep(_))]),
        "{told:?}"
    );
    let by = told[0].0;
    scene.copied(by, 5);
    scene.told();
    scene.registry.set_reached(id(1), false, scene.now);
    assert_eq!(scene.at(5), [by]);
}

#[test]
fn what_is_lost_is_computed_again_or_said_to_be_lost_until_it_comes_back() {
    let mut scene = Scene::new(&[1, 2, 3, 4]);
    scene.safe(5, [1, 2]);
    scene.registry.leave(id(1), scene.now);
    scene.registry.leave(id(2), scene.now);
    let digest = blob(5).digest;
    let said = |scene: &Scene| scene.registry.whereabouts(&digest, scene.now).unwrap().lost;
    scene.later(PATIENCE.away_max);
    assert_eq!(scene.told(), [], "there is nobody to copy it from");
    assert_eq!(scene.registry.lost(scene.now), []);
    scene.later(PATIENCE.lost_after);
    assert_eq!(scene.registry.lost(scene.now), [digest]);
    assert_eq!(said(&scene), None, "it is not known yet what comes of it");
    scene.registry.note_lost(&digest, Ok(()), scene.now);
    assert_eq!(
        (scene.registry.lost(scene.now), said(&scene)),
        (vec![], None)
    );
    // Its outcome is no more, and others wait for what it named.
    scene.registry.give_up(&[digest], scene.now);
    assert!(scene.is_known(5));
    scene.claim(3, 5);
    assert_eq!(scene.told(), [(4, ToKeeper::Keep(blob(5)))]);
    scene.copied(4, 5);
    assert_eq!(scene.told(), [(3, ToKeeper::Safe(blob(5)))]);
    assert_eq!(scene.at(5), [3, 4]);

    for worker in [3, 4] {
        scene.registry.leave(id(worker), scene.now);
    }
    scene.later(PATIENCE.lost_after);
    let why: Arc<str> = "its inputs are gone".into();
    scene
        .registry
        .note_lost(&digest, Err(Arc::clone(&why)), scene.now);
    assert_eq!(said(&scene), Some(why));
    scene.come(3, &[(blob(5), STAMP)]);
    assert_eq!(said(&scene), None);
}
