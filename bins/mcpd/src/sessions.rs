//! Begins the session of a user with a password.

use std::time::Instant;

use mcpctl_api::{Id, Name, question::IssuedToken, spec::SecretValue};
use mcpctl_secret::{
    password,
    token::{self, Prefix},
};
use mcpctl_store::{Author, StoreError};
use secrecy::SecretString;

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal, TooManyWriters},
    login::{LoginAttempt, Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        session::{self, NewSession, SessionRefusal},
        token::issued,
    },
};

/// Why a login is denied.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such user, or the password is another one.
    #[error("user or password is wrong")]
    WrongCredentials,
    /// The password is right, and the account that set it is deleted or disabled.
    #[error("the account that set this password is gone or disabled, so it is void")]
    VoidPassword,
    /// The attempt was not verified.
    #[error(transparent)]
    NotChecked(#[from] NotChecked),
    /// No token could be made.
    #[error("no token could be made")]
    Token,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All attempts to commit lost to other writers.
    #[error(transparent)]
    TooManyWriters(#[from] TooManyWriters),
}

impl From<SessionRefusal> for LoginError {
    fn from(refusal: SessionRefusal) -> Self {
        match refusal {
            SessionRefusal::WrongCredentials => Self::WrongCredentials,
            SessionRefusal::VoidPassword => Self::VoidPassword,
        }
    }
}

/// A user whose password was right.
struct VerifiedUser {
    id: Id,
    password_hash: String,
}

/// Verifies the password, and begins a session.
///
/// # Errors
/// When the login is denied, which is recorded, or the store fails.
pub async fn begin(
    app: &App,
    network: Network,
    user: &str,
    password: &SecretValue,
) -> Result<IssuedToken, LoginError> {
    // A text that is no name, or too long for a password, is rejected before anything expensive.
    let name = user.parse::<Name>().ok();
    let Some(name) = name.as_ref().filter(|_| password.expose().len() <= password::MAX_BYTES) else {
        let revision = app.replica.latest().revision();
        let entry = app.audit.denied_login(name.as_ref(), revision, network, "no name or no password");
        app.audit.record(entry).await?;
        return Err(LoginError::WrongCredentials);
    };
    let verified = verify(app, name, network, password.expose()).await?;
    let _admission = app.writers.admit(&verified.id, Instant::now()).map_err(NotChecked::Busy)?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| LoginError::Token)?;
    let login = NewSession {
        name,
        user: &verified.id,
        password_hash: &verified.password_hash,
        session: format!("session-{}", Id::mint()).parse().map_err(|_| LoginError::Token)?,
        hash: minted.hash(),
        max_sessions: app.logins.max_sessions(),
    };
    let plan = commit::run(&app.store, Locking::AfterLosses, Login { app, session: login }).await?;
    plan.resources.first().and_then(|session| issued(session, &minted)).ok_or(LoginError::Token)
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
        let author = Author {
            principal: format!("User {}", self.session.name),
            principal_id: Some(self.session.user.clone()),
            token_id: plan.resources.first().map(|session| session.id().clone()),
            request_id: mcpctl_server::request_id(),
        };
        Ok((plan, author))
    }
}

async fn verify(
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
    };
    let error = match (app.logins.check(attempt).await, user) {
        (Ok(true), Some((user, _, hash))) => {
            return Ok(VerifiedUser { id: user.id().clone(), password_hash: hash.to_owned() });
        }
        (Ok(_), _) => LoginError::WrongCredentials,
        (Err(not_checked), _) => LoginError::NotChecked(not_checked),
    };
    let reason = error.to_string();
    tracing::warn!(user = %name, %network, reason, "a login was refused");
    let entry = app.audit.denied_login(Some(name), snapshot.revision(), network, &reason);
    app.audit.record(entry).await?;
    Err(error)
}
