//! The local providers that could be written, the best one first.

use std::path::Path;

use mcpctl_api::discovery::{Discovery, FoundModel, FoundProgram, FoundServer};
use url::Url;

use crate::failure::Failure;

/// A local provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A model that the agent serves by a program that it starts.
    Managed {
        /// Its `type`.
        provider_type: String,
        /// The program, where the agent does not find it by itself.
        command: Option<String>,
        /// A path, or a name on the hub.
        model: String,
        /// The size of the model.
        bytes: Option<u64>,
    },
    /// A model of a server that runs already.
    Running {
        /// E.g. `Ollama`.
        product: String,
        /// The base of its API.
        url: Url,
        /// By which it lists the model.
        model: String,
        /// Whether the model calls tools, where the server reports it.
        tools: Option<bool>,
    },
}

impl Choice {
    /// The name of its provider.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Managed { provider_type, .. } if provider_type.starts_with("vllm") => "vllm",
            Self::Managed { .. } => "llama",
            Self::Running { product, .. } => match product.as_str() {
                "Ollama" => "ollama",
                "LM Studio" => "lm-studio",
                "vLLM" => "vllm",
                _ => "local",
            },
        }
    }

    /// Its model, of a path the last part.
    pub fn model(&self) -> &str {
        match self {
            Self::Managed { model, .. } if model.starts_with('/') => {
                Path::new(model).file_name().and_then(|name| name.to_str()).unwrap_or(model)
            }
            Self::Managed { model, .. } | Self::Running { model, .. } => model,
        }
    }

    /// For a list to choose from.
    pub fn describe(&self) -> String {
        match self {
            Self::Managed { provider_type, model, bytes, .. } => {
                let program = provider_type.trim_end_matches("-managed");
                let size = bytes.map(|bytes| format!("{}, ", size(bytes))).unwrap_or_default();
                let at = if model.starts_with('/') { format!(" ({model})") } else { String::new() };
                format!("{}, {size}started by the agent with {program}{at}", self.model())
            }
            Self::Running { product, url, model, tools } => {
                let tools = match tools {
                    Some(true) => ", calls tools",
                    Some(false) => ", calls no tools",
                    None => "",
                };
                format!("{model}, of {product}, which runs at {url}{tools}")
            }
        }
    }
}

/// A size for people.
pub fn size(bytes: u64) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    const GIBIBYTE: u64 = 1 << 30;
    match bytes {
        GIBIBYTE.. => format!("{}.{} GiB", bytes / GIBIBYTE, bytes % GIBIBYTE * 10 / GIBIBYTE),
        _ => format!("{} MiB", bytes.div_ceil(MEBIBYTE)),
    }
}

/// All of them: GGUF files where there is a llama-server, because the agent then decides when the model runs; models of running
/// servers; models of the hub where there is a vLLM.
///
/// None of a server that another user runs: that user would read the prompts. [`named`] finds those too.
///
/// Among files the largest that leaves half of main memory free comes first.
pub fn choices(found: &Discovery) -> Vec<Choice> {
    let (llama, vllm) = (program(found, "llama-server-managed"), program(found, "vllm-managed"));
    let of = |program: Option<&FoundProgram>| {
        let models = found
            .models
            .iter()
            .filter(move |model| program.is_some_and(|program| program.provider_type == model.provider_type));
        models.filter_map(move |model| Some(managed(program?, model))).collect::<Vec<_>>()
    };
    let mut files = of(llama);
    // Stable, so that the larger one stays first.
    files.sort_by_key(|file| match (file, found.memory_bytes) {
        (Choice::Managed { bytes: Some(bytes), .. }, Some(memory)) => *bytes > memory / 2,
        _ => false,
    });
    let running = found.servers.iter().filter(|server| server.user.is_none()).flat_map(running);
    // What only computes embeddings answers no chat.
    let (chat, embeddings): (Vec<Choice>, Vec<Choice>) = files
        .into_iter()
        .chain(running)
        .chain(of(vllm))
        .partition(|choice| !choice.model().to_ascii_lowercase().contains("embed"));
    chat.into_iter().chain(embeddings).collect()
}

