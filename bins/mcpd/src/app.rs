//! The state that all requests share, made once at start.

use std::sync::Arc;

use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::Id;
use mcpctl_secret::token::TokenHash;
use mcpctl_server::RequestBodies;
use mcpctl_store::{Recorder, Replica, Store};
use mcpctl_telemetry::McpdMetrics;
use mcpctl_tls::ServerTls;
use tokio::sync::watch;

use crate::{
    audit::Audit,
    caller::{AuthenticationError, Caller},
    captures::Captures,
    exchange::trusted_issuers::TrustedIssuers,
    feeds::Feeds,
    inference::{Inference, access::AccessWatches, in_flight::InFlight},
    journal::rate::JournalRates,
    limits::Limits,
    login::Logins,
    prices::Prices,
    readiness::Readiness,
    record_questions::RecordQuestions,
    sign_on::providers::SignOn,
    signing::Signing,
    token_uses::TokenUses,
    usage::UsageReports,
    watchers::Watchers,
    writers::Writers,
    writes::Vault,
};

/// How mcpd is installed, as far as the configuration decides it.
pub struct InstallationFacts {
    /// Whether replicas can share the database.
    pub shared: bool,
    /// Whether inference has an address of its own.
    pub inference_listener: bool,
    /// TLS of the listeners.
    pub tls: Option<Arc<ServerTls>>,
}

/// The state that all requests share.
pub struct App {
    /// The database.
    pub store: Store,
    /// The snapshot that decisions are made in.
    pub replica: Arc<Replica>,
    /// Stores rows of audit and usage.
    pub recorder: Recorder,
    /// The metrics of this process.
    pub metrics: Arc<McpdMetrics>,
    /// The client to providers, and the retry budgets.
    pub inference: Inference,
    /// Ends requests whose caller loses access.
    pub access: AccessWatches,
    /// Bounds the requests in flight.
    pub in_flight: InFlight,
    /// Counts what Limits bound.
    pub limits: Limits,
    /// What models cost.
    pub prices: Prices,
    /// Verifies passwords, and limits guessing.
    pub logins: Logins,
    /// The OpenID providers whose sign-in is accepted.
    pub sign_on: SignOn,
    /// The issuers whose tokens are exchanged.
    pub trusted_issuers: TrustedIssuers,
    /// Records decisions.
    pub audit: Arc<Audit>,
    /// Bounds what agents hand over of their journals.
    pub journals: JournalRates,
    /// Keeps the bodies of Llms that have `capture`.
    pub captures: Captures,
    /// Shares readiness checks among requests.
    pub readiness: Readiness,
    /// Signs what agents rely on.
    pub signing: Arc<Signing>,
    /// When tokens were last used.
    pub token_uses: TokenUses,
    /// Adds up usage, and answers questions about it.
    pub usage: UsageReports,
    /// Gives questions about records and about the rights of all accounts their turns.
    pub record_questions: RecordQuestions,
    /// Gives writers their turns.
    pub writers: Writers,
    /// Reads request bodies within their limits.
    pub bodies: RequestBodies,
    /// The watches that are open.
    pub watchers: Watchers,
    /// The feeds that are open.
    pub feeds: Feeds,
    /// How mcpd is installed.
    pub facts: InstallationFacts,
    /// True once the shutdown has begun.
    pub draining: watch::Receiver<bool>,
    /// Turns true when the shutdown is asked for, which is `drainDelay` before the drain.
    pub leaving: watch::Receiver<bool>,
}

impl App {
    /// A snapshot at least as new as the store was when this was called.
    ///
    /// INVARIANT 8: without a fresh snapshot there is no decision.
    ///
    /// # Errors
    /// When the store does not respond.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, mcpctl_store::StoreError> {
        let snapshot = self.replica.fresh().await?;
        self.metrics.revision(snapshot.revision().0);
        Ok(snapshot)
    }

    /// Authenticates a bearer in a fresh snapshot.
    ///
    /// # Errors
    /// When the credential is not valid, or no fresh snapshot can be loaded.
    pub async fn authenticate(&self, bearer: TokenHash) -> Result<Caller, AuthenticationError> {
        // Freshen before authenticating, so that a token that any replica deleted is rejected here too (INVARIANT 5).
        Ok(Caller::of(bearer, self.fresh().await?)?)
    }
}

impl Vault for Store {
    fn seal(&self, id: &Id, plaintext: &[u8]) -> anyhow::Result<Vec<u8>> {
        Ok(Self::seal(self, id, plaintext)?)
    }

    fn open(&self, stored: &Stored) -> anyhow::Result<Vec<u8>> {
        Ok(Self::unseal(self, stored)?)
    }
}
