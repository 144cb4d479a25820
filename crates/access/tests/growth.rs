//! A snapshot that came about by changes answers like one that was loaded at that revision: it shares with its predecessors what did
//! not change, and its indexes were updated for what did.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/world.rs"]
mod world;

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Principal, Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Resource, Revision, Spec, Verb,
    spec::{Subject, SubjectKind, TokenOrigin, TokenSpec},
    yaml,
};
use proptest::prelude::*;

/// One step: the resource of a slot gets this name and this content, or is deleted.
type Step = (usize, usize, Option<usize>);

const KINDS: [Kind; 8] = [
    Kind::User,
    Kind::Group,
    Kind::Role,
    Kind::RoleBinding,
    Kind::Limit,
    Kind::Llm,
    Kind::ServiceAccount,
    Kind::Token,
];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Contents of a kind.
fn content(kind: Kind, which: usize) -> String {
    let external =
        |groups: &str| format!("external: {{issuer: 'https://id.example', subject: s, groups: {groups}}}\n");
    let claim = "claims: [{issuer: 'https://id.example', value: x}]\n";
    let llm = "type: openai\nurl: 'http://x'\nmodel: m\n";
    let list = ["[{kind: User, name: a}]", "[{kind: User, name: b}, {kind: Group, name: a}]"][which % 2];
    match (kind, which % 4) {
        (Kind::User, 0 | 1) => String::new(),
        (Kind::User, 2) => "disabled: true\n".to_owned(),
        (Kind::User, _) => external("[x, y]"),
        (Kind::Group, 0 | 1) => format!("members: {}\n", list.replace(", {kind: Group, name: a}", "")),
        (Kind::Group, 2) => format!("members: []\n{claim}"),
        (Kind::Group, _) => format!("members: [{{kind: User, name: a}}]\n{claim}"),
        (Kind::Role, 0) => "rules: [{kinds: [llms], verbs: [view], names: ['*']}]\n".to_owned(),
        (Kind::Role, 1) => "rules: [{kinds: ['*'], verbs: ['*'], names: ['*']}]\n".to_owned(),
        (Kind::Role, _) => "rules: [{kinds: [users], verbs: [grant], names: ['*']}]\n".to_owned(),
        (Kind::RoleBinding, role) => format!("role: {}\nsubjects: {list}\n", NAMES[role]),
        (Kind::Llm, 0 | 1) => llm.to_owned(),
        (Kind::Llm, 2) => format!("{llm}fallbacks: [{{llm: a}}, {{llm: b}}]\n"),
        (Kind::Llm, _) => format!("{llm}fallbacks: [{{llm: a}}]\n"),
        (Kind::Limit, 0 | 1) => format!("per: subject\nrequests: {{max: 5, window: 1m}}\nsubjects: {list}\n"),
        (Kind::Limit, _) => "per: all\nrequests: {max: 5, window: 1m}\n".to_owned(),
        _ => String::new(),
    }
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..KINDS.len() * 3, 0..NAMES.len(), prop::option::weighted(0.8, 0..4_usize));
    prop::collection::vec(step, 1..40)
}

/// The change of a step; `None` where its name is taken or there is nothing to delete.
fn change(before: &Snapshot, ids: &[Id], (slot, name, which): Step) -> Option<Change> {
    let (kind, id, revision) = (KINDS[slot % KINDS.len()], &ids[slot], before.revision().next());
    let old = before.by_id(id);
    let Some(which) = which else {
        let name = old?.name().clone();
        return Some(Change::Delete { kind, id: id.clone(), name, revision });
    };
    let name = NAMES[name];
    if before.by_name(kind, name).is_some_and(|named| named.id() != id) {
        return None;
    }
    let spec = match kind {
        Kind::Token => token(ids, which),
        _ => {
            let text = format!("kind: {kind}\nname: {name}\n{}", content(kind, which));
            yaml::read_documents(&text).unwrap().remove(0).document.spec
        }
    };
    let spec = made_by(spec, &ids[..which]);
    let stored = world::stored(name, spec, revision.0);
    let confidential = (kind == Kind::User).then(|| Confidential::PasswordHash("hash".to_owned()));
    let resource = Resource { id: id.clone(), ..stored.resource.clone() };
    Some(Change::Put(Arc::new(Stored { resource, confidential })))
}

/// A token of the first account.
fn token(ids: &[Id], which: usize) -> Spec {
    Spec::Token(TokenSpec {
        subject: world::user("a"),
        subject_id: ids[which % 2].clone(),
        expires_at: Timestamp::MAX,
        session: false,
        origin: None,
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by: Vec::new(),
        rules: None,
    })
}

