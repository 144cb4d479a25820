//! The issuers whose tokens mcpd exchanges: the key `tokenExchange` of the configuration file.

use std::{collections::HashSet, path::PathBuf};

use mcpctl_api::{HintedError, oidc::IssuerUrl};
use mcpctl_issuer::Keys;
use mcpctl_owner::file::{self, Content};
use serde::Deserialize;

/// Maximum number of issuers; each has a cache of keys.
const MAX_ISSUERS: usize = 16;
/// Maximum size of a file of keys, in bytes.
pub const MAX_KEYS_BYTES: u64 = 256 * 1024;

/// The key `tokenExchange`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TokenExchange {
    issuers: Issuers,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<ExchangeIssuer>")]
struct Issuers(Vec<ExchangeIssuer>);

/// One issuer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExchangeIssuer {
    /// Its identity, which is also where its keys are found by discovery.
    pub issuer: IssuerUrl,
    /// A file with its keys (RFC 7517) instead, for an issuer that cannot be reached.
    pub keys_file: Option<PathBuf>,
}

impl TryFrom<Vec<ExchangeIssuer>> for Issuers {
    type Error = String;

    fn try_from(issuers: Vec<ExchangeIssuer>) -> Result<Self, String> {
        if issuers.len() > MAX_ISSUERS {
            return Err(format!("at most {MAX_ISSUERS} issuers, this list has {}", issuers.len()));
        }
        let mut known = HashSet::new();
        match issuers.iter().find(|entry| !known.insert(entry.issuer.clone())) {
            Some(twice) => Err(format!("the issuer `{}` is listed twice", twice.issuer.as_str())),
            None => Ok(Self(issuers)),
        }
    }
}

impl TokenExchange {
    /// The issuers, after their files were read once.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no keys.
    pub fn resolve(self) -> anyhow::Result<Vec<ExchangeIssuer>> {
        for path in self.issuers.0.iter().filter_map(|entry| entry.keys_file.as_ref()) {
            let bytes = file::read_named(path, Content::Public, MAX_KEYS_BYTES).map_err(|error| {
                HintedError::new(format_args!("the keys of an issuer cannot be read: {error}"), error.hint())
            })?;
            Keys::read(&bytes).map_err(|why| {
                HintedError::with(
                    format_args!("{}: {why}", path.display()),
                    "it is a JSON Web Key Set, e.g. of `kubectl get --raw /openid/v1/jwks`",
                )
            })?;
        }
        Ok(self.issuers.0)
    }
}
