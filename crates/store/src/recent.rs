//! The latest changes, kept in memory, so that what many watches read of them costs the store one read.

use std::collections::{HashSet, VecDeque};

use mcpctl_access::Change;
use mcpctl_api::Revision;

use crate::resources::Feed;

/// Changes that are kept; older ones are read from the store.
const MAX_CHANGES: usize = 512;

/// All changes after one revision up to another, in order.
#[derive(Debug)]
pub(crate) struct RecentChanges {
    after: Revision,
    up_to: Revision,
    changes: VecDeque<Change>,
}

impl RecentChanges {
    /// None yet, at this revision.
    pub(crate) fn new(at: Revision) -> Self {
        Self { after: at, up_to: at, changes: VecDeque::new() }
    }

    /// Adds the changes that lead to `up_to`.
    pub(crate) fn extend(&mut self, up_to: Revision, changes: impl IntoIterator<Item = Change>) {
        self.changes.extend(changes);
        self.up_to = up_to;
        while self.changes.len() > MAX_CHANGES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.after = oldest.revision();
        }
    }

    /// As [`crate::Store::changes_since`]; `None` where they do not reach back that far.
    pub(crate) fn since(&self, since: Revision, limit: usize) -> Option<Feed> {
        if since < self.after || since > self.up_to {
            return None;
        }
        let first = self.changes.partition_point(|change| change.revision() <= since);
        // From the last to the first: what changed again later is reported there.
        let mut later = HashSet::new();
        let mut changes: Vec<Change> = self
            .changes
            .range(first..)
            .rev()
            .filter(|change| later.insert(change.id()) || matches!(change, Change::Delete { .. }))
            .cloned()
            .collect();
        changes.reverse();
        let up_to = match changes.get(limit.saturating_sub(1)) {
            Some(last) if changes.len() > limit => last.revision(),
            _ => self.up_to,
        };
        changes.truncate(limit);
        Some(Feed::Changes { up_to, changes })
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::{Id, Kind};

    use super::*;

    fn delete(revision: u64) -> Change {
        Change::Delete {
            kind: Kind::Llm,
            id: Id::mint(),
            name: format!("l{revision}").parse().unwrap(),
            revision: Revision(revision),
        }
    }

    fn read(recent: &RecentChanges, since: u64, limit: usize) -> Option<(u64, Vec<u64>)> {
        let Feed::Changes { up_to, changes } = recent.since(Revision(since), limit)? else { return None };
        Some((up_to.0, changes.iter().map(|change| change.revision().0).collect()))
    }

    #[test]
    fn only_what_is_complete_is_read_from_memory() {
        let mut recent = RecentChanges::new(Revision(10));
        recent.extend(Revision(13), [11, 12, 13].map(delete));
        assert_eq!(read(&recent, 9, 10), None, "before the first");
        assert_eq!(read(&recent, 10, 10), Some((13, vec![11, 12, 13])));
        assert_eq!(read(&recent, 12, 10), Some((13, vec![13])));
        assert_eq!(read(&recent, 13, 10), Some((13, vec![])));
        assert_eq!(read(&recent, 14, 10), None, "the store went back in time");
        assert_eq!(read(&recent, 10, 2), Some((12, vec![11, 12])), "to go on from there");
        recent.extend(Revision(1000), (14..=1000).map(delete));
        assert_eq!(read(&recent, 13, 10), None, "no longer kept");
        assert!(recent.changes.len() <= MAX_CHANGES);
    }
}
