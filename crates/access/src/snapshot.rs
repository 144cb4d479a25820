//! Every resource at one revision, immutable. A change makes a new snapshot; readers keep the one that they hold.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use mcpctl_api::{
    Id, Kind, Name, Resource, Revision, Spec,
    oidc::IssuerUrl,
    spec::{Subject, SubjectKind},
};

use crate::{
    narrowing::Narrowing,
    references::References,
    rules::Index,
    shared::{SharedMap, SharedNames},
};

/// A resource with its confidential part.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What a caller with the verb `view` may see.
    pub resource: Resource,
    /// What no response contains.
    pub confidential: Option<Confidential>,
}

/// The part of a resource that never leaves the daemon; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Confidential {
    /// SHA-256 of a token's text.
    TokenHash([u8; 32]),
    /// PHC string of a user's password.
    PasswordHash(String),
    /// A secret's data, under envelope encryption.
    Sealed(Vec<u8>),
}

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[confidential]")
    }
}

impl Stored {
    /// The resource's kind.
    pub fn kind(&self) -> Kind {
        self.resource.kind()
    }

    /// The resource's id.
    pub fn id(&self) -> &Id {
        &self.resource.id
    }

    /// The resource's name.
    pub fn name(&self) -> &Name {
        &self.resource.name
    }

    /// The user, service account or group as a subject; `None` for other kinds.
    pub fn as_subject(&self) -> Option<Subject> {
        let kinds = [SubjectKind::User, SubjectKind::ServiceAccount, SubjectKind::Group];
        let kind = kinds.into_iter().find(|kind| kind.kind() == self.kind())?;
        Some(Subject { kind, name: self.name().clone() })
    }
}

/// One change of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A resource was created or changed; it carries the change's revision.
    Put(Arc<Stored>),
    /// A resource was deleted.
    Delete {
        /// Kind of the deleted resource.
        kind: Kind,
        /// Id of the deleted resource.
        id: Id,
        /// Last name of the deleted resource.
        name: Name,
        /// The change's revision.
        revision: Revision,
    },
}

impl Change {
    /// The revision that this change made.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(stored) => stored.resource.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// The kind of resource that changed.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Put(stored) => stored.kind(),
            Self::Delete { kind, .. } => *kind,
        }
    }

    /// The id of the resource that changed.
    pub fn id(&self) -> &Id {
        match self {
            Self::Put(stored) => stored.id(),
            Self::Delete { id, .. } => id,
        }
    }
}

/// The token of a hash, and what it is narrowed to.
#[derive(Debug, Clone)]
struct KnownToken {
    id: Id,
    narrowing: Option<Arc<Narrowing>>,
}

/// What the decisions about existing credentials are made of. No number, so that a store that was restored from a backup, and
/// counts its revisions again from there, never looks like the one that it was.
#[derive(Debug, Clone, Default)]
pub struct Decisions(Arc<()>);

impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Every resource at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: Revision,
    decisions: Decisions,
    by_id: SharedMap<Id, Arc<Stored>>,
    by_name: BTreeMap<Kind, SharedNames>,
    by_token: SharedMap<[u8; 32], KnownToken>,
    pub(crate) index: Index,
    pub(crate) references: References,
    pub(crate) issuers: Arc<ListedIssuers>,
}

/// The issuers that the configuration of this process lists. Not of the store: replicas are configured alike, and each goes by
/// its own list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedIssuers {
    /// Providers at which people sign in.
    pub sign_in: HashSet<IssuerUrl>,
    /// Issuers of workloads' tokens.
    pub exchange: HashSet<IssuerUrl>,
}

impl ListedIssuers {
    /// Whether an account of this kind may have a token that this issuer vouched for.
    pub(crate) fn list(&self, kind: SubjectKind, issuer: &IssuerUrl) -> bool {
        match kind {
            SubjectKind::User => self.sign_in.contains(issuer),
            SubjectKind::ServiceAccount => self.exchange.contains(issuer),
            SubjectKind::Group => false,
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(Revision::default(), [])
    }
}

impl Snapshot {
    /// The snapshot of `resources` at `revision`.
    pub fn new(revision: Revision, resources: impl IntoIterator<Item = Arc<Stored>>) -> Self {
        let mut snapshot = Self {
            revision,
            decisions: Decisions::default(),
            by_id: SharedMap::default(),
            by_name: Kind::RESOURCES.into_iter().map(|kind| (kind, SharedNames::default())).collect(),
            by_token: SharedMap::default(),
            index: Index::default(),
            references: References::default(),
            issuers: Arc::default(),
        };
        for stored in resources {
            snapshot.put(stored);
        }
        snapshot
    }

    /// The snapshot in a process whose configuration lists these issuers; one that none was named to lists none.
    #[must_use]
    pub fn listing(mut self, issuers: Arc<ListedIssuers>) -> Self {
        self.issuers = issuers;
        self
    }

    /// The snapshot after `changes`, which must be in order of revision and lead to `revision`. It shares with this one what did
    /// not change.
    #[must_use]
    pub fn after(&self, revision: Revision, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self.clone();
        changes.into_iter().for_each(|change| next.apply(change));
        next.revision = revision;
        next
    }

