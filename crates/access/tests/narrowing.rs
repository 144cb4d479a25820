//! Narrowed tokens against a naive oracle: they do what their rules, their owner and their makers all allow, and make no
//! credential that does more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "support/world.rs"]
mod world;

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Escalation, Narrowing, Principal, Snapshot, Stored, verb::View};
use mcpctl_api::{Kind, Spec, Verb, spec::Rule};
use proptest::prelude::*;
use world::{any_rule, any_world, authorize, hash, oracle, rule_allows, token_for, user, world};

const LLMS: [&str; 3] = ["a", "ab", "b"];

/// The world with a token of `u0`, and the principal that it authenticates.
fn with_token(before: &Snapshot, rules: Option<&[Rule]>, made_by_u1: bool) -> (Snapshot, Principal) {
    let token = token_for(before, "t", "u0", Timestamp::MAX);
    let mut resource = token.resource.clone();
    if let Spec::Token(spec) = &mut resource.spec {
        spec.rules = rules.map(<[Rule]>::to_vec);
        if made_by_u1 {
            spec.issued_by = vec![before.by_name(Kind::User, "u1").unwrap().id().clone()];
        }
    }
    let put = Change::Put(Arc::new(Stored { resource, confidential: token.confidential.clone() }));
    let after = before.after(before.revision().next(), [put]);
    let principal = after.authenticate(&hash("t"), Timestamp::UNIX_EPOCH).unwrap();
    (after, principal)
}

fn any_allows(rules: &[Rule], verb: Verb, name: &str) -> bool {
    rules.iter().any(|rule| rule_allows(rule, verb, Kind::Llm, name))
}

proptest! {
    #[test]
    fn inv_09_narrowed_decisions_agree_with_the_oracle(
        text in any_world(),
        rules in prop::collection::vec(any_rule(), 1..3),
        made_by_u1 in any::<bool>(),
    ) {
        let (world, token) = with_token(&world(&text), Some(&rules), made_by_u1);
        for verb in Verb::ALL {
            let may = |name: &&str| {
                let maker = oracle(&world, "u1", verb, Kind::Llm, name) || oracle(&world, "u1", Verb::Grant, Kind::Llm, name);
                any_allows(&rules, verb, name) && oracle(&world, "u0", verb, Kind::Llm, name) && (!made_by_u1 || maker)
            };
            for name in LLMS {
                let decided = authorize(&world, &token, verb, Kind::Llm, name);
                prop_assert_eq!(decided.is_ok(), may(&name), "{} {}", verb, name);
                prop_assert_eq!(world.reason(&token, verb, Kind::Llm, Some(name)).is_some(), decided.is_ok());
            }
            // About any name it errs towards no.
            if world.reason(&token, verb, Kind::Llm, None).is_some() {
                prop_assert!(["a", "ab", "b", "aa", "ba", "zz"].iter().any(may), "{}", verb);
            }
        }
        let listed: Vec<String> = world.permitted::<View>(&token, Kind::Llm).iter().map(|permit| permit.resource().name().to_string()).collect();
        let allowed: Vec<&str> = LLMS.into_iter().filter(|name| authorize(&world, &token, Verb::View, Kind::Llm, name).is_ok()).collect();
        prop_assert_eq!(listed, allowed);
        prop_assert!(!world.holds_everything(&token) || rules.iter().any(|rule| rule.to_string().contains('*')));
    }

    #[test]
    fn inv_12_token_makes_no_token_that_does_more(
        text in any_world(),
        own in prop::option::of(prop::collection::vec(any_rule(), 1..3)),
        asked in prop::collection::vec(any_rule(), 1..3),
    ) {
        let before = world(&text);
        let (world, maker) = with_token(&before, own.as_deref(), false);
        let narrowing = Narrowing::new(&asked);
        let made = world.check_credential(&maker, &user("u0"), Some(&narrowing));
        // What the rules name, existing or not, the maker may do.
        let within = Verb::ALL.iter().all(|verb| ["a", "ab", "b", "aa", "zz"].iter().all(|name| {
            let right = any_allows(&asked, *verb, name);
            !right || world.reason(&maker, *verb, Kind::Llm, Some(name)).is_some()
        }));
        prop_assert!(made.is_err() || within, "{:?}", asked);
        // Without rules it would do all that the owner may.
        prop_assert_eq!(
            world.check_credential(&maker, &user("u0"), None),
            if own.is_some() { Err(Escalation::Narrowed) } else { Ok(()) }
        );
    }
}

