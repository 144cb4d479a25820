//! Warns a writer of a Limit on cost and an Llm without a price: the Limit denies that Llm to all whom it covers.

use mcpctl_access::{Principal, Snapshot, Stored};
use mcpctl_api::{
    Kind, Spec, Verb,
    spec::{LimitSpec, LlmSpec},
};

use crate::prices::Prices;

/// The warnings about a written resource, in the snapshot that contains it. Names only what the writer may view.
pub fn warnings(prices: &Prices, snapshot: &Snapshot, writer: &Principal, written: &Stored) -> Vec<String> {
    let may_view = |other: &Stored| {
        snapshot.authorize_name(writer, Verb::View, other.kind(), other.name().as_str()).is_ok()
    };
    let warning = |limit: &Stored, llm: &Stored| {
        format!(
            "Limit `{}` bounds cost, so it denies Llm `{}`, whose price is not known: write its `price`",
            limit.name(),
            llm.name()
        )
    };
    match &written.resource.spec {
        Spec::Limit(limit) => {
            let denied = snapshot.all(Kind::Llm).filter(
                |llm| matches!(&llm.resource.spec, Spec::Llm(spec) if denies(prices, limit, spec, llm)),
            );
            denied.filter(|llm| may_view(llm)).map(|llm| warning(written, llm)).collect()
        }
        Spec::Llm(llm) => {
            let denying = snapshot.all(Kind::Limit).filter(|limit| {
                matches!(&limit.resource.spec, Spec::Limit(spec) if denies(prices, spec, llm, written))
            });
            denying.filter(|limit| may_view(limit)).map(|limit| warning(limit, written)).collect()
        }
        _ => Vec::new(),
    }
}

fn denies(prices: &Prices, limit: &LimitSpec, llm: &LlmSpec, stored: &Stored) -> bool {
    limit.cost.is_some() && limit.covers_llm(stored.name().as_str()) && prices.of(llm).is_none()
}
