use super::{
    assign::{CROSSINGS_MAX, WORKER_GRANTS_MAX},
    *,
};
use dewar_blobs::Digest;
use std::collections::{BTreeSet, HashSet};

const MIB: u64 = 1 << 20;

fn blob(chunk_count: u64) -> BlobRef {
    BlobRef {
        digest: Digest([7; 32]),
        size_bytes: chunk_count * MIB,
    }
}

fn id(n: u8) -> WorkerId {
    WorkerId([n; 16])
}

/// Workers that do as they are told, in steps of a virtual clock: in each the broker's link carries one chunk to each site,
/// and peers carry all they were asked for.
struct World {
    tracker: Tracker,
    now: Instant,
    blob: BlobRef,
    /// What each has, by worker.
    have: BTreeMap<WorkerId, BTreeSet<u64>>,
    fetches: VecDeque<Order>,
    from_broker: BTreeMap<u64, usize>,
    /// Give wrong bytes.
    corrupt: HashSet<WorkerId>,
    /// Can be found by the broker, but by none of the others.
    walled: HashSet<WorkerId>,
    /// Take orders and do nothing.
    stuck: HashSet<WorkerId>,
    /// Sites do not reach one another.
    is_apart: bool,
    /// How often they tried.
    wall_count: usize,
    /// Chunks that went from one site to another.
    crossing_count: usize,
}

impl World {
    fn new(sites: &[(&str, u8)], chunk_count: u64) -> Self {
        let mut world = Self {
            tracker: Tracker::default(),
            now: Instant::now(),
            blob: blob(chunk_count),
            have: BTreeMap::new(),
            fetches: VecDeque::new(),
            from_broker: BTreeMap::new(),
            corrupt: HashSet::new(),
            walled: HashSet::new(),
            stuck: HashSet::new(),
            is_apart: false,
            wall_count: 0,
            crossing_count: 0,
        };
        let mut n = 0;
        for (site, count) in sites {
            for _ in 0..*count {
                n += 1;
                world.join(id(n), site, true);
            }
        }
        world
    }

    fn join(&mut self, worker: WorkerId, site: &str, is_reachable: bool) {
        let arrival = Arrival {
            name: format!("w{}", worker.0[0]).into(),
            site: site.into(),
            node: format!("node{}", worker.0[0]).into(),
            is_local: false,
        };
        self.tracker.join(worker, arrival, self.now);
        if is_reachable {
            let address = format!("{}:1", worker.0[0]).into();
            self.tracker.set_address(worker, address, self.now);
        }
        self.have.insert(worker, BTreeSet::new());
    }

    fn chunk_count(&self) -> u64 {
        self.blob.size_bytes / MIB
    }

    /// Everyone wants all it lacks, at most 16 chunks at a time, as workers do.
    fn want(&mut self) {
        for (worker, have) in &self.have {
            let Some(member) = self.tracker.member(*worker) else {
                continue;
            };
            let missing = (0..self.chunk_count()).filter(|chunk| !have.contains(chunk));
            let new: Vec<_> = missing
                .take(16)
                .filter(|chunk| !member.wanted.contains(&(self.blob, *chunk)))
                .collect();
            self.tracker.want(*worker, self.blob, new, self.now);
        }
    }

    fn step(&mut self) {
        self.want();
        self.now += Duration::from_millis(100);
        self.fetches.extend(self.tracker.take_orders());
        let mut link_used = HashSet::new();
        for order in std::mem::take(&mut self.fetches) {
            let Some(site) = self
                .tracker
                .member(order.to)
                .map(|member| member.arrival.site.clone())
            else {
                continue;
            };
            let is_stuck = self.stuck.contains(&order.to);
            if is_stuck || (order.from == Holder::Broker && !link_used.insert(site)) {
                self.fetches.push_back(order);
                continue;
            }
            self.carry(&order);
        }
        self.tracker.tick(self.now);
    }

