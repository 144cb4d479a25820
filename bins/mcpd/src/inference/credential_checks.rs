//! Asks a provider whether it accepts a credential that a write makes new, so that a wrong key is noticed by who writes it and
//! not by the first caller. The write was allowed before, and nothing is stored yet.
//!
//! Each upstream of an Llm is checked where its credential, address or API is new or changed. A new value of a secret is tried at the
//! upstreams that the writer attached it to, and not where others did: the writer learns of those by a warning. Only a refusal of the credential is an error. Everything else that may happen at an
//! address gives one and the same warning, so that a write does not show what listens where.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt as _, stream};
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    spec::{LlmSpec, Upstream},
};
use mcpctl_store::Store;
use mcpctl_upstream::{Client, CredentialCheck, Target, check_credential};
use secrecy::ExposeSecret as _;

use super::route;
use crate::{caller::Caller, writes::Plan};

/// The most providers that one write asks, and how many of them at once. Each takes 5 s at most.
const MAX_CHECKS: usize = 32;
const CONCURRENT_CHECKS: usize = 16;

/// A provider refuses a credential.
#[derive(Debug, thiserror::Error)]
#[error("the provider of the Llm `{llm}` refuses its key{}", quoted(.message.as_deref()))]
pub struct RefusedCredential {
    /// The field of the Llm that has the key.
    pub field: String,
    llm: Name,
    /// The provider's words, without the credential.
    message: Option<String>,
}

fn quoted(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// An upstream of an Llm whose provider is asked.
struct Candidate {
    /// The intent that makes its credential new.
    intent: usize,
    llm: Name,
    /// The field of the Llm that has the key.
    field: String,
    target: Target,
}

/// Asks the providers of a plan that is not committed yet. Returns a warning for each that did not show whether it accepts the
/// credential.
///
/// # Errors
/// The first refusal, with the index of its intent.
pub async fn check(
    client: &Client,
    store: &Store,
    caller: &Caller,
    plan: &Plan,
) -> Result<Vec<String>, (usize, RefusedCredential)> {
    let mut candidates = candidates(caller, plan, store);
    let beyond = candidates.len().saturating_sub(MAX_CHECKS);
    candidates.truncate(MAX_CHECKS);
    let asked = stream::iter(candidates).map(|candidate| async move {
        let answer = check_credential(client, &candidate.target).await;
        (candidate, answer)
    });
    let answers: Vec<_> = asked.buffered(CONCURRENT_CHECKS).collect().await;
    let mut warnings = Vec::new();
    for (Candidate { intent, llm, field, .. }, answer) in answers {
        match answer {
            CredentialCheck::Accepted => {}
            CredentialCheck::Refused { message } => {
                tracing::info!(%llm, "a provider refuses a new credential");
                return Err((intent, RefusedCredential { field, llm, message }));
            }
            unchecked @ (CredentialCheck::Unknown | CredentialCheck::NotAsked { .. }) => {
                let warning = match unchecked {
                    CredentialCheck::NotAsked { why } => format!(
                        "mcpd makes no connection to the provider of Llm `{llm}`, and did not check its key: {why}"
                    ),
                    _ => format!(
                        "the provider of Llm `{llm}` is unreachable, so that its key could not be checked"
                    ),
                };
                // One for all targets of an Llm.
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
    }
    if beyond > 0 {
        warnings.push(format!("{beyond} more key(s) of Llms were not checked"));
    }
    Ok(warnings)
}

/// The upstreams that a plan sends a new credential to.
fn candidates(caller: &Caller, plan: &Plan, store: &Store) -> Vec<Candidate> {
    let (before, after) = (&caller.snapshot, &plan.after);
    let changed: HashSet<_> = plan.changes.iter().map(mcpctl_access::Change::id).collect();
    let (mut seen, mut candidates) = (HashSet::new(), Vec::new());
    for (intent, written) in plan.resources.iter().enumerate().filter(|(_, of)| changed.contains(of.id())) {
        let (llms, secret) = match written.kind() {
            Kind::Llm => (vec![written], None),
            Kind::Secret => (llms_of(written, caller, after), Some(written)),
            _ => continue,
        };
        for llm in llms {
            let Spec::Llm(spec) = &llm.resource.spec else { continue };
            let affected =
                |of: &Upstream<'_>| secret.is_none_or(|secret| attached(of, secret, &caller.principal.id));
            let mut old = None;
            for upstream in spec.upstreams().filter(affected) {
                let name = llm.name();
                let Some(target) = destination(name, spec, &upstream, after, store) else { continue };
                let old = old.get_or_insert_with(|| destinations(llm, before, store));
                let field = upstream.field("apiKey");
                if !old.iter().any(|old| is_same(old, &target))
                    && seen.insert((llm.id().clone(), field.clone()))
                {
                    candidates.push(Candidate { intent, llm: name.clone(), field, target });
                }
            }
        }
    }
    candidates
}

/// The Llms that the writer attached this secret to.
fn llms_of<'a>(secret: &Stored, caller: &Caller, after: &'a Snapshot) -> Vec<&'a Arc<Stored>> {
    let sends = |llm: &&Arc<Stored>| {
        let Spec::Llm(spec) = &llm.resource.spec else { return false };
        spec.upstreams().any(|of| attached(&of, secret, &caller.principal.id))
            && after.authorize_name(&caller.principal, Verb::View, Kind::Llm, llm.name().as_str()).is_ok()
    };
    after.all(Kind::Llm).filter(sends).collect()
}

/// Whether the writer attached this secret to an upstream.
fn attached(upstream: &Upstream<'_>, secret: &Stored, writer: &Id) -> bool {
    upstream.api_key.is_some_and(|key| {
        key.secret_id.as_ref() == Some(secret.id()) && key.attached_by.last() == Some(writer)
    })
}

/// Where a credential goes; `None` where the upstream has none that can be sent.
fn destination(
    name: &Name,
    llm: &LlmSpec,
    upstream: &Upstream<'_>,
    snapshot: &Snapshot,
    store: &Store,
) -> Option<Target> {
    let target = route::target(name.as_str(), llm, upstream, snapshot, store).ok()?;
    target.credential.is_some().then_some(target)
}

/// Where an Llm's credentials went before.
fn destinations(llm: &Stored, before: &Snapshot, store: &Store) -> Vec<Target> {
    let Some(old) = before.by_id(llm.id()) else { return Vec::new() };
    let Spec::Llm(spec) = &old.resource.spec else { return Vec::new() };
    spec.upstreams().filter_map(|of| destination(old.name(), spec, &of, before, store)).collect()
}

/// Whether both send the same credential to the same place.
fn is_same(one: &Target, other: &Target) -> bool {
    let value = |target: &Target| target.credential.as_ref().map(|value| value.expose_secret().to_owned());
    one.base_url == other.base_url && one.api == other.api && value(one) == value(other)
}
