//! Generated stores: few names and many references, so that accounts, groups, roles and bindings meet, with a history of changes
//! that deletes, renames, disables and makes again.

use std::{collections::HashSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Change, Confidential, ListedIssuers, Snapshot, Stored, builtin};
use mcpctl_api::{
    Id, Kind, Name, Resource, Revision, Spec, Verb,
    oidc::IssuerUrl,
    spec::{
        Allowed, ExternalIdentity, ExternalLink, Failover, FailoverVerb, GroupClaim, GroupSpec, LlmSpec,
        RoleBindingSpec, RoleSpec, Rule, SecretSpec, ServiceAccountSpec, Subject, SubjectKind, TokenOrigin,
        TokenSpec, UserSpec,
    },
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Names of accounts and groups; the kinds share some, so that a subject's kind matters.
const PEOPLE: [&str; 4] = ["ann", "bob", "ci", "team-a"];
const ROLES: [&str; 8] = ["reader", "runner", "team-a", "admin", "admin", "editor", "viewer", "llm-user"];
/// Names of what rules are about.
const THINGS: [&str; 6] = ["claude", "claude-2", "team-a-x", "team-b-x", "a.b_c", "ann"];
const PATTERNS: [&str; 14] = [
    "*", "**", "claude", "claude*", "claude-*", "team-*", "*-x", "*a*", "c*e", "team-*-x", "ann", "a.b_c",
    "*2", "reader",
];
/// OpenID providers, and values of their groups' claims.
const ISSUERS: [&str; 2] = ["https://a.example.com", "https://b.example.com"];
const VALUES: [&str; 3] = ["staff", "ops", "Staff"];
const MAX_CHANGES: usize = 10;

/// The issuers that the configuration lists; that others open nothing is tested where there is a configuration.
fn listed() -> ListedIssuers {
    let issuers: HashSet<IssuerUrl> = ISSUERS.map(|issuer| issuer.parse().unwrap()).into();
    ListedIssuers { sign_in: issuers.clone(), exchange: issuers }
}

/// The moment of every question.
pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// The resources that exist, and a snapshot that has followed their history.
pub struct Store {
    /// What exists now.
    pub resources: Vec<Arc<Stored>>,
    /// The same, as the product sees it.
    pub snapshot: Snapshot,
    /// Ids that were deleted.
    pub gone: Vec<Id>,
}

impl Store {
    /// The store of this seed.
    pub fn generate(seed: u64) -> Self {
        let mut history = History {
            rng: StdRng::seed_from_u64(seed),
            resources: Vec::new(),
            gone: Vec::new(),
            revision: Revision::default(),
        };
        history.populate();
        let mut snapshot =
            Snapshot::new(history.revision, history.resources.iter().cloned()).listing(Arc::new(listed()));
        let changes = history.rng.random_range(0..=MAX_CHANGES);
        let mut batch = Vec::new();
        for _ in 0..changes {
            batch.extend(history.change());
            if history.rng.random_bool(0.5) {
                snapshot = snapshot.after(history.revision, batch.drain(..));
            }
        }
        snapshot = snapshot.after(history.revision, batch);
        Self { resources: history.resources, snapshot, gone: history.gone }
    }

    /// The hash of the token of this name; each token's own id keeps those that were made again apart.
    pub fn hash(id: &Id) -> [u8; 32] {
        let mut hash = [0; 32];
        for (slot, byte) in hash.iter_mut().zip(id.as_str().bytes()) {
            *slot = byte;
        }
        hash
    }
}

struct History {
    rng: StdRng,
    resources: Vec<Arc<Stored>>,
    gone: Vec<Id>,
    revision: Revision,
}

impl History {
    fn populate(&mut self) {
        for role in builtin::ROLES {
            if self.rng.random_bool(0.9) {
                self.put(role, Kind::Role);
            }
        }
        for (kind, names, likely) in [
            (Kind::User, &PEOPLE[..], 0.8),
            (Kind::ServiceAccount, &PEOPLE[..], 0.6),
            (Kind::Group, &PEOPLE[..], 0.7),
            (Kind::Role, &ROLES[..3], 0.9),
            (Kind::Llm, &THINGS[..], 0.6),
            (Kind::Secret, &THINGS[..], 0.4),
            (Kind::RoleBinding, &["b0", "b1", "b2", "b3", "b4", "b5"][..], 0.9),
            (Kind::Token, &["t0", "t1", "t2", "t3", "t4", "t5"][..], 0.9),
        ] {
            for name in names {
                if self.rng.random_bool(likely) {
                    self.put(name, kind);
                }
            }
        }
    }

    /// One change of the store; what it makes of the resources is done here, apart from the snapshot's own way.
    fn change(&mut self) -> Option<Change> {
        let at = self.rng.random_range(0..self.resources.len().max(1));
        let old = Arc::clone(self.resources.get(at)?);
        let (name, kind) = (old.name().clone(), old.kind());
        match self.rng.random_range(0..6) {
            0 => Some(self.delete(at)),
            // Made again under the same name, or a name that was free so far.
            1 => {
                let (kind, name) = *[
                    (Kind::User, "ann"),
                    (Kind::ServiceAccount, "ci"),
                    (Kind::Group, "team-a"),
                    (Kind::Role, "reader"),
                    (Kind::Role, "admin"),
                    (Kind::Llm, "claude"),
                    (Kind::RoleBinding, "b1"),
                    (Kind::Token, "t1"),
                ]
                .choose(&mut self.rng)?;
                let taken =
                    self.resources.iter().any(|one| one.kind() == kind && one.name().as_str() == name);
                (!taken).then(|| self.put(name, kind))
            }
            2 => {
                let names = if matches!(kind, Kind::Llm | Kind::Secret) { &THINGS[..] } else { &PEOPLE[..] };
                let name: Name = names.choose(&mut self.rng)?.parse().ok()?;
                let taken = self.resources.iter().any(|one| one.kind() == kind && *one.name() == name);
                let fixed = matches!(kind, Kind::Role | Kind::RoleBinding | Kind::Token);
                (!taken && !fixed).then(|| self.replace(at, name, old.resource.spec.clone()))
            }
            3 => {
                let mut spec = old.resource.spec.clone();
                match &mut spec {
                    Spec::User(user) => user.disabled = !user.disabled,
                    Spec::ServiceAccount(account) => account.disabled = !account.disabled,
                    _ => return None,
                }
                Some(self.replace(at, name, spec))
            }
            // A token's document never changes.
            _ if kind == Kind::Token => None,
            _ => {
                let spec = self.spec(kind);
                Some(self.replace(at, name, spec))
            }
        }
    }

    fn put(&mut self, name: &str, kind: Kind) -> Change {
        let spec = self.spec(kind);
        let stored = self.stored(Id::mint(), name.parse().unwrap(), spec);
        self.resources.push(Arc::clone(&stored));
        Change::Put(stored)
    }

    fn replace(&mut self, at: usize, name: Name, spec: Spec) -> Change {
        let stored = self.stored(self.resources[at].id().clone(), name, spec);
        self.resources[at] = Arc::clone(&stored);
        Change::Put(stored)
    }

    fn delete(&mut self, at: usize) -> Change {
        let old = self.resources.swap_remove(at);
        self.revision = self.revision.next();
        self.gone.push(old.id().clone());
        Change::Delete {
            kind: old.kind(),
            id: old.id().clone(),
            name: old.name().clone(),
            revision: self.revision,
        }
    }

    fn stored(&mut self, id: Id, name: Name, spec: Spec) -> Arc<Stored> {
        self.revision = self.revision.next();
        let confidential = matches!(spec, Spec::Token(_)).then(|| Confidential::TokenHash(Store::hash(&id)));
        Arc::new(Stored {
            resource: Resource {
                id,
                name,
                labels: Default::default(),
                annotations: Default::default(),
                revision: self.revision,
                created_at: Timestamp::UNIX_EPOCH,
                updated_at: Timestamp::UNIX_EPOCH,
                spec,
            },
            confidential,
        })
    }

    fn spec(&mut self, kind: Kind) -> Spec {
        match kind {
            Kind::User => Spec::User(UserSpec {
                disabled: self.rng.random_bool(0.1),
                external: self.external(),
                ..UserSpec::default()
            }),
            Kind::ServiceAccount => Spec::ServiceAccount(ServiceAccountSpec {
                disabled: self.rng.random_bool(0.1),
                ..ServiceAccountSpec::default()
            }),
            Kind::Group => {
                let members = self.subjects(&[SubjectKind::User, SubjectKind::ServiceAccount], 0..4);
                let claims = (0..[0, 0, 1, 2].choose(&mut self.rng).copied().unwrap_or(0))
                    .map(|_| GroupClaim { issuer: self.issuer(), value: self.value() })
                    .collect();
                Spec::Group(GroupSpec { members, claims, ..GroupSpec::default() })
            }
            Kind::Role => {
                let rules = (0..self.rng.random_range(1..3)).map(|_| self.rule()).collect();
                Spec::Role(RoleSpec { description: None, rules })
            }
            Kind::RoleBinding => {
                let role = ROLES.choose(&mut self.rng).unwrap().parse().unwrap();
                let kinds = [SubjectKind::User, SubjectKind::ServiceAccount, SubjectKind::Group];
                let subjects = self.subjects(&kinds, 1..5);
                Spec::RoleBinding(RoleBindingSpec { role, subjects })
            }
            Kind::Token => Spec::Token(self.token()),
            Kind::Secret => Spec::Secret(SecretSpec::default()),
            _ => {
                let failover = Failover {
                    allowed: self.rng.random_bool(0.8),
                    require: if self.rng.random_bool(0.4) { FailoverVerb::View } else { FailoverVerb::Run },
                    ..Failover::default()
                };
                Spec::Llm(Box::new(LlmSpec { failover, ..llm() }))
            }
        }
    }

    /// A user's account at a provider, and what the claim was at its last sign-in.
    fn external(&mut self) -> ExternalLink {
        if self.rng.random_bool(0.4) {
            return ExternalLink::Keep;
        }
        let groups = (0..self.rng.random_range(0..3)).map(|_| self.value()).collect();
        let issuer = self.issuer();
        ExternalLink::Set(Box::new(ExternalIdentity {
            issuer,
            subject: "1".into(),
            groups,
            linked_by: vec![],
        }))
    }

    /// Who vouched for a token at its beginning.
    fn origin(&mut self) -> Option<TokenOrigin> {
        let issuer = ISSUERS[usize::from(self.revision.0.is_multiple_of(2))].parse().unwrap();
        self.rng.random_bool(0.4).then(|| TokenOrigin { issuer, subject: "1".to_owned() })
    }

    fn issuer(&mut self) -> IssuerUrl {
        ISSUERS.choose(&mut self.rng).unwrap().parse().unwrap()
    }

    fn value(&mut self) -> String {
        (*VALUES.choose(&mut self.rng).unwrap()).to_owned()
    }

    fn subjects(&mut self, kinds: &[SubjectKind], count: std::ops::Range<usize>) -> Vec<Subject> {
        let count = self.rng.random_range(count);
        let mut one = || Subject {
            kind: *kinds.choose(&mut self.rng).unwrap(),
            name: PEOPLE.choose(&mut self.rng).unwrap().parse().unwrap(),
        };
        (0..count).map(|_| one()).collect()
    }

    fn rule(&mut self) -> Rule {
        let kinds = [Kind::Llm, Kind::Llm, Kind::Secret, Kind::User, Kind::Role];
        Rule {
            kinds: self.some(&kinds),
            // `grant` more often than others, because it matters only beside a maker.
            verbs: self.some(&[&Verb::ALL[..], &[Verb::Grant; 5]].concat()),
            // What documents refuse, and the store might hold all the same: a list without a name.
            names: (0..if self.rng.random_bool(0.03) { 0 } else { self.rng.random_range(1..4) })
                .map(|_| PATTERNS.choose(&mut self.rng).unwrap().parse().unwrap())
                .collect(),
        }
    }

    fn some<T: Copy>(&mut self, all: &[T]) -> Vec<Allowed<T>> {
        if self.rng.random_bool(0.2) {
            return vec![Allowed::Any];
        }
        (0..self.rng.random_range(1..4)).map(|_| Allowed::Only(*all.choose(&mut self.rng).unwrap())).collect()
    }

    fn token(&mut self) -> TokenSpec {
        let accounts: Vec<(Subject, Id)> = self
            .resources
            .iter()
            .filter_map(|stored| Some((stored.as_subject()?, stored.id().clone())))
            .filter(|(subject, _)| subject.kind != SubjectKind::Group || self.revision.0.is_multiple_of(7))
            .collect();
        let stranger = || (Subject { kind: SubjectKind::User, name: "ann".parse().unwrap() }, Id::mint());
        let (mut subject, subject_id) = accounts.choose(&mut self.rng).cloned().unwrap_or_else(stranger);
        // A kind that the account of this id is not: no daemon writes it, and it must open nothing.
        if self.rng.random_bool(0.05) {
            subject.kind = SubjectKind::ServiceAccount;
        }
        let makers = [0, 0, 0, 0, 1, 1, 1, 2].choose(&mut self.rng).copied().unwrap_or(0);
        let issued_by =
            (0..makers).filter_map(|_| accounts.choose(&mut self.rng).map(|(_, id)| id.clone())).collect();
        let life = [-1, 0, 1, 1, 1, 1, 3_600_000, 3_600_000, 3_600_000, 3_600_000]
            .choose(&mut self.rng)
            .copied()
            .unwrap_or(0);
        let narrowed = self.rng.random_bool(0.2);
        let rules = narrowed.then(|| (0..self.rng.random_range(1..3)).map(|_| self.rule()).collect());
        TokenSpec {
            rules,
            subject,
            subject_id,
            expires_at: now() + SignedDuration::from_millis(life),
            session: self.rng.random_bool(0.3),
            origin: self.origin(),
            issued_by,
            rotated_from: None,
            begun_with: None,
            prefix: None,
        }
    }
}

fn llm() -> LlmSpec {
    let documents = mcpctl_api::yaml::read_documents(
        "kind: Llm\nname: x\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n",
    );
    match documents.unwrap().remove(0).document.spec {
        Spec::Llm(llm) => *llm,
        _ => unreachable!("an Llm was written"),
    }
}
