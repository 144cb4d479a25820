//! The index of which subject holds which rules. It is updated with each change, for what the change affects.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use mcpctl_api::{
    Id, Kind, Name, Revision, Spec, Verb,
    spec::{
        Allowed, ExternalIdentity, GroupClaim, GroupSpec, LimitSpec, NamePattern, Rule, Subject, SubjectKind,
    },
};

use crate::{
    Stored, builtin,
    shared::{Lists, SharedMap, SharedNames},
};

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

/// Names of which the exact ones are a set, so that a decision costs about the same for one name as for a thousand.
#[derive(Debug, PartialEq, Eq)]
struct NameSet {
    every: bool,
    exact: BTreeSet<String>,
    patterns: Vec<NamePattern>,
}

impl NameSet {
    fn new(names: impl Iterator<Item = NamePattern>) -> Self {
        let (patterns, exact): (Vec<_>, Vec<_>) = names.partition(|name| name.as_str().contains('*'));
        Self {
            every: patterns.iter().any(NamePattern::is_any),
            exact: exact.iter().map(|name| name.as_str().to_owned()).collect(),
            patterns,
        }
    }

    fn matches(&self, name: &str) -> bool {
        self.every || self.exact.contains(name) || self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    fn covers(&self, names: &str) -> bool {
        self.every
            || self.exact.contains(names)
            || self.patterns.iter().any(|pattern| pattern.covers_text(names))
    }

    /// The names, then the patterns.
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(String::as_str).chain(self.patterns.iter().map(NamePattern::as_str))
    }
}

/// A rule that is ready for decisions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CompiledRule {
    kinds: Vec<Kind>,
    verbs: Vec<Verb>,
    names: NameSet,
    /// The same names where they are those of accounts that records are about: each with its kind, because a user and a service
    /// account may have one name.
    accounts: NameSet,
}

impl CompiledRule {
    pub(crate) fn new(rule: &Rule) -> Self {
        Self {
            kinds: Kind::ALL.into_iter().filter(|kind| listed(&rule.kinds, kind)).collect(),
            verbs: Verb::ALL.into_iter().filter(|verb| listed(&rule.verbs, verb)).collect(),
            // No resource has such a name, whatever the store contains.
            names: NameSet::new(rule.names.iter().filter(|name| !name.names_kind()).cloned()),
            accounts: NameSet::new(rule.names.iter().map(NamePattern::of_accounts)),
        }
    }

    const fn names_of(&self, kind: Kind) -> &NameSet {
        if kind.is_resource() { &self.names } else { &self.accounts }
    }

    pub(crate) fn allows(&self, verb: Verb, kind: Kind, names: Names<'_>) -> bool {
        let allowed = self.names_of(kind);
        self.is_about(verb, kind)
            && match names {
                Names::Every => allowed.every,
                Names::Matching(pattern) => allowed.covers(pattern),
                Names::One(name) => allowed.matches(name),
            }
    }

    /// Whether it allows this on everything that the pattern matches.
    pub(crate) fn covers(&self, verb: Verb, kind: Kind, names: &str) -> bool {
        self.is_about(verb, kind) && self.names_of(kind).covers(names)
    }

    /// The names of resources that it lists.
    pub(crate) const fn exact(&self) -> &BTreeSet<String> {
        &self.names.exact
    }

    /// The patterns of resources' names that it lists.
    pub(crate) fn patterns(&self) -> &[NamePattern] {
        &self.names.patterns
    }

    /// Its names and patterns, where it is about this.
    pub(crate) fn names_for(&self, verb: Verb, kind: Kind) -> impl Iterator<Item = &str> {
        self.names_of(kind).texts().filter(move |_| self.is_about(verb, kind))
    }

    pub(crate) fn is_about(&self, verb: Verb, kind: Kind) -> bool {
        self.kinds.contains(&kind) && self.verbs.contains(&verb)
    }

    /// As single rights: one kind, one verb, one name or pattern each.
    pub(crate) fn rights(&self) -> impl Iterator<Item = (Kind, Verb, &str)> {
        self.kinds.iter().flat_map(move |kind| {
            let names = move || self.names_of(*kind).texts();
            self.verbs.iter().flat_map(move |verb| names().map(move |names| (*kind, *verb, names)))
        })
    }
}

