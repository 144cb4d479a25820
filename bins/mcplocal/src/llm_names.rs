//! Whether the Llms that providers fall back for exist, as far as the signed-in user may see them: a misspelt `failoverFor`
//! would be noticed only when the primary fails. mcpd is asked where it can be; without an answer nothing is reported.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mcpctl_api::{Kind, similar::most_similar, visible::short};
use mcpctl_client::{Client, ClientOptions, config as user};
use secrecy::SecretString;
use serde::Serialize;
use tokio::time::Instant;

use crate::config::Config;

/// How long mcpd may take to list its Llms.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// How old the list may be before mcpd is asked again.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Bytes of a name that is printed.
const MAX_NAME: usize = 128;

/// A name in `failoverFor` that no Llm has that the user may view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnknownLlm {
    /// The provider that falls back for it.
    pub provider: String,
    /// The name.
    pub llm: String,
    /// The most similar name of an Llm that there is.
    pub similar: Option<String>,
    /// The provider's line in the file.
    pub line: u64,
}

impl std::fmt::Display for UnknownLlm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no Llm `{}` that you may see", self.llm)?;
        match &self.similar {
            Some(similar) => write!(f, "; did you mean `{similar}`?"),
            None => Ok(()),
        }
    }
}

impl UnknownLlm {
    /// What to do about it.
    pub fn hint(&self) -> String {
        format!(
            "correct `failoverFor` of the provider `{}`, or ask an administrator for access; `mcpctl get llms` lists the names",
            self.provider
        )
    }
}

/// Asks mcpd as the user who is signed in there; None where it does not answer, or no user is signed in.
pub async fn unknown(config: &Config, contexts: &Path) -> Option<Vec<UnknownLlm>> {
    if config.providers.iter().all(|provider| provider.failover_for.is_empty()) {
        return Some(Vec::new());
    }
    let contexts = user::Config::load(contexts).ok()?;
    let token = SecretString::from(contexts.signed_in_at(&config.server)?.token.as_ref()?.expose());
    let options = ClientOptions {
        connect_timeout: LIST_TIMEOUT,
        timeout: LIST_TIMEOUT,
        trust: config.trust.clone(),
        ..ClientOptions::default()
    };
    // Those that the user may view: that is what the probe decides by.
    let client = Client::new(config.server.clone(), Some(token), &options).ok()?;
    let llms = client.list(Kind::Llm, None).await.ok()?;
    let names: Vec<&str> = llms.items.iter().map(|llm| llm.name.as_str()).collect();
    Some(not_among(config, &names))
}

fn not_among(config: &Config, names: &[&str]) -> Vec<UnknownLlm> {
    let wanted = config
        .providers
        .iter()
        .flat_map(|provider| provider.failover_for.iter().map(move |llm| (provider, llm.as_str())));
    wanted
        .filter(|(_, llm)| !names.contains(llm))
        .map(|(provider, llm)| UnknownLlm {
            provider: provider.name.to_string(),
            llm: llm.to_owned(),
            similar: most_similar(llm, names.iter().copied()).map(|name| short(name, MAX_NAME)),
            line: provider.line,
        })
        .collect()
}

/// What mcpd answered last, so that a status is as quick as ever.
#[derive(Clone, Default)]
pub struct LlmNameCache(Arc<Mutex<UnknownLlms>>);

#[derive(Default)]
struct UnknownLlms {
    /// When mcpd was asked last, for which configuration.
    asked: Option<(Instant, Vec<(String, u64)>)>,
    unknown: Vec<UnknownLlm>,
}

impl LlmNameCache {
    /// What is known. Has mcpd asked anew where that is old, or the configuration another one.
    pub fn get(&self, config: &Config, contexts: &Path) -> Vec<UnknownLlm> {
        let names = |config: &Config| {
            let names = config.providers.iter().flat_map(|provider| {
                provider.failover_for.iter().map(move |llm| (llm.to_string(), provider.line))
            });
            names.collect::<Vec<_>>()
        };
        let asked = names(config);
        let mut memory = self.lock();
        let asked_at = memory.asked.as_ref().filter(|(_, before)| *before == asked).map(|(at, _)| *at);
        if asked_at.is_none() {
            memory.unknown.clear();
        }
        if asked_at.is_none_or(|at| at.elapsed() >= MAX_AGE) {
            memory.asked = Some((Instant::now(), asked.clone()));
            let (this, config, contexts) = (self.clone(), config.clone(), contexts.to_owned());
            tokio::spawn(async move {
                let unknown = unknown(&config, &contexts).await;
                let mut memory = this.lock();
                if memory.asked.as_ref().is_some_and(|(_, now)| *now == asked) {
                    memory.unknown = unknown.unwrap_or_default();
                }
            });
        }
        memory.unknown.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, UnknownLlms> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