#[test]
fn first_rule_that_is_more_is_named() {
    let world = world(
        "kind: User\nname: u0\n---\nkind: Role\nname: r\nrules: [{kinds: [llms], verbs: [view, run], names: ['team-*']}]\n---\n\
         kind: RoleBinding\nname: b\nrole: r\nsubjects: [{kind: User, name: u0}]\n",
    );
    let refused = |own: Option<&str>, rules: &[&str]| {
        let own: Option<Vec<Rule>> = own.map(|rule| vec![rule.parse().unwrap()]);
        let (world, maker) = with_token(&world, own.as_deref(), false);
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let checked = world.check_credential(&maker, &user("u0"), Some(&Narrowing::new(&rules)));
        checked.err().map(|error| error.to_string())
    };
    assert_eq!(refused(None, &["run llms team-a", "view llms team-*"]), None);
    assert_eq!(
        refused(None, &["run llms team-a", "view llms *"]).unwrap(),
        "rule 2 of the token is more than User u0 may do: view llms `*`"
    );
    assert_eq!(refused(Some("run llms team-a*"), &["run llms team-a"]), None);
    assert_eq!(
        refused(Some("run,grant llms team-a"), &["run llms team-b"]).unwrap(),
        "rule 1 of the token is more than the account that makes it may do: run llms `team-b`"
    );
    // A right to grant is none to make itself more.
    let error = refused(Some("grant llms team-a"), &["run llms team-a"]);
    assert_eq!(
        error.unwrap(),
        "rule 1 of the token is more than the token that makes it may do: run llms `team-a`"
    );
}

#[test]
fn narrowed_token_takes_no_rights_from_its_owner() {
    let before = world(
        "kind: User\nname: u0\n---\nkind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: User, name: u0}]\n",
    );
    let rules = ["edit users u0".parse().unwrap()];
    let (with, token) = with_token(&before, Some(&rules), false);
    let user = with.by_name(Kind::User, "u0").unwrap();
    let mut disabled = user.resource.clone();
    if let Spec::User(spec) = &mut disabled.spec {
        spec.disabled = true;
    }
    disabled.revision = with.revision().next();
    let put = Change::Put(Arc::new(Stored { resource: disabled, confidential: None }));
    let after = with.after(with.revision().next(), [put]);
    assert!(matches!(with.check_step(&after, &token), Err(Escalation::Loss { .. })));
    let (_, unnarrowed) = with_token(&before, None, false);
    assert_eq!(with.check_step(&after, &unnarrowed), Ok(()));
}

/// Every kind of right, alone: a token that has it alone does that and nothing else, though its owner may do everything.
#[test]
fn inv_09_token_of_one_right_has_that_right_alone() {
    let before = world(
        "kind: User\nname: u0\n---\nkind: RoleBinding\nname: b\nrole: admin\nsubjects: [{kind: User, name: u0}]\n",
    );
    let every = || Kind::ALL.into_iter().flat_map(|kind| Verb::ALL.into_iter().map(move |verb| (kind, verb)));
    for (kind, verb) in every() {
        let rules = [format!("{} {} a", verb.as_str(), kind.plural()).parse().unwrap()];
        let (with, token) = with_token(&before, Some(&rules), false);
        for (other, wanted) in every() {
            let names = if other.is_resource() { ["a", "b"] } else { ["user/a", "serviceaccount/a"] };
            for name in names {
                let decided = with.authorize_name(&token, wanted, other, name).is_ok();
                let is_its_own = (other, wanted, name) == (kind, verb, names[0]);
                assert_eq!(decided, is_its_own, "{verb} {kind} a: {wanted} {other} {name}");
            }
            assert!(with.authorize_all(&token, wanted, other).is_err(), "{verb} {kind} a: {wanted} {other}");
        }
        // Nor does it make a credential, or hold everything.
        assert!(!with.holds_everything(&token));
        for account in ["u0", "u1"] {
            let made = with.check_credential(&token, &user(account), None);
            assert!(made.is_err(), "{verb} {kind} a makes a credential for {account}");
        }
    }
}
