//! Begins the session of a user with a password, or with a token.

use std::time::Instant;

use mcpctl_api::{
    Id, Name,
    question::IssuedToken,
    spec::{SecretValue, Subject, SubjectKind},
};
use mcpctl_secret::{
    password,
    token::{Prefix, TokenHash},
};
use mcpctl_store::Author;
use secrecy::SecretString;

use crate::{
    app::App,
    caller::{AuthenticationError, Caller},
    clock,
    commit::{self, Locking, Proposal},
    issuance::{self, IssueError, NewCredential},
    login::{LoginAttempt, Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        session::{self, NewSession, SessionRefusal, TokenSession, TokenSessionRefusal},
    },
};

/// Maximum of sessions that are begun with one token; they make no room for themselves among others of the user.
const MAX_SESSIONS_OF_TOKEN: usize = 8;

/// Why a login is not answered with a session.
pub type LoginError = IssueError<SessionRefusal>;

impl From<SessionRefusal> for LoginError {
    fn from(refusal: SessionRefusal) -> Self {
        Self::Denied(refusal)
    }
}

/// A user whose password was right.
pub struct VerifiedUser {
    /// The user's id.
    pub id: Id,
    /// The hash that the password was verified with.
    pub password_hash: String,
}

/// Verifies the password, and begins a session whose token has this prefix.
///
/// # Errors
/// When the login is denied, which is recorded, or the store fails.
pub async fn begin(
    app: &App,
    network: Network,
    user: &str,
    password: &SecretValue,
    prefix: Prefix,
) -> Result<IssuedToken, LoginError> {
    // A text that is no name, or too long for a password, is rejected before anything expensive.
    let name = user.parse::<Name>().ok();
    let Some(name) = name.as_ref().filter(|_| password.expose().len() <= password::MAX_BYTES) else {
        let revision = app.replica.latest().revision();
        let entry = app.audit.denied_login(name.as_ref(), revision, network, "no name or no password");
        app.audit.record(entry).await?;
        return Err(SessionRefusal::WrongCredentials.into());
    };
    let verified = verify(app, name, network, password.expose()).await?;
    let _admission = app.writers.admit(&verified.id, Instant::now()).map_err(NotChecked::Busy)?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let new = NewCredential::mint(prefix, "session")?;
    let login = NewSession {
        name,
        user: &verified.id,
        password_hash: &verified.password_hash,
        session: new.name.clone(),
        hash: new.minted.hash(),
        max_sessions: app.logins.max_sessions(),
    };
    let plan = commit::run(&app.store, Locking::AfterLosses, Login { app, session: login }).await?;
    new.issued(&plan)
}

/// Why a token begins no session.
pub type TokenLoginError = IssueError<TokenSessionRefusal>;

impl From<TokenSessionRefusal> for TokenLoginError {
    fn from(refusal: TokenSessionRefusal) -> Self {
        Self::Denied(refusal)
    }
}

impl From<AuthenticationError> for TokenLoginError {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Rejected(rejected) => Self::Denied(rejected.into()),
            AuthenticationError::Store(error) => Self::Store(error),
        }
    }
}

/// Begins a session at the console with a token of the user.
///
/// # Errors
/// When the token is not valid or begins no session, or the store fails.
pub async fn begin_with_token(app: &App, bearer: TokenHash) -> Result<IssuedToken, TokenLoginError> {
    // Before the turn: only the owner of a valid token waits for one.
    let caller = app.authenticate(bearer).await?;
    let _admission = app.writers.admit(&caller.principal.id, Instant::now()).map_err(NotChecked::Busy)?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let new = NewCredential::mint(Prefix::Console, "session")?;
    let session = TokenSession {
        session: new.name.clone(),
        hash: new.minted.hash(),
        max_sessions: MAX_SESSIONS_OF_TOKEN,
    };
    let login = TokenLogin { app, caller, session };
    let plan = commit::run(&app.store, Locking::AfterLosses, login).await?;
    new.issued(&plan)
}

/// The login of the owner of a token.
struct TokenLogin<'a> {
    app: &'a App,
    caller: Caller,
    session: TokenSession,
}

impl Proposal for TokenLogin<'_> {
    type Error = TokenLoginError;

    async fn plan(&mut self) -> Result<(Plan, Author), TokenLoginError> {
        // The token may have been revoked meanwhile.
        let Caller { principal, snapshot, .. } = self.app.authenticate(self.caller.bearer()).await?;
        let plan = session::begin_with_token(&snapshot, &principal, &self.session, clock::now())?;
        let author = issuance::author(&principal.subject, &principal.id, &plan);
        Ok((plan, author))
    }
}

/// The login of a verified user.
struct Login<'a> {
    app: &'a App,
    session: NewSession<'a>,
}

impl Proposal for Login<'_> {
    type Error = LoginError;

    async fn plan(&mut self) -> Result<(Plan, Author), LoginError> {
        // The user may have been disabled meanwhile, or have another password.
        let plan = session::begin(&*self.app.fresh().await?, &self.session, clock::now())?;
        let account = Subject { kind: SubjectKind::User, name: self.session.name.clone() };
        let author = issuance::author(&account, self.session.user, &plan);
        Ok((plan, author))
    }
}

/// Verifies a password. The attempt is counted, and a denied one recorded.
///
/// # Errors
/// When the password is wrong or too many were tried, or the store fails.
pub async fn verify(
    app: &App,
    name: &Name,
    network: Network,
    password: &str,
) -> Result<VerifiedUser, LoginError> {
    let snapshot = app.fresh().await?;
    let user = session::login_user(&snapshot, name);
    let attempt = LoginAttempt {
        name: name.as_str(),
        network,
        password: SecretString::from(password),
        stored: user.map(|(_, _, hash)| hash),
        lifted_at: user.and_then(|(_, spec, _)| spec.throttle_lifted_at),
    };
    let error: LoginError = match (app.logins.check(attempt).await, user) {
        (Ok(true), Some((user, _, hash))) => {
            return Ok(VerifiedUser { id: user.id().clone(), password_hash: hash.to_owned() });
        }
        (Ok(_), _) => SessionRefusal::WrongCredentials.into(),
        (Err(not_checked), _) => not_checked.into(),
    };
    let reason = error.to_string();
    tracing::warn!(user = %name, %network, reason, "a login was refused");
    let entry = app.audit.denied_login(Some(name), snapshot.revision(), network, &reason);
    app.audit.record(entry).await?;
    Err(error)
}
