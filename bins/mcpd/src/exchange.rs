//! Exchanges a workload's own token, of a Kubernetes cluster or a CI system, for a short-lived token of a service account.
//!
//! Issuers are those of the configuration; which of their workloads an account trusts is written on the account. What a
//! caller learns does not depend on which accounts exist. A token may be exchanged again while it is valid.

use std::{path::PathBuf, time::Instant};

use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Spec,
    oidc::IssuerUrl,
    question::{ExchangeRequest, IssuedToken},
};
use mcpctl_issuer::{
    Claims, Expected, Issuer, Keys, TokenError, TokenKind, VerifyError, audiences, named_audiences,
    named_issuer, verify,
};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_store::{Author, StoreError};
use mcpctl_upstream::Client;

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal, TooManyWriters},
    config::ExchangeIssuer,
    login::{Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        exchange::{self as plans, ExchangeRefusal, Workload},
        token::issued,
    },
};

/// How long a token is valid where the caller does not ask for less or more.
const DEFAULT_VALIDITY: HumanDuration = HumanDuration::from_secs(600);
/// The longest validity: a workload exchanges again.
const MAX_VALIDITY: HumanDuration = HumanDuration::from_secs(3600);
/// An audience that no token is for: one that names none is verified all the same, and refused.
const NO_AUDIENCE: &str = "";

