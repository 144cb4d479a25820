//! The index of which subject holds which rules, rebuilt whenever a role, a binding or a group changed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use mcpctl_api::{
    Id, Kind, Name, Revision, Spec, Verb,
    spec::{Allowed, ExternalIdentity, GroupClaim, NamePattern, Rule, Subject, SubjectKind},
};

use crate::{Snapshot, Stored, builtin};

/// The resources of a kind that a decision is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Names<'a> {
    /// The resource of this name.
    One(&'a str),
    /// Every resource that exists or will exist.
    Every,
    /// Every resource whose name this pattern matches.
    Matching(&'a str),
}

/// Which memberships of a user count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memberships {
    /// Those that the groups list.
    Listed,
    /// Those too that the claims of the user's last sign-in map to.
    Claimed,
}

impl Memberships {
    /// Both kinds. A step is compared by each: what a sign-in's claims give counts in its sessions alone, so that a listed membership
    /// beside it is more.
    pub(crate) const ALL: [Self; 2] = [Self::Listed, Self::Claimed];
}

/// A rule whose exact names are a set, so that a decision costs about the same for one name as for a thousand.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CompiledRule {
    kinds: Vec<Kind>,
    verbs: Vec<Verb>,
    every: bool,
    exact: BTreeSet<String>,
    patterns: Vec<NamePattern>,
}

impl CompiledRule {
    pub(crate) fn new(rule: &Rule) -> Self {
        let (patterns, exact): (Vec<_>, Vec<_>) =
            rule.names.iter().cloned().partition(|name| name.as_str().contains('*'));
        Self {
            kinds: Kind::ALL.into_iter().filter(|kind| listed(&rule.kinds, kind)).collect(),
            verbs: Verb::ALL.into_iter().filter(|verb| listed(&rule.verbs, verb)).collect(),
            every: patterns.iter().any(NamePattern::is_any),
            exact: exact.iter().map(|name| name.as_str().to_owned()).collect(),
            patterns,
        }
    }

    pub(crate) fn allows(&self, verb: Verb, kind: Kind, names: Names<'_>) -> bool {
        self.is_about(verb, kind)
            && match names {
                Names::Every => self.every,
                Names::Matching(pattern) => self.covers_names(pattern),
                Names::One(name) => {
                    self.every
                        || self.exact.contains(name)
                        || self.patterns.iter().any(|pattern| pattern.matches(name))
                }
            }
    }

    /// Whether it allows this on everything that the pattern matches.
    pub(crate) fn covers(&self, verb: Verb, kind: Kind, names: &str) -> bool {
        self.is_about(verb, kind) && self.covers_names(names)
    }

    fn covers_names(&self, names: &str) -> bool {
        self.every
            || self.exact.contains(names)
            || self.patterns.iter().any(|pattern| pattern.covers_text(names))
    }

    /// Its names and patterns, where it is about this.
    pub(crate) fn names_for(&self, verb: Verb, kind: Kind) -> impl Iterator<Item = &str> {
        let names =
            self.exact.iter().map(String::as_str).chain(self.patterns.iter().map(NamePattern::as_str));
        names.filter(move |_| self.is_about(verb, kind))
    }

    pub(crate) fn is_about(&self, verb: Verb, kind: Kind) -> bool {
        self.kinds.contains(&kind) && self.verbs.contains(&verb)
    }

    /// As single rights: one kind, one verb, one name or pattern each.
    pub(crate) fn rights(&self) -> impl Iterator<Item = (Kind, Verb, &str)> {
        let names = || {
            let exact = self.exact.iter().map(String::as_str);
            exact.chain(self.patterns.iter().map(NamePattern::as_str))
        };
        self.kinds.iter().flat_map(move |kind| {
            self.verbs.iter().flat_map(move |verb| names().map(move |names| (*kind, *verb, names)))
        })
    }
}

fn listed<T: PartialEq>(list: &[Allowed<T>], value: &T) -> bool {
    list.iter().any(|one| one.includes(value))
}

/// A role at a revision; equal states have equal rules.
type RoleState = (Id, Revision);

