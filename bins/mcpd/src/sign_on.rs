//! Sign-in by an OpenID provider: mcpd exchanges the code that a program brings, verifies the ID token, and begins a session
//! as after a password.
//!
//! mcpd talks to the provider itself and accepts no ID token from a caller, so that a token that was issued to another
//! program, stolen, or used before is worth nothing here. A caller shows that the sign-in began with it by the verifier of
//! its challenge (RFC 7636), or by the device code.

mod device_polls;

use std::{sync::Arc, time::Instant};

use mcpctl_api::{
    Id, Name,
    oidc::{CodeLogin, DeviceLogin, DevicePoll, OidcMethod, redirect_uri},
    question::IssuedToken,
    spec::{GroupClaim, SecretValue},
    visible,
};
use mcpctl_issuer::{AuthorizationCode, Claims, ExchangeError, Issuer, OidcClient};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_store::{Author, StoreError};
use mcpctl_upstream::Client;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal, TooManyWriters},
    config::OidcConfig,
    login::{Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        sign_on::{self, Newcomer, SignOnRefusal, VouchedPerson},
        token::issued,
    },
};

use device_polls::DevicePolls;

/// Requests to one provider at once.
const MAX_IN_FLIGHT: usize = 16;
/// `Retry-After` where all of them are taken.
const BUSY_RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);
/// Most values of a groups' claim.
const MAX_GROUPS: usize = 1000;
/// Longest name or address that is kept of a newcomer, in bytes.
const MAX_SHOWN_BYTES: usize = 200;

/// The trusted providers.
pub struct SignOn {
    providers: Vec<Provider>,
    polls: DevicePolls,
}

/// A trusted provider.
struct Provider {
    config: OidcConfig,
    client: OidcClient,
    issuer: Issuer,
    in_flight: Semaphore,
}

/// Why a sign-in by a provider is denied.
#[derive(Debug, thiserror::Error)]
pub enum SignOnError {
    /// The configuration has no provider of this name.
    #[error("no provider `{0}` is configured at this mcpd")]
    NoProvider(String),
    /// The configuration does not allow device codes of this provider.
    #[error("device codes of `{0}` are not accepted by this mcpd")]
    NoDeviceCode(Name),
    /// The provider gave no valid ID token.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The groups' claim cannot be read.
    #[error("the provider's claim `{claim}` cannot be read: {why}")]
    Groups {
        /// The claim.
        claim: String,
        /// Why.
        why: &'static str,
    },
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

impl SignOn {
    /// The providers of the configuration; nothing is fetched yet.
    pub fn new(configs: Vec<OidcConfig>, client: &Client) -> Self {
        let provider = |config: OidcConfig| Provider {
            issuer: Issuer::new(config.issuer.clone(), client.clone()),
            client: OidcClient { id: config.client_id.clone(), secret: config.client_secret.clone() },
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            config,
        };
        Self { providers: configs.into_iter().map(provider).collect(), polls: DevicePolls::default() }
    }

    /// What a program needs to send a browser to each provider.
    pub async fn methods(&self) -> Vec<OidcMethod> {
        futures::future::join_all(self.providers.iter().map(Provider::method)).await
    }

    fn provider(&self, name: &str) -> Result<&Provider, SignOnError> {
        let provider = self.providers.iter().find(|provider| provider.config.name.as_str() == name);
        provider.ok_or_else(|| SignOnError::NoProvider(visible::short(name, MAX_SHOWN_BYTES)))
    }
}

impl Provider {
    async fn method(&self) -> OidcMethod {
        let metadata = self.issuer.metadata().await.ok();
        let of = metadata.as_deref();
        OidcMethod {
            name: self.config.name.clone(),
            issuer: self.config.issuer.clone(),
            client_id: self.config.client_id.clone(),
            scopes: self.config.scopes.clone(),
            authorization_endpoint: of.and_then(|metadata| metadata.authorization_endpoint.clone()),
            names_issuer: of.is_some_and(|metadata| metadata.names_issuer),
            device_code: self.config.device_code
                && of.is_none_or(|metadata| metadata.device_authorization_endpoint.is_some()),
        }
    }

    fn slot(&self) -> Result<SemaphorePermit<'_>, NotChecked> {
        self.in_flight.try_acquire().map_err(|_| NotChecked::Busy(BUSY_RETRY_AFTER))
    }

    /// The values of the groups' claim: a list, or one text.
    fn groups(&self, claims: &Claims) -> Result<Vec<String>, SignOnError> {
        let Some(claim) = &self.config.groups_claim else { return Ok(Vec::new()) };
        let wrong = |why| SignOnError::Groups { claim: claim.clone(), why };
        let values: Vec<&str> = match claims.all.get(claim) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => {
                let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| wrong("it is not a list of texts"))?
            }
            Some(_) => return Err(wrong("it is not a list of texts")),
        };
        if values.len() > MAX_GROUPS {
            return Err(wrong("it has more than 1000 values"));
        }
        // Dropping one could drop a group that limits its members.
        if !values.iter().all(|value| GroupClaim::is_value(value)) {
            return Err(wrong("one of its values does not have 1 to 256 characters"));
        }
        let mut groups: Vec<String> = values.into_iter().map(str::to_owned).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    fn newcomer<'a>(&'a self, claims: &'a Claims) -> Option<Newcomer<'a>> {
        let text = |name: &str| claims.all.get(name).and_then(Value::as_str);
        let shown = |name: &str| {
            text(name)
                .map(|text| visible::short(&visible::one_line(text), MAX_SHOWN_BYTES))
                .filter(|text| !text.is_empty())
        };
        self.config.auto_create.then(|| Newcomer {
            claim: &self.config.username_claim,
            name: text(&self.config.username_claim),
            display_name: shown("name"),
            email: shown("email"),
        })
    }
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

impl SignOn {
    fn device_provider(&self, name: &str) -> Result<&Provider, SignOnError> {
        let provider = self.provider(name)?;
        if !provider.config.device_code {
            return Err(SignOnError::NoDeviceCode(provider.config.name.clone()));
        }
        Ok(provider)
    }
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
