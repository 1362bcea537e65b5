//! Workers, disks and a broker at random: what is said to be safe is.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone)]
enum Step {
    Claim(u8, u8),
    /// A worker does the oldest thing it was told.
    Obey(u8),
    Refuse(u8),
    Leave(u8),
    Come(u8),
    Write(bool),
    GiveUp(u8),
    Wait(u64),
    Part(u8),
    /// The broker fetches the oldest blob it was to take, or does not.
    TakeIn(bool),
    RestartBroker,
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, blob) = (1..5_u8, 1..4_u8);
    prop_oneof![
        4 => (worker.clone(), blob.clone()).prop_map(|(w, b)| Step::Claim(w, b)),
        8 => worker.clone().prop_map(Step::Obey),
        1 => worker.clone().prop_map(Step::Refuse),
        1 => worker.clone().prop_map(Step::Leave),
        2 => worker.clone().prop_map(Step::Come),
        6 => proptest::bool::weighted(0.9).prop_map(Step::Write),
        1 => blob.prop_map(Step::GiveUp),
        2 => (0..100_u64).prop_map(Step::Wait),
        1 => worker.clone().prop_map(Step::Part),
        2 => proptest::bool::weighted(0.8).prop_map(Step::TakeIn),
        1 => Just(Step::RestartBroker),
    ]
}

/// Folders as they are, a broker's disk, and messages on their way. Workers 3 and 4 share a folder.
struct World {
    scene: Scene,
    folders: BTreeMap<StoreId, BTreeMap<Digest, u64>>,
    disk: BTreeMap<Digest, Record>,
    changes: VecDeque<Order>,
    told: BTreeMap<u8, VecDeque<ToKeeper>>,
    claims: BTreeSet<(u8, Digest)>,
    /// What the broker is to take.
    to_take: VecDeque<Digest>,
    last_stamp: u64,
}

fn folder_of(worker: u8) -> u8 {
    worker.min(3)
}

impl World {
    fn new() -> Self {
        Self {
            scene: Scene::new(&[]),
            folders: (1..4).map(|n| (store(n), BTreeMap::new())).collect(),
            disk: BTreeMap::new(),
            changes: VecDeque::new(),
            told: BTreeMap::new(),
            claims: BTreeSet::new(),
            to_take: VecDeque::new(),
            last_stamp: 0,
        }
    }

    fn put(&mut self, worker: u8, n: u8) -> u64 {
        self.last_stamp += 1;
        let folder = self.folders.get_mut(&store(folder_of(worker))).unwrap();
        folder.insert(blob(n).digest, self.last_stamp);
        self.last_stamp
    }

    fn act(&mut self, step: Step) {
        let now = self.scene.now;
        match step {
            Step::Claim(worker, n) if self.told.contains_key(&worker) => {
                let stamp = self.put(worker, n);
                self.claims.insert((worker, blob(n).digest));
                self.scene
                    .registry
                    .note_kept(id(worker), list(n), stamp, true, now);
            }
            Step::Obey(worker) => self.obey(worker),
            Step::Refuse(worker) => {
                let first = self.told.get_mut(&worker).and_then(VecDeque::pop_front);
                match first {
                    Some(ToKeeper::Keep(blob)) => {
                        self.scene
                            .registry
                            .note_not_kept(id(worker), blob.digest, now);
                    }
                    Some(other) => self.told.get_mut(&worker).unwrap().push_front(other),
                    None => {}
                }
            }
            Step::Leave(worker) => {
                self.told.remove(&worker);
                self.claims.retain(|(of, _)| *of != worker);
                self.scene.registry.leave(id(worker), now);
            }
            Step::Come(worker) if !self.told.contains_key(&worker) => self.come(worker),
            Step::Write(is_done) => self.write(is_done),
            Step::GiveUp(n) => self.scene.registry.give_up(&[blob(n).digest], now),
            Step::Part(worker) => self.scene.registry.note_leaving(id(worker), now),
            Step::TakeIn(is_done) => {
                if let Some(digest) = self.to_take.pop_front() {
                    self.scene.registry.note_taken_in(digest, is_done, now);
                }
            }
            Step::Wait(seconds) => self.scene.later(Duration::from_secs(seconds)),
            Step::RestartBroker => {
                self.changes.clear();
                self.to_take.clear();
                self.told.clear();
                self.claims.clear();
                let records = self.disk.values().cloned().collect();
                self.scene.registry = Registry::of_records(records, PATIENCE, now);
            }
            Step::Claim(..) | Step::Come(_) => {}
        }
        self.take_orders();
    }