/// A role that a binding grants.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) binding: Name,
    pub(crate) role: Name,
    /// The state of the role that `rules` were compiled from.
    pub(crate) state: RoleState,
    pub(crate) rules: Arc<[CompiledRule]>,
}

/// Why a principal may do something: this binding grants this role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The binding.
    pub binding: Name,
    /// The role that the binding grants.
    pub role: Name,
    /// The group through which the subject has the binding; `None` if the binding names the subject itself.
    pub via_group: Option<Name>,
}

/// The grants, the groups and the Limits of every subject.
#[derive(Debug, Default)]
pub(crate) struct Index {
    grants: HashMap<Subject, Vec<Grant>>,
    groups: HashMap<Subject, Vec<Name>>,
    /// The groups that a claim of a user maps to and that do not list the user.
    claimed: HashMap<Subject, Vec<Name>>,
    /// The groups of each claim.
    claims: HashMap<GroupClaim, Vec<Name>>,
    /// Limits by the subject that they name; `None` for those that cover everyone.
    limits: HashMap<Option<Subject>, Vec<Arc<Stored>>>,
}

impl Index {
    /// Whether a change of a resource of this kind can change the index.
    pub(crate) fn depends_on(kind: Kind) -> bool {
        matches!(kind, Kind::Role | Kind::RoleBinding | Kind::Group | Kind::Limit)
    }

    pub(crate) fn build(snapshot: &Snapshot) -> Self {
        let mut index = Self::default();
        let roles: HashMap<&Name, (RoleState, Arc<[CompiledRule]>)> = snapshot
            .all(Kind::Role)
            .filter_map(|stored| match &stored.resource.spec {
                Spec::Role(role) => {
                    // A built-in role allows what this program defines, whatever the store contains.
                    let builtin = builtin::rules(stored.name().as_str());
                    let rules = builtin.as_deref().unwrap_or(&role.rules);
                    let compiled: Arc<[_]> = rules.iter().map(CompiledRule::new).collect();
                    Some((stored.name(), ((stored.id().clone(), stored.resource.revision), compiled)))
                }
                _ => None,
            })
            .collect();
        for stored in snapshot.all(Kind::RoleBinding) {
            let Spec::RoleBinding(binding) = &stored.resource.spec else { continue };
            // A binding to a deleted role grants nothing.
            let Some((state, rules)) = roles.get(&binding.role) else { continue };
            for subject in binding.subjects.iter().collect::<HashSet<_>>() {
                index.grants.entry(subject.clone()).or_default().push(Grant {
                    binding: stored.name().clone(),
                    role: binding.role.clone(),
                    state: state.clone(),
                    rules: Arc::clone(rules),
                });
            }
        }
        for stored in snapshot.all(Kind::Group) {
            let Spec::Group(group) = &stored.resource.spec else { continue };
            for member in group.members.iter().collect::<HashSet<_>>() {
                index.groups.entry(member.clone()).or_default().push(stored.name().clone());
            }
            for claim in group.claims.iter().collect::<HashSet<_>>() {
                index.claims.entry(claim.clone()).or_default().push(stored.name().clone());
            }
        }
        index.claimed = index.map_claims(snapshot);
        for stored in snapshot.all(Kind::Limit) {
            let Spec::Limit(limit) = &stored.resource.spec else { continue };
            let subjects: HashSet<Option<&Subject>> = match &limit.subjects {
                None => HashSet::from([None]),
                Some(subjects) => subjects.iter().map(Some).collect(),
            };
            for subject in subjects {
                index.limits.entry(subject.cloned()).or_default().push(Arc::clone(stored));
            }
        }
        index
    }

