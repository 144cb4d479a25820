//! Sequences of writes by several principals; each step is compared with a naive implementation of rights.
//!
//! INVARIANT 11, INVARIANT 12: no subject, existing or not, active or not, ever gains by a step what its writer neither
//! holds nor may grant; no credential allows more than each of its makers; no secret is sent where its writer may not
//! send it; no account loses rights by the step of one who holds less; and an administrator always remains. Between the writes
//! people sign in at a provider, linked and not: with what their claims map to, in those sessions alone.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Change, Confidential, ListedIssuers, Principal, Snapshot, Stored, builtin};
use mcpctl_api::{
    Document, HumanDuration, Id, Kind, Name, Resource, Revision, Spec, Verb,
    oidc::IssuerUrl,
    spec::{
        ExternalIdentity, GroupClaim, GroupSpec, RoleSpec, Rule, Subject, SubjectKind, TokenOrigin, TokenSpec,
    },
    yaml,
};
use proptest::prelude::*;

use super::{
    Intent, Refusal, Vault,
    external::identity,
    plan,
    rotation::Rotation,
    sign_on::{self, Newcomer, VouchedPerson},
    token::NewToken,
};

/// The names of all resources; `boss` may do everything, and so may `late`, which is no account at first.
const NAMES: [&str; 6] = ["boss", "mallory", "hr", "late", "ops", "x"];
/// The kinds that rights are compared on; enough to distinguish the rules of the generated roles.
const KINDS: [Kind; 4] = [Kind::Llm, Kind::Secret, Kind::User, Kind::Group];

/// The provider, the accounts there, and the values of its groups' claim.
const ISSUER: &str = "https://id.example.com";
const ACCOUNTS: [&str; 2] = ["s1", "s2"];
const VALUES: [&str; 2] = ["eng", "all"];

fn issuer() -> IssuerUrl {
    ISSUER.parse().unwrap()
}

const BEGINNING: &str = r#"
kind: User
name: boss
---
kind: User
name: mallory
---
kind: User
name: hr
---
kind: User
name: x
---
kind: Group
name: ops
members: [{kind: User, name: boss}]
---
kind: Secret
name: x
data: {k: prod}
---
kind: Llm
name: x
type: openai
url: https://provider.example/v1
model: m
apiKey: {secret: x, key: k}
---
kind: Role
name: mallory
rules:
  - {kinds: [groups, llms, users], verbs: [view, edit, create, delete, run], names: ["*"]}
  - {kinds: [secrets], verbs: [create, use], names: ["late", "ops"]}
  - {kinds: [secrets], verbs: [edit, delete], names: ["x"]}
---
kind: Role
name: hr
rules:
  - {kinds: [users, tokens, rolebindings, roles], verbs: [view, edit, create, delete], names: ["*"]}
  - {kinds: [users], verbs: [grant], names: ["x", "mallory"]}
---
kind: RoleBinding
name: boss
role: admin
subjects: [{kind: User, name: boss}, {kind: Group, name: ops}]
---
kind: RoleBinding
name: mallory
role: mallory
subjects: [{kind: User, name: mallory}]
---
kind: RoleBinding
name: hr
role: hr
subjects: [{kind: User, name: hr}]
---
kind: RoleBinding
name: late
role: admin
subjects: [{kind: User, name: late}]
"#;

struct Plain;

impl Vault for Plain {
    fn seal(&self, _: &Id, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(plaintext.to_vec())
    }

    fn open(&self, stored: &Stored) -> anyhow::Result<Vec<u8>> {
        match &stored.confidential {
            Some(Confidential::Sealed(sealed)) => Ok(sealed.clone()),
            _ => anyhow::bail!("nothing is sealed here"),
        }
    }
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn user(name: &str) -> Subject {
    Subject { kind: SubjectKind::User, name: name.parse().unwrap() }
}

/// A token for an account, put without asking for rights.
fn with_token(world: &Snapshot, owner: &Subject, issued_by: Vec<Id>) -> (Snapshot, [u8; 32]) {
    let id = Id::mint();
    let hash = new_hash(&id);
    let account = world.by_name(owner.kind.kind(), owner.name.as_str()).unwrap();
    let spec = TokenSpec {
        subject: owner.clone(),
        subject_id: account.id().clone(),
        expires_at: now() + SignedDuration::from_hours(720),
        session: false,
        origin: None,
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by,
        rules: None,
    };
    let revision = world.revision().next();
    let resource = Resource {
        id: id.clone(),
        name: format!("t-{id}").parse().unwrap(),
        labels: Default::default(),
        annotations: Default::default(),
        revision,
        created_at: now(),
        updated_at: now(),
        spec: Spec::Token(spec),
    };
    let confidential = Some(Confidential::TokenHash(hash));
    let put = Change::Put(Arc::new(Stored { resource, confidential }));
    (world.after(revision, [put]), hash)
}

fn new_hash(id: &Id) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..25].copy_from_slice(id.as_str().as_bytes());
    hash
}

/// A token, the account that made it for another, and the rules of the token that made it for its own account.
type Credential = ([u8; 32], Option<Id>, Option<Vec<Rule>>);

