//! What a person may do with the tokens of the own account, without a rule that allows it: they are the person's credentials.
//! A service account needs a rule, so that a job with a token of ten minutes makes itself none for months.

use std::sync::Arc;

use mcpctl_api::{Kind, Spec, Verb, spec::SubjectKind};

use crate::{Principal, Snapshot, Stored, decide::narrows_away, rules::Names};

impl Snapshot {
    /// Whether the principal may do this to a token of its own account that has this name, or gets it. A narrowed credential may
    /// where its rules allow it.
    pub fn may_own_token(&self, principal: &Principal, verb: Verb, name: &str) -> bool {
        principal.subject.kind == SubjectKind::User
            && matches!(verb, Verb::View | Verb::Create | Verb::Delete)
            && !narrows_away(principal, verb, Kind::Token, Names::One(name))
    }

    /// The token of the principal's own account that has this name or id, where the principal may do this to it.
    pub fn own_token(&self, principal: &Principal, verb: Verb, id_or_name: &str) -> Option<&Arc<Stored>> {
        let stored = self.resolve(Kind::Token, id_or_name)?;
        let is_own = matches!(&stored.resource.spec, Spec::Token(token) if token.subject_id == principal.id);
        (is_own && self.may_own_token(principal, verb, stored.name().as_str())).then_some(stored)
    }

    /// Whether the principal may view this token: as one of its own, or by a rule.
    pub fn may_view_token(&self, principal: &Principal, token: &Stored) -> bool {
        self.own_token(principal, Verb::View, token.id().as_str()).is_some()
            || self.authorize_name(principal, Verb::View, Kind::Token, token.name().as_str()).is_ok()
    }
}
