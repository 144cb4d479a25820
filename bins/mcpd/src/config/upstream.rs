//! Where Llms may point: the key `upstreamAddresses` of the configuration file.

use std::net::SocketAddr;

use ipnet::IpNet;
use mcpctl_upstream::AddressPolicy;
use serde::Deserialize;

/// Which addresses providers may have, as the file says it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamAddresses {
    /// Whether this machine's own may be used; by default where the database is this machine's too.
    loopback: Option<bool>,
    /// Whether those of private networks may be used, where many companies' model servers are.
    private: bool,
    /// Networks that may be used although the two above say no, such as `10.20.0.0/16`.
    networks: Vec<IpNet>,
}

impl Default for UpstreamAddresses {
    fn default() -> Self {
        Self { loopback: None, private: true, networks: Vec::new() }
    }
}

impl UpstreamAddresses {
    /// What connections are judged by; `own` is where this process listens.
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
    fn a_network_that_is_none_is_said_with_its_place() {
        let error = yaml::from_str::<UpstreamAddresses>("networks:\n  - 10.0.0/8\n").unwrap_err();
        assert_eq!((error.line, error.column), (2, 5), "{error}");
        assert!(yaml::from_str::<UpstreamAddresses>("lookback: true").is_err());
    }
}
