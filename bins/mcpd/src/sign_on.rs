//! Sign-in by an OpenID provider: mcpd exchanges the code that a program brings, verifies the ID token, and begins a session
//! as after a password.
//!
//! mcpd talks to the provider itself and accepts no ID token from a caller, so that a token that was issued to another
//! program, stolen, or used before is worth nothing here. A caller shows that the sign-in began with it by the verifier of
//! its challenge (RFC 7636), or by the device code.

mod device_polls;
pub mod providers;

use std::{sync::Arc, time::Instant};

use mcpctl_api::{
    Id,
    oidc::{CodeLogin, DeviceLogin, DevicePoll, redirect_uri},
    question::IssuedToken,
    spec::SecretValue,
};
use mcpctl_issuer::{AuthorizationCode, Claims, ExchangeError};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_store::{Author, StoreError};

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal, TooManyWriters},
    login::{Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        sign_on::{self, SignOnRefusal, VouchedPerson},
        token::issued,
    },
};

use providers::{Provider, ProviderError};

/// Why a sign-in by a provider is denied.
#[derive(Debug, thiserror::Error)]
pub enum SignOnError {
    /// The configuration, or a claim of the provider's, does not allow it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider gave no valid ID token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The person whom the provider vouches for may not sign in.
    #[error(transparent)]
    Refused(#[from] SignOnRefusal),
    /// The attempt was not made.
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

/// Signs in with a code that came back from a browser.
///
/// # Errors
/// When the sign-in is denied, which is recorded, or the store fails.
pub async fn with_code(app: &App, network: Network, login: &CodeLogin) -> Result<IssuedToken, SignOnError> {
    let provider = app.sign_on.provider(&login.issuer)?;
    app.logins.admit_sign_on(network).await?;
    let exchanged = {
        let _slot = provider.slot()?;
        let code = AuthorizationCode {
            code: login.code.expose(),
            verifier: login.verifier.expose(),
            redirect_uri: &redirect_uri(login.redirect_port),
            nonce: &login.nonce,
        };
        provider.issuer.exchange_code(&provider.client, &code).await
    };
    finish(app, provider, network, exchanged).await
}

/// Begins a sign-in with a device code.
///
/// # Errors
/// When the provider or the configuration does not allow it.
pub async fn begin_device(app: &App, network: Network, issuer: &str) -> Result<DeviceLogin, SignOnError> {
    let provider = app.sign_on.device_provider(issuer)?;
    app.logins.admit_sign_on(network).await?;
    let _slot = provider.slot()?;
    let scopes = provider.config.scopes.join(" ");
    let begun = provider.issuer.begin_device(&provider.client, &scopes).await?;
    Ok(DeviceLogin {
        device_code: SecretValue::new(begun.device_code),
        user_code: begun.user_code,
        verification_uri: begun.verification_uri,
        verification_uri_complete: begun.verification_uri_complete,
        expires_in: begun.expires_in,
        interval: begun.interval,
    })
}

/// Asks the provider once whether the person has approved a device code.
///
/// # Errors
/// [`ExchangeError::Pending`] if not yet; when the sign-in is denied, which is recorded, or the store fails.
pub async fn poll_device(app: &App, network: Network, poll: &DevicePoll) -> Result<IssuedToken, SignOnError> {
    let provider = app.sign_on.device_provider(&poll.issuer)?;
    let code = poll.device_code.expose();
    // A program that polls too often causes no request.
    if !app.sign_on.polls.is_due(code, Instant::now()) {
        return Err(ExchangeError::Pending { slow_down: true }.into());
    }
    app.logins.admit_sign_on(network).await?;
    let polled = {
        let _slot = provider.slot()?;
        provider.issuer.poll_device(&provider.client, code).await
    };
    if let Err(ExchangeError::Pending { .. }) = &polled {
        // The provider knows the code, so this was no guess.
        app.logins.refund_sign_on(network);
        app.sign_on.polls.polled(code, Instant::now());
        return Err(polled.map(drop).err().map_or(SignOnError::Token, SignOnError::from));
    }
    finish(app, provider, network, polled).await
}

/// Begins the session of a person whom the provider vouches for, or records the denial.
async fn finish(
    app: &App,
    provider: &Provider,
    network: Network,
    exchanged: Result<Claims, ExchangeError>,
) -> Result<IssuedToken, SignOnError> {
    let subject = exchanged.as_ref().ok().map(|claims| claims.subject.clone());
    let begun = match exchanged {
        Ok(claims) => begin_session(app, provider, &claims).await,
        Err(error) => Err(error.into()),
    };
    match begun {
        Ok(token) => {
            app.logins.refund_sign_on(network);
            Ok(token)
        }
        Err(error @ (SignOnError::Store(_) | SignOnError::TooManyWriters(_) | SignOnError::Token)) => {
            Err(error)
        }
        Err(error) => {
            let (name, reason) = (&provider.config.name, error.to_string());
            tracing::warn!(provider = %name, %network, reason, "a sign-in by a provider was refused");
            let revision = app.replica.latest().revision();
            let entry = app.audit.denied_sign_on(name, subject.as_deref(), revision, network, &reason);
            app.audit.record(entry).await?;
            Err(error)
        }
    }
}

async fn begin_session(app: &App, provider: &Provider, claims: &Claims) -> Result<IssuedToken, SignOnError> {
    let groups = provider.groups(claims)?;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| SignOnError::Token)?;
    let person = VouchedPerson {
        issuer: provider.issuer.url(),
        subject: &claims.subject,
        groups: &groups,
        newcomer: provider.newcomer(claims),
        session: format!("session-{}", Id::mint()).parse().map_err(|_| SignOnError::Token)?,
        hash: minted.hash(),
        max_sessions: app.logins.max_sessions(),
    };
    // As many writes of one person as of any account: its own, if there is one already.
    let known = sign_on::linked_user(&*app.fresh().await?, person.issuer, person.subject)
        .map(|user| user.id().clone());
    let _admission = match &known {
        Some(id) => Some(app.writers.admit(id, Instant::now()).map_err(NotChecked::Busy)?),
        None => None,
    };
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let plan = commit::run(&app.store, Locking::AfterLosses, Beginning { app, person }).await?;
    plan.resources.first().and_then(|session| issued(session, &minted)).ok_or(SignOnError::Token)
}

/// The sign-in of a person whom a provider vouches for.
struct Beginning<'a> {
    app: &'a App,
    person: VouchedPerson<'a>,
}

impl Proposal for Beginning<'_> {
    type Error = SignOnError;

    async fn plan(&mut self) -> Result<(Plan, Author), SignOnError> {
        // The user may have been disabled, unlinked or created meanwhile.
        let before: Arc<_> = self.app.fresh().await?;
        let plan = sign_on::begin(&before, &self.person, clock::now())?;
        let user = sign_on::linked_user(&plan.after, self.person.issuer, self.person.subject);
        let author = Author {
            principal: user.map_or_else(String::new, |user| format!("User {}", user.name())),
            principal_id: user.map(|user| user.id().clone()),
            token_id: plan.resources.first().map(|session| session.id().clone()),
            request_id: mcpctl_server::request_id(),
        };
        Ok((plan, author))
    }
}
