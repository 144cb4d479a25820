//! Asks a provider whether it accepts a credential that a write makes new, so that a wrong key is noticed by who writes it and
//! not by the first caller. The write was allowed before, and nothing is stored yet.
//!
//! An Llm is checked where its credential, address or API is new or changed. A new value of a secret is tried at the Llms that the
//! writer attached it to, and not where others did: the writer learns of those by a warning. Only a refusal of the credential is an error. Everything else that may happen at an
//! address gives one and the same warning, so that a write does not show what listens where.

use std::collections::HashSet;

use futures::{StreamExt as _, stream};
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{Kind, Name, Spec, Verb};
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
    llm: Name,
    /// The provider's words, without the credential.
    message: Option<String>,
}

fn quoted(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

/// An Llm whose provider is asked.
struct Candidate {
    /// The intent that makes its credential new.
    intent: usize,
    llm: Name,
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
    let asked = stream::iter(candidates).map(|Candidate { intent, llm, target }| async move {
        let answer = check_credential(client, &target).await;
        (intent, llm, answer)
    });
    let answers: Vec<_> = asked.buffered(CONCURRENT_CHECKS).collect().await;
    let mut warnings = Vec::new();
    for (intent, llm, answer) in answers {
        match answer {
            CredentialCheck::Accepted => {}
            CredentialCheck::Refused { message } => {
                tracing::info!(%llm, "a provider refuses a new credential");
                return Err((intent, RefusedCredential { llm, message }));
            }
            CredentialCheck::Unknown => {
                warnings.push(format!(
                    "the provider of Llm `{llm}` is unreachable, so that its key could not be checked"
                ));
            }
        }
    }
    if beyond > 0 {
        warnings.push(format!("the keys of {beyond} more Llm(s) were not checked"));
    }
    Ok(warnings)
}

/// The Llms that a plan sends a new credential for, or to another place.
fn candidates(caller: &Caller, plan: &Plan, store: &Store) -> Vec<Candidate> {
    let (before, after) = (&caller.snapshot, &plan.after);
    let changed: HashSet<_> = plan.changes.iter().map(mcpctl_access::Change::id).collect();
    let (mut seen, mut candidates) = (HashSet::new(), Vec::new());
    for (intent, written) in plan.resources.iter().enumerate().filter(|(_, of)| changed.contains(of.id())) {
        let llms = match written.kind() {
            Kind::Llm => vec![written],
            Kind::Secret => llms_of(written, caller, after),
            _ => continue,
        };
        for llm in llms {
            let new = destination(llm, after, store);
            if let Some(target) = new.filter(|new| is_new(new, llm, before, store))
                && seen.insert(llm.id().clone())
            {
                candidates.push(Candidate { intent, llm: llm.name().clone(), target });
            }
        }
    }
    candidates
}

/// The Llms that the writer attached this secret to.
fn llms_of<'a>(secret: &Stored, caller: &Caller, after: &'a Snapshot) -> Vec<&'a std::sync::Arc<Stored>> {
    let sends = |llm: &&std::sync::Arc<Stored>| {
        let Spec::Llm(spec) = &llm.resource.spec else { return false };
        let attached = spec.api_key.as_ref().is_some_and(|key| {
            key.secret_id.as_ref() == Some(secret.id())
                && key.attached_by.last() == Some(&caller.principal.id)
        });
        attached
            && after.authorize_name(&caller.principal, Verb::View, Kind::Llm, llm.name().as_str()).is_ok()
    };
    after.all(Kind::Llm).filter(sends).collect()
}

/// Where an Llm's credential goes; `None` where it has none that can be sent.
fn destination(llm: &Stored, snapshot: &Snapshot, store: &Store) -> Option<Target> {
    let Spec::Llm(spec) = &llm.resource.spec else { return None };
    let target = route::target(llm.name().as_str(), spec, snapshot, store).ok()?;
    target.credential.is_some().then_some(target)
}

/// Whether no such credential went to that place before.
fn is_new(new: &Target, llm: &Stored, before: &Snapshot, store: &Store) -> bool {
    let old = before.by_id(llm.id()).and_then(|old| destination(old, before, store));
    let value = |target: &Target| target.credential.as_ref().map(|value| value.expose_secret().to_owned());
    old.is_none_or(|old| old.base_url != new.base_url || old.api != new.api || value(&old) != value(new))
}
