//! Plans sessions: of a user whose password was right, and of one who signs in to the console with a token.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Confidential, Principal, Rejected, Snapshot, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Spec,
    spec::{Subject, SubjectKind, TokenOrigin, TokenSpec, UserSpec},
};
use mcpctl_secret::token::TokenHash;

use super::{
    Batch, Plan,
    token::{TokenDraft, expiry},
};

/// How long a session lasts: a working day and some.
const SESSION_VALIDITY: HumanDuration = HumanDuration::from_secs(12 * 3600);

/// A user whose password was verified, and the session to begin.
pub struct NewSession<'a> {
    /// The user's name.
    pub name: &'a Name,
    /// The user's id.
    pub user: &'a Id,
    /// The hash that the password was verified with.
    pub password_hash: &'a str,
    /// The session's name.
    pub session: Name,
    /// The hash of the session's token.
    pub hash: TokenHash,
    /// Maximum of sessions of one user.
    pub max_sessions: usize,
}

/// Why a user with the right password gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// The user was deleted or disabled, or its password changed, since the password was verified.
    #[error("user or password is wrong")]
    WrongCredentials,
    /// The account that set the password is deleted or disabled.
    #[error("the account that set this password is gone or disabled, so it is void")]
    VoidPassword,
}

/// The user of this name and the hash of its password, if the user may sign in.
pub fn login_user<'a>(snapshot: &'a Snapshot, name: &Name) -> Option<(&'a Stored, &'a UserSpec, &'a str)> {
    let user = snapshot.by_name(Kind::User, name.as_str())?;
    match (&user.resource.spec, &user.confidential) {
        (Spec::User(spec), Some(Confidential::PasswordHash(hash))) if !spec.disabled => {
            Some((user, spec, hash))
        }
        _ => None,
    }
}

/// Begins a session, and ends the oldest ones of the user beyond the maximum.
///
/// # Errors
/// When the user may no longer sign in with this password.
pub fn begin(before: &Snapshot, login: &NewSession<'_>, now: Timestamp) -> Result<Plan, SessionRefusal> {
    let (user, spec, hash) = login_user(before, login.name).ok_or(SessionRefusal::WrongCredentials)?;
    if user.id() != login.user || hash != login.password_hash {
        return Err(SessionRefusal::WrongCredentials);
    }
    if !before.are_active(&spec.password_set_by) {
        return Err(SessionRefusal::VoidPassword);
    }
    let mut batch = Batch::new(before);
    let draft = SessionDraft {
        name: login.session.clone(),
        hash: login.hash,
        origin: None,
        makers: &spec.password_set_by,
        max_sessions: login.max_sessions,
        token: None,
    };
    let session = put_session(before, &mut batch, user, draft, now);
    Ok(Plan::of(before, batch, Some(session)))
}

/// A session to begin with a token.
pub struct TokenSession {
    /// The session's name.
    pub session: Name,
    /// The hash of the session's token.
    pub hash: TokenHash,
    /// Maximum of sessions that are begun with one token.
    pub max_sessions: usize,
}

/// Why no session is begun with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenSessionRefusal {
    /// The token is not valid.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The token is of a program.
    #[error("the token belongs to a service account, which has no sessions")]
    NoPerson,
    /// The token is that of a session, whose end a session of its own would outlive.
    #[error("this is the token of a session, which begins no other")]
    Session,
    /// The token is the old secret of another one.
    #[error("this secret was replaced by a rotation, so it begins no session")]
    Replaced,
}

/// Begins a session that may do what the token of this principal may, and ends with that token at the latest.
///
/// # Errors
/// When the token is not a person's, is a session's, or its secret was replaced.
pub fn begin_with_token(
    before: &Snapshot,
    principal: &Principal,
    new: &TokenSession,
    now: Timestamp,
) -> Result<Plan, TokenSessionRefusal> {
    let (Some(user), Some(token)) = (before.by_id(&principal.id), before.by_id(&principal.token)) else {
        return Err(Rejected::Unknown.into());
    };
    let Spec::Token(token) = &token.resource.spec else { return Err(Rejected::Unknown.into()) };
    if principal.subject.kind != SubjectKind::User {
        return Err(TokenSessionRefusal::NoPerson);
    }
    if token.session {
        return Err(TokenSessionRefusal::Session);
    }
    if token.rotated_from.is_some() {
        return Err(TokenSessionRefusal::Replaced);
    }
    let mut batch = Batch::new(before);
    let draft = SessionDraft {
        name: new.session.clone(),
        hash: new.hash,
        origin: token.origin.clone(),
        makers: &token.issued_by,
        max_sessions: new.max_sessions,
        token: Some((&principal.token, token)),
    };
    let session = put_session(before, &mut batch, user, draft, now);
    Ok(Plan::of(before, batch, Some(session)))
}

/// A session that is about to be stored.
pub(super) struct SessionDraft<'a> {
    /// Its name.
    pub(super) name: Name,
    /// The hash of its token.
    pub(super) hash: TokenHash,
    /// The account at an OpenID provider where it begins.
    pub(super) origin: Option<TokenOrigin>,
    /// The accounts that cap it.
    pub(super) makers: &'a [Id],
    /// Maximum of sessions of one user, or of one token.
    pub(super) max_sessions: usize,
    /// The token that it is begun with.
    pub(super) token: Option<(&'a Id, &'a TokenSpec)>,
}

/// Puts a session, and ends the oldest ones of its kind beyond the maximum.
pub(super) fn put_session(
    before: &Snapshot,
    batch: &mut Batch,
    user: &Stored,
    draft: SessionDraft<'_>,
    now: Timestamp,
) -> Arc<Stored> {
    let ends_at = expiry(now, SESSION_VALIDITY);
    let spec = TokenSpec {
        subject: Subject { kind: SubjectKind::User, name: user.name().clone() },
        subject_id: user.id().clone(),
        expires_at: draft.token.map_or(ends_at, |(_, token)| token.expires_at.min(ends_at)),
        session: true,
        origin: draft.origin,
        rotated_from: None,
        begun_with: draft.token.map(|(id, _)| id.clone()),
        prefix: None,
        issued_by: draft.makers.to_vec(),
        rules: draft.token.and_then(|(_, token)| token.rules.clone()),
    };
    let token = TokenDraft { name: draft.name, spec, hash: draft.hash };
    let session = token.into_stored(batch.next_revision(), now);
    batch.put(Arc::clone(&session));
    let begun_with = draft.token.map(|(id, _)| id);
    for oldest in sessions_to_end(before, user.id(), begun_with, draft.max_sessions) {
        batch.remove(oldest);
    }
    session
}

/// The oldest sessions that make room for a new one, so that repeated logins do not fill the store: of those that were begun with
/// the same token, or with none, because a narrow token must not end the sessions of its owner.
fn sessions_to_end<'a>(
    before: &'a Snapshot,
    user: &Id,
    begun_with: Option<&Id>,
    max: usize,
) -> impl Iterator<Item = &'a Arc<Stored>> {
    let is_session = |stored: &&Arc<Stored>| matches!(&stored.resource.spec, Spec::Token(token) if token.session && token.begun_with.as_ref() == begun_with);
    let mut sessions: Vec<&Arc<Stored>> = before.tokens_of(user).filter(is_session).collect();
    sessions.sort_by_key(|stored| stored.resource.revision);
    let count = (sessions.len() + 1).saturating_sub(max);
    sessions.into_iter().take(count)
}