/// Why no token is given.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A longer validity was asked for than there is.
    #[error("an exchanged token is good for more than nothing and at most {MAX_VALIDITY}")]
    TooLong,
    /// The configuration does not list the issuer.
    #[error("mcpd does not trust the issuer of this token")]
    Issuer,
    /// The token is not valid.
    #[error(transparent)]
    Token(TokenError),
    /// There is no such account, it is disabled, or it does not trust this workload.
    #[error("the service account does not trust this token")]
    NotTrusted,
    /// The account that wrote the trust is gone or disabled.
    #[error("the account that wrote `trust` is gone or disabled, so it is void")]
    Void,
    /// The issuer's keys cannot be had now.
    #[error("the issuer's keys cannot be had now")]
    Keys,
    /// The attempt was not made.
    #[error(transparent)]
    NotChecked(#[from] NotChecked),
    /// No token could be made.
    #[error("no token could be made")]
    Secret,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// All attempts to commit lost to other writers.
    #[error(transparent)]
    TooManyWriters(#[from] TooManyWriters),
}

impl From<ExchangeRefusal> for ExchangeError {
    fn from(refusal: ExchangeRefusal) -> Self {
        match refusal {
            ExchangeRefusal::NotTrusted => Self::NotTrusted,
            ExchangeRefusal::Void => Self::Void,
        }
    }
}

/// The issuers whose tokens are exchanged.
pub struct TrustedIssuers(Vec<TrustedIssuer>);

struct TrustedIssuer {
    issuer: Issuer,
    keys_file: Option<PathBuf>,
}

impl TrustedIssuers {
    /// The issuers of the configuration; nothing is fetched yet.
    pub fn new(configured: Vec<ExchangeIssuer>, client: &Client) -> Self {
        let issuer = |ExchangeIssuer { issuer, keys_file }| TrustedIssuer {
            issuer: Issuer::new(issuer, client.clone()),
            keys_file,
        };
        Self(configured.into_iter().map(issuer).collect())
    }

    fn of(&self, token: &str) -> Option<&TrustedIssuer> {
        let named = named_issuer(token)?;
        self.0.iter().find(|trusted| trusted.issuer.url().as_str() == named)
    }
}

impl TrustedIssuer {
    /// Verifies a token for the audience that it names itself: whether an account expects that one is looked at later, so that
    /// a token that is not valid is refused in the same way for every account.
    async fn verify(&self, token: &str) -> Result<Claims, ExchangeError> {
        let named = named_audiences(token);
        let audience = named.first().map_or(NO_AUDIENCE, String::as_str);
        let expected = Expected { issuer: self.issuer.url(), audience, kind: TokenKind::Workload };
        let verified = match &self.keys_file {
            // Read each time, so that a rotation of the keys takes no restart.
            Some(path) => {
                let keys = tokio::fs::read(path).await.ok().and_then(|json| Keys::read(&json).ok());
                verify(token, &keys.ok_or(ExchangeError::Keys)?, &expected, clock::now())
                    .map_err(VerifyError::Token)
            }
            None => self.issuer.verify(token, &expected).await,
        };
        verified.map_err(|error| match error {
            VerifyError::Token(TokenError::Audience) => ExchangeError::NotTrusted,
            VerifyError::Token(error) => ExchangeError::Token(error),
            VerifyError::Issuer(_) => ExchangeError::Keys,
        })
    }
}

/// Verifies the workload's token, and makes one of the account.
///
/// # Errors
/// When the exchange is denied, which is recorded, or the store fails.
pub async fn exchange(
    app: &App,
    network: Network,
    request: &ExchangeRequest,
) -> Result<IssuedToken, ExchangeError> {
    let validity = request.expires_in.unwrap_or(DEFAULT_VALIDITY);
    if validity.is_zero() || validity > MAX_VALIDITY {
        return Err(ExchangeError::TooLong);
    }
    // Before anything expensive; a success is refunded.
    app.logins.admit_sign_on(network).await?;
    let account = &request.service_account;
    let made = verified(app, account, request.token.expose(), validity, network).await;
    match &made {
        Ok(_) => app.logins.refund_sign_on(network),
        Err(ExchangeError::Store(_) | ExchangeError::TooManyWriters(_) | ExchangeError::NotChecked(_)) => {}
        Err(error) => {
            let (revision, reason) = (app.replica.latest().revision(), error.to_string());
            tracing::warn!(%account, %network, reason, "an exchange of a token was refused");
            app.audit.record(app.audit.denied_exchange(account, revision, network, &reason)).await?;
        }
    }
    made
}

async fn verified(
    app: &App,
    account: &Name,
    token: &str,
    validity: HumanDuration,
    network: Network,
) -> Result<IssuedToken, ExchangeError> {
    let trusted = app.trusted_issuers.of(token).ok_or(ExchangeError::Issuer)?;
    let claims = trusted.verify(token).await?;
    // Its clock may be a little behind, but the new token ends with it.
    if claims.expires_at <= clock::now() {
        return Err(ExchangeError::Token(TokenError::Expired));
    }
    let audiences = claims.all.get("aud").map(audiences).unwrap_or_default();
    let snapshot = app.fresh().await?;
    let stored = snapshot.by_name(Kind::ServiceAccount, account.as_str());
    let id = stored.map(|stored| stored.id().clone()).ok_or(ExchangeError::NotTrusted)?;
    let issuer = trusted.issuer.url();
    let subject = claims.subject.as_str();
    // Before the writer's turn: a workload that is not trusted waits in no queue, and delays no writer.
    plans::trusting(&snapshot, account, &id, |trusted| {
        audiences.iter().any(|audience| trusted.trusts(issuer, audience, subject))
    })?;
    let admitted = app.writers.admit(&id, Instant::now());
    let _admission = admitted.map_err(|wait| ExchangeError::NotChecked(NotChecked::Busy(wait)))?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let minted = token::mint(Prefix::Mcpd).map_err(|_| ExchangeError::Secret)?;
    let workload = Workload {
        account,
        id: &id,
        issuer,
        audiences: &audiences,
        subject,
        expires_at: claims.expires_at,
        validity,
        token: format!("exchange-{}", Id::mint()).parse().map_err(|_| ExchangeError::Secret)?,
        hash: minted.hash(),
    };
    let plan = commit::run(&app.store, Locking::AfterLosses, Exchange { app, workload }).await?;
    let token = plan.resources.first().ok_or(ExchangeError::Secret)?;
    record(app, token, issuer, subject, network).await?;
    issued(token, &minted).ok_or(ExchangeError::Secret)
}

/// Records who got the token: the row of the commit names the account alone.
async fn record(
    app: &App,
    token: &mcpctl_access::Stored,
    issuer: &IssuerUrl,
    subject: &str,
    network: Network,
) -> Result<(), StoreError> {
    let Spec::Token(spec) = &token.resource.spec else { return Ok(()) };
    let reason = format!("{subject} of {}, from {network}", issuer.as_str());
    app.audit.record(app.audit.exchange(&spec.subject, &spec.subject_id, token, &reason)).await
}

/// The exchange of a verified workload.
struct Exchange<'a> {
    app: &'a App,
    workload: Workload<'a>,
}

impl Proposal for Exchange<'_> {
    type Error = ExchangeError;

    async fn plan(&mut self) -> Result<(Plan, Author), ExchangeError> {
        // The account may have been disabled meanwhile, or trust another workload.
        let plan = plans::begin(&*self.app.fresh().await?, &self.workload, clock::now())?;
        let author = Author {
            principal: format!("ServiceAccount {}", self.workload.account),
            principal_id: Some(self.workload.id.clone()),
            token_id: plan.resources.first().map(|token| token.id().clone()),
            request_id: mcpctl_server::request_id(),
        };
        Ok((plan, author))
    }
}