fn running(server: &FoundServer) -> impl Iterator<Item = Choice> {
    server.models.iter().map(|model| Choice::Running {
        product: server.product.clone(),
        url: server.url.clone(),
        model: model.clone(),
        tools: server.tools.get(model).copied(),
    })
}

/// The other user whose server has the model, and the server's address.
pub fn other_user<'a>(found: &'a Discovery, choice: &Choice) -> Option<(&'a str, &'a Url)> {
    let Choice::Running { url, .. } = choice else { return None };
    let mut servers = found.servers.iter().filter(|server| server.url == *url);
    servers.find_map(|server| Some((server.user.as_deref()?, &server.url)))
}

fn program<'a>(found: &'a Discovery, provider_type: &str) -> Option<&'a FoundProgram> {
    found.programs.iter().find(|program| program.provider_type == provider_type)
}

fn managed(program: &FoundProgram, model: &FoundModel) -> Choice {
    Choice::Managed {
        provider_type: program.provider_type.clone(),
        command: (!program.is_found).then(|| program.path.clone()),
        model: model.model.clone(),
        bytes: Some(model.bytes),
    }
}

/// The one with this model: a file, or a name that was found.
pub fn named(found: &Discovery, named: &str) -> Result<Choice, Failure> {
    let mut all = choices(found);
    // Last, so that a name of a model of one's own never means another user's.
    all.extend(found.servers.iter().filter(|server| server.user.is_some()).flat_map(running));
    let path = std::path::absolute(named)?;
    let is_meant = |choice: &&Choice| match choice {
        Choice::Managed { model, .. } if model.starts_with('/') => Path::new(model) == path,
        Choice::Managed { model, .. } | Choice::Running { model, .. } => model == named,
    };
    if let Some(choice) = all.iter().find(is_meant) {
        return Ok(choice.clone());
    }
    if !path.is_file() {
        let known: Vec<&str> = all.iter().map(Choice::model).take(10).collect();
        let failure = Failure::new(format!("`{named}` is neither a file nor a model that was found"));
        return Err(if known.is_empty() {
            failure
        } else {
            failure.hint(format!("found: {}", known.join(", ")))
        });
    }
    let Some(llama) = program(found, "llama-server-managed") else {
        return Err(Failure::new("there is no llama-server that could serve this file")
            .hint("install llama.cpp: https://github.com/ggml-org/llama.cpp/releases"));
    };
    let bytes = path.metadata().ok().map(|metadata| metadata.len());
    let model = path.to_str().ok_or_else(|| Failure::new("the path of the model is not UTF-8"))?;
    Ok(Choice::Managed {
        provider_type: llama.provider_type.clone(),
        command: (!llama.is_found).then(|| llama.path.clone()),
        model: model.to_owned(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn model_of_another_users_server_is_taken_by_its_name_only() {
        let server = |url: &str, model: &str, user: Option<&str>| FoundServer {
            product: "Ollama".to_owned(),
            url: url.parse().unwrap(),
            models: vec![model.to_owned()],
            tools: BTreeMap::new(),
            wants_key: false,
            user: user.map(str::to_owned),
        };
        let foreign = server("http://127.0.0.1:1234/v1", "qwen", Some("nobody"));
        let mut found = Discovery { servers: vec![foreign], ..Discovery::default() };
        assert_eq!(choices(&found), []);
        let choice = named(&found, "qwen").unwrap();
        assert_eq!(other_user(&found, &choice).unwrap().0, "nobody");

        found.servers.push(server("http://127.0.0.1:11434/v1", "qwen", None));
        let own = named(&found, "qwen").unwrap();
        assert_eq!(choices(&found), std::slice::from_ref(&own));
        assert_eq!(other_user(&found, &own), None);
    }
}
