//! Exchanges a workload's own token, of a Kubernetes cluster or a CI system, for a short-lived token of a service account.
//!
//! Issuers are those of the configuration; which of their workloads an account trusts is written on the account. What a
//! caller learns does not depend on which accounts exist. A token may be exchanged again while it is valid.

mod keys_file;
pub mod trusted_issuers;

use std::time::Instant;

use jiff::Timestamp;
use mcpctl_api::{
    HumanDuration, Kind, Name, Spec,
    question::{ExchangeRequest, IssuedToken},
    spec::{Subject, SubjectKind, TokenOrigin},
    visible,
};
use mcpctl_issuer::{TokenError, audiences};
use mcpctl_secret::token::Prefix;
use mcpctl_store::{Author, StoreError};

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal},
    issuance::{self, IssueError, NewCredential},
    login::{Attempt, Counted, Network, NotChecked},
    writers::Lane,
    writes::{
        Plan,
        exchange::{self as plans, ExchangeRefusal, Workload},
    },
};

use trusted_issuers::Untrusted;

/// Longest list of audiences in a record, in bytes.
const MAX_AUDIENCES_BYTES: usize = 200;
/// How long a token is valid where the caller does not ask for less or more.
const DEFAULT_VALIDITY: HumanDuration = HumanDuration::from_secs(600);
/// The longest validity: a workload exchanges again.
const MAX_VALIDITY: HumanDuration = HumanDuration::from_secs(3600);

/// Why an exchange is denied.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeDenial {
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
}

/// Why no token is given.
pub type ExchangeError = IssueError<ExchangeDenial>;

impl From<ExchangeDenial> for ExchangeError {
    fn from(denial: ExchangeDenial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Untrusted> for ExchangeDenial {
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::Audience => Self::NotTrusted,
            Untrusted::Token(error) => Self::Token(error),
            Untrusted::Keys => Self::Keys,
        }
    }
}

impl From<ExchangeRefusal> for ExchangeDenial {
    fn from(refusal: ExchangeRefusal) -> Self {
        match refusal {
            ExchangeRefusal::NotTrusted => Self::NotTrusted,
            ExchangeRefusal::Void => Self::Void,
        }
    }
}

/// The claims of a workload's token, verified.
struct Verified {
    origin: TokenOrigin,
    audiences: Vec<String>,
    expires_at: Timestamp,
}

impl Verified {
    /// What a `trust` would have to list.
    fn described(&self) -> String {
        let audiences: Vec<_> =
            self.audiences.iter().map(|audience| format!("`{}`", visible::one_line(audience))).collect();
        let TokenOrigin { issuer, subject } = &self.origin;
        let audiences = visible::short(&audiences.join(", "), MAX_AUDIENCES_BYTES);
        format!("`{}` of {issuer} for audience {audiences}", visible::one_line(subject))
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
        return Err(ExchangeDenial::TooLong.into());
    }
    let account = &request.service_account;
    // Verified before anything is counted, so that refused tokens keep no other workload of the network out.
    let (workload, denial) = match verify(app, request.token.expose()).await {
        Err(denial) => (None, denial),
        Ok(verified) => match issue(app, account, &verified, validity, network).await {
            Err(IssueError::Denied(denial)) => (Some(verified), denial),
            decided_otherwise => return decided_otherwise,
        },
    };
    let origin = workload.as_ref().map(|workload| &workload.origin);
    let counted = match origin {
        Some(TokenOrigin { issuer, subject }) => Counted::Subject { issuer, subject },
        None => Counted::Network(network),
    };
    // That keys cannot be had is no fault of the caller's.
    if !matches!(denial, ExchangeDenial::Keys) {
        app.logins.admit(Attempt::Exchange, counted).await?;
    }
    let whose = workload.as_ref().map(|workload| format!(": {}", workload.described()));
    let (revision, reason) =
        (app.replica.latest().revision(), format!("{denial}{}", whose.unwrap_or_default()));
    tracing::warn!(%account, %network, reason, "an exchange of a token was refused");
    app.audit.record(app.audit.denied_exchange(origin, account, revision, network, &reason)).await?;
    Err(denial.into())
}

async fn verify(app: &App, token: &str) -> Result<Verified, ExchangeDenial> {
    let trusted = app.trusted_issuers.of(token).ok_or(ExchangeDenial::Issuer)?;
    let claims = trusted.verify(token).await?;
    // Its clock may be a little behind, but the new token ends with it.
    if claims.expires_at <= clock::now() {
        return Err(ExchangeDenial::Token(TokenError::Expired));
    }
    let audiences = claims.all.get("aud").map(audiences).unwrap_or_default();
    let origin = TokenOrigin { issuer: trusted.url().clone(), subject: claims.subject };
    Ok(Verified { origin, audiences, expires_at: claims.expires_at })
}

async fn issue(
    app: &App,
    account: &Name,
    verified: &Verified,
    validity: HumanDuration,
    network: Network,
) -> Result<IssuedToken, ExchangeError> {
    let Verified { origin, audiences, expires_at } = verified;
    let snapshot = app.fresh().await?;
    let stored = snapshot.by_name(Kind::ServiceAccount, account.as_str());
    let id = stored.map(|stored| stored.id().clone()).ok_or(ExchangeDenial::NotTrusted)?;
    // Before the writer's turn: a workload that is not trusted waits in no queue, and delays no writer.
    plans::trusting(&snapshot, account, &id, |trusted| {
        audiences.iter().any(|audience| trusted.trusts(&origin.issuer, audience, &origin.subject))
    })
    .map_err(ExchangeDenial::from)?;
    let _admission = app.writers.admit(&id, Instant::now()).map_err(NotChecked::Busy)?;
    let _turn = app.writers.turn(Lane::Ordinary).await;
    let new = NewCredential::mint(Prefix::Mcpd, "exchange")?;
    let workload = Workload {
        account,
        id: &id,
        origin,
        audiences,
        expires_at: *expires_at,
        validity,
        token: new.name.clone(),
        hash: new.minted.hash(),
    };
    let plan = commit::run(&app.store, Locking::AfterLosses, Exchange { app, workload }).await?;
    let token = plan.resources.first().ok_or(IssueError::Token)?;
    record(app, token, origin, network).await?;
    new.issued(&plan)
}

/// Records who got the token: the row of the commit names the account alone.
async fn record(
    app: &App,
    token: &mcpctl_access::Stored,
    origin: &TokenOrigin,
    network: Network,
) -> Result<(), StoreError> {
    let Spec::Token(spec) = &token.resource.spec else { return Ok(()) };
    let reason = format!("{} of {}, from {network}", origin.subject, origin.issuer);
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
        let plan = plans::begin(&*self.app.fresh().await?, &self.workload, clock::now())
            .map_err(ExchangeDenial::from)?;
        let account = Subject { kind: SubjectKind::ServiceAccount, name: self.workload.account.clone() };
        let author = issuance::author(&account, self.workload.id, &plan);
        Ok((plan, author))
    }
}