fn listed<T: PartialEq>(list: &[Allowed<T>], value: &T) -> bool {
    list.iter().any(|one| one.includes(value))
}

/// A role at a revision; equal states have equal rules.
type RoleState = (Id, Revision);

/// A role with its rules compiled.
#[derive(Debug)]
pub(crate) struct CompiledRole {
    name: Name,
    /// What the rules were compiled from.
    state: RoleState,
    rules: Vec<CompiledRule>,
}

impl CompiledRole {
    fn new(stored: &Stored) -> Option<Self> {
        let Spec::Role(role) = &stored.resource.spec else { return None };
        // A built-in role allows what this program defines, whatever the store contains.
        let builtin = builtin::rules(stored.name().as_str());
        let rules = builtin.as_deref().unwrap_or(&role.rules).iter().map(CompiledRule::new).collect();
        Some(Self {
            name: stored.name().clone(),
            state: (stored.id().clone(), stored.resource.revision),
            rules,
        })
    }
}

/// A role that a binding grants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub(crate) binding: &'a Name,
    pub(crate) role: &'a Name,
    /// The state of the role that `rules` were compiled from.
    pub(crate) state: &'a RoleState,
    pub(crate) rules: &'a [CompiledRule],
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

/// What refers to what: the grants, the groups and the Limits of every subject, the members of claims, the tokens of accounts. A
/// change updates the entries of the resource that it is about, and copies share the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    roles: SharedMap<Name, Arc<CompiledRole>>,
    /// The bindings that name a role, whether or not it exists.
    bindings: Lists<Name>,
    /// The bindings that name a subject, whether or not their role exists.
    grants: Lists<Subject>,
    /// The groups that list a subject.
    groups: Lists<Subject>,
    /// The groups that a claim of a user maps to and that do not list the user.
    claimed: SharedMap<Subject, Arc<Vec<Name>>>,
    /// The groups of each claim.
    claims: Lists<GroupClaim>,
    /// The users whose last sign-in had a claim, whether or not a group has it.
    claimants: Lists<GroupClaim>,
    /// Limits by the subject that they name; `None` for those that cover everyone.
    limits: Lists<Option<Subject>>,
    /// The tokens of an account, by its id.
    tokens: Lists<Id>,
}

impl Index {
    /// Adds what a resource refers to. `users` are all of the snapshot, this one included.
    pub(crate) fn put(&mut self, stored: &Arc<Stored>, users: &SharedNames) {
        match &stored.resource.spec {
            Spec::Role(_) => {
                if let Some(role) = CompiledRole::new(stored) {
                    self.roles.insert(stored.name().clone(), Arc::new(role));
                }
            }
            Spec::RoleBinding(binding) => {
                self.bindings.add(binding.role.clone(), stored);
                binding.subjects.iter().for_each(|subject| self.grants.add(subject.clone(), stored));
            }
            Spec::Group(group) => {
                group.members.iter().for_each(|member| self.groups.add(member.clone(), stored));
                group.claims.iter().for_each(|claim| self.claims.add(claim.clone(), stored));
                self.map_claims_of(group, users);
            }
            Spec::User(_) => {
                claims_of(stored).for_each(|claim| self.claimants.add(claim, stored));
                self.map_claims(stored);
            }
            Spec::Limit(limit) => {
                limited(limit).into_iter().for_each(|subject| self.limits.add(subject, stored));
            }
            Spec::Token(token) => self.tokens.add(token.subject_id.clone(), stored),
            Spec::Llm(_) | Spec::Secret(_) | Spec::ServiceAccount(_) => {}
        }
    }

