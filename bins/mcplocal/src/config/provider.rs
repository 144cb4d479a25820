//! One entry of `providers`: a local model server, started by the agent or running already.

use std::{fmt, path::PathBuf};

use mcpctl_api::{HumanDuration, Name, yaml::YamlError};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use url::Url;

use super::{is_loopback, place, wrong};

/// A provider, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Unique in the file.
    pub name: Name,
    /// What it is.
    pub kind: ProviderKind,
    /// The model's name in requests to it, or what it is started with.
    pub model: String,
    /// Central Llms that it can stand in for.
    pub failover_for: Vec<Name>,
    /// Where it stands in the file.
    pub line: u64,
}

/// What a provider is.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderKind {
    /// Runs already, and speaks OpenAI's API.
    Openai {
        /// Its base address.
        url: Url,
    },
    /// Started by the agent.
    Managed(Managed),
}

/// What a server is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// Which server.
    pub kind: ManagedKind,
    /// The program, where it is not found by itself.
    pub command: Option<PathBuf>,
    /// Where `vllm` is installed.
    pub venv: Option<PathBuf>,
    /// Most tokens of prompt and answer together.
    pub context_length: Option<u32>,
    /// Share of the GPU's memory, 0 to 1.
    pub gpu_memory_utilization: Option<f64>,
    /// After so long without a request it is stopped.
    pub idle_timeout: HumanDuration,
}

/// A server that the agent can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagedKind {
    /// `vllm serve`.
    Vllm,
    /// llama.cpp's `llama-server`.
    LlamaServer,
}

const DEFAULT_IDLE: HumanDuration = HumanDuration::from_secs(15 * 60);

/// As the file says it: every key of every type; which go together is checked below.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    name: Name,
    #[serde(rename = "type")]
    kind: Spanned<Type>,
    model: String,
    url: Option<Spanned<Url>>,
    command: Option<Spanned<PathBuf>>,
    venv: Option<Spanned<PathBuf>>,
    gpu_memory_utilization: Option<Spanned<f64>>,
    max_model_len: Option<Spanned<u32>>,
    context_length: Option<Spanned<u32>>,
    idle_timeout: Option<Spanned<HumanDuration>>,
    failover_for: Option<Spanned<OneOrMany>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Openai,
    VllmManaged,
    LlamaServerManaged,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::VllmManaged => "vllm-managed",
            Self::LlamaServerManaged => "llama-server-managed",
        }
    }
}

impl Entry {
    /// Where `failoverFor` stands, if it does.
    pub(super) fn failover_place(&self) -> Option<(u64, u64)> {
        self.failover_for.as_ref().map(place)
    }
}

pub(super) fn check(entry: Spanned<Entry>) -> Result<Provider, YamlError> {
    let (line, _) = place(&entry);
    let Entry {
        name,
        kind,
        model,
        url,
        command,
        venv,
        gpu_memory_utilization,
        max_model_len,
        context_length,
        idle_timeout,
        failover_for,
    } = entry.value;
    if model.trim().is_empty() {
        return Err(wrong(&kind, format!("`model` of provider `{name}` is empty")));
    }
    let word = kind.value.as_str();
    let foreign = |key: &str, at: Option<(u64, u64)>| match at {
        None => Ok(()),
        Some((line, column)) => Err(YamlError {
            line,
            column,
            message: format!("`{key}` does not go with `type: {word}`"),
            hint: None,
        }),
    };
    let at_url = url.as_ref().map(place);
    let at_command = command.as_ref().map(place);
    let at_venv = venv.as_ref().map(place);
    let at_gpu = gpu_memory_utilization.as_ref().map(place);
    let at_max = max_model_len.as_ref().map(place);
    let at_context = context_length.as_ref().map(place);
    let at_idle = idle_timeout.as_ref().map(place);

    let managed = |kind: ManagedKind, context: Option<Spanned<u32>>| -> Result<ProviderKind, YamlError> {
        if let Some(idle) = idle_timeout.as_ref().filter(|idle| idle.value.is_zero()) {
            return Err(wrong(idle, "`idleTimeout` is more than zero"));
        }
        if let Some(share) = gpu_memory_utilization.as_ref().filter(|s| !(s.value > 0.0 && s.value <= 1.0)) {
            return Err(wrong(share, "`gpuMemoryUtilization` is more than 0 and at most 1"));
        }
        if let Some(context) = context.as_ref().filter(|context| context.value == 0) {
            return Err(wrong(context, "a context of no tokens holds nothing"));
        }
        Ok(ProviderKind::Managed(Managed {
            kind,
            command: command.as_ref().map(|c| c.value.clone()),
            venv: venv.as_ref().map(|v| v.value.clone()),
            context_length: context.map(|c| c.value),
            gpu_memory_utilization: gpu_memory_utilization.as_ref().map(|g| g.value),
            idle_timeout: idle_timeout.as_ref().map_or(DEFAULT_IDLE, |idle| idle.value),
        }))
    };
    let checked = match kind.value {
        Type::Openai => {
            foreign("command", at_command)?;
            foreign("venv", at_venv)?;
            foreign("gpuMemoryUtilization", at_gpu)?;
            foreign("maxModelLen", at_max)?;
            foreign("contextLength", at_context)?;
            foreign("idleTimeout", at_idle)?;
            let Some(url) = url else {
                return Err(wrong(&kind, format!("provider `{name}` of type `openai` needs a `url`")));
            };
            check_url(&url)?;
            ProviderKind::Openai { url: url.value }
        }
        Type::VllmManaged => {
            foreign("url", at_url)?;
            foreign("contextLength", at_context)?;
            if command.is_some() {
                foreign("venv` beside `command", at_venv)?;
            }
            managed(ManagedKind::Vllm, max_model_len)?
        }
        Type::LlamaServerManaged => {
            foreign("url", at_url)?;
            foreign("venv", at_venv)?;
            foreign("gpuMemoryUtilization", at_gpu)?;
            foreign("maxModelLen", at_max)?;
            managed(ManagedKind::LlamaServer, context_length)?
        }
    };
    let failover_for = failover_for.map(|list| list.value.0).unwrap_or_default();
    Ok(Provider { name, kind: checked, model, failover_for, line })
}

/// A stand-in is local: prompts that were meant for the centre go to no third party because of a typing error.
fn check_url(url: &Spanned<Url>) -> Result<(), YamlError> {
    let address = &url.value;
    if !matches!(address.scheme(), "http" | "https") {
        return Err(wrong(url, format!("`{address}` is neither http nor https")));
    }
    if !address.username().is_empty() || address.password().is_some() {
        return Err(wrong(url, "credentials do not belong into an address"));
    }
    if !is_loopback(address) {
        let mut error = wrong(url, format!("`{address}` is not on this machine"));
        error.hint =
            Some("a local provider has a loopback address, e.g. `http://127.0.0.1:11434/v1`".to_owned());
        return Err(error);
    }
    Ok(())
}

/// `failoverFor: claude`, or a list.
struct OneOrMany(Vec<Name>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a central Llm, or a list of names")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![text.parse().map_err(E::custom)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element()? {
            names.push(name);
        }
        Ok(OneOrMany(names))
    }
}