static BEGINNING_WORLD: LazyLock<(Snapshot, Vec<Credential>)> = LazyLock::new(beginning);

/// The world at the beginning, and a token that each account made for itself.
fn beginning() -> (Snapshot, Vec<Credential>) {
    let mut roles = Vec::new();
    for (at, (name, spec)) in builtin::specs().enumerate() {
        let resource = Resource {
            id: Id::mint(),
            name: name.parse().unwrap(),
            labels: Default::default(),
            annotations: Default::default(),
            revision: Revision(at as u64 + 1),
            created_at: now(),
            updated_at: now(),
            spec: Spec::Role(spec),
        };
        roles.push(Arc::new(Stored { resource, confidential: None }));
    }
    let issuers = ListedIssuers { sign_in: [issuer()].into(), ..Default::default() };
    let world = Snapshot::new(Revision(roles.len() as u64), roles).listing(Arc::new(issuers));
    let documents = yaml::read_documents(BEGINNING).unwrap();
    // An administrator from outside writes the beginning.
    let root = root(&world);
    let intents = documents.into_iter().map(|located| Intent::Apply(located.document.into())).collect();
    let planned = plan(&root.0, &root.1, now(), &Plain, intents).unwrap();
    let mut world = planned.after;
    // The one who attached the key stays allowed to.
    let mut credentials = Vec::new();
    for name in ["boss", "mallory", "hr"] {
        let (next, hash) = with_token(&world, &user(name), Vec::new());
        world = next;
        credentials.push((hash, None, None));
    }
    (world, credentials)
}

fn root(world: &Snapshot) -> (Snapshot, Principal) {
    let documents =
        yaml::read_documents("kind: User\nname: root\n---\nkind: RoleBinding\nname: root\nrole: admin\nsubjects: [{kind: User, name: root}]\n")
            .unwrap();
    let mut revision = world.revision();
    let mut changes = Vec::new();
    for located in documents {
        revision = revision.next();
        let Document { name, spec, labels, annotations, .. } = located.document;
        let (id, name) = (Id::mint(), name.unwrap());
        let resource =
            Resource { id, name, labels, annotations, revision, created_at: now(), updated_at: now(), spec };
        changes.push(Change::Put(Arc::new(Stored { resource, confidential: None })));
    }
    let world = world.after(revision, changes);
    let id = world.by_name(Kind::User, "root").unwrap().id().clone();
    let principal = Principal {
        subject: user("root"),
        id: id.clone(),
        token: id,
        expires_at: now() + SignedDuration::from_hours(1),
        session: false,
        external: false,
        makers: Vec::new(),
        narrowing: None,
    };
    (world, principal)
}

type Right = (Kind, Verb, &'static str);

/// What bindings and groups give to this name, read straight from the documents.
fn rights(world: &Snapshot, subject: &Subject) -> BTreeSet<Right> {
    let mut holders = vec![subject.clone()];
    holders.extend(groups(world, |spec| spec.members.contains(subject)));
    given_to(world, &holders)
}

/// As [`rights`], with what the claims of the user's last sign-in map to.
fn claimed_rights(world: &Snapshot, subject: &Subject) -> BTreeSet<Right> {
    let mut found = rights(world, subject);
    let user = world.by_name(subject.kind.kind(), subject.name.as_str());
    for value in user.and_then(|user| identity(user)).into_iter().flat_map(|identity| &identity.groups) {
        found.extend(rights_of_claim(world, value));
    }
    found
}

/// What everyone has who signs in with this value.
fn rights_of_claim(world: &Snapshot, value: &str) -> BTreeSet<Right> {
    let mapped = |claim: &GroupClaim| claim.issuer == issuer() && claim.value == value;
    given_to(world, &groups(world, |spec| spec.claims.iter().any(mapped)))
}

fn groups(world: &Snapshot, matches: impl Fn(&GroupSpec) -> bool) -> Vec<Subject> {
    let fits = |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Group(spec) if matches(spec));
    let group = |stored: &Arc<Stored>| Subject { kind: SubjectKind::Group, name: stored.name().clone() };
    world.all(Kind::Group).filter(fits).map(group).collect()
}

fn given_to(world: &Snapshot, holders: &[Subject]) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for binding in world.all(Kind::RoleBinding) {
        let Spec::RoleBinding(spec) = &binding.resource.spec else { continue };
        if !spec.subjects.iter().any(|subject| holders.contains(subject)) {
            continue;
        }
        let Some(role) = world.by_name(Kind::Role, spec.role.as_str()) else { continue };
        let Spec::Role(RoleSpec { rules, .. }) = &role.resource.spec else { continue };
        found.extend(allowed_by(rules));
    }
    found
}

fn allowed_by(rules: &[Rule]) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    for Rule { kinds, verbs, names } in rules {
        for kind in KINDS.into_iter().filter(|kind| kinds.iter().any(|k| k.includes(kind))) {
            for verb in Verb::ALL.into_iter().filter(|verb| verbs.iter().any(|v| v.includes(verb))) {
                for name in NAMES.into_iter().filter(|name| names.iter().any(|n| n.matches(name))) {
                    found.insert((kind, verb, name));
                }
            }
        }
    }
    found
}

