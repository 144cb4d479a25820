//! Where requests to mcpd go: one target for each Llm with timeouts of its own and one for all others, made once for each
//! configuration. A request adds its caller's bearer.

use std::collections::HashMap;

use mcpctl_upstream::{Api, Target, TargetConfig, UpstreamKind};
use secrecy::SecretString;
use url::Url;

use crate::config::{Config, PrimaryConfig};

/// The targets of one configuration.
pub struct PrimaryTargets {
    of_llms: HashMap<String, Target>,
    of_others: Target,
}

impl PrimaryTargets {
    /// The targets of this configuration.
    pub fn new(config: &Config) -> Self {
        let base_url = with_v1(&config.inference);
        let target = |primary: PrimaryConfig| {
            Target::new(TargetConfig {
                base_url: base_url.clone(),
                socket: None,
                model: None,
                api: Api::Openai,
                credential: None,
                timeouts: primary.timeouts.of_attempt(),
                kind: UpstreamKind::Mcpd,
            })
        };
        let of_llms = config.providers.iter().flat_map(|provider| {
            provider.failover_for.iter().map(|llm| (llm.as_str().to_owned(), target(provider.primary)))
        });
        Self { of_llms: of_llms.collect(), of_others: target(config.primary) }
    }

    /// The target of requests to an Llm.
    pub fn of(&self, llm: &str, bearer: SecretString) -> Target {
        self.of_llms.get(llm).unwrap_or(&self.of_others).with_credential(bearer)
    }
}

/// `mcpd` has its inference routes below `/v1`, whatever path it is mounted at.
fn with_v1(url: &Url) -> Url {
    let mut base = url.clone();
    if let Ok(mut segments) = base.path_segments_mut() {
        segments.pop_if_empty().push("v1");
    }
    base
}
