//! A request that names its Llm by id gets what is configured for the Llm's name: provider, policy, breakers.
//!
//! mcpd's answers to probes of the configured names have their ids. What is not known yet is asked as this caller, before the
//! request, so that its own failover is decided as any other. The id decides nothing about access: mcpd judges it itself.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use mcpctl_api::Id;
use mcpctl_failover::{Access, LlmRef};

use crate::{app::Runtime, identity::Caller};

/// How long the id of a name is taken for granted: an Llm that is made again under its name has another one.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Probes at the same time.
const CONCURRENT_PROBES: usize = 8;

/// The Llm that a request names, with the name that the configuration has for it.
pub(super) async fn resolve(runtime: &Runtime, caller: &Caller, llm: LlmRef) -> LlmRef {
    if !Id::has_shape(&llm.asked) || runtime.registry.failovers().next().is_none() {
        return llm;
    }
    let ids = runtime.router.ids();
    let known = || ids.name_of(&llm.asked);
    let name = match known() {
        Some(name) => Some(name),
        None => {
            ask(runtime, caller, &llm).await;
            known()
        }
    };
    match name {
        Some(name) => LlmRef { name, ..llm },
        None => llm,
    }
}

/// Probes the names whose ids are not known, one caller after the other.
async fn ask(runtime: &Runtime, caller: &Caller, asked: &LlmRef) {
    let Some(mut turn) = runtime.id_questions.turn().await else { return };
    let (now, ids) = (Instant::now(), runtime.router.ids());
    let names = runtime.registry.failovers().map(|(name, _)| name);
    let unknown: Vec<_> = names.filter(|name| !ids.is_fresh(name, now, MAX_AGE)).map(LlmRef::named).collect();
    if unknown.is_empty() || !turn.take(caller.bearer.digest(), now) {
        return;
    }
    // The id itself first, so that a made-up credential or id costs one probe, and not one of each name.
    let verdict = runtime.router.check_access(asked, &caller.bearer, caller.local).await;
    if verdict.access() != Access::Allowed {
        return;
    }
    let probes = unknown.into_iter().map(|llm| async move {
        runtime.router.check_access(&llm, &caller.bearer, caller.local).await;
    });
    stream::iter(probes).buffer_unordered(CONCURRENT_PROBES).collect::<()>().await;
}
