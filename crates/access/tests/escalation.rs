//! INVARIANT 12: no write grants a right that its writer does not hold, whichever resource it goes through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/world.rs"]
mod world;

use std::sync::Arc;

use mcpctl_access::{Change, Snapshot, Stored};
use mcpctl_api::{Kind, Revision, yaml};
use world::{principal, user, world};

/// `lead` may write accounts and roles, and view `claude`; nothing more.
const BASE: &str = r#"
kind: User
name: lead
---
kind: User
name: bob
---
kind: User
name: boss
---
kind: User
name: sleeper
disabled: true
---
kind: Group
name: empty
members: []
---
kind: Role
name: people-writer
rules:
  - {kinds: [users, groups, roles, rolebindings, tokens], verbs: [view, create, edit, delete], names: ["*"]}
  - {kinds: [users], verbs: [grant], names: [bob, boss, newhire]}
  - {kinds: [llms], verbs: [view], names: ["claude", "team-*"]}
---
kind: Role
name: granter
rules: [{kinds: [llms], verbs: [grant], names: ["gpt"]}]
---
kind: RoleBinding
name: lead-writes
role: people-writer
subjects: [{kind: User, name: lead}]
---
kind: RoleBinding
name: boss-rules
role: admin
subjects: [{kind: User, name: boss}, {kind: User, name: ghost}, {kind: User, name: sleeper}, {kind: Group, name: admins}]
"#;

/// The world after the documents were put, by name.
fn put(before: &Snapshot, yaml: &str) -> Snapshot {
    let mut revision = before.revision();
    let mut changes = Vec::new();
    for located in yaml::read_documents(yaml).unwrap() {
        revision = revision.next();
        let document = located.document;
        let name = document.name.clone().unwrap();
        let fresh = world::stored(name.as_str(), document.spec, revision.0);
        let stored = match before.by_name(fresh.kind(), name.as_str()) {
            Some(old) => {
                let mut resource = fresh.resource.clone();
                resource.id = old.id().clone();
                Arc::new(Stored { resource, confidential: None })
            }
            None => fresh,
        };
        changes.push(Change::Put(stored));
    }
    before.after(Revision(revision.0), changes)
}

fn refused(yaml: &str) -> Option<String> {
    let before = world(BASE);
    let after = put(&before, yaml);
    before.check_step(&after, &principal(&before, "lead")).err().map(|e| e.to_string())
}

#[test]
fn inv_12_own_rights_may_be_handed_out() {
    let role = "kind: Role\nname: r\nrules: [{kinds: [llms], verbs: [view], names: [claude, team-a]}]\n";
    let binding = "---\nkind: RoleBinding\nname: b\nrole: r\nsubjects: [{kind: User, name: bob}]\n";
    assert_eq!(refused(&format!("{role}{binding}")), None);
}

#[test]
fn inv_12_a_new_binding_cannot_hand_out_more() {
    let error = refused("kind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: User, name: lead}]\n");
    assert!(error.unwrap().contains("would let User lead view secrets `*`"));
}

#[test]
fn inv_12_a_wider_pattern_is_more() {
    let role = "kind: Role\nname: r\nrules: [{kinds: [llms], verbs: [view], names: ['tea*']}]\n";
    let binding = "---\nkind: RoleBinding\nname: b\nrole: r\nsubjects: [{kind: User, name: bob}]\n";
    assert!(refused(&format!("{role}{binding}")).is_some());
}

#[test]
fn inv_12_a_bound_role_cannot_be_widened() {
    let error = refused(
        "kind: Role\nname: people-writer\nrules: [{kinds: [llms], verbs: [view, run], names: ['claude']}]\n",
    );
    assert!(error.unwrap().contains("run llms `claude`"));
}

#[test]
fn inv_12_a_group_cannot_carry_its_members_higher() {
    let error = refused("kind: Group\nname: admins\nmembers: [{kind: User, name: lead}]\n");
    assert!(error.is_some());
}