fn covers(held: &BTreeSet<Right>, right: &Right) -> bool {
    held.contains(right) || held.contains(&(right.0, Verb::Grant, right.2))
}

/// What a principal holds or may grant: its own rights, within those of each maker.
fn may(world: &Snapshot, actor: &Principal, right: &Right) -> bool {
    let makers = actor.makers.iter().all(|maker| {
        let account = world.by_id(maker).filter(|account| is_active(account));
        account.is_some_and(|account| covers(&claimed_rights(world, &user(account.name().as_str())), right))
    });
    let rules = token_rules(world, &actor.token);
    let narrowing = rules.is_none_or(|rules| covers(&allowed_by(rules), right));
    let own = if actor.external { claimed_rights } else { rights };
    makers && narrowing && covers(&own(world, &actor.subject), right)
}

/// The rules that a token is narrowed to.
fn token_rules<'a>(world: &'a Snapshot, token: &Id) -> Option<&'a [Rule]> {
    match &world.by_id(token)?.resource.spec {
        Spec::Token(spec) => spec.rules.as_deref(),
        _ => None,
    }
}

fn is_active(account: &Stored) -> bool {
    matches!(&account.resource.spec, Spec::User(user) if !user.disabled)
}

fn active(world: &Snapshot, name: &str) -> Option<Id> {
    world.by_name(Kind::User, name).filter(|account| is_active(account)).map(|account| account.id().clone())
}

/// An account that holds everything and has a password or a token that none but such accounts made.
fn has_administrator(world: &Snapshot) -> bool {
    let everything = KINDS.len() * Verb::ALL.len() * NAMES.len();
    let full: Vec<Id> = world
        .all(Kind::User)
        .filter(|account| is_active(account))
        .filter(|account| rights(world, &user(account.name().as_str())).len() == everything)
        .map(|account| account.id().clone())
        .collect();
    let by_token = world.all(Kind::Token).any(|token| match &token.resource.spec {
        Spec::Token(spec) => {
            full.contains(&spec.subject_id)
                && spec.rules.is_none()
                && spec.expires_at > now() + SignedDuration::from_hours(24)
                && spec.issued_by.iter().all(|maker| full.contains(maker))
        }
        _ => false,
    });
    by_token
        || full.iter().any(|id| {
            let account = world.by_id(id).unwrap();
            let Spec::User(user) = &account.resource.spec else { return false };
            account.confidential.is_some() && user.password_set_by.iter().all(|maker| full.contains(maker))
        })
}

/// The secrets that are sent, and where.
fn sent(world: &Snapshot) -> BTreeSet<(Id, String)> {
    let mut found = BTreeSet::new();
    for llm in world.all(Kind::Llm) {
        let Spec::Llm(spec) = &llm.resource.spec else { continue };
        for upstream in spec.upstreams() {
            if let Some(secret) = world.secret_in_force(&upstream) {
                found.insert((secret.id().clone(), upstream.url.to_string()));
            }
        }
    }
    found
}

fn check_step(before: &Snapshot, after: &Snapshot, actor: &Principal) -> Result<(), TestCaseError> {
    let narrowed = token_rules(before, &actor.token).is_some();
    for name in NAMES {
        for kind in [SubjectKind::User, SubjectKind::Group] {
            let subject = Subject { kind, name: name.parse().unwrap() };
            let (had, has) = (rights(before, &subject), rights(after, &subject));
            // An account that is made, renamed or enabled has what its name holds; so would one that is made later.
            let begins = kind == SubjectKind::User
                && active(after, name).is_some()
                && active(before, name) != active(after, name);
            // What the same one had under another name, as long as it could use it there.
            let former = former(before, after, &subject);
            let kept = match &former {
                Some(former) if !begins || active(before, former.name.as_str()).is_some() => {
                    rights(before, former)
                }
                _ => BTreeSet::new(),
            };
            let gained =
                has.iter().filter(|right| !kept.contains(*right) && (begins || !had.contains(*right)));
            for right in gained {
                prop_assert!(may(before, actor, right), "{} gains {:?} by {}", subject, right, actor.subject);
            }
            let others = actor.subject != subject || narrowed;
            if kind == SubjectKind::User && active(before, name).is_some() && others {
                let stays = active(before, name) == active(after, name);
                let loses = had.iter().any(|right| !stays || !has.contains(right));
                let mightier = had.iter().any(|right| !may(before, actor, right));
                let grant = may(before, actor, &(Kind::User, Verb::Grant, name));
                prop_assert!(!loses || !mightier || grant, "{subject} loses rights by {}", actor.subject);
            }
        }
    }
    // Everyone who signs in with a value, now or later.
    for value in VALUES {
        let had = rights_of_claim(before, value);
        for right in rights_of_claim(after, value).iter().filter(|right| !had.contains(*right)) {
            prop_assert!(may(before, actor, right), "`{value}` gains {right:?} by {}", actor.subject);
        }
    }
    check_links(before, after, actor)?;
    // A narrowed token sets no password: a session that begins with it would not be narrowed.
    for account in after.all(Kind::User).filter(|account| narrowed && account.confidential.is_some()) {
        let password = before.by_id(account.id()).and_then(|account| account.confidential.clone());
        prop_assert_eq!(&password, &account.confidential);
    }
    // A secret that comes under another name comes under the rights of that name.
    for secret in after.all(Kind::Secret) {
        let Some(old) = before.by_id(secret.id()).filter(|old| old.name() != secret.name()) else { continue };
        let old = NAMES.into_iter().find(|known| *known == old.name().as_str()).unwrap();
        prop_assert!(may(before, actor, &(Kind::Secret, Verb::Use, old)), "{} renames {old}", actor.subject);
    }
    // An account that may use a secret may send it; nothing else makes it be sent elsewhere.
    for (secret, url) in sent(after).difference(&sent(before)) {
        let name = after.by_id(secret).unwrap().name().clone();
        let name = NAMES.into_iter().find(|known| *known == name.as_str()).unwrap();
        prop_assert!(
            may(before, actor, &(Kind::Secret, Verb::Use, name)),
            "{} sends {name} to {url}",
            actor.subject
        );
    }
    check_freed_names(before, after)?;
    prop_assert!(has_administrator(after), "no administrator remains after a write by {}", actor.subject);
    Ok(())
}

