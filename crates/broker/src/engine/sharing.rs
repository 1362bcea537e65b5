//! Tasks that are alike share what they say: a million tasks of one kind need not name it a million times.

use dewar_queue::{Event, TaskSpec};
use std::sync::Arc;

/// Lets tasks use the name of the kind of the task before, if it is the same.
pub(super) fn share_kinds(specs: &mut [Arc<TaskSpec>]) {
    let mut last: Option<Arc<str>> = None;
    for spec in specs {
        match &last {
            Some(name) if *name == spec.kind.name => {
                // Whoever else holds this task by now keeps its own name for it.
                if let Some(spec) = Arc::get_mut(spec) {
                    spec.kind.name = name.clone();
                }
            }
            _ => last = Some(spec.kind.name.clone()),
        }
    }
}

/// The same for tasks that come back from the store.
pub(super) fn share_kinds_of(event: &mut Event) {
    if let Event::TasksSubmitted { specs, .. } = event {
        share_kinds(specs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewar_queue::{Kind, Payload};

    #[test]
    fn neighbours_of_one_kind_share_its_name() {
        let specs = ["a", "a", "b", "a"].map(|name| {
            let (name, version) = (name.into(), 1);
            TaskSpec::new(Kind { name, version }, Payload::Inline(Arc::from([])))
        });
        let mut shared: Vec<_> = specs.clone().into_iter().map(Arc::new).collect();
        share_kinds(&mut shared);
        assert!(shared.iter().map(|spec| &**spec).eq(&specs));
        let same = |a: usize, b: usize| Arc::ptr_eq(&shared[a].kind.name, &shared[b].kind.name);
        assert!(same(0, 1) && !same(0, 3));
    }
}
