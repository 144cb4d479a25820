//! Authentication: from the hash of a bearer token to a [`Principal`].

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_api::{
    Id, Kind, Spec,
    spec::{Subject, SubjectKind, TokenSpec},
};

use crate::{Narrowing, Snapshot, Stored, rules::Memberships};

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// A user or a service account.
    pub subject: Subject,
    /// The subject's id.
    pub id: Id,
    /// Id of the token that the caller presented.
    pub token: Id,
    /// When that token expires.
    pub expires_at: Timestamp,
    /// Whether that token is a login's session.
    pub session: bool,
    /// Whether that session began at an OpenID provider, so that the groups count that its claims map to.
    pub external: bool,
    /// Ids of other accounts that made the credential for the subject; they cap what it allows.
    pub makers: Vec<Id>,
    /// What the credential is narrowed to; `None` where it may do all that its subject may.
    pub narrowing: Option<Arc<Narrowing>>,
}

impl Principal {
    /// The memberships that count for this credential.
    pub(crate) fn memberships(&self) -> Memberships {
        if self.external { Memberships::Claimed } else { Memberships::Listed }
    }
}

/// Why a credential is rejected. Except for [`Rejected::Expired`], the response does not show which one it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No token has this hash.
    #[error("the credential is not known")]
    Unknown,
    /// The token has expired.
    #[error("the credential has expired")]
    Expired,
    /// The subject was deleted; another one may have its name now.
    #[error("the credential's owner no longer exists")]
    Orphaned,
    /// The subject is disabled.
    #[error("the credential's owner is disabled")]
    Disabled,
    /// The configuration does not list the issuer that vouched for the subject, or no longer.
    #[error("this mcpd does not list the issuer at which the credential began, or no longer")]
    Unlisted,
    /// An account that made the credential for the subject is deleted or disabled, so the credential allows nothing.
    #[error("an account that made the credential is gone or disabled")]
    MakerGone,
    /// The token that the session was begun with is deleted.
    #[error("the token that the session was begun with is gone")]
    BeginningGone,
}

impl Snapshot {
    /// The principal that the token of this hash stands for.
    ///
    /// # Errors
    /// When the token is unknown or expired, or its owner or a maker is deleted or disabled.
    pub fn authenticate(&self, token_hash: &[u8; 32], now: Timestamp) -> Result<Principal, Rejected> {
        let (stored, narrowing) = self.token(token_hash).ok_or(Rejected::Unknown)?;
        let Spec::Token(token) = &stored.resource.spec else { return Err(Rejected::Unknown) };
        let (owner, kind) = self.check_token(token, now)?;
        Ok(Principal {
            subject: Subject { kind, name: owner.name().clone() },
            id: owner.id().clone(),
            token: stored.id().clone(),
            expires_at: token.expires_at,
            session: token.session,
            external: kind == SubjectKind::User && token.origin.is_some(),
            makers: token.issued_by.clone(),
            narrowing: narrowing.cloned(),
        })
    }

    /// The account that a token is for, if the token is accepted at this time.
    ///
    /// # Errors
    /// As [`Snapshot::authenticate`].
    pub fn check_token(
        &self,
        token: &TokenSpec,
        now: Timestamp,
    ) -> Result<(&Arc<Stored>, SubjectKind), Rejected> {
        if now >= token.expires_at {
            return Err(Rejected::Expired);
        }
        // By id, so that a token never passes to a later account of the same name.
        let owner = self.by_id(&token.subject_id).ok_or(Rejected::Orphaned)?;
        if owner.kind() != token.subject.kind.kind() {
            return Err(Rejected::Orphaned);
        }
        let (disabled, kind) = match &owner.resource.spec {
            Spec::User(user) => (user.disabled, SubjectKind::User),
            Spec::ServiceAccount(account) => (account.disabled, SubjectKind::ServiceAccount),
            _ => return Err(Rejected::Orphaned),
        };
        if disabled {
            return Err(Rejected::Disabled);
        }
        if let Some(origin) = &token.origin
            && !self.issuers.list(kind, &origin.issuer)
        {
            return Err(Rejected::Unlisted);
        }
        if !self.are_active(&token.issued_by) {
            return Err(Rejected::MakerGone);
        }
        if token.begun_with.as_ref().is_some_and(|with| self.by_id(with).is_none()) {
            return Err(Rejected::BeginningGone);
        }
        Ok((owner, kind))
    }

    /// Whether a user or service account of this name exists and is not disabled.
    pub fn is_active(&self, subject: &Subject) -> bool {
        self.active_id(subject).is_some()
    }

    /// The id of the user or service account of this name, disabled or not.
    pub(crate) fn account_id(&self, subject: &Subject) -> Option<&Id> {
        self.by_name(subject.kind.kind(), subject.name.as_str()).map(|stored| stored.id())
    }

    /// The id of the user or service account of this name, where it exists and is not disabled.
    pub(crate) fn active_id(&self, subject: &Subject) -> Option<&Id> {
        let stored = self.by_name(subject.kind.kind(), subject.name.as_str())?;
        is_active(stored).then(|| stored.id())
    }

    /// Whether all these accounts exist and none is disabled.
    pub fn are_active(&self, accounts: &[Id]) -> bool {
        accounts.iter().all(|account| self.active_subject(account).is_some())
    }

    /// The user or service account of this id, where it exists and is not disabled.
    pub(crate) fn active_subject(&self, id: &Id) -> Option<Subject> {
        let stored = self.by_id(id).filter(|stored| is_active(stored))?;
        let kind = match stored.kind() {
            Kind::User => SubjectKind::User,
            Kind::ServiceAccount => SubjectKind::ServiceAccount,
            _ => return None,
        };
        Some(Subject { kind, name: stored.name().clone() })
    }

    /// Every user and service account, disabled ones included.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = Subject> {
        let of = |kind: SubjectKind| {
            self.all(kind.kind()).map(move |stored| Subject { kind, name: stored.name().clone() })
        };
        of(SubjectKind::User).chain(of(SubjectKind::ServiceAccount))
    }
}

fn is_active(stored: &Stored) -> bool {
    match &stored.resource.spec {
        Spec::User(user) => !user.disabled,
        Spec::ServiceAccount(account) => !account.disabled,
        _ => false,
    }
}