/// The content with these accounts as the makers of its credentials.
fn made_by(mut spec: Spec, makers: &[Id]) -> Spec {
    match &mut spec {
        Spec::User(user) => {
            user.password_set_by = makers.to_vec();
            if let Some(identity) = user.external.identity_mut() {
                identity.linked_by = makers.iter().rev().take(1).cloned().collect();
            }
        }
        Spec::ServiceAccount(account) => account.trust_set_by = makers.to_vec(),
        Spec::Token(token) => token.issued_by = makers.to_vec(),
        Spec::Llm(llm) if !makers.is_empty() => {
            let key = serde_json::json!({"secret": "s", "key": "k", "attachedBy": makers});
            llm.api_key = Some(serde_json::from_value(key).unwrap());
        }
        _ => {}
    }
    spec
}

/// Whether a resource refers to something, by what its JSON shows.
fn mentions(stored: &Stored, fields: &[&str], value: &str) -> bool {
    fn holds(json: &serde_json::Value, value: &str) -> bool {
        match json {
            serde_json::Value::String(text) => text == value,
            serde_json::Value::Array(all) => all.iter().any(|one| holds(one, value)),
            serde_json::Value::Object(all) => all.values().any(|one| holds(one, value)),
            _ => false,
        }
    }
    let json = serde_json::to_value(&stored.resource).unwrap();
    fields.iter().any(|field| json.pointer(field).is_some_and(|found| holds(found, value)))
}

/// Compares what the indexes find with what a walk over everything finds.
fn check_references(snapshot: &Snapshot, ids: &[Id]) -> Result<(), TestCaseError> {
    fn sorted<'a>(found: impl Iterator<Item = &'a Arc<Stored>>) -> Vec<&'a str> {
        let mut found: Vec<_> = found.map(|stored| stored.id().as_str()).collect();
        found.sort_unstable();
        found
    }
    let all = |kind: Kind, matches: &dyn Fn(&Stored) -> bool| {
        sorted(snapshot.all(kind).filter(|stored| matches(stored)))
    };
    for name in NAMES {
        let parsed = name.parse().unwrap();
        let bound = all(Kind::RoleBinding, &|stored| mentions(stored, &["/role"], name));
        prop_assert_eq!(sorted(snapshot.bindings_of(&parsed)), bound);
        let falling_back = all(Kind::Llm, &|stored| mentions(stored, &["/fallbacks"], name));
        prop_assert_eq!(sorted(snapshot.falling_back_to(&parsed)), falling_back);
        for kind in [SubjectKind::User, SubjectKind::Group] {
            let subject = Subject { kind, name: name.parse().unwrap() };
            let names = |stored: &Stored| match &stored.resource.spec {
                Spec::RoleBinding(binding) => binding.subjects.contains(&subject),
                Spec::Group(group) => group.members.contains(&subject),
                Spec::Limit(limit) => limit.subjects.iter().flatten().any(|one| *one == subject),
                _ => false,
            };
            let naming = KINDS.into_iter().flat_map(|kind| snapshot.all(kind));
            prop_assert_eq!(sorted(snapshot.naming(&subject)), sorted(naming.filter(|stored| names(stored))));
        }
    }
    for id in ids {
        let made = ["/issuedBy", "/passwordSetBy", "/external/linkedBy", "/trustSetBy", "/apiKey/attachedBy"];
        for kind in KINDS {
            let found = sorted(snapshot.made_by(kind, id));
            prop_assert_eq!(found, all(kind, &|stored| mentions(stored, &made, id.as_str())));
        }
        let tokens = all(Kind::Token, &|stored| mentions(stored, &["/subjectId"], id.as_str()));
        prop_assert_eq!(sorted(snapshot.tokens_of(id)), tokens);
    }
    let account = TokenOrigin { issuer: "https://id.example".parse().unwrap(), subject: "s".to_owned() };
    let linked = all(Kind::User, &|stored| mentions(stored, &["/external/subject"], "s"));
    prop_assert_eq!(snapshot.count_linked_at(&account.issuer), linked.len());
    prop_assert_eq!(sorted(snapshot.linked_to(&account)), linked);
    Ok(())
}

fn loaded(snapshot: &Snapshot) -> Snapshot {
    let all: Vec<_> = Kind::RESOURCES.into_iter().flat_map(|kind| snapshot.all(kind).cloned()).collect();
    // From the last to the first, so that no order of the rows matters.
    Snapshot::new(snapshot.revision(), all.into_iter().rev())
}

fn callers(snapshot: &Snapshot) -> Vec<Principal> {
    let users = NAMES.map(|name| world::principal(snapshot, name));
    let external = users.clone().map(|user| Principal { external: true, ..user });
    users.into_iter().chain(external).collect()
}