/// Only an account that may do everything changes who signs in as a user at the provider; each account there is one user.
fn check_links(before: &Snapshot, after: &Snapshot, actor: &Principal) -> Result<(), TestCaseError> {
    let link = |stored: &Arc<Stored>| {
        identity(stored).map(|of| ExternalIdentity {
            groups: Vec::new(),
            linked_by: Vec::new(),
            ..of.clone()
        })
    };
    let holds_everything = || {
        KINDS.iter().all(|kind| {
            let rights = Verb::ALL.iter().flat_map(|verb| NAMES.map(|name| (*kind, *verb, name)));
            rights.into_iter().all(|right| may(before, actor, &right))
        })
    };
    let mut linked = BTreeSet::new();
    for account in after.all(Kind::User) {
        let (old, new) = (before.by_id(account.id()).and_then(link), link(account));
        prop_assert!(old == new || holds_everything(), "{} is linked by {}", account.name(), actor.subject);
        if let Some(new) = new {
            prop_assert!(linked.insert(new.subject), "{} shares its account", account.name());
        }
    }
    Ok(())
}

/// A person signs in; returns the world after it and the session's token.
fn signed_in(world: &Snapshot, account: &str, name: &str, groups: &[String]) -> Option<(Snapshot, [u8; 32])> {
    let hash = new_hash(&Id::mint());
    let person = VouchedPerson {
        origin: TokenOrigin { issuer: issuer(), subject: account.to_owned() },
        groups,
        newcomer: Some(Newcomer {
            claim: "name",
            name: Some(name),
            is_stated: true,
            prefix: "",
            max_users: 3,
            missing: None,
            display_name: None,
            email: None,
        }),
        session: format!("session-{}", Id::mint()).parse().unwrap(),
        hash: hash.into(),
        max_sessions: 2,
    };
    Some((sign_on::begin(world, &person, now()).ok()?.after, hash))
}

/// A sign-in changes no listed right of anyone; a newcomer has none, whatever it is called.
fn check_sign_in(before: &Snapshot, after: &Snapshot) -> Result<(), TestCaseError> {
    for name in NAMES {
        let subject = user(name);
        prop_assert_eq!(rights(before, &subject), rights(after, &subject));
        if before.by_name(Kind::User, name).is_none() && after.by_name(Kind::User, name).is_some() {
            prop_assert!(rights(after, &subject).is_empty(), "{} begins with rights", name);
        }
    }
    prop_assert!(has_administrator(after));
    Ok(())
}

/// What the subject's name now means was called before, where it had another name.
fn former(before: &Snapshot, after: &Snapshot, subject: &Subject) -> Option<Subject> {
    let id = after.by_name(subject.kind.kind(), subject.name.as_str())?.id();
    let name = before.by_id(id)?.name().clone();
    (name != subject.name).then_some(Subject { kind: subject.kind, name })
}

/// Nothing goes by a name that a deletion or a rename has freed, and a token shows the name that its owner has.
fn check_freed_names(before: &Snapshot, after: &Snapshot) -> Result<(), TestCaseError> {
    let freed = |kind: Kind, name: &str| {
        let had = before.by_name(kind, name).map(|stored| stored.id().clone());
        had.is_some() && had != after.by_name(kind, name).map(|stored| stored.id().clone())
    };
    for binding in after.all(Kind::RoleBinding) {
        let Spec::RoleBinding(spec) = &binding.resource.spec else { continue };
        prop_assert!(!freed(Kind::Role, spec.role.as_str()), "{} gives a role that is gone", binding.name());
        for subject in &spec.subjects {
            prop_assert!(!freed(subject.kind.kind(), subject.name.as_str()), "{} {subject}", binding.name());
        }
    }
    for group in after.all(Kind::Group) {
        let Spec::Group(spec) = &group.resource.spec else { continue };
        for subject in &spec.members {
            prop_assert!(!freed(subject.kind.kind(), subject.name.as_str()), "{} {subject}", group.name());
        }
    }
    for token in after.all(Kind::Token) {
        let Spec::Token(spec) = &token.resource.spec else { continue };
        let owner = after.by_id(&spec.subject_id).map(|owner| owner.name().clone());
        prop_assert_eq!(owner, Some(spec.subject.name.clone()));
    }
    Ok(())
}

