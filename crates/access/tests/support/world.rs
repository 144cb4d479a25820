//! Small worlds of resources for the tests of decisions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{
    Confidential, Denied, Principal, Snapshot, Stored, builtin,
    verb::{Delete, Edit, Run, View},
};
use mcpctl_api::{
    Id, Kind, Resource, Revision, Spec, Verb,
    spec::{Rule, Subject, SubjectKind, TokenSpec},
    yaml,
};
use proptest::prelude::*;

/// A snapshot of the built-in roles and the documents of the YAML, one revision each.
pub fn world(yaml: &str) -> Snapshot {
    let mut specs: Vec<(String, Spec)> =
        builtin::specs().map(|(name, spec)| (name.to_owned(), Spec::Role(spec))).collect();
    for located in yaml::read_documents(yaml).unwrap() {
        let document = located.document;
        specs.push((document.name.unwrap().to_string(), document.spec));
    }
    let last = Revision(specs.len() as u64);
    let stored = specs.into_iter().enumerate().map(|(at, (name, spec))| stored(&name, spec, at as u64 + 1));
    Snapshot::new(last, stored)
}

pub fn stored(name: &str, spec: Spec, revision: u64) -> Arc<Stored> {
    let confidential = match &spec {
        Spec::Token(_) => Some(Confidential::TokenHash(hash(name))),
        _ => None,
    };
    Arc::new(Stored {
        resource: Resource {
            id: Id::mint(),
            name: name.parse().unwrap(),
            labels: Default::default(),
            annotations: Default::default(),
            revision: Revision(revision),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            spec,
        },
        confidential,
    })
}

pub fn hash(name: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (slot, byte) in hash.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    hash
}

pub fn user(name: &str) -> Subject {
    Subject { kind: SubjectKind::User, name: name.parse().unwrap() }
}

/// Authorizes a verb that is chosen at run time. The verbs without permits are decided by name.
pub fn authorize(
    world: &Snapshot,
    caller: &Principal,
    verb: Verb,
    kind: Kind,
    target: &str,
) -> Result<Arc<Stored>, Denied> {
    match verb {
        Verb::View => world.authorize::<View>(caller, kind, target).map(|permit| permit.into_resource()),
        Verb::Run => world.authorize::<Run>(caller, kind, target).map(|permit| permit.into_resource()),
        Verb::Edit => world.authorize::<Edit>(caller, kind, target).map(|permit| permit.into_resource()),
        Verb::Delete => world.authorize::<Delete>(caller, kind, target).map(|permit| permit.into_resource()),
        Verb::Use | Verb::Create | Verb::Grant | Verb::Capture => {
            let missing = || Denied::NotFound { kind, target: target.to_owned() };
            match world.resolve(kind, target) {
                Some(stored) => {
                    world.authorize_name(caller, verb, kind, stored.name().as_str())?;
                    Ok(Arc::clone(stored))
                }
                None => world.authorize_all(caller, verb, kind).and_then(|()| Err(missing())),
            }
        }
    }
}

/// The principal that a token of that user authenticates.
pub fn principal(world: &Snapshot, name: &str) -> Principal {
    Principal {
        subject: user(name),
        id: world.by_name(Kind::User, name).map_or_else(Id::mint, |s| s.id().clone()),
        token: Id::mint(),
        expires_at: Timestamp::MAX,
        session: false,
        external: false,
        makers: Vec::new(),
        narrowing: None,
    }
}

pub fn token_for(world: &Snapshot, name: &str, owner: &str, expires_at: Timestamp) -> Arc<Stored> {
    let spec = TokenSpec {
        subject: user(owner),
        subject_id: world.by_name(Kind::User, owner).unwrap().id().clone(),
        expires_at,
        session: false,
        origin: None,
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by: Vec::new(),
        rules: None,
    };
    stored(name, Spec::Token(spec), world.revision().0 + 1)
}

/// A naive implementation of the rules of `docs/reference/contract.md`, without an index.
pub fn oracle(world: &Snapshot, who: &str, verb: Verb, kind: Kind, name: &str) -> bool {
    let subject = user(who);
    let mut subjects = vec![subject.clone()];
    for group in world.all(Kind::Group) {
        let Spec::Group(spec) = &group.resource.spec else { continue };
        if spec.members.contains(&subject) {
            subjects.push(Subject { kind: SubjectKind::Group, name: group.name().clone() });
        }
    }
    let allows = |rule: &Rule| rule_allows(rule, verb, kind, name);
    world.all(Kind::RoleBinding).any(|binding| {
        let Spec::RoleBinding(spec) = &binding.resource.spec else { return false };
        let role = world.by_name(Kind::Role, spec.role.as_str());
        let Some(Spec::Role(role)) = role.map(|r| &r.resource.spec) else { return false };
        spec.subjects.iter().any(|s| subjects.contains(s)) && role.rules.iter().any(allows)
    })
}

/// Whether one rule allows this, read from the document.
pub fn rule_allows(rule: &Rule, verb: Verb, kind: Kind, name: &str) -> bool {
    rule.kinds.iter().any(|k| k.includes(&kind))
        && rule.verbs.iter().any(|v| v.includes(&verb))
        && rule.names.iter().any(|n| n.matches(name))
}

pub fn any_world() -> impl Strategy<Value = String> {
    let role = any_rule().prop_map(|rule| serde_json::to_string(&[rule]).unwrap());
    let binding =
        (0..4_usize, prop::sample::select(vec!["User, name: u0", "User, name: u1", "Group, name: g"]));
    (prop::collection::vec(role, 1..4), prop::collection::vec(binding, 0..4), any::<bool>()).prop_map(
        |(roles, bindings, member)| {
            let mut text = String::from("kind: User\nname: u0\n---\nkind: User\nname: u1\n");
            for name in ["a", "ab", "b"] {
                text.push_str(&format!(
                    "---\nkind: Llm\nname: {name}\ntype: openai\nurl: http://x\nmodel: m\n"
                ));
            }
            let members = if member { "[{kind: User, name: u0}]" } else { "[]" };
            text.push_str(&format!("---\nkind: Group\nname: g\nmembers: {members}\n"));
            for (at, rules) in roles.iter().enumerate() {
                text.push_str(&format!("---\nkind: Role\nname: r{at}\nrules: {rules}\n"));
            }
            for (at, (role, subject)) in bindings.iter().enumerate() {
                text.push_str(&format!(
                    "---\nkind: RoleBinding\nname: b{at}\nrole: r{role}\nsubjects: [{{kind: {subject}}}]\n"
                ));
            }
            text
        },
    )
}

pub fn any_rule() -> impl Strategy<Value = Rule> {
    let names = prop::sample::subsequence(vec!["a", "ab", "a*", "*", "b"], 1..3);
    let verbs = prop::sample::subsequence(Verb::ALL.to_vec(), 1..4);
    let kinds = prop::sample::subsequence(vec!["llms", "secrets", "*"], 1..2);
    (verbs, kinds, names).prop_map(|(verbs, kinds, names)| {
        let verbs: Vec<_> = verbs.iter().map(|verb| verb.as_str()).collect();
        format!("{} {} {}", verbs.join(","), kinds.join(","), names.join(",")).parse().unwrap()
    })
}
