//! Collections whose copies share what did not change, so that a snapshot costs as much as its change.
//!
//! Each is two levels: a list of parts, and the parts. A copy is one reference; a write copies the list and one part.

use std::{
    borrow::Borrow,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::Arc,
};

use hashbrown::{HashTable, hash_table::Entry};
use mcpctl_api::Name;

use crate::Stored;

/// Parts of a map. At 100,000 entries a write copies 200 of them, and 512 references.
const SHARDS: usize = 512;
/// Most resources of one part of an ordered list; a larger one is split.
const MAX_CHUNK: usize = 256;

/// A hash map. One hash of a key finds its part and its place there.
#[derive(Debug, Clone)]
pub(crate) struct SharedMap<K, V> {
    hasher: RandomState,
    shards: Arc<Vec<Shard<K, V>>>,
}

type Shard<K, V> = Arc<HashTable<(K, V)>>;

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashTable::new());
        Self { hasher: RandomState::new(), shards: Arc::new(vec![empty; SHARDS]) }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SharedMap<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let (_, value) = self.shards.get(shard_of(hash))?.find(hash, |(known, _)| known.borrow() == key)?;
        Some(value)
    }

    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.entry(&key) {
            Some(Entry::Occupied(mut known)) => known.get_mut().1 = value,
            Some(Entry::Vacant(place)) => drop(place.insert((key, value))),
            None => {}
        }
    }

    /// The value of a key, to be changed; the default one where it has none yet.
    pub(crate) fn or_default(&mut self, key: K) -> Option<&mut V>
    where
        V: Default,
    {
        let entry = self.entry(&key)?;
        Some(&mut entry.or_insert_with(|| (key, V::default())).into_mut().1)
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Looked up first, so that nothing is copied for a key that is absent.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let shard = shard_mut(&mut self.shards, hash)?;
        let ((_, value), _) = shard.find_entry(hash, |(known, _)| known.borrow() == key).ok()?.remove();
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }

    /// The keys whose values differ in `other`, which is a later state of this map or an unrelated one. Costs as much as the
    /// parts that differ.
    pub(crate) fn changed_keys<'a>(
        &'a self,
        other: &'a Self,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Vec<&'a K> {
        // Of the parts that one has and the other lacks, because unrelated maps distribute their keys differently.
        let changed = self.shards.iter().zip(other.shards.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b));
        let mut keys = Vec::new();
        for (before, after) in changed {
            let differs = |of: &Self, key: &K, value: &V| !of.get(key).is_some_and(|one| is_same(one, value));
            keys.extend(before.iter().filter(|(key, value)| differs(other, key, value)).map(|(key, _)| key));
            keys.extend(after.iter().map(|(key, _)| key).filter(|key| !self.contains_key(*key)));
        }
        keys
    }

    fn entry(&mut self, key: &K) -> Option<Entry<'_, (K, V)>> {
        let Self { hasher, shards } = self;
        let hash = hasher.hash_one(key);
        let shard = shard_mut(shards, hash)?;
        Some(shard.entry(hash, |(known, _)| known == key, |(known, _)| hasher.hash_one(known)))
    }
}

/// The part of a hash: by bits in its middle, because a table goes by those at both ends.
const fn shard_of(hash: u64) -> usize {
    (hash >> 32) as u32 as usize % SHARDS
}

fn shard_mut<K: Clone, V: Clone>(
    shards: &mut Arc<Vec<Shard<K, V>>>,
    hash: u64,
) -> Option<&mut HashTable<(K, V)>> {
    Arc::make_mut(shards).get_mut(shard_of(hash)).map(Arc::make_mut)
}

/// Resources of one kind, ordered by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedNames {
    /// None is empty.
    chunks: Arc<Vec<Arc<Vec<Arc<Stored>>>>>,
}

impl SharedNames {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Stored>> {
        let chunk = self.chunks.get(self.chunk_of(name))?;
        let at = chunk.binary_search_by(|stored| stored.name().as_str().cmp(name)).ok()?;
        chunk.get(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Those whose names follow `name`.
    pub(crate) fn after(&self, name: &str) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        let at = self.chunk_of(name);
        let begun = self.chunks.get(at).map_or(&[][..], |chunk| {
            let begin = chunk.partition_point(|stored| stored.name().as_str() <= name);
            chunk.get(begin..).unwrap_or_default()
        });
        begun.iter().chain(self.chunks.iter().skip(at + 1).flat_map(|chunk| chunk.iter()))
    }

