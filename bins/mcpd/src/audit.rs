//! The audit: records every denial to an authenticated caller, every probe, every inference and every denied login.
//! Changes are recorded by their commit ([`mcpctl_store::RecordedChanges`]).
//!
//! Other requests without a valid credential are counted and logged, not recorded. Rows are stored before the response is
//! sent (INVARIANT 14); of rows beyond a rate, the first one and the number (see [`ledger`]).

mod ledger;

use std::{sync::Arc, time::Duration};

use mcpctl_access::{Denied, FailoverDecision, Permit, Principal, Stored, verb::VerbType};
use mcpctl_api::{
    Id, Kind, Name, Revision, Spec, Verb,
    spec::{Subject, TokenOrigin},
    visible,
};
use mcpctl_store::{AuditRow, Decision, Recorder, StoreError};
use mcpctl_telemetry::McpdMetrics;

use crate::{clock, config::RecordLimits, login::Network};

use ledger::{Ledger, Tenant};

/// The action of a denied failover, as of the rows that agents report.
const FAILOVER: &str = "failover";
/// The action of a lifted throttling.
const LIFT_THROTTLE: &str = "lift-throttle";
/// How often sums are checked for the end of their window.
const SUM_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum of rows of sums that are kept while the store rejects them.
const MAX_UNSTORED: usize = 10_000;
/// Maximum characters of a text that a caller chose.
const MAX_CHARS: usize = 512;

/// Records decisions.
pub struct Audit {
    recorder: Recorder,
    ledger: Ledger,
    metrics: Arc<McpdMetrics>,
}

/// A decision that is not recorded yet. The response may be sent once [`Audit::record`] has returned.
#[must_use]
pub struct Entry {
    /// Whose rate bounds the row; `None` if it is stored in any case.
    tenant: Option<Tenant>,
    row: AuditRow,
}

impl Audit {
    /// Starts to store sums when their windows end.
    pub fn start(recorder: Recorder, limits: RecordLimits, metrics: Arc<McpdMetrics>) -> Arc<Self> {
        let audit = Arc::new(Self { recorder, ledger: Ledger::new(limits), metrics });
        tokio::spawn(store_sums(Arc::clone(&audit)));
        audit
    }

    /// The limits of records.
    pub fn limits(&self) -> &RecordLimits {
        self.ledger.limits()
    }

    /// The entry of an authorization, allowed or denied. `target` and `revision` are those of a denial.
    pub fn decision<V: VerbType>(
        &self,
        principal: &Principal,
        kind: Kind,
        target: &str,
        revision: Revision,
        decision: &Result<Permit<V>, Denied>,
    ) -> Entry {
        match decision {
            Ok(permit) => {
                let resource = permit.resource();
                let mut row = row(&Who::of(principal), V::VERB.as_str(), kind, permit.revision());
                row.resource_id = Some(resource.id().clone());
                row.resource_name = resource.name().to_string();
                let captures = matches!(&resource.resource.spec, Spec::Llm(llm) if llm.capture.bodies);
                if captures && V::VERB == Verb::Run {
                    "captures bodies".clone_into(&mut row.reason);
                }
                // An inference always has its own row.
                let tenant = (V::VERB != Verb::Run).then(|| Tenant::Principal(principal.id.clone()));
                Entry { tenant, row }
            }
            Err(denied) => self.denial(principal, V::VERB, kind, target, revision, &denied.to_string()),
        }
    }

    /// The entry of a denial.
    pub fn denial(
        &self,
        principal: &Principal,
        verb: Verb,
        kind: Kind,
        target: &str,
        revision: Revision,
        reason: &str,
    ) -> Entry {
        self.metrics.denied(verb.as_str(), kind.plural());
        let mut row = row(&Who::of(principal), verb.as_str(), kind, revision);
        row.resource_name = cut(target);
        row.decision = Decision::Denied;
        row.reason = cut(reason);
        Entry { tenant: Some(Tenant::Principal(principal.id.clone())), row }
    }

    /// The entry of an answer to a probe that denies the failover to a caller who may view the Llm.
    pub fn failover_denial(&self, principal: &Principal, target: &str, decision: &FailoverDecision) -> Entry {
        let reason = decision.reason.describe(target);
        let mut entry = self.denial(principal, decision.verb, Kind::Llm, target, decision.revision, &reason);
        // The verb was not asked for: the Llm may be run centrally.
        FAILOVER.clone_into(&mut entry.row.action);
        entry.row.resource_id.clone_from(&decision.llm);
        entry
    }

    /// The row of a change that is no change of a resource. It is stored in the transaction of the change.
    pub fn change(&self, principal: &Principal, action: &str, kind: Kind, revision: Revision) -> AuditRow {
        row(&Who::of(principal), action, kind, revision)
    }

    /// The entry of a lifted throttling of attempts to sign in: as a user, or from a network.
    pub fn lifted_throttle(&self, principal: &Principal, of: &str, revision: Revision) -> Entry {
        let mut row = row(&Who::of(principal), LIFT_THROTTLE, Kind::User, revision);
        row.resource_name = cut(of);
        Entry { tenant: None, row }
    }