#[test]
fn inv_12_a_binding_to_an_empty_group_is_judged_when_it_is_made() {
    let error = refused("kind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: Group, name: empty}]\n");
    assert!(error.is_some());
}

#[test]
fn inv_12_an_account_under_a_bound_name_cannot_be_made() {
    assert!(refused("kind: User\nname: ghost\n").is_some());
    assert_eq!(refused("kind: User\nname: plain\n"), None);
}

#[test]
fn inv_12_a_disabled_admin_cannot_be_woken() {
    assert!(refused("kind: User\nname: sleeper\ndisabled: false\n").is_some());
}

#[test]
fn inv_12_the_grant_verb_hands_out_what_one_does_not_hold() {
    let before = world(&format!(
        "{BASE}---\nkind: RoleBinding\nname: lead-grants\nrole: granter\nsubjects: [{{kind: User, name: lead}}]\n"
    ));
    let give = |name: &str| {
        put(
            &before,
            &format!(
                "kind: Role\nname: r\nrules: [{{kinds: [llms], verbs: [run], names: [{name}]}}]\n---\nkind: RoleBinding\nname: b\nrole: r\nsubjects: [{{kind: User, name: bob}}]\n"
            ),
        )
    };
    let lead = principal(&before, "lead");
    assert_eq!(before.check_step(&give("gpt"), &lead), Ok(()));
    assert!(before.check_step(&give("claude"), &lead).is_err());
}

#[test]
fn inv_12_no_credential_for_a_mightier_account() {
    let before = world(BASE);
    let lead = principal(&before, "lead");
    assert!(before.check_credential(&lead, &user("boss"), None).is_err());
    assert_eq!(before.check_credential(&lead, &user("bob"), None), Ok(()));
    assert_eq!(before.check_credential(&lead, &user("lead"), None), Ok(()));
    assert_eq!(before.check_credential(&principal(&before, "boss"), &user("lead"), None), Ok(()));
}

#[test]
fn inv_12_an_admin_may_do_all_this() {
    let before = world(BASE);
    let after =
        put(&before, "kind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: User, name: bob}]\n");
    assert_eq!(before.check_step(&after, &principal(&before, "boss")), Ok(()));
    assert!(before.by_name(Kind::User, "boss").is_some());
}

/// Whom a provider vouches for: `sso` by a claim alone, `both` by a claim and as a listed member.
const CLAIMS: &str = r#"
---
kind: User
name: sso
external: {issuer: "https://id.example.com", subject: s1, groups: [admins]}
---
kind: User
name: both
external: {issuer: "https://id.example.com", subject: s2, groups: [admins]}
---
kind: Group
name: vouched
claims: [{issuer: "https://id.example.com", value: admins}]
members: [{kind: User, name: both}]
---
kind: RoleBinding
name: vouched-rules
role: admin
subjects: [{kind: Group, name: vouched}]
"#;

#[test]
fn inv_12_rights_by_a_claim_hide_no_gain_and_no_loss() {
    let vouched = |members: &str| {
        let claims = r#"[{issuer: "https://id.example.com", value: admins}]"#;
        format!("kind: Group\nname: vouched\nclaims: {claims}\nmembers: [{members}]\n")
    };
    let (both, sso) = ("{kind: User, name: both}", "{kind: User, name: sso}");
    let bound = "kind: RoleBinding\nname: more\nrole: admin\nsubjects: [{kind: User, name: sso}]\n";
    let before = world(&format!("{BASE}{CLAIMS}"));
    let step = |yaml: &str, actor: &str| before.check_step(&put(&before, yaml), &principal(&before, actor));
    for (what, yaml) in [
        ("a listed membership beside a claimed one", vouched(&format!("{both}, {sso}"))),
        ("a binding beside a claimed membership", bound.to_owned()),
        ("the end of a listed membership beside a claimed one", vouched("")),
    ] {
        assert!(step(&yaml, "lead").is_err(), "{what}");
        assert!(step(&yaml, "boss").is_ok(), "{what}, by one who holds it");
    }
    assert!(step(&vouched(both), "lead").is_ok(), "what is there already");
}