    fn come(&mut self, worker: u8) {
        self.told.insert(worker, VecDeque::new());
        let kept = self.folders[&store(folder_of(worker))].iter();
        let kept: Vec<_> = kept
            .map(|(digest, stamp)| {
                let blob = (1..4).map(blob).find(|blob| blob.digest == *digest);
                (blob.unwrap(), *stamp)
            })
            .collect();
        self.scene.come_with(worker, folder_of(worker), &kept);
    }

    fn obey(&mut self, worker: u8) {
        let Some(message) = self.told.get_mut(&worker).and_then(VecDeque::pop_front) else {
            return;
        };
        match message {
            ToKeeper::Keep(kept) => {
                let n = (1..4).find(|n| blob(*n) == kept).unwrap();
                let stamp = self.put(worker, n);
                self.scene
                    .registry
                    .note_kept(id(worker), list(n), stamp, false, self.scene.now);
            }
            ToKeeper::LetGo(blob, stamp) => {
                let is_claimed = self.claims.contains(&(worker, blob.digest));
                let folder = self.folders.get_mut(&store(folder_of(worker))).unwrap();
                if !is_claimed && folder.get(&blob.digest) == Some(&stamp) {
                    folder.remove(&blob.digest);
                }
            }
            ToKeeper::Safe(blob) => {
                self.claims.remove(&(worker, blob.digest));
            }
            // It may go now: what its folder has is not needed.
            ToKeeper::StillNeeded(_) => {}
            // It removes what it has under the stamp of its claim; another may have claimed it since.
            ToKeeper::NotSafe(blob, _) => {
                self.claims.remove(&(worker, blob.digest));
            }
        }
    }

    fn write(&mut self, is_done: bool) {
        match self.changes.pop_front() {
            Some(Order::Write(number, record)) => {
                let digest = record.list.blob().digest;
                if is_done {
                    self.disk.insert(digest, record);
                }
                let now = self.scene.now;
                self.scene
                    .registry
                    .note_written(number, digest, is_done, now);
            }
            Some(Order::Erase(digest)) => {
                self.disk.remove(&digest);
            }
            _ => {}
        }
    }

    fn take_orders(&mut self) {
        for order in self.scene.registry.take_orders() {
            match order {
                Order::Tell(worker, message) => {
                    if let ToKeeper::Safe(blob) = message {
                        self.check_safe(blob);
                    }
                    if let Some(told) = self.told.get_mut(&worker.0[0]) {
                        told.push_back(message);
                    }
                }
                Order::Write(..) | Order::Erase(_) => self.changes.push_back(order),
                Order::TakeIn(taking) => self.to_take.push_back(taking.digest),
                Order::IsNear(_)
                | Order::IsNearNoMore(_)
                | Order::Serves(..)
                | Order::ServesNoMore(..) => {}
            }
        }
    }

    /// Two folders have it, none of which was told to let it go, and the disk names them.
    fn check_safe(&self, blob: BlobRef) {
        let record = &self.disk[&blob.digest];
        let named = record.keepers.iter().map(|(store, _)| *store);
        let has = named.filter(|store| {
            let stamp = self.folders[store].get(&blob.digest);
            let is_let_go = |(worker, told): (&u8, &VecDeque<ToKeeper>)| {
                store == &self::store(folder_of(*worker))
                    && stamp.is_some_and(|stamp| told.contains(&ToKeeper::LetGo(blob, *stamp)))
                    && !self.claims.contains(&(*worker, blob.digest))
            };
            stamp.is_some() && !self.told.iter().any(is_let_go)
        });
        assert!(has.count() >= COPIES, "{:?} {:?}", self.folders, self.told);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_said_to_be_safe_is(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.act(step);
        }
    }
}
