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
    oidc::{CodeLogin, DeviceLogin, DevicePoll, redirect_uri},
    question::IssuedToken,
    spec::{SecretValue, TokenOrigin},
};
use mcpctl_issuer::{AuthorizationCode, Claims, ExchangeError};
use mcpctl_secret::token::Prefix;
use mcpctl_store::Author;

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal},
    issuance::{self, IssueError, NewCredential},
    login::{Attempt, Counted, Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        sign_on::{self, SignOnRefusal, VouchedPerson},
    },
};

use providers::{Provider, ProviderError};

/// Why a sign-in by a provider is denied.
#[derive(Debug, thiserror::Error)]
pub enum SignOnDenial {
    /// The configuration, or a claim of the provider's, does not allow it.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider gave no valid ID token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The person whom the provider vouches for may not sign in.
    #[error(transparent)]
    Refused(#[from] SignOnRefusal),
}

/// Why a sign-in by a provider does not begin a session.
pub type SignOnError = IssueError<SignOnDenial>;

impl From<SignOnDenial> for SignOnError {
    fn from(denial: SignOnDenial) -> Self {
        Self::Denied(denial)
    }
}

/// Signs in with a code that came back from a browser.
///
/// # Errors
/// When the sign-in is denied, which is recorded, or the store fails.
pub async fn with_code(app: &App, network: Network, login: &CodeLogin) -> Result<IssuedToken, SignOnError> {
    let code = AuthorizationCode {
        code: login.code.expose(),
        verifier: login.verifier.expose(),
        redirect_uri: &redirect_uri(login.redirect_port),
        nonce: &login.nonce,
    };
    with_authorization(app, network, &login.issuer, &code, Prefix::Mcpd).await
}

/// Signs in with a code of the provider of this name, which was sent to this redirect. The token of the session has this prefix.
///
/// # Errors
/// When the sign-in is denied, which is recorded, or the store fails.
pub async fn with_authorization(
    app: &App,
    network: Network,
    provider: &str,
    code: &AuthorizationCode<'_>,
    prefix: Prefix,
) -> Result<IssuedToken, SignOnError> {
    let provider = app.sign_on.provider(provider).map_err(SignOnDenial::from)?;
    app.logins.admit(Attempt::Code, Counted::Network(network)).await?;
    let exchanged = asked(app, provider, Attempt::Code, network, async {
        provider.issuer.exchange_code(&provider.client, code).await
    });
    finish(app, provider, Attempt::Code, network, exchanged.await?, prefix).await
}

/// Begins a sign-in with a device code.
///
/// # Errors
/// When the provider or the configuration does not allow it.
pub async fn begin_device(app: &App, network: Network, issuer: &str) -> Result<DeviceLogin, SignOnError> {
    let provider = app.sign_on.device_provider(issuer).map_err(SignOnDenial::from)?;
    app.logins.admit(Attempt::DeviceCode, Counted::Network(network)).await?;
    let scopes = provider.config.scopes.join(" ");
    let begun = asked(app, provider, Attempt::DeviceCode, network, async {
        provider.issuer.begin_device(&provider.client, &scopes).await
    });
    let begun = begun.await?.map_err(SignOnDenial::from)?;
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
    let provider = app.sign_on.device_provider(&poll.issuer).map_err(SignOnDenial::from)?;
    let code = poll.device_code.expose();
    // A program that polls too often, or twice at once, causes no request.
    let Some(mut turn) = app.sign_on.polls.begin(code, Instant::now()) else {
        return Err(SignOnDenial::Exchange(ExchangeError::Pending { slow_down: true }).into());
    };
    app.logins.admit(Attempt::DevicePoll, Counted::Network(network)).await?;
    let polled = asked(app, provider, Attempt::DevicePoll, network, async {
        provider.issuer.poll_device(&provider.client, code).await
    });
    let polled = polled.await?;
    if let Err(ExchangeError::Pending { slow_down }) = polled {
        // The provider knows the code, so this was no guess.
        app.logins.refund(Attempt::DevicePoll, network);
        turn.is_pending(Instant::now());
        return Err(SignOnDenial::Exchange(ExchangeError::Pending { slow_down }).into());
    }
    let issued = finish(app, provider, Attempt::DevicePoll, network, polled, Prefix::Mcpd).await?;
    app.logins.refund(Attempt::DeviceCode, network);
    Ok(issued)
}

/// Asks the provider, in its turn. An attempt that gets none was not made, and is not counted.
async fn asked<T>(
    app: &App,
    provider: &Provider,
    attempt: Attempt,
    network: Network,
    request: impl Future<Output = T>,
) -> Result<T, NotChecked> {
    match provider.slot().await {
        Ok(_slot) => Ok(request.await),
        Err(busy) => {
            app.logins.refund(attempt, network);
            Err(busy)
        }
    }
}

/// Begins the session of a person whom the provider vouches for, or records the denial.
async fn finish(
    app: &App,
    provider: &Provider,
    attempt: Attempt,
    network: Network,
    exchanged: Result<Claims, ExchangeError>,
    prefix: Prefix,
) -> Result<IssuedToken, SignOnError> {
    let vouched = exchanged.as_ref().ok().map(|claims| claims.subject.clone());
    let begun = match exchanged {
        Ok(claims) => begin_session(app, provider, &claims, prefix).await,
        Err(error) => Err(SignOnDenial::from(error).into()),
    };
    let denial = match begun {
        Err(IssueError::Denied(denial)) => denial,
        decided_otherwise => {
            app.logins.refund(attempt, network);
            return decided_otherwise;
        }
    };
    // A person whom the provider vouches for guesses nothing, and is counted alone: others of the network go on signing in.
    if let Some(subject) = &vouched {
        let person = Counted::Subject { issuer: provider.issuer.url(), subject };
        if app.logins.admit(attempt, person).await.is_ok() {
            app.logins.refund(attempt, network);
        }
    }
    // An administrator needs both to link the person.
    let account = vouched.as_ref().map(|subject| format!(", `{subject}` of {}", provider.issuer.url()));
    let (name, reason) = (&provider.config.name, format!("{denial}{}", account.unwrap_or_default()));
    tracing::warn!(provider = %name, %network, reason, "a sign-in by a provider was refused");
    let revision = app.replica.latest().revision();
    let entry = app.audit.denied_sign_on(name, vouched.as_deref(), revision, network, &reason);
    app.audit.record(entry).await?;
    Err(denial.into())
}

async fn begin_session(
    app: &App,
    provider: &Provider,
    claims: &Claims,
    prefix: Prefix,
) -> Result<IssuedToken, SignOnError> {
    let groups = provider.groups(claims).map_err(SignOnDenial::from)?;
    let new = NewCredential::mint(prefix, "session")?;
    let origin = TokenOrigin { issuer: provider.issuer.url().clone(), subject: claims.subject.clone() };
    // As many writes of one person as of any account: its own, if there is one already.
    let known = sign_on::linked_user(&*app.fresh().await?, &origin).map(|user| user.id().clone());
    let person = VouchedPerson {
        origin,
        groups: &groups,
        newcomer: provider.newcomer(claims),
        session: new.name.clone(),
        hash: new.minted.hash(),
        max_sessions: app.logins.max_sessions(),
    };
    let _admission = match &known {
        Some(id) => Some(app.writers.admit(id, Instant::now()).map_err(NotChecked::Busy)?),
        None => None,
    };
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let plan = commit::run(&app.store, Locking::AfterLosses, Beginning { app, person }).await?;
    let warnings = provider.absent_groups(claims).map(|claim| {
        tracing::warn!(provider = %provider.config.name, claim, "an ID token lacks the claim that maps to groups");
        format!("the ID token has no claim `{claim}`, so no group by claim counts in this session")
    });
    Ok(IssuedToken { warnings: warnings.into_iter().collect(), ..new.issued(&plan)? })
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
        let plan = sign_on::begin(&before, &self.person, clock::now()).map_err(SignOnDenial::from)?;
        let user = sign_on::linked_user(&plan.after, &self.person.origin).ok_or(IssueError::Token)?;
        let account = user.as_subject().ok_or(IssueError::Token)?;
        let author = issuance::author(&account, user.id(), &plan);
        Ok((plan, author))
    }
}