/// What a snapshot answers to every question.
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let mut answers =
        vec![format!("{} {}", snapshot.len(), snapshot.has_administrator(Timestamp::UNIX_EPOCH))];
    for kind in Kind::RESOURCES {
        answers.push(format!("{:?}", snapshot.all(kind).map(|stored| stored.id()).collect::<Vec<_>>()));
        for name in NAMES {
            answers
                .push(format!("{:?}", snapshot.all_after(kind, name).map(|s| s.name()).collect::<Vec<_>>()));
        }
    }
    for name in NAMES {
        let subject = Subject { kind: SubjectKind::User, name: name.parse().unwrap() };
        answers.push(format!(
            "{:?}",
            (snapshot.is_named(&subject), snapshot.who_can(Verb::View, Kind::Llm, name))
        ));
    }
    for caller in callers(snapshot) {
        let limits = snapshot.limits_on(&caller, "a");
        let limits: Vec<_> = limits.iter().map(|limit| limit.id().clone()).collect();
        answers.push(format!("{:?}", (snapshot.groups_of(&caller), snapshot.roles_of(&caller), limits)));
        for (verb, kind) in [(Verb::View, Kind::Llm), (Verb::Grant, Kind::User), (Verb::Edit, Kind::Secret)] {
            answers.push(format!("{:?}", snapshot.reason(&caller, verb, kind, Some("a"))));
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn snapshots_by_changes_answer_like_loaded_ones(steps in any_steps()) {
        let ids: Vec<Id> = (0..KINDS.len() * 3).map(|_| Id::mint()).collect();
        let mut snapshot = Snapshot::default();
        for step in steps {
            let Some(change) = change(&snapshot, &ids, step) else { continue };
            let after = snapshot.after(change.revision(), [change]);
            prop_assert_eq!(answers(&after), answers(&loaded(&after)));
            check_references(&after, &ids)?;
            snapshot = after;
        }
    }

    /// Loaded snapshots share nothing, so that between them every subject is judged.
    #[test]
    fn inv_12_steps_are_judged_alike_whatever_the_snapshots_share(
        steps in any_steps(),
        last in prop::collection::vec((0..KINDS.len() * 3, 0..NAMES.len(), prop::option::weighted(0.8, 0..4_usize)), 1..4),
    ) {
        let ids: Vec<Id> = (0..KINDS.len() * 3).map(|_| Id::mint()).collect();
        let mut before = Snapshot::default();
        for step in steps {
            let Some(change) = change(&before, &ids, step) else { continue };
            before = before.after(change.revision(), [change]);
        }
        let mut after = before.clone();
        for step in last {
            let Some(change) = change(&after, &ids, step) else { continue };
            after = after.after(change.revision(), [change]);
        }
        let (apart_before, apart_after) = (loaded(&before), loaded(&after));
        for caller in callers(&before) {
            prop_assert_eq!(
                before.check_step(&after, &caller).is_ok(),
                apart_before.check_step(&apart_after, &caller).is_ok()
            );
        }
    }

    /// More than one part of the list of a kind.
    #[test]
    fn long_lists_stay_in_order(changes in prop::collection::vec((0..900_usize, any::<bool>()), 600..1200)) {
        let ids: Vec<Id> = (0..900).map(|_| Id::mint()).collect();
        let mut expected = std::collections::BTreeSet::new();
        let changes = changes.into_iter().zip(1..).map(|((at, put), revision)| {
            let name = format!("u{at:04}");
            if put {
                expected.insert(name.clone());
                let spec = Spec::User(Default::default());
                let stored = world::stored(&name, spec, revision);
                let resource = Resource { id: ids[at].clone(), ..stored.resource.clone() };
                Change::Put(Arc::new(Stored { resource, confidential: None }))
            } else {
                expected.remove(&name);
                Change::Delete { kind: Kind::User, id: ids[at].clone(), name: name.parse().unwrap(), revision: Revision(revision) }
            }
        });
        let changes: Vec<_> = changes.collect();
        let snapshot = Snapshot::default().after(Revision(changes.len() as u64), changes);
        let names: Vec<_> = snapshot.all(Kind::User).map(|stored| stored.name().to_string()).collect();
        prop_assert_eq!(&names, &expected.iter().cloned().collect::<Vec<_>>());
        prop_assert!(names.iter().all(|name| snapshot.by_name(Kind::User, name).is_some()));
        let following: Vec<_> = snapshot.all_after(Kind::User, "u0450").map(|stored| stored.name().to_string()).collect();
        prop_assert_eq!(following, expected.range("u0450~".to_owned()..).cloned().collect::<Vec<_>>());
    }
}
