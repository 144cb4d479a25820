//! The planned changes and the snapshot after them, so that the documents of one batch see each other.

use std::sync::Arc;

use mcpctl_access::{Change, Snapshot, Stored};
use mcpctl_api::{Kind, Revision};

pub(super) struct Batch {
    pub(super) after: Snapshot,
    pub(super) changes: Vec<Change>,
}

impl Batch {
    pub(super) fn new(before: &Snapshot) -> Self {
        Self { after: before.clone(), changes: Vec::new() }
    }

    pub(super) fn by_name(&self, kind: Kind, name: &str) -> Option<Arc<Stored>> {
        self.after.by_name(kind, name).cloned()
    }

    /// As [`Snapshot::resolve`].
    pub(super) fn resolve(&self, kind: Kind, id_or_name: &str) -> Option<Arc<Stored>> {
        self.after.resolve(kind, id_or_name).cloned()
    }

    pub(super) fn next_revision(&self) -> Revision {
        self.after.revision().next()
    }

    pub(super) fn put(&mut self, stored: Arc<Stored>) {
        self.change(Change::Put(stored));
    }

    /// Removes a resource, unless the batch has removed it already.
    pub(super) fn remove(&mut self, stored: &Stored) {
        if self.after.by_id(stored.id()).is_none() {
            return;
        }
        let (kind, id, name) = (stored.kind(), stored.id().clone(), stored.name().clone());
        let revision = self.next_revision();
        self.change(Change::Delete { kind, id, name, revision });
    }

    fn change(&mut self, change: Change) {
        self.changes.push(change.clone());
        self.after.apply(change);
    }
}