/// What each credential allows is within what each of its makers holds.
fn check_credentials(world: &Snapshot, credentials: &[Credential]) -> Result<(), TestCaseError> {
    for (hash, maker, within) in credentials {
        let Ok(principal) = world.authenticate(hash, now()) else { continue };
        for kind in KINDS {
            for verb in Verb::ALL {
                for name in NAMES {
                    if world.authorize_name(&principal, verb, kind, name).is_ok() {
                        let right = (kind, verb, name);
                        let makers = maker.iter().cloned().chain(principal.makers.clone()).collect();
                        let capped = Principal { makers, ..principal.clone() };
                        prop_assert!(may(world, &capped, &right), "{capped:?} {right:?}");
                        // Not even what the rules may grant: they allow it themselves, and so did those of the maker's token.
                        let own = token_rules(world, &principal.token);
                        for rules in own.into_iter().chain(within.as_deref()) {
                            prop_assert!(allowed_by(rules).contains(&right), "{principal:?} {right:?}");
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// A token of the world; the same number means the same one as long as no token comes or goes.
fn token_at(world: &Snapshot, at: usize) -> Option<&Arc<Stored>> {
    let tokens: Vec<_> = world.all(Kind::Token).collect();
    tokens.get(at % tokens.len().max(1)).copied()
}

/// A rotated token keeps its id, account and rules; the old secret ends at once or with the grace period.
fn check_rotation(old: &Stored, after: &Snapshot, grace: u64) -> Result<(), TestCaseError> {
    let (Some(new), Spec::Token(was)) = (after.by_id(old.id()), &old.resource.spec) else {
        return Err(TestCaseError::fail("the token is gone"));
    };
    let Spec::Token(is) = &new.resource.spec else { return Err(TestCaseError::fail("no token")) };
    prop_assert_eq!((&was.subject_id, &was.rules, old.name()), (&is.subject_id, &is.rules, new.name()));
    let Some(Confidential::TokenHash(hash)) = &old.confidential else {
        return Err(TestCaseError::fail("no hash"));
    };
    if let Ok(principal) = after.authenticate(hash, now()) {
        prop_assert!(grace > 0 && principal.expires_at <= now() + SignedDuration::from_hours(grace as i64));
    }
    Ok(())
}

/// What is deleted and made again under its name inherits nothing, whatever referred to the name before.
fn check_made_again(world: &Snapshot) -> Result<(), TestCaseError> {
    let full = |account: &&Arc<Stored>| {
        is_active(account)
            && rights(world, &user(account.name().as_str())).len()
                == KINDS.len() * Verb::ALL.len() * NAMES.len()
    };
    let Some(admin) = world.all(Kind::User).find(full) else { return Ok(()) };
    let actor = Principal {
        subject: user(admin.name().as_str()),
        id: admin.id().clone(),
        token: admin.id().clone(),
        expires_at: Timestamp::MAX,
        session: false,
        external: false,
        makers: Vec::new(),
        narrowing: None,
    };
    for kind in [Kind::User, Kind::Group, Kind::Role, Kind::Llm, Kind::Secret] {
        for name in NAMES {
            let Some(old) = world.by_name(kind, name).filter(|old| old.id() != admin.id()) else { continue };
            let deletion = Intent::Delete { kind, target: name.to_owned(), expected: None };
            // The last administrator who can sign in may be another one.
            let Ok(deleted) = plan(world, &actor, now(), &Plain, vec![deletion]) else { continue };
            let mut document = old.resource.to_document();
            (document.id, document.revision) = (None, None);
            match &mut document.spec {
                Spec::Group(group) => group.members.clear(),
                Spec::Llm(llm) => {
                    llm.fallbacks.clear();
                    llm.api_keys_mut().for_each(|key| *key = None);
                }
                Spec::Secret(secret) => secret.data.values_mut().for_each(|value| {
                    *value = Some(mcpctl_api::spec::SecretValue::new("new"));
                }),
                _ => {}
            }
            let made = plan(&deleted.after, &actor, now(), &Plain, vec![Intent::Create(document.into())]);
            let after = made.map_err(|error| TestCaseError::fail(format!("{kind} {name}: {error:?}")))?.after;
            let new = after.by_name(kind, name).unwrap();
            let text = |stored: &Stored| format!("{} {:?}", stored.kind(), stored.resource.spec);
            let (quoted, id) = (format!("{name:?}"), old.id().as_str());
            for stored in Kind::RESOURCES.into_iter().flat_map(|kind| after.all(kind)) {
                let referred = match &stored.resource.spec {
                    Spec::RoleBinding(binding) => {
                        kind == Kind::Role && binding.role.as_str() == name
                            || binding
                                .subjects
                                .iter()
                                .any(|s| s.kind.kind() == kind && s.name.as_str() == name)
                    }
                    Spec::Group(group) => {
                        group.members.iter().any(|s| s.kind.kind() == kind && s.name.as_str() == name)
                    }
                    Spec::Limit(limit) => limit
                        .subjects
                        .iter()
                        .flatten()
                        .any(|s| s.kind.kind() == kind && s.name.as_str() == name),
                    Spec::Llm(llm) => {
                        kind == Kind::Llm
                            && llm.fallbacks.iter().any(|fallback| fallback.llm.as_str() == name)
                            || kind == Kind::Secret
                                && stored.id() != new.id()
                                && llm
                                    .upstreams()
                                    .filter_map(|of| after.secret_in_force(&of))
                                    .any(|s| s.id() == new.id())
                    }
                    Spec::Token(token) => token.subject_id == *new.id() || token.subject_id == *old.id(),
                    _ => false,
                };
                prop_assert!(!referred, "{quoted} {id} is inherited by {}", text(stored));
            }
            if let Some(subject) = new.as_subject() {
                prop_assert!(rights(&after, &subject).is_empty(), "{subject}");
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<String>),
    Rename(Kind, &'static str, &'static str, bool),
    Delete(Kind, &'static str),
    /// A deletion, and documents that are written after it in the same commit.
    Replace(Kind, &'static str, Vec<String>),
    /// For whom, narrowed to what, good for how many hours.
    Token(&'static str, Option<&'static str>, u64),
    /// Which token.
    DeleteToken(usize),
    /// Which token, for how many hours the old secret and the new one are good.
    RotateToken(usize, u64, u64),
    /// Which account at the provider, what it is called there, with which values.
    SignIn(&'static str, &'static str, Vec<String>),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

/// Names that meet often.
fn some() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x", "late"])
}

fn document() -> impl Strategy<Value = String> {
    let subjects = prop::collection::vec((any::<bool>(), name()), 0..3).prop_map(|subjects| {
        let one = |(group, name): &(bool, &str)| {
            format!("{{kind: {}, name: {name}}}", if *group { "Group" } else { "User" })
        };
        subjects.iter().map(one).collect::<Vec<_>>().join(", ")
    });
    let members = prop::collection::vec(name(), 0..3).prop_map(|names| {
        let one = |name: &&str| format!("{{kind: User, name: {name}}}");
        names.iter().map(one).collect::<Vec<_>>().join(", ")
    });
    let role = prop::sample::select(vec!["admin", "viewer", "mallory", "hr", "x"]);
    let rules = prop::sample::select(vec![
        r#"[{kinds: [llms], verbs: [view, run], names: ["*"]}]"#,
        r#"[{kinds: ["*"], verbs: ["*"], names: ["*"]}]"#,
        r#"[{kinds: [secrets], verbs: [use, edit], names: ["x"]}]"#,
        r#"[{kinds: [users], verbs: [grant, view], names: ["late"]}]"#,
    ]);
    let host = prop::sample::select(vec!["https://provider.example/v1", "https://evil.example/v1"]);
    prop_oneof![
        (name(), any::<bool>(), any::<bool>(), 0..6_usize).prop_map(|(name, disabled, password, link)| {
            let password = if password { "password: correct horse battery\n" } else { "" };
            let link = match ACCOUNTS.get(link) {
                Some(account) => format!("external: {{issuer: '{ISSUER}', subject: {account}}}\n"),
                None if link == 2 => "external: null\n".to_owned(),
                None => String::new(),
            };
            format!("kind: User\nname: {name}\ndisabled: {disabled}\n{password}{link}")
        }),
        (name(), members, 0..4_usize).prop_map(|(name, members, claim)| {
            let claim = VALUES.get(claim).map(|value| format!("{{issuer: '{ISSUER}', value: {value}}}"));
            format!("kind: Group\nname: {name}\nmembers: [{members}]\nclaims: [{}]\n", claim.unwrap_or_default())
        }),
        (name(), role, subjects).prop_filter_map("a binding has subjects", |(name, role, subjects)| {
            (!subjects.is_empty())
                .then(|| format!("kind: RoleBinding\nname: {name}\nrole: {role}\nsubjects: [{subjects}]\n"))
        }),
        (name(), rules).prop_map(|(name, rules)| format!("kind: Role\nname: {name}\nrules: {rules}\n")),
        (name(), any::<bool>()).prop_map(|(name, real)| {
            format!("kind: Secret\nname: {name}\ndata: {{k: {}}}\n", if real { "prod" } else { "own" })
        }),
        (some(), some(), host.clone(), any::<bool>()).prop_map(|(name, secret, url, key)| {
            let key = if key { format!("apiKey: {{secret: {secret}, key: k}}\n") } else { String::new() };
            format!("kind: Llm\nname: {name}\ntype: openai\nurl: {url}\nmodel: m\n{key}")
        }),
        (name(), some()).prop_map(|(name, fallback)| {
            format!("kind: Llm\nname: {name}\ntype: openai\nurl: https://a.example\nmodel: m\nfallbacks: [{{llm: {fallback}}}]\n")
        }),
        (name(), name(), any::<bool>()).prop_map(|(name, subject, group)| {
            let kind = if group { "Group" } else { "User" };
            format!(
                "kind: Limit\nname: {name}\nper: all\nsubjects: [{{kind: {kind}, name: {subject}}}]\nrequests: {{max: 9, window: 1h}}\n"
            )
        }),
        (some(), prop::collection::vec((some(), host, any::<bool>()), 1..4)).prop_map(|(name, targets)| {
            let one = |(secret, url, key): &(&str, &str, bool)| match key {
                true => format!("{{url: {url}, apiKey: {{secret: {secret}, key: k}}}}"),
                false => format!("{{url: {url}}}"),
            };
            let targets = targets.iter().map(one).collect::<Vec<_>>().join(", ");
            format!("kind: Llm\nname: {name}\ntype: openai\nmodel: m\ntargets: [{targets}]\n")
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let kinds =
        vec![Kind::User, Kind::Group, Kind::Role, Kind::RoleBinding, Kind::Secret, Kind::Secret, Kind::Llm];
    let kind = || prop::sample::select(kinds.clone());
    let token_rule = prop::sample::select(vec![
        "* * *",
        "view,edit,create,delete,grant users,tokens,groups *",
        "edit,create,delete users,tokens,rolebindings *",
        "view llms x",
    ]);
    prop_oneof![
        4 => prop::collection::vec(document(), 1..3).prop_map(Step::Write),
        2 => (kind(), prop_oneof![some(), name()], prop_oneof![some(), name()], any::<bool>()).prop_map(|(k, a, b, p)| Step::Rename(k, a, b, p)),
        2 => (kind(), name()).prop_map(|(kind, name)| Step::Delete(kind, name)),
        3 => (kind(), name(), prop::collection::vec(document(), 1..3))
            .prop_map(|(kind, name, documents)| Step::Replace(kind, name, documents)),
        3 => (prop_oneof![some(), name()], prop::option::of(token_rule), prop::sample::select(vec![1, 25, 720]))
            .prop_map(|(name, rule, hours)| Step::Token(name, rule, hours)),
        1 => any::<usize>().prop_map(Step::DeleteToken),
        2 => (prop::sample::select(ACCOUNTS.to_vec()), name(), prop::sample::subsequence(VALUES.to_vec(), 0..=2)).prop_map(
            |(account, name, values)| Step::SignIn(account, name, values.into_iter().map(str::to_owned).collect())
        ),
        2 => (any::<usize>(), prop::sample::select(vec![0, 2]), prop::sample::select(vec![1, 720]))
            .prop_map(|(at, grace, hours)| Step::RotateToken(at, grace, hours)),
    ]
}

fn intents(world: &Snapshot, step: &Step) -> Option<Vec<Intent>> {
    match step {
        Step::Write(documents) => documents
            .iter()
            .map(|text| {
                let document = yaml::read_documents(text).ok()?.pop()?.document;
                Some(Intent::Apply(document.into()))
            })
            .collect(),
        Step::Rename(kind, from, to, password) => {
            let mut document = world.by_name(*kind, from)?.resource.to_document();
            document.name = Some(to.parse().unwrap());
            (document.id, document.revision) = (None, None);
            if let (Spec::User(user), true) = (&mut document.spec, password) {
                user.password = mcpctl_api::spec::NewPassword::Set(mcpctl_api::spec::SecretValue::new(
                    "a new password of theirs",
                ));
            }
            let write = document.into();
            Some(vec![Intent::Replace { target: (*from).to_owned(), write, expected: None }])
        }
        Step::Delete(kind, target) => {
            Some(vec![Intent::Delete { kind: *kind, target: (*target).to_owned(), expected: None }])
        }
        Step::Replace(kind, target, documents) => {
            // The deletion comes first, wherever it is listed.
            let mut all = intents(world, &Step::Write(documents.clone()))?;
            all.extend(intents(world, &Step::Delete(*kind, target))?);
            Some(all)
        }
        Step::DeleteToken(at) => {
            let target = token_at(world, *at)?.name().to_string();
            Some(vec![Intent::Delete { kind: Kind::Token, target, expected: None }])
        }
        Step::Token(..) | Step::RotateToken(..) | Step::SignIn(..) => None,
    }
}

/// What was applied changes nothing when it is applied again. A password is hashed anew each time.
fn check_again(world: &Snapshot, presented: &[u8; 32], step: &Step) -> Result<(), TestCaseError> {
    let Step::Write(documents) = step else { return Ok(()) };
    let [document] = documents.as_slice() else { return Ok(()) };
    let (Ok(actor), Some(intents)) = (world.authenticate(presented, now()), intents(world, step)) else {
        return Ok(());
    };
    if !document.contains("password")
        && let Ok(again) = plan(world, &actor, now(), &Plain, intents)
    {
        prop_assert_eq!(again.after.revision(), world.revision(), "{}", document);
    }
    Ok(())
}

/// What the console offers is what a write would be allowed.
fn check_offers(world: &Snapshot, actor: &Principal) -> Result<(), TestCaseError> {
    let offered = |is_offered: bool, intent: Intent, what: &Name| {
        let refusal = plan(world, actor, now(), &Plain, vec![intent]).err().map(|(_, refusal)| refusal);
        match refusal {
            // An administrator remains, whatever rights the actor has.
            Some(Refusal::LastAdministrator) => {}
            refusal => {
                prop_assert_eq!(is_offered, refusal.is_none(), "{} {}: {:?}", actor.subject, what, refusal)
            }
        }
        Ok(())
    };
    for account in world.all(Kind::User) {
        let mut document = account.resource.to_document();
        let Spec::User(user) = &mut document.spec else { continue };
        user.disabled = !user.disabled;
        let subject = Subject { kind: SubjectKind::User, name: account.name().clone() };
        let (target, write) = (account.id().to_string(), document.into());
        let switch = Intent::Replace { target, write, expected: None };
        offered(world.may_switch_account(actor, &subject), switch, account.name())?;
    }
    for token in world.all(Kind::Token) {
        let end = Intent::Delete { kind: Kind::Token, target: token.id().to_string(), expected: None };
        offered(world.may_revoke_token(actor, token, now()), end, token.name())?;
    }
    Ok(())
}

/// Each case is a sequence of many judged writes.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases / 4, ..default }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn inv_12_no_sequence_of_writes_oversteps_rights(
        steps in prop::collection::vec((0..6_usize, step()), 1..16)
    ) {
        let (mut world, mut credentials) = BEGINNING_WORLD.clone();
        for (who, step) in steps {
            if let Step::SignIn(account, name, values) = &step {
                if let Some((after, hash)) = signed_in(&world, account, name, values) {
                    check_sign_in(&world, &after)?;
                    world = after;
                    credentials.push((hash, None, None));
                }
                check_credentials(&world, &credentials)?;
                continue;
            }
            // Mostly those who hold little: an administrator may do anything.
            let (presented, ..) = credentials[if who < credentials.len() { who } else { 1 + who % 2 }];
            let Ok(actor) = world.authenticate(&presented, now()) else { continue };
            if let Step::Token(name, rule, hours) = step {
                let subject = user(name);
                let hash = new_hash(&Id::mint());
                let maker = (actor.subject != subject).then(|| actor.id.clone());
                let within = token_rules(&world, &actor.token).filter(|_| maker.is_none()).map(<[Rule]>::to_vec);
                let name = format!("t-{}", Id::mint()).parse().unwrap();
                let rules = rule.map(|rule| vec![rule.parse().unwrap()]);
                let expires_in = Some(HumanDuration::from_secs(hours * 3600));
                let token = NewToken { name, subject, expires_in, rules, hash: hash.into(), prefix: String::new() };
                let intents = vec![Intent::IssueToken(token)];
                if let Ok(planned) = plan(&world, &actor, now(), &Plain, intents) {
                    check_step(&world, &planned.after, &actor)?;
                    world = planned.after;
                    credentials.push((hash, maker, within));
                }
                check_credentials(&world, &credentials)?;
                continue;
            }
            if let Step::RotateToken(at, grace, hours) = step {
                let Some(old) = token_at(&world, at).cloned() else { continue };
                let hash = new_hash(&Id::mint());
                let rotation = Rotation {
                    target: old.name().to_string(),
                    expected: Some(old.resource.revision),
                    grace: Some(HumanDuration::from_secs(grace * 3600)),
                    expires_in: Some(HumanDuration::from_secs(hours * 3600)),
                    hash: hash.into(),
                    prefix: String::new(),
                };
                if let Ok(planned) = plan(&world, &actor, now(), &Plain, vec![Intent::RotateToken(rotation)]) {
                    check_step(&world, &planned.after, &actor)?;
                    check_rotation(&old, &planned.after, grace)?;
                    let own = matches!(&old.resource.spec, Spec::Token(spec) if spec.subject == actor.subject);
                    let within = token_rules(&world, &actor.token).filter(|_| own).map(<[Rule]>::to_vec);
                    world = planned.after;
                    credentials.push((hash, (!own).then(|| actor.id.clone()), within));
                }
                check_credentials(&world, &credentials)?;
                continue;
            }
            let Some(intents) = intents(&world, &step) else { continue };
            if let Ok(planned) = plan(&world, &actor, now(), &Plain, intents) {
                check_step(&world, &planned.after, &actor)?;
                world = planned.after;
                check_again(&world, &presented, &step)?;
            }
            check_credentials(&world, &credentials)?;
        }
        for (presented, ..) in &credentials {
            if let Ok(actor) = world.authenticate(presented, now()) {
                check_offers(&world, &actor)?;
            }
        }
        check_made_again(&world)?;
    }
}
