//! The snapshot with the planned changes applied, so that the documents of one batch see each other.

use std::{collections::HashMap, sync::Arc};

use mcpctl_access::{Change, Snapshot, Stored};
use mcpctl_api::{Id, Kind, Name, Revision};

pub(super) struct Batch<'a> {
    before: &'a Snapshot,
    changes: Vec<Change>,
    /// The names and ids that the batch changed; `None` if it deleted the resource.
    names: HashMap<(Kind, Name), Option<Arc<Stored>>>,
    ids: HashMap<Id, Option<Arc<Stored>>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(before: &'a Snapshot) -> Self {
        Self { before, changes: Vec::new(), names: HashMap::new(), ids: HashMap::new() }
    }

    pub(super) fn by_name(&self, kind: Kind, name: &str) -> Option<Arc<Stored>> {
        let planned = name.parse::<Name>().ok().and_then(|name| self.names.get(&(kind, name)));
        match planned {
            Some(planned) => planned.clone(),
            None => self.before.by_name(kind, name).cloned(),
        }
    }

    /// As [`Snapshot::resolve`].
    pub(super) fn resolve(&self, kind: Kind, id_or_name: &str) -> Option<Arc<Stored>> {
        let Ok(id) = id_or_name.parse::<Id>() else { return self.by_name(kind, id_or_name) };
        match self.ids.get(&id) {
            Some(planned) => planned.clone(),
            None => self.before.resolve(kind, id_or_name).cloned(),
        }
    }

    /// Every resource of a kind after the planned changes; existing ones are ordered by name.
    pub(super) fn all(&self, kind: Kind) -> Vec<Arc<Stored>> {
        let untouched = self.before.all(kind).filter_map(|stored| match self.ids.get(stored.id()) {
            Some(planned) => planned.clone(),
            None => Some(Arc::clone(stored)),
        });
        let created = self.ids.iter().filter(|(id, _)| self.before.by_id(id).is_none());
        let created =
            created.filter_map(|(_, planned)| planned.clone()).filter(|stored| stored.kind() == kind);
        untouched.chain(created).collect()
    }

    pub(super) fn next_revision(&self) -> Revision {
        self.changes.last().map_or(self.before.revision(), Change::revision).next()
    }

    pub(super) fn put(&mut self, stored: Arc<Stored>) {
        let kind = stored.kind();
        if let Some(old) = self.resolve(kind, stored.id().as_str()) {
            self.names.insert((kind, old.name().clone()), None);
        }
        self.names.insert((kind, stored.name().clone()), Some(Arc::clone(&stored)));
        self.ids.insert(stored.id().clone(), Some(Arc::clone(&stored)));
        self.changes.push(Change::Put(stored));
    }

    pub(super) fn remove(&mut self, stored: &Stored) {
        let (kind, id, name) = (stored.kind(), stored.id().clone(), stored.name().clone());
        self.names.insert((kind, name.clone()), None);
        self.ids.insert(id.clone(), None);
        let revision = self.next_revision();
        self.changes.push(Change::Delete { kind, id, name, revision });
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}