    /// The entry of a denied login. A text that is no name is left out: it may be a password in the wrong field.
    pub fn denied_login(
        &self,
        user: Option<&Name>,
        revision: Revision,
        network: Network,
        reason: &str,
    ) -> Entry {
        self.metrics.denied("login", Kind::User.plural());
        let name = user.map_or("(not a name)", Name::as_str);
        let who = Who { principal: format!("User {name}"), id: None, token: None };
        let mut row = row(&who, "login", Kind::User, revision);
        row.resource_name = name.to_owned();
        row.decision = Decision::Denied;
        row.reason = format!("{reason}, from {network}");
        Entry { tenant: Some(Tenant::Network(network)), row }
    }

    /// The entry of a denied sign-in by an OpenID provider. `subject` is the account that the provider vouched for.
    pub fn denied_sign_on(
        &self,
        issuer: &Name,
        subject: Option<&str>,
        revision: Revision,
        network: Network,
        reason: &str,
    ) -> Entry {
        self.metrics.denied("login", Kind::User.plural());
        let who = Who { principal: format!("provider {issuer}"), id: None, token: None };
        let mut row = row(&who, "login", Kind::User, revision);
        row.resource_name = cut(&subject.map(visible::one_line).unwrap_or_default());
        row.decision = Decision::Denied;
        row.reason = cut(&format!("{reason}, from {network}"));
        Entry { tenant: Some(Tenant::Network(network)), row }
    }

    /// The entry of a denied exchange of a token for one of `account`. `origin` is the workload that the token was verified for.
    pub fn denied_exchange(
        &self,
        origin: Option<&TokenOrigin>,
        account: &Name,
        revision: Revision,
        network: Network,
        reason: &str,
    ) -> Entry {
        let kind = Kind::ServiceAccount;
        self.metrics.denied("exchange", kind.plural());
        // Not the account: the caller has not shown that it may act for it.
        let principal = match origin {
            Some(origin) => {
                cut(&format!("workload {} of {}", visible::one_line(&origin.subject), origin.issuer))
            }
            None => "(no valid token)".to_owned(),
        };
        let who = Who { principal, id: None, token: None };
        let mut row = row(&who, "exchange", kind, revision);
        row.resource_name = account.to_string();
        row.decision = Decision::Denied;
        row.reason = cut(&format!("{reason}, from {network}"));
        Entry { tenant: Some(Tenant::Network(network)), row }
    }

    /// The entry of an exchange that made a token; `reason` names the workload.
    pub fn exchange(&self, account: &Subject, id: &Id, token: &Stored, reason: &str) -> Entry {
        let who =
            Who { principal: account.to_string(), id: Some(id.clone()), token: Some(token.id().clone()) };
        let mut row = row(&who, "exchange", Kind::ServiceAccount, token.resource.revision);
        row.resource_id = Some(id.clone());
        row.resource_name = account.name.to_string();
        row.reason = cut(&visible::one_line(reason));
        Entry { tenant: None, row }
    }

    /// Stores the entry, or adds it to a sum.
    ///
    /// # Errors
    /// When it cannot be stored; then the request is denied.
    pub async fn record(&self, entry: Entry) -> Result<(), StoreError> {
        let Entry { tenant, row } = entry;
        let row = match tenant {
            Some(tenant) => self.ledger.enter(tenant, row),
            None => Some(row),
        };
        match row {
            Some(row) => self.recorder.audit(vec![row]).await,
            None => Ok(()),
        }
    }

    /// Stores all sums, before the daemon ends.
    pub async fn finish(&self) {
        let rows = self.ledger.ended(clock::now(), true);
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.recorder.audit(rows).await {
            warn_of_unstored(&error);
        }
    }
}

async fn store_sums(audit: Arc<Audit>) {
    let mut unstored = Vec::new();
    loop {
        tokio::time::sleep(SUM_POLL_INTERVAL).await;
        unstored.extend(audit.ledger.ended(clock::now(), false));
        if unstored.is_empty() {
            continue;
        }
        match audit.recorder.audit(unstored.clone()).await {
            Ok(()) => unstored.clear(),
            Err(error) => {
                warn_of_unstored(&error);
                unstored.truncate(MAX_UNSTORED);
            }
        }
    }
}

fn warn_of_unstored(error: &StoreError) {
    tracing::error!(error = error as &dyn std::error::Error, "sums of the audit are not stored");
}

/// The principal of a row.
struct Who {
    principal: String,
    id: Option<Id>,
    token: Option<Id>,
}

impl Who {
    fn of(principal: &Principal) -> Self {
        Self {
            principal: principal.subject.to_string(),
            id: Some(principal.id.clone()),
            token: Some(principal.token.clone()),
        }
    }
}

fn row(who: &Who, action: &str, kind: Kind, revision: Revision) -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: clock::now(),
        principal: who.principal.clone(),
        principal_id: who.id.clone(),
        token_id: who.token.clone(),
        action: action.to_owned(),
        kind,
        resource_id: None,
        resource_name: String::new(),
        decision: Decision::Allowed,
        reason: String::new(),
        revision,
        request_id: mcpctl_server::request_id(),
    }
}

/// Cuts a text of a caller before it is copied any further; the store bounds it to its column.
fn cut(text: &str) -> String {
    text.chars().take(MAX_CHARS).collect()
}