    fn carry(&mut self, order: &Order) {
        let Order {
            to, chunk, from, ..
        } = *order;
        let miss = match from {
            Holder::Broker => {
                *self.from_broker.entry(chunk).or_default() += 1;
                None
            }
            Holder::Worker(source) if self.walled.contains(&source) => Some(Miss::Unreachable),
            Holder::Worker(source) if self.is_apart && !self.are_one_site(source, to) => {
                self.wall_count += 1;
                Some(Miss::Unreachable)
            }
            Holder::Worker(source) if self.corrupt.contains(&source) => Some(Miss::Corrupt),
            Holder::Worker(source) => {
                let has_it = self
                    .have
                    .get(&source)
                    .is_some_and(|have| have.contains(&chunk));
                (!has_it).then_some(Miss::Lacking)
            }
        };
        match miss {
            Some(miss) => {
                self.tracker
                    .missed(to, self.blob, chunk, (from, miss), self.now);
            }
            None => {
                if let Holder::Worker(source) = from {
                    self.crossing_count += usize::from(!self.are_one_site(source, to));
                }
                self.have.get_mut(&to).unwrap().insert(chunk);
                self.tracker.got(to, self.blob, chunk, from, MIB, self.now);
            }
        }
    }

    fn run(&mut self, step_count_max: usize) {
        for _ in 0..step_count_max {
            let all = self.chunk_count() as usize;
            let is_done = |(worker, have): (&WorkerId, &BTreeSet<u64>)| {
                self.stuck.contains(worker) || have.len() == all
            };
            if self.have.iter().all(is_done) {
                return;
            }
            self.step();
        }
        panic!("not done after {step_count_max} steps: {:?}", self.have);
    }

    fn are_one_site(&self, one: WorkerId, other: WorkerId) -> bool {
        let site = |worker| &self.tracker.member(worker).unwrap().arrival.site;
        site(one) == site(other)
    }

    fn sent_by_broker(&self) -> usize {
        self.from_broker.values().sum()
    }
}

#[test]
fn one_site_takes_each_chunk_once_from_the_broker() {
    let mut world = World::new(&[("a", 8)], 96);
    world.run(110);
    assert_eq!(world.sent_by_broker(), 96);
    let moved: Vec<_> = world
        .tracker
        .members()
        .map(|(_, member)| member.counters.from_broker_bytes / MIB)
        .collect();
    assert!(
        moved.iter().all(|count| *count >= 6),
        "everyone had a part in it: {moved:?}"
    );
}

#[test]
fn two_sites_take_it_twice() {
    let mut world = World::new(&[("a", 4), ("b", 4)], 96);
    world.run(110);
    assert_eq!(world.sent_by_broker(), 2 * 96);
}

#[test]
fn what_the_broker_cannot_send_at_once_comes_from_another_site_once() {
    let mut world = World::new(&[("a", 4)], 96);
    world.run(110);
    for n in 5..9 {
        world.join(id(n), "b", true);
    }
    world.run(110);
    assert!(world.crossing_count > 0, "the broker's link was full");
    let came = world.sent_by_broker() - 96 + world.crossing_count;
    assert_eq!(came, 96, "each chunk came once");
}

#[test]
fn what_the_broker_would_have_to_fetch_itself_comes_straight_from_another_site() {
    let mut world = World::new(&[("a", 2)], 20);
    world.run(40);
    let before = world.sent_by_broker();
    world.tracker.set_near(world.blob, true);
    world.join(id(8), "b", true);
    world.join(id(9), "b", true);
    world.run(40);
    assert_eq!(world.sent_by_broker(), before);
    assert_eq!(world.crossing_count, 20, "once for the site");
    // Behind a wall there is nobody to ask but the broker.
    world.is_apart = true;
    world.join(id(10), "c", true);
    world.run(80);
    assert_eq!(world.sent_by_broker(), before + 20);
    assert!(world.wall_count <= 2 * SITE_GRANTS_MAX);
}

#[test]
fn no_more_than_a_few_chunks_are_on_their_way_between_sites() {
    let mut world = World::new(&[("a", 2)], 40);
    world.run(60);
    for n in 5..8 {
        world.join(id(n), "b", true);
    }
    world.want();
    let orders = world.tracker.take_orders();
    let from_far = |order: &&Order| order.from != Holder::Broker;
    assert_eq!(orders.iter().filter(from_far).count(), CROSSINGS_MAX);
    let granted = orders.len() - CROSSINGS_MAX;
    assert_eq!(granted, SITE_GRANTS_MAX, "the broker comes first");
    // Whoever leaves gives the way free.
    for n in 5..8 {
        world.tracker.leave(id(n), world.now);
    }
    assert!(!world.tracker.sites.contains_key("b"));
    let busy = |(_, member): (WorkerId, &Member)| member.upload_count > 0;
    assert!(!world.tracker.members().any(busy));
}