    /// Makes this the snapshot after `change`. What it shares with other snapshots stays as it is there.
    pub fn apply(&mut self, change: Change) {
        if self.changes_decisions(&change) {
            self.decisions = Decisions::default();
        }
        self.revision = change.revision();
        match change {
            Change::Put(stored) => self.put(stored),
            Change::Delete { id, .. } => self.remove(&id),
        }
    }

    /// Whether a decision about a credential that exists can be another one after this change.
    fn changes_decisions(&self, change: &Change) -> bool {
        match change.kind() {
            // Of records there are no changes.
            Kind::Secret | Kind::Limit | Kind::Usage | Kind::Audit => false,
            // Credentials are made all the time.
            Kind::Token => self.by_id.contains_key(change.id()),
            Kind::Llm | Kind::User | Kind::Group | Kind::ServiceAccount | Kind::Role | Kind::RoleBinding => {
                true
            }
        }
    }

    /// Adds a resource, or replaces it, at the same revision: for a snapshot that is being loaded.
    pub fn load(&mut self, stored: Arc<Stored>) {
        self.decisions = Decisions::default();
        self.put(stored);
    }

    fn put(&mut self, stored: Arc<Stored>) {
        // Removed first, so that a rename frees the old name.
        self.remove(stored.id());
        if let (Spec::Token(token), Some(Confidential::TokenHash(hash))) =
            (&stored.resource.spec, &stored.confidential)
        {
            let narrowing = token.rules.as_deref().map(|rules| Arc::new(Narrowing::new(rules)));
            self.by_token.insert(*hash, KnownToken { id: stored.id().clone(), narrowing });
        }
        self.by_name.entry(stored.kind()).or_default().insert(Arc::clone(&stored));
        if let Some(users) = self.by_name.get(&Kind::User) {
            self.index.put(&stored, users);
        }
        self.references.put(&stored);
        self.by_id.insert(stored.id().clone(), stored);
    }

    fn remove(&mut self, id: &Id) {
        let Some(old) = self.by_id.remove(id) else { return };
        // Only if the name is still its own: the feed may report another resource of that name first.
        if let Some(names) = self.by_name.get_mut(&old.kind()) {
            names.remove(&old);
        }
        if let Some(users) = self.by_name.get(&Kind::User) {
            self.index.remove(&old, users);
        }
        self.references.remove(&old);
        // Only if the hash is still its own: a rotation hands it to another token.
        if let Some(Confidential::TokenHash(hash)) = &old.confidential
            && self.by_token.get(hash).is_some_and(|token| token.id == *id)
        {
            self.by_token.remove(hash);
        }
    }

    /// The revision of this snapshot.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Equal in two snapshots only if every decision about a credential that both know is the same in both.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// The resource of that id, of any kind.
    ///
    /// Not authorized: a handler that shows a resource to a caller uses [`Snapshot::authorize`].
    pub fn by_id(&self, id: &Id) -> Option<&Arc<Stored>> {
        self.by_id.get(id)
    }

    /// The resource of that name.
    ///
    /// Not authorized: a handler that shows a resource to a caller uses [`Snapshot::authorize`].
    pub fn by_name(&self, kind: Kind, name: &str) -> Option<&Arc<Stored>> {
        self.by_name.get(&kind)?.get(name)
    }

    /// The resource of a path segment, which is read as an id if it has the shape of one, else as a name.
    pub fn resolve(&self, kind: Kind, id_or_name: &str) -> Option<&Arc<Stored>> {
        match id_or_name.parse::<Id>() {
            Ok(id) => self.by_id.get(&id).filter(|stored| stored.kind() == kind),
            Err(_) => self.by_name(kind, id_or_name),
        }
    }

    /// Every resource of a kind, ordered by name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Stored>> {
        self.by_name.get(&kind).into_iter().flat_map(SharedNames::iter)
    }

    /// The resources of a kind whose names follow `name`, ordered by name.
    pub fn all_after(&self, kind: Kind, name: &str) -> impl Iterator<Item = &Arc<Stored>> {
        self.by_name.get(&kind).into_iter().flat_map(move |names| names.after(name))
    }

    /// The tokens of the account of this id, ordered by name.
    pub fn tokens_of(&self, account: &Id) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        self.index.tokens_of(account)
    }

    /// The names of the resources of a kind that are not the same in `after`.
    pub(crate) fn changed_names<'a>(&'a self, after: &'a Self, kind: Kind) -> Vec<&'a Name> {
        match (self.by_name.get(&kind), after.by_name.get(&kind)) {
            (Some(these), Some(those)) => these.changed_names(those),
            _ => Vec::new(),
        }
    }

    pub(crate) fn token(&self, hash: &[u8; 32]) -> Option<(&Arc<Stored>, Option<&Arc<Narrowing>>)> {
        let token = self.by_token.get(hash)?;
        Some((self.by_id.get(&token.id)?, token.narrowing.as_ref()))
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
