//! What is thought of those from whom a chunk did not come, or came well.

use super::{Holder, Miss, Tracker};
use crate::swarm::{Instant, SiteName};
use dewar_blobs::BlobRef;
use dewar_queue::WorkerId;

impl Tracker {
    /// A chunk did not come from `from`. Says whether that shuns `from` from now on.
    pub(crate) fn missed(
        &mut self,
        worker: WorkerId,
        blob: BlobRef,
        chunk: u64,
        (from, miss): (Holder, Miss),
        now: Instant,
    ) -> bool {
        self.end_fetch(worker, blob, chunk);
        let entry = self.blobs.get_mut(&blob);
        let wanted = entry.and_then(|entry| entry.wanted.get_mut(&chunk));
        if let Some(wanted) = wanted.filter(|wanted| !wanted.waiting.contains(&worker))
            && self
                .members
                .get(&worker)
                .is_some_and(|member| member.wanted.contains(&(blob, chunk)))
        {
            wanted.missed.push((worker, from));
            wanted.waiting.push(worker);
        }
        let is_shunned = match from {
            Holder::Broker => false,
            Holder::Worker(source) => self.blame(worker, source, blob, chunk, miss, now),
        };
        self.assign(blob, chunk, now);
        self.retry(now);
        is_shunned
    }

    /// Notes why a source did not give a chunk. Says whether it is shunned from now on.
    fn blame(
        &mut self,
        worker: WorkerId,
        source: WorkerId,
        blob: BlobRef,
        chunk: u64,
        miss: Miss,
        now: Instant,
    ) -> bool {
        let Some(member) = self.members.get_mut(&worker) else {
            return false;
        };
        let site = member.arrival.site.clone();
        let is_believed = miss != Miss::Corrupt || member.accuse(source);
        let Some(blamed) = self.members.get_mut(&source) else {
            return false;
        };
        match miss {
            Miss::Unreachable | Miss::Slow => {
                blamed.avoided_by.note_trouble(&site, now);
                let theirs = blamed.arrival.site.clone();
                // More likely there is a wall between the two than that each has to be tried.
                if let Some(site) = self.sites.get_mut(&site).filter(|_| theirs != site) {
                    site.avoids.note_trouble(&theirs, now);
                }
            }
            Miss::Corrupt if is_believed => {
                let was_shunned = blamed.is_shunned();
                blamed.counters.corrupt_count += 1;
                self.moved.corrupt_count += 1;
                return !was_shunned;
            }
            Miss::Corrupt => {}
            Miss::Lacking => self.remove_holding(source, blob, &[chunk].into_iter().collect()),
        }
        false
    }

    /// A source served somebody of a site well.
    pub(super) fn trust(&mut self, source: WorkerId, site: &SiteName) {
        let Some(source) = self.members.get_mut(&source) else {
            return;
        };
        source.avoided_by.forget(site);
        if let Some(site) = self.sites.get_mut(site) {
            site.avoids.forget(&source.arrival.site);
        }
    }
}
