//! Exchanges a workload's own token, of a Kubernetes cluster or a CI system, for a short-lived token of a service account.
//!
//! Issuers are those of the configuration; which of their workloads an account trusts is written on the account. What a
//! caller learns does not depend on which accounts exist. A token may be exchanged again while it is valid.

pub mod trusted_issuers;

use std::time::Instant;

use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Spec,
    oidc::IssuerUrl,
    question::{ExchangeRequest, IssuedToken},
};
use mcpctl_issuer::{TokenError, audiences};
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
        exchange::{self as plans, ExchangeRefusal, Workload},
        token::issued,
    },
};

use trusted_issuers::Untrusted;

/// How long a token is valid where the caller does not ask for less or more.
const DEFAULT_VALIDITY: HumanDuration = HumanDuration::from_secs(600);
/// The longest validity: a workload exchanges again.
const MAX_VALIDITY: HumanDuration = HumanDuration::from_secs(3600);

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

impl From<Untrusted> for ExchangeError {
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::Audience => Self::NotTrusted,
            Untrusted::Token(error) => Self::Token(error),
            Untrusted::Keys => Self::Keys,
        }
    }
}

impl From<ExchangeRefusal> for ExchangeError {
    fn from(refusal: ExchangeRefusal) -> Self {
        match refusal {
            ExchangeRefusal::NotTrusted => Self::NotTrusted,
            ExchangeRefusal::Void => Self::Void,
        }
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
    let issuer = trusted.url();
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
