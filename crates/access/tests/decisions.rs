//! The golden matrix of built-in roles, the rules by name and id, and the decisions against a naive oracle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/world.rs"]
mod world;

use insta::assert_snapshot;
use jiff::Timestamp;
use mcpctl_access::{
    Change, Denied, Permit, Rejected, Snapshot, builtin,
    verb::{Delete, Edit, Run, VerbType, View},
};
use mcpctl_api::{Kind, Revision, Spec, Verb};
use proptest::prelude::*;
use world::{any_world, authorize, hash, oracle, principal, stored, token_for, user, world};

const TEAM: &str = r#"
kind: Llm
name: claude
type: openai
url: http://127.0.0.1:1/v1
model: m
---
kind: Llm
name: secret-model
type: openai
url: http://127.0.0.1:1/v1
model: m
---
kind: User
name: alice
---
kind: User
name: root
---
kind: Group
name: team-a
members: [{kind: User, name: alice}]
---
kind: Role
name: reader
rules: [{kinds: [llms], verbs: [view], names: ["claude", "team-a-*"]}]
---
kind: RoleBinding
name: team-a-reads
role: reader
subjects: [{kind: Group, name: team-a}]
---
kind: RoleBinding
name: admins
role: admin
subjects: [{kind: User, name: root}]
"#;

#[test]
fn every_role_verb_and_kind() {
    let mut table = String::new();
    for role in builtin::ROLES {
        let world = world(&format!(
            "kind: User\nname: u\n---\nkind: RoleBinding\nname: b\nrole: {role}\nsubjects: [{{kind: User, name: u}}]\n"
        ));
        let caller = principal(&world, "u");
        table.push_str(&format!("{role}\n"));
        for kind in Kind::ALL {
            let verbs = Verb::ALL.map(|verb| match authorize(&world, &caller, verb, kind, "thing") {
                Err(Denied::NotFound { .. }) => verb.as_str(),
                _ => "-",
            });
            table.push_str(&format!("  {:<16} {}\n", kind.plural(), verbs.join(" ")));
        }
    }
    assert_snapshot!(table);
}

#[test]
fn inv_09_a_rule_by_name_holds_by_id_too() {
    let world = world(TEAM);
    let alice = principal(&world, "alice");
    let id = world.by_name(Kind::Llm, "claude").unwrap().id().to_string();
    for path in ["claude", &id] {
        let permit = world.authorize::<View>(&alice, Kind::Llm, path).unwrap();
        assert_eq!(permit.resource().name().as_str(), "claude");
        assert!(world.authorize::<Run>(&alice, Kind::Llm, path).is_err());
    }
}

#[test]
fn without_view_existing_and_missing_look_the_same() {
    let world = world(TEAM);
    let alice = principal(&world, "alice");
    let hidden = world.by_name(Kind::Llm, "secret-model").unwrap().id().to_string();
    for path in ["secret-model", &hidden, "no-such", "cabcdefghijklmnopqrstuvwx"] {
        let denied = world.authorize::<View>(&alice, Kind::Llm, path).unwrap_err();
        assert!(matches!(denied, Denied::Forbidden { .. }), "{path}: {denied}");
    }
}

#[test]
fn only_a_viewer_of_all_learns_that_there_is_none() {
    let world = world(TEAM);
    let denied = world.authorize::<View>(&principal(&world, "root"), Kind::Llm, "no-such").unwrap_err();
    assert!(matches!(denied, Denied::NotFound { .. }), "{denied}");
}

#[test]
fn authorize_all_needs_a_rule_for_every_name() {
    let world = world(TEAM);
    let (alice, root) = (principal(&world, "alice"), principal(&world, "root"));
    assert_eq!(world.authorize_all(&root, Verb::View, Kind::Llm), Ok(()));
    let denied = world.authorize_all(&alice, Verb::View, Kind::Llm).unwrap_err();
    assert_eq!(denied.to_string(), "`User alice` may not view llms `*`");
}

#[test]
fn an_id_of_another_kind_finds_nothing() {
    let world = world(TEAM);
    let id = world.by_name(Kind::User, "alice").unwrap().id().to_string();
    let denied = world.authorize::<View>(&principal(&world, "root"), Kind::Llm, &id).unwrap_err();
    assert!(matches!(denied, Denied::NotFound { .. }), "{denied}");
}

#[test]
fn a_revoked_binding_holds_in_the_next_snapshot() {
    let before = world(TEAM);
    let alice = principal(&before, "alice");
    assert!(before.authorize::<View>(&alice, Kind::Llm, "claude").is_ok());
    let binding = before.by_name(Kind::RoleBinding, "team-a-reads").unwrap();
    let next = before.revision().next();
    let gone = Change::Delete {
        kind: Kind::RoleBinding,
        id: binding.id().clone(),
        name: binding.name().clone(),
        revision: next,
    };
    let after = before.after(next, [gone]);
    assert!(after.authorize::<View>(&alice, Kind::Llm, "claude").is_err());
    assert!(before.authorize::<View>(&alice, Kind::Llm, "claude").is_ok(), "snapshots do not change");
}

#[test]
fn credentials_end_with_their_time_and_their_owner() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let later: Timestamp = "2026-06-02T00:00:00Z".parse().unwrap();
    let before = world(TEAM);
    let token = token_for(&before, "t1", "alice", later);
    let with = before.after(before.revision().next(), [Change::Put(token)]);
    assert_eq!(with.authenticate(&hash("t1"), now).unwrap().subject, user("alice"));
    assert_eq!(with.authenticate(&hash("t1"), later), Err(Rejected::Expired));
    assert_eq!(with.authenticate(&hash("t2"), now), Err(Rejected::Unknown));

    // A new account of the same name does not get the token.
    let alice = with.by_name(Kind::User, "alice").unwrap();
    let gone = Change::Delete {
        kind: Kind::User,
        id: alice.id().clone(),
        name: alice.name().clone(),
        revision: with.revision().next(),
    };
    let namesake = stored("alice", Spec::User(Default::default()), with.revision().0 + 2);
    let after = with.after(Revision(with.revision().0 + 2), [gone, Change::Put(namesake)]);
    assert_eq!(after.authenticate(&hash("t1"), now), Err(Rejected::Orphaned));
}