    /// Removes what a resource referred to. `users` are those that remain.
    pub(crate) fn remove(&mut self, stored: &Stored, users: &SharedNames) {
        match &stored.resource.spec {
            Spec::Role(_) => {
                // Only if the name is still its own: the feed may report another role of that name first.
                if self.roles.get(stored.name()).is_some_and(|role| role.state.0 == *stored.id()) {
                    self.roles.remove(stored.name());
                }
            }
            Spec::RoleBinding(binding) => {
                self.bindings.take(&binding.role, stored);
                binding.subjects.iter().for_each(|subject| self.grants.take(subject, stored));
            }
            Spec::Group(group) => {
                group.members.iter().for_each(|member| self.groups.take(member, stored));
                group.claims.iter().for_each(|claim| self.claims.take(claim, stored));
                self.map_claims_of(group, users);
            }
            Spec::User(_) => {
                claims_of(stored).for_each(|claim| self.claimants.take(&claim, stored));
                match users.get(stored.name().as_str()) {
                    Some(user) => self.map_claims(user),
                    None => drop(self.claimed.remove(&user(stored.name()))),
                }
            }
            Spec::Limit(limit) => {
                limited(limit).into_iter().for_each(|subject| self.limits.take(&subject, stored));
            }
            Spec::Token(token) => self.tokens.take(&token.subject_id, stored),
            Spec::Llm(_) | Spec::Secret(_) | Spec::ServiceAccount(_) => {}
        }
    }

    /// Maps the claims of those users anew whom a change of this group can affect.
    fn map_claims_of(&mut self, group: &GroupSpec, users: &SharedNames) {
        let listed = group.members.iter().filter(|member| member.kind == SubjectKind::User);
        let listed = listed.filter_map(|member| users.get(member.name.as_str()));
        let claimants = group.claims.iter().flat_map(|claim| self.claimants.of(claim));
        let affected: Vec<Arc<Stored>> = listed.chain(claimants).cloned().collect();
        affected.iter().for_each(|user| self.map_claims(user));
    }

