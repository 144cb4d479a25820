//! The reverse proxies whose `X-Forwarded-For` mcpd trusts: the key `trustedProxies` of the configuration file.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::Deserialize;

/// Networks of reverse proxies whose `X-Forwarded-For` is trusted; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TrustedProxies(Vec<TrustedNetwork>);

impl TrustedProxies {
    /// Whether this is the address of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|TrustedNetwork(network)| network.contains(&address))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct TrustedNetwork(IpNet);

impl TryFrom<String> for TrustedNetwork {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => IpNet::from_str(&text)
                .map_err(|_| format!("`{text}` is not a network; write e.g. `10.0.0.7` or `10.0.0.0/24`"))?,
        };
        if network.prefix_len() < 8 {
            return Err(format!(
                "`{text}` is too wide a network to trust; list the addresses of the proxies"
            ));
        }
        Ok(Self(network.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_to_trust_are_checked() {
        for text in ["", "proxy", "10.0.0.0/33", "0.0.0.0/0", "::/0", "*"] {
            assert!(TrustedNetwork::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