#[test]
fn who_comes_later_asks_its_neighbours() {
    let mut world = World::new(&[("a", 2)], 20);
    world.run(40);
    let before = world.sent_by_broker();
    world.join(id(9), "a", true);
    world.run(20);
    assert_eq!(world.sent_by_broker(), before);
    // Behind a wall there is nobody to ask but the broker.
    world.is_apart = true;
    world.join(id(10), "b", true);
    world.run(80);
    assert_eq!(world.sent_by_broker(), before + 20);
    // Nor is the other site asked again at once.
    assert!((1..=CROSSINGS_MAX).contains(&world.wall_count));
}

#[test]
fn a_worker_that_dies_costs_what_it_had_on_its_way() {
    let mut world = World::new(&[("a", 4)], 60);
    for _ in 0..20 {
        world.step();
    }
    world.stuck.insert(id(2));
    world.step();
    world.tracker.leave(id(2), world.now);
    world.have.remove(&id(2));
    world.run(80);
    assert!(
        world.sent_by_broker() <= 60 + 20,
        "{}",
        world.sent_by_broker()
    );
}

#[test]
fn nobody_waits_long_for_one_that_is_stuck() {
    let mut world = World::new(&[("a", 4)], 60);
    world.stuck.insert(id(1));
    // At 100 ms a step: 30 s at the most until what it was granted is granted to others.
    world.run(60 + 320);
    assert!(world.sent_by_broker() <= 60 + WORKER_GRANTS_MAX);
}

#[test]
fn whoever_gives_corrupt_chunks_is_shunned_and_stays_so() {
    let mut world = World::new(&[("a", 4)], 40);
    world.corrupt.insert(id(3));
    world.run(100);
    let member = world.tracker.member(id(3)).unwrap();
    assert!(member.is_shunned());
    assert!(member.counters.corrupt_count >= 1);
    assert!(world.sent_by_broker() < 60, "{}", world.sent_by_broker());
    world.join(id(3), "a", true);
    assert!(world.tracker.member(id(3)).unwrap().is_shunned());
}

#[test]
fn whoever_finds_everybody_corrupt_is_not_believed() {
    let mut world = World::new(&[("a", 6)], 1);
    world.run(20);
    world.join(id(9), "a", true);
    for source in 1..=6 {
        let from = (Holder::Worker(id(source)), Miss::Corrupt);
        world.tracker.missed(id(9), world.blob, 0, from, world.now);
    }
    let shunned = (1..=6).filter(|n| world.tracker.member(id(*n)).unwrap().is_shunned());
    assert_eq!(shunned.count(), ACCUSED_BELIEVED);
    assert!(world.tracker.member(id(9)).unwrap().is_shunned());
}

/// As `member::ACCUSED_MAX`.
const ACCUSED_BELIEVED: usize = 2;

#[test]
fn those_nobody_can_dial_are_no_holders() {
    let mut world = World::new(&[("a", 1)], 20);
    for n in 5..8 {
        world.join(id(n), "a", false);
    }
    world.run(80);
    // They cannot pass anything on, so none was asked for what the first could have had.
    assert!(
        world.sent_by_broker() <= 20 + 3 * 4,
        "{}",
        world.sent_by_broker()
    );
}

#[test]
fn a_wall_that_only_the_broker_sees_through_costs_a_bounded_delay() {
    let mut world = World::new(&[("a", 4)], 40);
    world.walled.insert(id(1));
    world.run(200);
    assert!(
        world.sent_by_broker() <= 40 + 20,
        "{}",
        world.sent_by_broker()
    );
}

#[test]
fn nothing_is_left_when_all_have_gone() {
    let mut world = World::new(&[("a", 3), ("b", 2)], 30);
    for _ in 0..7 {
        world.step();
    }
    for n in 1..=5 {
        world.tracker.leave(id(n), world.now);
    }
    assert!(world.tracker.blobs.is_empty());
    assert!(world.tracker.sites.is_empty());
    assert!(world.tracker.members.is_empty());
}

#[test]
fn wants_that_end_give_way() {
    let mut world = World::new(&[("a", 2)], 8);
    world.tracker.want(id(1), world.blob, 0..4, world.now);
    world.tracker.want(id(2), world.blob, 0..4, world.now);
    let first = world.tracker.take_orders();
    assert!(first.iter().all(|order| order.from == Holder::Broker));
    world.tracker.unwant(id(1), world.blob, 0..4, world.now);
    let then = world.tracker.take_orders();
    let second: BTreeSet<_> = first
        .iter()
        .chain(&then)
        .filter(|order| order.to == id(2))
        .map(|order| order.chunk)
        .collect();
    assert_eq!(second, (0..4).collect());
}