    /// Notes the groups of a user by the claims of its last sign-in.
    fn map_claims(&mut self, stored: &Stored) {
        let subject = user(stored.name());
        let claims = claims_of(stored);
        let groups = claims
            .flat_map(|claim| self.claims.of(&claim).map(|group| group.name().clone()).collect::<Vec<_>>());
        let mut names: Vec<Name> = groups.filter(|name| !self.lists(name, &subject)).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            self.claimed.remove(&subject);
        } else {
            self.claimed.insert(subject, Arc::new(names));
        }
    }

    fn lists(&self, group: &Name, subject: &Subject) -> bool {
        self.groups.of(subject).any(|one| one.name() == group)
    }

    /// The groups that a claim maps to.
    pub(crate) fn groups_of_claim(&self, claim: &GroupClaim) -> impl Iterator<Item = &Name> {
        self.claims.of(claim).map(|group| group.name())
    }

    /// What bindings grant to the groups of a claim.
    pub(crate) fn granted_by_claim(&self, claim: &GroupClaim) -> Vec<Grant<'_>> {
        self.groups_of_claim(claim).flat_map(|name| self.granted_to_group(name)).collect()
    }

    /// What bindings grant to a group.
    pub(crate) fn granted_to_group(&self, name: &Name) -> impl Iterator<Item = Grant<'_>> + use<'_> {
        self.direct(&Subject { kind: SubjectKind::Group, name: name.clone() })
    }

    /// Whether a binding or a group names this subject.
    pub(crate) fn names(&self, subject: &Subject) -> bool {
        self.direct(subject).next().is_some() || self.groups.contains(subject)
    }

    /// The Limits that name exactly this subject; `None` for those that cover everyone.
    pub(crate) fn limits_of(&self, subject: Option<Subject>) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        self.limits.of(&subject)
    }

    /// The bindings, groups and Limits that name this subject.
    pub(crate) fn naming(&self, subject: &Subject) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        let limits = self.limits_of(Some(subject.clone()));
        self.grants.of(subject).chain(self.groups.of(subject)).chain(limits)
    }

    /// The bindings that name this role.
    pub(crate) fn bindings_of(&self, role: &Name) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        self.bindings.of(role)
    }

    /// The tokens of the account of this id.
    pub(crate) fn tokens_of(&self, account: &Id) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        self.tokens.of(account)
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
        let listed = self.groups.of(subject).map(|group| group.name());
        listed.chain(claimed.into_iter().flat_map(|names| names.iter()))
    }

    /// What bindings grant to the subject itself, without its groups.
    fn direct(&self, subject: &Subject) -> impl Iterator<Item = Grant<'_>> + use<'_> {
        self.grants.of(subject).filter_map(|stored| {
            let Spec::RoleBinding(binding) = &stored.resource.spec else { return None };
            // A binding to a deleted role grants nothing.
            let CompiledRole { name, state, rules } = self.roles.get(&binding.role)?.as_ref();
            Some(Grant { binding: stored.name(), role: name, state, rules })
        })
    }

    /// The subjects of bindings to roles that have such a rule.
    pub(crate) fn bound_by(&self, has: impl Fn(&CompiledRule) -> bool) -> impl Iterator<Item = &Subject> {
        let roles = self.roles.iter().filter(move |(_, role)| role.rules.iter().any(&has));
        roles.flat_map(|(name, _)| self.subjects_of_role(name))
    }

    fn subjects_of_role(&self, role: &Name) -> impl Iterator<Item = &Subject> + use<'_> {
        self.bindings.of(role).flat_map(|stored| match &stored.resource.spec {
            Spec::RoleBinding(binding) => binding.subjects.as_slice(),
            _ => &[],
        })
    }

    /// Every subject whose direct grants or groups differ in `after`, and possibly others; the members of such a group are not
    /// among them.
    pub(crate) fn changed_subjects(&self, after: &Self) -> HashSet<Subject> {
        let granted = self.grants.changed_keys(&after.grants).into_iter();
        let grouped = self.groups.changed_keys(&after.groups).into_iter();
        let claimed = self.claimed.changed_keys(&after.claimed, Arc::ptr_eq).into_iter();
        let roles = self.roles.changed_keys(&after.roles, Arc::ptr_eq).into_iter();
        let by_role = roles.flat_map(|role| self.subjects_of_role(role).chain(after.subjects_of_role(role)));
        granted.chain(grouped).chain(claimed).chain(by_role).cloned().collect()
    }

    /// The claims whose groups differ in `after`.
    pub(crate) fn changed_claims(&self, after: &Self) -> HashSet<GroupClaim> {
        self.claims.changed_keys(&after.claims).into_iter().cloned().collect()
    }

    /// The users who are members of a group by a claim of it.
    pub(crate) fn claimants_of(&self, group: &GroupSpec) -> impl Iterator<Item = Subject> {
        group.claims.iter().flat_map(|claim| self.claimants.of(claim)).map(|stored| user(stored.name()))
    }

    /// Every grant of a subject, each with the group through which the subject has it.
    pub(crate) fn held_by<'a>(
        &'a self,
        subject: &Subject,
        memberships: Memberships,
    ) -> impl Iterator<Item = (Grant<'a>, Option<&'a Name>)> + use<'a> {
        let direct = self.direct(subject).map(|grant| (grant, None));
        let by_group = self
            .groups_of(subject, memberships)
            .flat_map(|name| self.granted_to_group(name).map(move |grant| (grant, Some(name))));
        direct.chain(by_group)
    }

    /// The states of the roles that a subject holds by these memberships; subjects with equal sets have equal rights.
    pub(crate) fn states(&self, subject: &Subject, memberships: Memberships) -> HashSet<&RoleState> {
        self.held_by(subject, memberships).map(|(grant, _)| grant.state).collect()
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

fn user(name: &Name) -> Subject {
    Subject { kind: SubjectKind::User, name: name.clone() }
}

/// The claims of a user's last sign-in.
fn claims_of(stored: &Stored) -> impl Iterator<Item = GroupClaim> {
    let identity = external_identity(stored).into_iter();
    identity.flat_map(|identity| {
        let claim = |value: &String| GroupClaim { issuer: identity.issuer.clone(), value: value.clone() };
        identity.groups.iter().map(claim)
    })
}

/// The subjects that a Limit names; `None` where it covers everyone.
fn limited(limit: &LimitSpec) -> Vec<Option<Subject>> {
    match &limit.subjects {
        None => vec![None],
        Some(subjects) => subjects.iter().cloned().map(Some).collect(),
    }
}

/// The account at an OpenID provider that a user is linked to.
pub(crate) fn external_identity(stored: &Stored) -> Option<&ExternalIdentity> {
    match &stored.resource.spec {
        Spec::User(user) => user.external.identity(),
        _ => None,
    }
}
