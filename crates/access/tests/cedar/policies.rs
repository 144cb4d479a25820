//! The same store as Cedar's entities and policies. Written from the rules of `docs/reference/contract.md`, not from the product's code: it shares
//! types of documents with the product and no decision.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicySet, Request,
    RestrictedExpression,
};
use jiff::Timestamp;
use mcpctl_access::FailoverReason;
use mcpctl_api::{
    Id, Kind, Spec, Verb,
    spec::{Allowed, ExternalIdentity, FailoverVerb, NamePattern, Rule, Subject, SubjectKind, TokenSpec},
};

use crate::{Answer, faults::Fault, store::Store};

/// Cedar's view of a store.
pub struct Oracle<'a> {
    store: &'a Store,
    fault: Option<Fault>,
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
}

/// What a request is about, as an entity: one resource, a name that need not exist, or every name of a kind.
#[derive(Clone, Copy)]
enum Target<'a> {
    Named(&'a str),
    Every,
}

/// Who presents a token.
pub struct Caller<'a> {
    token: &'a Id,
    /// Whether the token has rules of its own.
    narrowed: bool,
    /// Whether a sign-in at a provider began it.
    external: bool,
    account: Id,
    makers: Vec<Id>,
}

impl<'a> Oracle<'a> {
    /// Translates the store; `fault` makes the translation wrong in one way.
    pub fn new(store: &'a Store, fault: Option<Fault>) -> Self {
        let mut oracle = Self {
            store,
            fault,
            authorizer: Authorizer::new(),
            policies: PolicySet::new(),
            entities: Entities::empty(),
        };
        oracle.policies = oracle.policies().parse().unwrap();
        oracle.entities = Entities::from_entities(oracle.entities(), None).unwrap();
        oracle
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// What a request with this token gets.
    pub fn answer(&self, token: &Id, now: Timestamp, verb: Verb, kind: Kind, path: &str) -> Answer {
        let Some(principal) = self.principal(token, now) else { return Answer::Unauthenticated };
        let stored = self.resolve(kind, path);
        if let Some((id, name)) = stored
            && self.allows(&principal, verb, kind, Target::Named(name))
        {
            return Answer::Allowed(id.clone());
        }
        match self.allows(&principal, verb, kind, Target::Every) && !self.is(Fault::MissingLooksForbidden) {
            true => Answer::NotFound,
            false => Answer::Forbidden,
        }
    }

    /// What a probe with this token gets.
    pub fn failover(&self, token: &Id, now: Timestamp, path: &str) -> FailoverReason {
        let ask = |verb: Verb, path: &str| self.answer(token, now, verb, Kind::Llm, path);
        let id = match ask(Verb::View, path) {
            Answer::Unauthenticated => return FailoverReason::Unauthenticated,
            Answer::Allowed(id) => id,
            _ if self.is(Fault::FailoverNeedsNoView)
                && matches!(ask(Verb::Run, path), Answer::Allowed(_)) =>
            {
                return FailoverReason::Allowed;
            }
            Answer::Forbidden => return FailoverReason::Forbidden,
            Answer::NotFound => return FailoverReason::NotFound,
        };
        let stored = self.store.resources.iter().find(|stored| *stored.id() == id).unwrap();
        let Spec::Llm(llm) = &stored.resource.spec else { panic!("{id} is no Llm") };
        let needs_run = llm.failover.require == FailoverVerb::Run && !self.is(Fault::RunIsNotRequired);
        if !llm.failover.allowed && !self.is(Fault::FailoverOffIsNotRead) {
            FailoverReason::FailoverOff
        } else if needs_run && ask(Verb::Run, id.as_str()) != Answer::Allowed(id.clone()) {
            FailoverReason::RunRequired
        } else {
            FailoverReason::Allowed
        }
    }

    /// The account that the token stands for, and those that cap it.
    pub fn principal<'t>(&self, token: &'t Id, now: Timestamp) -> Option<Caller<'t>> {
        let context = [("now".to_owned(), RestrictedExpression::new_long(now.as_millisecond()))];
        let request = Request::new(
            uid("Token", token.as_str()),
            uid("Action", "authenticate"),
            uid("Daemon", "mcpd"),
            Context::from_pairs(context).unwrap(),
            None,
        );
        self.permits(&request.unwrap()).then(|| {
            let spec = self.token(token).unwrap();
            Caller {
                token,
                narrowed: spec.rules.is_some(),
                external: spec.origin.is_some() && spec.subject.kind == SubjectKind::User
                    || self.is(Fault::ClaimsOutliveTheSession),
                account: self.owner(spec),
                makers: spec.issued_by.clone(),
            }
        })
    }

    /// Whether the account and its credential's makers may do this to the resource of that name, or to every one.
    fn allows(&self, caller: &Caller<'_>, verb: Verb, kind: Kind, target: Target<'_>) -> bool {
        let Caller { token, narrowed, external, account, makers } = caller;
        let by_token = || self.may(uid("Token", token.as_str()), verb, kind, target);
        let unread = self.is(Fault::NarrowingIsNotRead)
            || (self.is(Fault::NarrowedTokensLearnNames) && matches!(target, Target::Every));
        if *narrowed && !unread {
            if !by_token() {
                return false;
            }
            if self.is(Fault::NarrowingAdds) {
                return true;
            }
        }
        let maker_claims = !self.is(Fault::MakersHaveNoClaims);
        let holds = |maker: &Id| {
            self.account_may(maker, maker_claims, verb, kind, target)
                || (self.account_may(maker, maker_claims, Verb::Grant, kind, target)
                    && !self.is(Fault::GrantDoesNotCover))
        };
        self.account_may(account, *external, verb, kind, target)
            && (makers.iter().all(holds) || self.is(Fault::MakersDoNotCap))
    }

    /// Whether the account is active and may do this to the resource of that name.
    pub fn account_may_name(&self, account: &Id, verb: Verb, kind: Kind, name: &str) -> bool {
        self.account_may(account, true, verb, kind, Target::Named(name))
    }

    /// Whether the account may do this, with the groups of its claims or without.
    fn account_may(&self, account: &Id, claims: bool, verb: Verb, kind: Kind, target: Target<'_>) -> bool {
        let principal = if claims { "AccountWithClaims" } else { "Account" };
        self.may(uid(principal, account.as_str()), verb, kind, target)
    }

    fn may(&self, principal: EntityUid, verb: Verb, kind: Kind, target: Target<'_>) -> bool {
        let resource = match target {
            Target::Named(name) => uid("Resource", &format!("{} {name}", kind.plural())),
            Target::Every => uid("Resource", kind.plural()),
        };
        // Names need not exist, so the request brings what the policies read of its resource.
        let mut context =
            vec![("kind".to_owned(), RestrictedExpression::new_string(kind.plural().to_owned()))];
        if let Target::Named(name) = target {
            context.push(("name".to_owned(), RestrictedExpression::new_string(name.to_owned())));
        }
        let context = Context::from_pairs(context).unwrap();
        let action = uid("Action", verb.as_str());
        self.permits(&Request::new(principal, action, resource, context, None).unwrap())
    }

    fn permits(&self, request: &Request) -> bool {
        self.authorizer.is_authorized(request, &self.policies, &self.entities).decision() == Decision::Allow
    }

    fn resolve(&self, kind: Kind, path: &str) -> Option<(&Id, &str)> {
        let found = self.store.resources.iter().find(|stored| {
            let by_id = stored.id().as_str() == path && !self.is(Fault::IdsAreNotRead);
            let by_name = stored.name().as_str() == path;
            (by_id && (stored.kind() == kind || self.is(Fault::IdsOfEveryKind)))
                || (by_name && stored.kind() == kind)
        })?;
        Some((found.id(), found.name().as_str()))
    }

    fn token(&self, id: &Id) -> Option<&TokenSpec> {
        self.store.resources.iter().filter(|stored| stored.id() == id).find_map(|stored| {
            match &stored.resource.spec {
                Spec::Token(token) => Some(token),
                _ => None,
            }
        })
    }

    fn owner(&self, token: &TokenSpec) -> Id {
        let namesake =
            self.store.resources.iter().find(|stored| stored.as_subject().as_ref() == Some(&token.subject));
        match namesake {
            Some(namesake) if self.is(Fault::TokensPassToNamesakes) => namesake.id().clone(),
            _ => token.subject_id.clone(),
        }
    }

    /// Accounts, with the subjects by which bindings name them, and tokens.
    fn entities(&self) -> Vec<Entity> {
        let mut entities = Vec::new();
        let mut active = Vec::new();
        for stored in &self.store.resources {
            let disabled = match &stored.resource.spec {
                Spec::User(user) => user.disabled,
                Spec::ServiceAccount(account) => account.disabled,
                Spec::Token(token) => {
                    entities.push(self.token_entity(stored.id(), token));
                    continue;
                }
                _ => continue,
            };
            let subject = stored.as_subject().unwrap();
            let account = uid("Account", stored.id().as_str());
            let enabled = !disabled || self.is(Fault::DisabledAccountsAct);
            if enabled {
                active.push(RestrictedExpression::new_entity_uid(account.clone()));
            }
            let attributes = HashMap::from([
                ("active".to_owned(), RestrictedExpression::new_bool(enabled)),
                ("kind".to_owned(), RestrictedExpression::new_string(subject.kind.to_string())),
            ]);
            let mut parents = self.parents(&subject);
            entities.push(Entity::new(account, attributes.clone(), parents.clone()).unwrap());
            if let Spec::User(user) = &stored.resource.spec {
                parents
                    .extend(user.external.identity().into_iter().flat_map(|identity| self.claimed(identity)));
            }
            let account = uid("AccountWithClaims", stored.id().as_str());
            entities.push(Entity::new(account, attributes, parents).unwrap());
        }
        let active = HashMap::from([("active".to_owned(), RestrictedExpression::new_set(active))]);
        entities.push(Entity::new(uid("Daemon", "mcpd"), active, HashSet::new()).unwrap());
        let verbs = HashSet::from([uid("Action", "any")]);
        entities
            .extend(Verb::ALL.map(|verb| Entity::new_no_attrs(uid("Action", verb.as_str()), verbs.clone())));
        entities
    }

    fn token_entity(&self, id: &Id, token: &TokenSpec) -> Entity {
        let account = |id: &Id| RestrictedExpression::new_entity_uid(uid("Account", id.as_str()));
        let makers = token.issued_by.iter().filter(|_| !self.is(Fault::MakersMayBeGone)).map(account);
        let late = i64::from(self.is(Fault::ExpiredOneLate));
        let attributes = HashMap::from([
            ("expires".to_owned(), RestrictedExpression::new_long(token.expires_at.as_millisecond() + late)),
            ("subject".to_owned(), account(&self.owner(token))),
            ("kind".to_owned(), RestrictedExpression::new_string(token.subject.kind.to_string())),
            ("makers".to_owned(), RestrictedExpression::new_set(makers)),
        ]);
        Entity::new(uid("Token", id.as_str()), attributes, HashSet::new()).unwrap()
    }

    fn parents(&self, subject: &Subject) -> HashSet<EntityUid> {
        let mut parents = HashSet::from([self.subject(subject)]);
        for stored in &self.store.resources {
            let Spec::Group(group) = &stored.resource.spec else { continue };
            if group.members.iter().any(|member| self.subject(member) == self.subject(subject))
                && !self.is(Fault::GroupsGiveNothing)
            {
                parents.insert(self.subject(&stored.as_subject().unwrap()));
            }
        }
        parents
    }

    /// The groups of which a claim makes an account a member.
    fn claimed(&self, identity: &ExternalIdentity) -> HashSet<EntityUid> {
        let is_value = |one: &str, other: &str| {
            one == other || (self.is(Fault::ClaimsIgnoreCase) && one.eq_ignore_ascii_case(other))
        };
        let mut groups = HashSet::new();
        for stored in &self.store.resources {
            let Spec::Group(group) = &stored.resource.spec else { continue };
            let has_claim = group.claims.iter().any(|claim| {
                (claim.issuer == identity.issuer || self.is(Fault::ClaimsOfEveryIssuer))
                    && identity.groups.iter().any(|value| is_value(value, &claim.value))
            });
            if has_claim && !self.is(Fault::ClaimsAreNotRead) {
                groups.insert(self.subject(&stored.as_subject().unwrap()));
            }
        }
        groups
    }

    fn subject(&self, subject: &Subject) -> EntityUid {
        match self.is(Fault::KindsOfSubjectsAreOne) && subject.kind != SubjectKind::Group {
            true => uid("Subject", &format!("Account {}", subject.name)),
            false => uid("Subject", &subject.to_string()),
        }
    }

    fn policies(&self) -> String {
        let mut text = String::from(
            r#"
            permit(principal is Token, action == Action::"authenticate", resource) when {
                context.now < principal.expires
                && resource.active.contains(principal.subject)
                && principal.subject.kind == principal.kind
                && resource.active.containsAll(principal.makers)
            };
            forbid(principal is Account, action in Action::"any", resource) unless { principal.active };
            forbid(principal is AccountWithClaims, action in Action::"any", resource) unless { principal.active };
            "#,
        );
        for stored in &self.store.resources {
            let Spec::Token(TokenSpec { rules: Some(rules), .. }) = &stored.resource.spec else { continue };
            for rule in rules {
                let token = uid("Token", stored.id().as_str());
                text.push_str(&format!("permit(principal == {token}, {};\n", self.rule(rule)));
            }
        }
        for stored in &self.store.resources {
            let Spec::RoleBinding(binding) = &stored.resource.spec else { continue };
            let role = self.store.resources.iter().find_map(|stored| match &stored.resource.spec {
                Spec::Role(role) if *stored.name() == binding.role => Some(role),
                _ => None,
            });
            let Some(role) = role else { continue };
            let rules: Vec<String> = match builtin_rule(binding.role.as_str()) {
                Some(rule) if !self.is(Fault::BuiltinRolesAreEdited) => vec![rule.to_owned()],
                _ => role.rules.iter().map(|rule| self.rule(rule)).collect(),
            };
            for subject in &binding.subjects {
                for rule in &rules {
                    let subject = self.subject(subject);
                    text.push_str(&format!("permit(principal in {subject}, {rule};\n"));
                }
            }
        }
        text
    }

    /// The rest of a policy, from the action on.
    fn rule(&self, rule: &Rule) -> String {
        let verbs = match rule.verbs.contains(&Allowed::Any) {
            true => r#"action in Action::"any""#.to_owned(),
            false => {
                let verbs = rule.verbs.iter().filter_map(|verb| match verb {
                    Allowed::Only(verb) => Some(format!("Action::\"{}\"", verb.as_str())),
                    Allowed::Any => None,
                });
                format!("action in [{}]", verbs.collect::<Vec<_>>().join(", "))
            }
        };
        let kinds = any_of(rule.kinds.iter().map(|kind| match kind {
            Allowed::Any => "true".to_owned(),
            Allowed::Only(kind) => format!("context.kind == \"{}\"", kind.plural()),
        }));
        let names = any_of(rule.names.iter().map(|name| self.name(name)));
        format!("{verbs}, resource) when {{ ({kinds}) && ({names}) }}")
    }

    fn name(&self, name: &NamePattern) -> String {
        let pattern = match (name.as_str(), self.fault) {
            // The only patterns that hold for every name, existing or not.
            (text, _) if text.bytes().all(|byte| byte == b'*') => return "true".to_owned(),
            (text, Some(Fault::WildcardsEndNames)) => match text.split_once('*') {
                Some((prefix, _)) => format!("{prefix}*"),
                None => text.to_owned(),
            },
            (text, _) => text.to_owned(),
        };
        format!("(context has name && context.name like \"{pattern}\")")
    }
}

/// `||` of the parts; nothing is never true.
fn any_of(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "false".to_owned() } else { parts.join(" || ") }
}

/// What the contract says of the built-in roles, whatever the store has under their names.
fn builtin_rule(role: &str) -> Option<&'static str> {
    match role {
        "admin" => Some(r#"action in Action::"any", resource)"#),
        "viewer" => Some(r#"action == Action::"view", resource)"#),
        "llm-user" => {
            Some(r#"action in [Action::"view", Action::"run"], resource) when { context.kind == "llms" }"#)
        }
        "editor" => Some(
            r#"action in [Action::"view", Action::"run", Action::"use", Action::"create", Action::"edit", Action::"delete"], resource)
            when { context.kind == "llms" || context.kind == "secrets" }"#,
        ),
        _ => None,
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().unwrap();
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}
