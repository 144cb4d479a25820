//! Inference: sends a caller's request to the provider of its Llm. `pipeline` is the order of the steps, `chain` the order
//! of the Llms and `turns` what runs them, `attempt` one Llm at a `call`, `resumption` what follows a broken stream, `route` the
//! way to a provider, `prepared` what requests need of an Llm and is kept between them, `access` the end of requests whose caller lost the right to them, `account` the row of usage, `health` how Llms do, `activity` what they are doing, `settlement`
//! what a request took and what that cost,
//! `credential_checks` what providers are asked when a key is written, `llm_test` a request that shows where the way to a model ends.

pub mod access;
pub mod account;
mod activity;
mod attempt;
mod breakers;
mod budgets;
mod call;
mod chain;
pub mod credential_checks;
mod health;
pub mod in_flight;
pub mod llm_test;
pub mod outcome;
pub mod pipeline;
mod prepared;
mod resumption;
pub mod route;
mod sending;
pub mod settlement;
mod stream_usage;
mod targets;
mod turns;

use std::sync::Arc;

use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{Spec, breaker_status::BreakerStatus, spec::Upstream};
use mcpctl_failover::Balancer;
use mcpctl_upstream as upstream;

use activity::LlmActivities;
use breakers::UpstreamBreakers;
use budgets::RetryBudgets;
use health::LlmHealth;
use llm_test::LlmTests;
use prepared::PreparedLlms;
use stream_usage::StreamUsage;

/// The state that all inference requests share.
pub struct Inference {
    /// Connections to providers.
    pub client: upstream::Client,
    /// The upstreams that reject `stream_options`.
    pub stream_usage: StreamUsage,
    /// The retry budget of each upstream.
    pub budgets: RetryBudgets,
    /// The Llms that were asked for, prepared.
    pub llms: PreparedLlms,
    /// The breakers of upstreams that have failed.
    pub breakers: UpstreamBreakers,
    /// How Llms have done.
    pub health: LlmHealth,
    /// What Llms are doing.
    pub activity: LlmActivities,
    /// The tests of Llms that run.
    pub tests: LlmTests,
    /// The outstanding requests at each upstream.
    pub balancer: Arc<Balancer>,
}

impl Inference {
    /// A client without connections, which connects only to the addresses that the policy allows.
    pub fn new(addresses: upstream::AddressPolicy) -> Self {
        let upstream::AddressPolicy { loopback, private, networks, .. } = &addresses;
        tracing::info!(loopback, private, ?networks, "where Llms may point, besides public addresses");
        let addresses = Some(Arc::new(addresses));
        let config = upstream::ClientConfig { addresses, ..upstream::ClientConfig::default() };
        Self {
            client: upstream::Client::new(config),
            stream_usage: StreamUsage::default(),
            budgets: RetryBudgets::default(),
            llms: PreparedLlms::default(),
            breakers: UpstreamBreakers::default(),
            health: LlmHealth::default(),
            activity: LlmActivities::default(),
            tests: LlmTests::default(),
            balancer: Arc::default(),
        }
    }

    /// How the breakers of an Llm's upstreams stand, in the order of the document.
    pub fn breaker_statuses(&self, llm: &Stored) -> Vec<BreakerStatus> {
        let Spec::Llm(spec) = &llm.resource.spec else { return Vec::new() };
        let of = |upstream: Upstream<'_>| BreakerStatus {
            url: Some(upstream.url.clone()),
            ..self.breakers.status(&prepared::key(llm.id(), &upstream))
        };
        spec.upstreams().map(of).collect()
    }

    /// Forgets the upstreams that no Llm of the snapshot has.
    pub fn forget_removed(&self, snapshot: &Snapshot) {
        let kept = prepared::keys(snapshot);
        self.budgets.retain(|upstream| kept.contains(upstream));
        self.breakers.retain(|upstream| kept.contains(upstream));
        self.balancer.retain(|upstream| kept.contains(upstream));
        self.llms.retain(snapshot);
        self.health.retain(snapshot);
        self.activity.retain(snapshot);
    }
}