    /// The groups of every user by the claims of its last sign-in.
    fn map_claims(&self, snapshot: &Snapshot) -> HashMap<Subject, Vec<Name>> {
        let mut claimed = HashMap::new();
        if self.claims.is_empty() {
            return claimed;
        }
        for stored in snapshot.all(Kind::User) {
            let Some(identity) = external_identity(stored) else { continue };
            let subject = Subject { kind: SubjectKind::User, name: stored.name().clone() };
            let mut names: Vec<Name> = identity
                .groups
                .iter()
                .flat_map(|value| {
                    let claim = GroupClaim { issuer: identity.issuer.clone(), value: value.clone() };
                    self.claims.get(&claim).into_iter().flatten()
                })
                .filter(|name| !self.listed_groups(&subject).contains(name))
                .cloned()
                .collect();
            names.sort_unstable();
            names.dedup();
            if !names.is_empty() {
                claimed.insert(subject, names);
            }
        }
        claimed
    }

    /// Every claim that a group has.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &GroupClaim> {
        self.claims.keys()
    }

    /// The groups that a claim maps to.
    pub(crate) fn groups_of_claim(&self, claim: &GroupClaim) -> &[Name] {
        self.claims.get(claim).map_or(&[], Vec::as_slice)
    }

    /// What bindings grant to a group.
    pub(crate) fn granted_to_group(&self, name: &Name) -> &[Grant] {
        self.direct(&Subject { kind: SubjectKind::Group, name: name.clone() })
    }

    /// Whether a binding or a group names this subject.
    pub(crate) fn names(&self, subject: &Subject) -> bool {
        self.grants.contains_key(subject) || self.groups.contains_key(subject)
    }

    /// The Limits that name exactly this subject; `None` for those that cover everyone.
    pub(crate) fn limits_of(&self, subject: Option<Subject>) -> &[Arc<Stored>] {
        self.limits.get(&subject).map_or(&[], Vec::as_slice)
    }

    fn listed_groups(&self, subject: &Subject) -> &[Name] {
        self.groups.get(subject).map_or(&[], Vec::as_slice)
    }

    /// The groups of a subject, each once.
    pub(crate) fn groups_of(
        &self,
        subject: &Subject,
        memberships: Memberships,
    ) -> impl Iterator<Item = &Name> + use<'_> {
        let claimed = match memberships {
            Memberships::Listed => None,
            Memberships::Claimed => self.claimed.get(subject),
        };
        self.listed_groups(subject).iter().chain(claimed.into_iter().flatten())
    }

    /// What bindings grant to the subject itself, without its groups.
    fn direct(&self, subject: &Subject) -> &[Grant] {
        self.grants.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Every subject that a binding or a group names, whether or not it exists.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Subject> {
        self.grants.keys().chain(self.groups.keys()).chain(self.claimed.keys())
    }

    /// Every grant of a subject, each with the group through which the subject has it.
    pub(crate) fn held_by<'a>(
        &'a self,
        subject: &Subject,
        memberships: Memberships,
    ) -> impl Iterator<Item = (&'a Grant, Option<&'a Name>)> + use<'a> {
        let direct = self.direct(subject).iter().map(|grant| (grant, None));
        let by_group = self
            .groups_of(subject, memberships)
            .flat_map(|name| self.granted_to_group(name).iter().map(move |grant| (grant, Some(name))));
        direct.chain(by_group)
    }

    /// The states of the roles that a subject holds by these memberships; subjects with equal sets have equal rights.
    pub(crate) fn states(&self, subject: &Subject, memberships: Memberships) -> HashSet<RoleState> {
        self.held_by(subject, memberships).map(|(grant, _)| grant.state.clone()).collect()
    }

    /// The first grant that allows `verb` on such resources of this kind.
    pub(crate) fn find(
        &self,
        subject: &Subject,
        memberships: Memberships,
        verb: Verb,
        kind: Kind,
        names: Names<'_>,
    ) -> Option<Reason> {
        self.held_by(subject, memberships)
            .find(|(grant, _)| grant.rules.iter().any(|rule| rule.allows(verb, kind, names)))
            .map(|(grant, via)| Reason {
                binding: grant.binding.clone(),
                role: grant.role.clone(),
                via_group: via.cloned(),
            })
    }
}

/// The account at an OpenID provider that a user is linked to.
pub(crate) fn external_identity(stored: &Stored) -> Option<&ExternalIdentity> {
    match &stored.resource.spec {
        Spec::User(user) => user.external.identity(),
        _ => None,
    }
}
