//! What a person may do with the tokens of the own account, without a rule that allows it: they are the person's credentials.
//! A service account needs a rule, so that a job with a token of ten minutes makes itself none for months.

use std::sync::Arc;

use mcpctl_api::{
    Kind, Name, Spec, Verb,
    spec::{Subject, SubjectKind},
};

use crate::{Principal, Snapshot, Stored, decide::narrows_away, rules::Names};

/// What a person may do with the own tokens.
fn is_about_own(verb: Verb) -> bool {
    matches!(verb, Verb::View | Verb::Create | Verb::Delete)
}

impl Snapshot {
    /// Whether a new token of this name shows whose it is: it begins with the account's name and `-`, and with that of no other
    /// account whose name is longer. So a free name does not show which tokens others have, and keeps no name of theirs from them.
    pub fn is_own_token_name(&self, account: &Name, token: &str) -> bool {
        let begins = |(at, _)| token.get(..at);
        let longer = |name: &&str| name.len() > account.as_str().len();
        let is_account = |name: &str| {
            [Kind::User, Kind::ServiceAccount].into_iter().any(|kind| self.by_name(kind, name).is_some())
        };
        token.strip_prefix(account.as_str()).is_some_and(|rest| rest.starts_with('-'))
            && !token.match_indices('-').filter_map(begins).filter(longer).any(is_account)
    }

    /// Whether the principal may do this to a token of its own account that has this name, or gets it. A narrowed credential may
    /// where its rules allow it.
    pub fn may_own_token(&self, principal: &Principal, verb: Verb, name: &str) -> bool {
        principal.subject.kind == SubjectKind::User
            && is_about_own(verb)
            && !narrows_away(principal, verb, Kind::Token, Names::One(name))
    }

    /// The token of the principal's own account that has this name or id, where the principal may do this to it.
    pub fn own_token(&self, principal: &Principal, verb: Verb, id_or_name: &str) -> Option<&Arc<Stored>> {
        let stored = self.resolve(Kind::Token, id_or_name)?;
        let is_own = matches!(&stored.resource.spec, Spec::Token(token) if token.subject_id == principal.id);
        (is_own && self.may_own_token(principal, verb, stored.name().as_str())).then_some(stored)
    }

    /// Whether this account takes no rule for this on the token of this name, or, without one, on some: it is a person's own, or a new
    /// one with a name that it may give.
    pub fn takes_no_rule(&self, account: &Subject, verb: Verb, name: Option<&str>) -> bool {
        if account.kind != SubjectKind::User || !is_about_own(verb) || !self.is_active(account) {
            return false;
        }
        let Some(name) = name else { return true };
        match self.by_name(Kind::Token, name).map(|token| &token.resource.spec) {
            Some(Spec::Token(token)) => self.account_id(account) == Some(&token.subject_id),
            _ => verb == Verb::Create && self.is_own_token_name(&account.name, name),
        }
    }

    /// Whether the principal may view this token: as one of its own, or by a rule.
    pub fn may_view_token(&self, principal: &Principal, token: &Stored) -> bool {
        self.own_token(principal, Verb::View, token.id().as_str()).is_some()
            || self.authorize_name(principal, Verb::View, Kind::Token, token.name().as_str()).is_ok()
    }
}
