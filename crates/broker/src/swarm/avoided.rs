//! Who is left alone for a while, by site: longer each time there was trouble, until something came well.

use super::{Instant, SiteName};
use std::{collections::HashMap, time::Duration};

/// The first pause after somebody was slow or out of reach; each is twice the one before, up to 64 times as long.
const AT_FIRST: Duration = Duration::from_secs(10);

/// Sites, how often there was trouble in a row, and until when it keeps them apart.
#[derive(Debug, Default)]
pub(super) struct Avoided {
    sites: HashMap<SiteName, (u32, Instant)>,
}

impl Avoided {
    /// Something was slow or out of reach.
    pub(super) fn note_trouble(&mut self, site: &SiteName, now: Instant) {
        let (count, until) = self.sites.entry(site.clone()).or_insert((0, now));
        *until = now + AT_FIRST * 2_u32.pow((*count).min(6));
        *count += 1;
    }

    /// Something came well.
    pub(super) fn forget(&mut self, site: &SiteName) {
        self.sites.remove(site);
    }

    pub(super) fn contains(&self, site: &SiteName, now: Instant) -> bool {
        let avoided = self.sites.get(site);
        avoided.is_some_and(|(_, until)| *until > now)
    }
}