#[test]
fn a_disabled_user_is_refused() {
    let before = world("kind: User\nname: bob\ndisabled: true\n");
    let token = token_for(&before, "t", "bob", Timestamp::MAX);
    let with = before.after(before.revision().next(), [Change::Put(token)]);
    assert_eq!(with.authenticate(&hash("t"), Timestamp::UNIX_EPOCH), Err(Rejected::Disabled));
}

#[test]
fn who_can_names_the_binding_and_the_group() {
    let world = world(TEAM);
    let shown: Vec<String> = world
        .who_can(Verb::View, Kind::Llm, "claude")
        .iter()
        .map(|g| {
            let via = g.via_group.as_ref().map_or(String::new(), |v| format!(" via {v}"));
            format!("{} {} {}{via}", g.subject, g.role, g.binding)
        })
        .collect();
    assert_eq!(shown, ["User alice reader team-a-reads via team-a", "User root admin admins"]);
}

fn names<V: VerbType>(permits: impl IntoIterator<Item = Permit<V>>) -> Vec<String> {
    permits.into_iter().map(|permit| permit.resource().name().to_string()).collect()
}

proptest! {
    #[test]
    fn decisions_agree_with_the_oracle(text in any_world()) {
        let world = world(&text);
        for who in ["u0", "u1"] {
            let caller = principal(&world, who);
            for verb in Verb::ALL {
                for name in ["a", "ab", "b"] {
                    let decided = authorize(&world, &caller, verb, Kind::Llm, name).is_ok();
                    prop_assert_eq!(decided, oracle(&world, who, verb, Kind::Llm, name), "{} {} {}", who, verb, name);
                    let listed = match verb {
                        Verb::View => names(world.permitted::<View>(&caller, Kind::Llm)),
                        Verb::Run => names(world.permitted::<Run>(&caller, Kind::Llm)),
                        Verb::Edit => names(world.permitted::<Edit>(&caller, Kind::Llm)),
                        Verb::Delete => names(world.permitted::<Delete>(&caller, Kind::Llm)),
                        Verb::Use | Verb::Create | Verb::Grant | Verb::Capture => continue,
                    };
                    prop_assert_eq!(listed.iter().any(|listed| listed == name), decided);
                }
            }
            // A list goes on after any name with what follows it in the whole list.
            for after in ["", "a", "aa", "ab", "b"] {
                let mut whole = names(world.permitted::<View>(&caller, Kind::Llm));
                whole.retain(|name| name.as_str() > after);
                let rest = names(world.permitted_after::<View>(&caller, Kind::Llm, after));
                prop_assert_eq!(rest, whole, "{} after {}", who, after);
            }
        }
    }
}

#[test]
fn a_name_that_passed_on_stays_with_its_new_owner() {
    // The feed reports a resource at its last change only, so the new owner of a name may be seen first.
    let before = world("kind: User\nname: a\n");
    let old = before.by_name(Kind::User, "a").unwrap();
    let next = before.revision().0;
    let newcomer = stored("a", Spec::User(Default::default()), next + 1);
    let mut moved = old.resource.clone();
    moved.name = "b".parse().unwrap();
    moved.revision = Revision(next + 2);
    let moved = std::sync::Arc::new(mcpctl_access::Stored { resource: moved, confidential: None });
    let after =
        before.after(Revision(next + 2), [Change::Put(std::sync::Arc::clone(&newcomer)), Change::Put(moved)]);
    assert_eq!(after.by_name(Kind::User, "a").map(|s| s.id()), Some(newcomer.id()));
    assert_eq!(after.by_name(Kind::User, "b").map(|s| s.id()), Some(old.id()));
}

/// What hangs from the snapshots is decided again only after such a change.
#[test]
fn only_changes_that_matter_change_decisions() {
    let world = world(TEAM);
    let claude = world.by_name(Kind::Llm, "claude").unwrap();
    let token = token_for(&world, "t", "alice", Timestamp::MAX);
    let secret = stored(
        "s",
        mcpctl_api::yaml::read_documents("kind: Secret\nname: s\ndata: {k: v}\n")
            .unwrap()
            .remove(0)
            .document
            .spec,
        1,
    );
    let delete = |kind, id: &mcpctl_api::Id, name: &mcpctl_api::Name, revision| Change::Delete {
        kind,
        id: id.clone(),
        name: name.clone(),
        revision: Revision(revision),
    };
    let before = &world;
    let mut world = before.after(Revision(100), [Change::Put(secret), Change::Put(token.clone())]);
    assert_eq!(world.decisions(), before.decisions(), "a secret and a new token");
    for (at, change) in [
        Change::Put(token.clone()),
        delete(Kind::Token, token.id(), token.name(), 102),
        Change::Put(claude.clone()),
        delete(Kind::Llm, claude.id(), claude.name(), 104),
    ]
    .into_iter()
    .enumerate()
    {
        let after = world.after(Revision(101 + at as u64), [change]);
        assert_ne!(after.decisions(), world.decisions(), "{at}");
        world = after;
    }
    let loaded = || Snapshot::new(Revision(100), []);
    assert_ne!(loaded().decisions(), loaded().decisions(), "whatever their revision");
}
