//! Which local provider each central Llm falls back to.

use thiserror::Error;

/// Local providers by name, and the central Llms that fall back to them. Lists are short, so they are searched.
#[derive(Debug, Clone)]
pub struct ProviderRegistry<P> {
    providers: Vec<(String, P)>,
    failovers: Vec<(String, String)>,
}

/// Why a provider or a failover cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The provider does not exist.
    #[error("provider `{0}` is not registered")]
    NotRegistered(String),
    /// The name is taken.
    #[error("provider `{0}` is registered already")]
    Taken(String),
    /// The Llm has another local provider already; it would be ambiguous which is meant.
    #[error("`{central}` has a local provider already, `{existing}`; `{refused}` cannot be another")]
    AlreadyMapped {
        /// The central Llm.
        central: String,
        /// Its local provider.
        existing: String,
        /// The other one.
        refused: String,
    },
}

impl<P> Default for ProviderRegistry<P> {
    fn default() -> Self {
        Self { providers: Vec::new(), failovers: Vec::new() }
    }
}

impl<P> ProviderRegistry<P> {
    /// Adds a provider.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn register(&mut self, name: impl Into<String>, provider: P) -> Result<(), RegistryError> {
        let name = name.into();
        if self.provider(&name).is_some() {
            return Err(RegistryError::Taken(name));
        }
        self.providers.push((name, provider));
        Ok(())
    }

    /// Removes a provider, and every failover that points at it.
    pub fn unregister(&mut self, name: &str) -> Option<P> {
        let at = self.providers.iter().position(|(known, _)| known == name)?;
        self.failovers.retain(|(_, provider)| provider != name);
        Some(self.providers.remove(at).1)
    }

    /// Maps a central Llm to the provider that it falls back to.
    ///
    /// # Errors
    /// When the provider is not registered, or the Llm has another one.
    pub fn register_failover(
        &mut self,
        central: impl Into<String>,
        provider: &str,
    ) -> Result<(), RegistryError> {
        let central = central.into();
        if self.provider(provider).is_none() {
            return Err(RegistryError::NotRegistered(provider.to_owned()));
        }
        match self.failovers.iter().find(|(known, _)| *known == central) {
            Some((_, existing)) if existing == provider => Ok(()),
            Some((_, existing)) => Err(RegistryError::AlreadyMapped {
                central,
                existing: existing.clone(),
                refused: provider.to_owned(),
            }),
            None => {
                self.failovers.push((central, provider.to_owned()));
                Ok(())
            }
        }
    }

    /// The provider of that name.
    pub fn provider(&self, name: &str) -> Option<&P> {
        self.providers.iter().find(|(known, _)| known == name).map(|(_, provider)| provider)
    }

    /// Every provider, in order of registration.
    pub fn providers(&self) -> impl Iterator<Item = (&str, &P)> {
        self.providers.iter().map(|(name, provider)| (name.as_str(), provider))
    }

    /// The provider that a central Llm falls back to, with its name.
    pub fn failover_for(&self, central: &str) -> Option<(&str, &P)> {
        let (_, name) = self.failovers.iter().find(|(known, _)| known == central)?;
        Some((name, self.provider(name)?))
    }

    /// Every pair of central Llm and provider, in order of registration.
    pub fn failovers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failovers.iter().map(|(central, provider)| (central.as_str(), provider.as_str()))
    }
}
