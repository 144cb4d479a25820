//! Which addresses Llms may have: the key `upstreamAddresses` of the configuration file.

use std::net::SocketAddr;

use ipnet::IpNet;
use mcpctl_upstream::AddressPolicy;
use serde::Deserialize;

/// The key `upstreamAddresses`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamAddresses {
    /// Whether loopback addresses are allowed [default: `true` with SQLite, `false` with a shared database].
    loopback: Option<bool>,
    /// Whether addresses of private networks are allowed: many companies have their model servers there.
    private: bool,
    /// Networks that are allowed although the two fields above exclude them, such as `10.20.0.0/16`.
    networks: Vec<IpNet>,
}

impl Default for UpstreamAddresses {
    fn default() -> Self {
        Self { loopback: None, private: true, networks: Vec::new() }
    }
}

impl UpstreamAddresses {
    /// The policy for connections; `own` are the addresses that this process listens on.
    pub fn policy(&self, shared_database: bool, own: Vec<SocketAddr>) -> AddressPolicy {
        AddressPolicy {
            loopback: self.loopback.unwrap_or(!shared_database),
            private: self.private,
            networks: self.networks.clone(),
            own,
        }
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::yaml;

    use super::*;

    fn policy(text: &str, shared: bool) -> AddressPolicy {
        yaml::from_str::<UpstreamAddresses>(text).unwrap().policy(shared, Vec::new())
    }

    #[test]
    fn every_key_has_its_effect_and_its_default() {
        let embedded = policy("{}", false);
        assert_eq!((embedded.loopback, embedded.private), (true, true));
        assert!(!policy("{}", true).loopback, "replicas share a database, not a loopback interface");
        assert!(policy("loopback: true", true).loopback);
        let closed = policy("loopback: false\nprivate: false\nnetworks: [10.20.0.0/16]", false);
        let allowed = |url: &str| closed.check_url(&url.parse().unwrap()).is_ok();
        assert!(
            allowed("http://10.20.1.1/v1") && !allowed("http://10.21.1.1/v1") && !allowed("http://127.0.0.1")
        );
    }

    #[test]
    fn a_malformed_network_is_an_error_with_its_place() {
        let error = yaml::from_str::<UpstreamAddresses>("networks:\n  - 10.0.0/8\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 5), "{error}");
        assert!(yaml::from_str::<UpstreamAddresses>("lookback: true").is_err());
    }
}
