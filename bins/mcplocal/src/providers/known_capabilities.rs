//! What the model of a provider can do, and for people why requests with tools do not fall back to it: before one needs it.

use mcpctl_api::agent::ToolsGap;

use super::engine_config;
use crate::{
    capabilities::{Capabilities, ModelInfo},
    config::{ManagedEngine, ProviderConfig, ProviderKind},
};

/// What the model of a provider can do: as the configuration declares it, else by the engine's arguments, else as its server reports.
pub fn known_capabilities(provider: &ProviderConfig, info: Option<&ModelInfo>) -> Capabilities {
    let reported = info.map(|info| info.capabilities).unwrap_or_default();
    provider.declared.or(by_arguments(provider)).or(reported)
}

/// Why requests with tools do not fall back to a provider, or may not. `info` is what its server reported, where it was asked.
pub fn tools_gap(provider: &ProviderConfig, info: Option<&ModelInfo>) -> Option<ToolsGap> {
    let found = known_capabilities(provider, info);
    // A model that computes embeddings is asked for nothing else.
    if provider.failover_for.is_empty() || found.embeddings == Some(true) {
        return None;
    }
    let flags = engine_config(provider).map(|(spec, _)| spec.server.capability_flags().tools);
    let none = |why: &str| format!("requests with tools do not fall back to it: {why}");
    let (reason, hint) = match (found.tools, provider.declared.tools, by_arguments(provider).tools) {
        (Some(true), ..) => return None,
        (Some(false), Some(false), _) => (
            none("its `capabilities` do not list `tools`"),
            "if its model calls tools, add `tools` to `capabilities`".to_owned(),
        ),
        (Some(false), None, Some(false)) => {
            let flag = flags.and_then(|flags| flags.first().copied()).unwrap_or_default();
            (
                none(&format!("its server is started without `{flag}`")),
                format!("if its model calls tools: `extraArgs: [{flag}, --tool-call-parser, PARSER]`"),
            )
        }
        (Some(false), ..) => (
            none("its server reports that the model does not call them"),
            format!(
                "choose a model that calls tools; if this one does, declare it: `{}`",
                declaration(found)
            ),
        ),
        // A server that is asked at each request, and reports nothing, decides for itself.
        (None, ..) if info.is_some() || matches!(provider.kind, ProviderKind::Running { .. }) => return None,
        (None, ..) => (
            "whether its model calls tools is not known before its first start".to_owned(),
            format!("mcpctl local start {}; or declare it: `{}`", provider.name, declaration(found)),
        ),
    };
    Some(ToolsGap { reason, hint })
}

/// The line that declares tools besides what is known of a model, because a list is complete.
fn declaration(known: Capabilities) -> String {
    let also = [
        ("vision", known.vision),
        ("prefill", known.prefill),
        ("messages", known.messages),
        ("responses", known.responses),
    ];
    let also = also.into_iter().filter(|(_, has)| *has == Some(true)).map(|(word, _)| word);
    let words: Vec<&str> = std::iter::once("tools").chain(also).collect();
    format!("capabilities: [{}]", words.join(", "))
}

/// Capabilities that depend on the arguments of an engine, and that a running server does not report. Unknown where a script
/// starts the server, because its own arguments are hidden.
fn by_arguments(provider: &ProviderConfig) -> Capabilities {
    let ProviderKind::Managed(managed) = &provider.kind else { return Capabilities::default() };
    let ManagedEngine { spec, options, .. } = managed.as_ref();
    let flags = spec.server.capability_flags();
    let is_script = spec.command.as_ref().is_some_and(|command| !command.ends_with(spec.server.program()));
    let shown = |flags: &[&str]| {
        if flags.is_empty() || options.env.iter().any(|(name, _)| spec.server.has_variable_for(name, flags)) {
            return None;
        }
        // Python's argparse accepts underscores for hyphens.
        let mut given = options.extra_args.iter().map(|argument| argument.replace('_', "-"));
        let is_given = given.any(|argument| flags.contains(&argument.as_str()));
        (is_given || !is_script).then_some(is_given)
    };
    Capabilities { tools: shown(flags.tools), embeddings: shown(flags.embeddings), ..Capabilities::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_reason_against_tools_has_its_next_step() {
        let reported = |tools| {
            let capabilities = Capabilities { tools, prefill: Some(true), ..Capabilities::default() };
            ModelInfo { models: Vec::new(), model: None, capabilities, refuses_key: false }
        };
        let running = "type: openai, url: 'http://127.0.0.1:9/v1', failoverFor: gpt";
        let llama = "type: llama-server-managed, model: /m.gguf, failoverFor: gpt";
        let vllm = "type: vllm-managed, model: m, failoverFor: gpt";
        for (keys, info, expected) in [
            (running.to_owned(), Some(reported(Some(true))), None),
            (running.to_owned(), Some(reported(None)), None),
            (running.to_owned(), None, None),
            (
                running.to_owned(),
                Some(reported(Some(false))),
                Some(
                    "choose a model that calls tools; if this one does, declare it: `capabilities: [tools, prefill]`",
                ),
            ),
            (
                format!("{running}, capabilities: [vision]"),
                Some(reported(Some(true))),
                Some("if its model calls tools, add `tools` to `capabilities`"),
            ),
            (format!("{running}, capabilities: [embeddings]"), None, None),
            (running.replace(", failoverFor: gpt", ""), Some(reported(Some(false))), None),
            (llama.to_owned(), None, Some("mcpctl local start p; or declare it: `capabilities: [tools]`")),
            (llama.to_owned(), Some(reported(None)), None),
            (format!("{llama}, capabilities: [tools]"), None, None),
            (
                vllm.to_owned(),
                None,
                Some(
                    "if its model calls tools: `extraArgs: [--enable-auto-tool-choice, --tool-call-parser, PARSER]`",
                ),
            ),
            (format!("{vllm}, extraArgs: [--enable-auto-tool-choice]"), None, None),
        ] {
            let text = format!("server: https://mcpd.example.com\nproviders:\n  - {{name: p, {keys}}}\n");
            let config = Config::parse(&text).unwrap();
            let found = tools_gap(&config.providers[0], info.as_ref()).map(|gap| gap.hint);
            assert_eq!(found.as_deref(), expected, "{keys}");
        }
    }
}
