use super::*;

fn still_needed(blob_count: u64) -> ToKeeper {
    ToKeeper::StillNeeded(StillNeeded {
        blob_count,
        size_bytes: blob_count * 100,
    })
}

#[test]
fn who_leaves_waits_until_another_has_what_it_has() {
    let mut scene = Scene::new(&[1, 2, 3]);
    scene.safe(5, [1, 2]);
    scene.registry.note_leaving(id(2), scene.now);
    let keep = ToKeeper::Keep(blob(5));
    assert_eq!(scene.told(), [(3, keep), (2, still_needed(1))]);
    scene.copied(3, 5);
    assert_eq!(scene.told(), [], "it was not written down yet");
    scene.later(Duration::ZERO);
    assert_eq!(scene.told(), [(2, still_needed(0))]);
    assert_eq!(scene.taken_in, []);
    // It is gone, and nobody has to be found for it again.
    scene.registry.leave(id(2), scene.now);
    scene.later(PATIENCE.away_max);
    assert_eq!(scene.told(), []);
    assert_eq!(scene.at(5), [1, 3]);
}

#[test]
fn where_nobody_else_keeps_results_the_broker_takes_them() {
    let mut scene = Scene::new(&[1, 2]);
    scene.safe(5, [1, 2]);
    scene.registry.note_leaving(id(2), scene.now);
    assert_eq!(scene.told(), [(2, still_needed(1))]);
    assert_eq!(scene.taken_in, [blob(5).digest]);
    // A full disk is asked again.
    scene
        .registry
        .note_taken_in(blob(5).digest, false, scene.now);
    scene.later(COPY_PAUSE);
    scene.told();
    assert_eq!(scene.taken_in, [blob(5).digest; 2]);
    scene
        .registry
        .note_taken_in(blob(5).digest, true, scene.now);
    scene.later(Duration::ZERO);
    let let_go = ToKeeper::LetGo(blob(5), STAMP);
    let told = [(1, let_go.clone()), (2, let_go), (2, still_needed(0))];
    assert_eq!(scene.told(), told);
    assert!(!scene.is_known(5), "the broker has it as any other");
}

#[test]
fn who_has_nothing_or_shares_its_folder_may_go_at_once() {
    let mut scene = Scene::new(&[1, 2]);
    scene.registry.note_leaving(id(9), scene.now);
    assert_eq!(scene.told(), [(9, still_needed(0))], "it keeps nothing");
    scene.come_with(3, 1, &[]);
    scene.safe(5, [1, 2]);
    scene.registry.note_leaving(id(1), scene.now);
    assert_eq!(scene.told(), [(1, still_needed(0))]);
    // Asked again, it is told again.
    scene.registry.note_leaving(id(1), scene.now);
    assert_eq!(scene.told(), [(1, still_needed(0))]);
    scene.registry.note_leaving(id(3), scene.now);
    let told = scene.told();
    assert!(told.contains(&(3, still_needed(1))), "{told:?}");
    assert!(told.contains(&(1, still_needed(1))), "{told:?}");
}

#[test]
fn all_leave_at_once() {
    let mut scene = Scene::new(&[1, 2]);
    scene.safe(5, [1, 2]);
    for worker in [1, 2] {
        scene.registry.note_leaving(id(worker), scene.now);
    }
    scene.told();
    assert_eq!(scene.taken_in, [blob(5).digest], "once");
    // What a task gives meanwhile the broker gets.
    scene.claim(1, 6);
    assert!(not_safe(&scene.told()));
}

#[test]
fn one_copy_is_not_left_alone_for_long() {
    let mut scene = Scene::new(&[1, 2]);
    scene.safe(5, [1, 2]);
    scene.registry.leave(id(1), scene.now);
    scene.later(PATIENCE.away_max);
    scene.told();
    assert_eq!(scene.taken_in, [], "somebody may come");
    scene.later(COPY_PAUSE);
    scene.told();
    assert_eq!(scene.taken_in, [blob(5).digest]);
}