    /// Adds a resource in place of another one of its name.
    pub(crate) fn insert(&mut self, stored: Arc<Stored>) {
        let chunks = Arc::make_mut(&mut self.chunks);
        let name = stored.name().as_str();
        let at = chunk_of(chunks, name).min(chunks.len().saturating_sub(1));
        let Some(chunk) = chunks.get_mut(at).map(Arc::make_mut) else {
            chunks.push(Arc::new(vec![stored]));
            return;
        };
        match chunk.binary_search_by(|one| one.name().as_str().cmp(name)) {
            Ok(found) => {
                if let Some(found) = chunk.get_mut(found) {
                    *found = stored;
                }
            }
            Err(place) => {
                chunk.insert(place, stored);
                if chunk.len() > MAX_CHUNK {
                    let second = chunk.split_off(MAX_CHUNK / 2);
                    chunks.insert(at + 1, Arc::new(second));
                }
            }
        }
    }

    /// Removes a resource, unless another one has its name meanwhile.
    pub(crate) fn remove(&mut self, stored: &Stored) {
        let name = stored.name().as_str();
        if self.get(name).is_none_or(|one| one.id() != stored.id()) {
            return;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        let at = chunk_of(chunks, name);
        let Some(chunk) = chunks.get_mut(at).map(Arc::make_mut) else { return };
        chunk.retain(|one| one.id() != stored.id());
        if chunk.is_empty() {
            chunks.remove(at);
        }
    }

    /// Whether this is the same state of the same list.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// The names whose resources differ in `other`. Costs as much as the parts that differ.
    pub(crate) fn changed_names<'a>(&'a self, other: &'a Self) -> Vec<&'a Name> {
        let mut names = Vec::new();
        for (these, those) in [(self, other), (other, self)] {
            let known: std::collections::HashSet<_> = those.chunks.iter().map(Arc::as_ptr).collect();
            let changed = these.chunks.iter().filter(|chunk| !known.contains(&Arc::as_ptr(chunk)));
            let differs = |one: &&Arc<Stored>| {
                !those.get(one.name().as_str()).is_some_and(|other| Arc::ptr_eq(one, other))
            };
            names.extend(changed.flat_map(|chunk| chunk.iter()).filter(differs).map(|stored| stored.name()));
        }
        names
    }

    fn chunk_of(&self, name: &str) -> usize {
        chunk_of(&self.chunks, name)
    }
}

/// The first part whose last name is not before this one.
fn chunk_of(chunks: &[Arc<Vec<Arc<Stored>>>], name: &str) -> usize {
    chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.name().as_str() < name))
}

/// Lists of resources by a key. A key without resources has no list.
#[derive(Debug, Clone)]
pub(crate) struct Lists<K>(SharedMap<K, SharedNames>);

impl<K> Default for Lists<K> {
    fn default() -> Self {
        Self(SharedMap::default())
    }
}

impl<K: Clone + Eq + Hash> Lists<K> {
    pub(crate) fn of<Q: Hash + Eq + ?Sized>(
        &self,
        key: &Q,
    ) -> impl Iterator<Item = &Arc<Stored>> + use<'_, K, Q>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).into_iter().flat_map(SharedNames::iter)
    }

    pub(crate) fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub(crate) fn add(&mut self, key: K, stored: &Arc<Stored>) {
        if let Some(list) = self.0.or_default(key) {
            list.insert(Arc::clone(stored));
        }
    }

    pub(crate) fn take(&mut self, key: &K, stored: &Stored) {
        if !self.0.contains_key(key) {
            return;
        }
        let Some(list) = self.0.or_default(key.clone()) else { return };
        list.remove(stored);
        if list.is_empty() {
            self.0.remove(key);
        }
    }

    pub(crate) fn changed_keys<'a>(&'a self, other: &'a Self) -> Vec<&'a K> {
        self.0.changed_keys(&other.0, SharedNames::is_same)
    }
}
