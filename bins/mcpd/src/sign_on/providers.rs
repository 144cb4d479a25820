//! The OpenID providers of the configuration: what a sign-in needs of each.

use std::time::Duration;

use mcpctl_api::{Name, oidc::OidcMethod, spec::GroupClaim, visible};
use mcpctl_issuer::{Claims, Issuer, OidcClient};
use mcpctl_upstream::Client;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::device_polls::DevicePolls;
use crate::{config::OidcConfig, login::NotChecked, writes::sign_on::Newcomer};

/// Requests to one provider at once.
const MAX_IN_FLIGHT: usize = 16;
/// How long a sign-in waits until one of them is over.
const SLOT_TIMEOUT: Duration = Duration::from_secs(2);
/// `Retry-After` where all of them stay taken.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Most values of a groups' claim.
const MAX_GROUPS: usize = 1000;
/// Longest name or address that is kept of a newcomer, in bytes.
const MAX_SHOWN_BYTES: usize = 200;

/// The trusted providers.
pub struct SignOn {
    providers: Vec<Provider>,
    /// When device codes were polled.
    pub polls: DevicePolls,
}

/// A trusted provider.
pub struct Provider {
    /// Its configuration.
    pub config: OidcConfig,
    /// mcpd as the client that the provider knows.
    pub client: OidcClient,
    /// The issuer of its ID tokens.
    pub issuer: Issuer,
    in_flight: Semaphore,
}

/// Why a provider cannot be used for a sign-in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The configuration has no provider of this name.
    #[error("no provider `{0}` is configured at this mcpd")]
    NoProvider(String),
    /// The configuration does not allow device codes of this provider.
    #[error("device codes of `{0}` are not accepted by this mcpd")]
    NoDeviceCode(Name),
    /// The groups' claim cannot be read.
    #[error("the provider's claim `{claim}` cannot be read: {why}")]
    Groups {
        /// The claim.
        claim: String,
        /// Why.
        why: &'static str,
    },
}

impl SignOn {
    /// The providers of the configuration; nothing is fetched yet.
    pub fn new(configs: Vec<OidcConfig>, client: &Client) -> Self {
        let provider = |config: OidcConfig| Provider {
            issuer: Issuer::new(config.issuer.clone(), client.clone()),
            client: OidcClient { id: config.client_id.clone(), secret: config.client_secret.clone() },
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            config,
        };
        Self { providers: configs.into_iter().map(provider).collect(), polls: DevicePolls::default() }
    }

    /// Looks every provider up once, so that the log of the start names those that cannot be reached.
    pub async fn look_up(&self) {
        let found = self.providers.iter().map(|provider| async move {
            if provider.issuer.metadata().await.is_ok() {
                tracing::info!(provider = %provider.config.name, issuer = %provider.config.issuer, "sign-in by a provider");
            }
        });
        futures::future::join_all(found).await;
    }

    /// What a program needs to send a browser to each provider.
    pub async fn methods(&self) -> Vec<OidcMethod> {
        futures::future::join_all(self.providers.iter().map(Provider::method)).await
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.providers.iter().map(|provider| &provider.config.name)
    }

    /// The provider of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn provider(&self, name: &str) -> Result<&Provider, ProviderError> {
        let provider = self.providers.iter().find(|provider| provider.config.name.as_str() == name);
        provider.ok_or_else(|| ProviderError::NoProvider(visible::short(name, MAX_SHOWN_BYTES)))
    }
}

impl Provider {
    async fn method(&self) -> OidcMethod {
        let metadata = self.issuer.metadata().await.ok();
        let of = metadata.as_deref();
        OidcMethod {
            name: self.config.name.clone(),
            issuer: self.config.issuer.clone(),
            client_id: self.config.client_id.clone(),
            scopes: self.config.scopes.clone(),
            authorization_endpoint: of.and_then(|metadata| metadata.authorization_endpoint.clone()),
            names_issuer: of.is_some_and(|metadata| metadata.names_issuer),
            device_code: self.config.device_code
                && of.is_none_or(|metadata| metadata.device_authorization_endpoint.is_some()),
        }
    }

    /// Leave to send it a request, in the order of the callers.
    ///
    /// # Errors
    /// When too many stay under way.
    pub async fn slot(&self) -> Result<SemaphorePermit<'_>, NotChecked> {
        let slot = tokio::time::timeout(SLOT_TIMEOUT, self.in_flight.acquire()).await;
        slot.ok().and_then(Result::ok).ok_or(NotChecked::Busy(BUSY_RETRY_AFTER))
    }

    /// The values of the groups' claim: a list, or one text.
    ///
    /// # Errors
    /// When the claim cannot be read.
    pub fn groups(&self, claims: &Claims) -> Result<Vec<String>, ProviderError> {
        let Some(claim) = &self.config.groups_claim else { return Ok(Vec::new()) };
        let wrong = |why| ProviderError::Groups { claim: claim.clone(), why };
        // Entra leaves the claim out where there are too many, and marks that by one of these claims. Read as no groups, it
        // would lift the Limits of those groups.
        let left_out = claims.all.get("_claim_names").is_some_and(|names| names.get(claim).is_some())
            || claims.all.get("hasgroups") == Some(&Value::Bool(true));
        let values: Vec<&str> = match claims.all.get(claim) {
            None | Some(Value::Null) if left_out => {
                return Err(wrong("the provider leaves it out because it has too many values"));
            }
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => {
                let texts: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| wrong("it is not a list of texts"))?
            }
            Some(_) => return Err(wrong("it is not a list of texts")),
        };
        if values.len() > MAX_GROUPS {
            return Err(wrong("it has more than 1000 values"));
        }
        // Dropping one could drop a group that limits its members.
        if !values.iter().all(|value| GroupClaim::is_value(value)) {
            return Err(wrong("one of its values does not have 1 to 256 characters"));
        }
        let mut groups: Vec<String> = values.into_iter().map(str::to_owned).collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    /// The groups' claim, where the ID token lacks it: many providers want a scope for it.
    pub fn absent_groups(&self, claims: &Claims) -> Option<&str> {
        self.config.groups_claim.as_deref().filter(|claim| !claims.all.contains_key(*claim))
    }

    /// What is kept of a person without a user; `None` where none is made.
    pub fn newcomer<'a>(&'a self, claims: &'a Claims) -> Option<Newcomer<'a>> {
        let text = |name: &str| claims.all.get(name).and_then(Value::as_str);
        let shown = |name: &str| {
            text(name)
                .map(|text| visible::short(&visible::one_line(text), MAX_SHOWN_BYTES))
                .filter(|text| !text.is_empty())
        };
        self.config.auto_create.as_ref().map(|allowed| Newcomer {
            claim: &self.config.username_claim,
            name: text(&self.config.username_claim),
            is_stated: claims.all.contains_key(&self.config.username_claim),
            prefix: allowed.name_prefix(),
            max_users: allowed.max_users(),
            missing: allowed.missing_claim(&claims.all),
            display_name: shown("name"),
            email: shown("email"),
        })
    }
}

impl SignOn {
    /// The provider of this name, for a device code.
    ///
    /// # Errors
    /// When there is none, or it does not allow device codes.
    pub fn device_provider(&self, name: &str) -> Result<&Provider, ProviderError> {
        let provider = self.provider(name)?;
        if !provider.config.device_code {
            return Err(ProviderError::NoDeviceCode(provider.config.name.clone()));
        }
        Ok(provider)
    }
}
