//! Warns a writer of a Limit on cost and an Llm without a price: the Limit denies that Llm to all whom it covers.

use mcpctl_access::{Principal, Snapshot, Stored};
use mcpctl_api::{
    Kind, Spec, Verb,
    spec::{LimitSpec, LlmSpec},
};

use crate::prices::Prices;

/// A warning names so many Llms, and the number of the others.
const MAX_NAMED: usize = 5;

/// The warnings about a written resource, in the snapshot that contains it. Names only what the writer may view.
pub fn warnings(prices: &Prices, snapshot: &Snapshot, writer: &Principal, written: &Stored) -> Vec<String> {
    let may_view = |other: &Stored| {
        snapshot.authorize_name(writer, Verb::View, other.kind(), other.name().as_str()).is_ok()
    };
    let warning = |limit: &Stored, llm: &str| {
        format!(
            "Limit `{}` bounds cost, so it denies Llm {llm}, whose price is not known: write its `price`",
            limit.name()
        )
    };
    match &written.resource.spec {
        Spec::Limit(limit) => {
            let denied = snapshot.all(Kind::Llm).filter(
                |llm| matches!(&llm.resource.spec, Spec::Llm(spec) if denies(prices, limit, spec, llm)),
            );
            let denied: Vec<String> =
                denied.filter(|llm| may_view(llm)).map(|llm| format!("`{}`", llm.name())).collect();
            let more = denied.len().saturating_sub(MAX_NAMED);
            let mut named = denied.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", Llm ");
            if more > 0 {
                named.push_str(&format!(" and {more} more"));
            }
            if named.is_empty() { Vec::new() } else { vec![warning(written, &named)] }
        }
        Spec::Llm(llm) => {
            let denying = snapshot.all(Kind::Limit).filter(|limit| {
                matches!(&limit.resource.spec, Spec::Limit(spec) if denies(prices, spec, llm, written))
            });
            let llm = format!("`{}`", written.name());
            denying.filter(|limit| may_view(limit)).map(|limit| warning(limit, &llm)).collect()
        }
        _ => Vec::new(),
    }
}

fn denies(prices: &Prices, limit: &LimitSpec, llm: &LlmSpec, stored: &Stored) -> bool {
    limit.cost.is_some() && limit.covers_llm(stored.name().as_str()) && prices.of(llm).is_none()
}
