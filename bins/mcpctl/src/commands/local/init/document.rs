//! The text of `mcplocal.yaml`: what was chosen, and as comments what a person would look for next.

use mcpctl_api::Name;
use mcpctl_client::config::Context;
use url::Url;

use super::choices::{Choice, size};
use crate::{context::Global, failure::Failure};

/// Alternatives that the file names in comments.
const MAX_ALTERNATIVES: usize = 5;

/// The mcpd of the agent.
pub struct Central {
    server: Url,
    /// Whether it is that of mcpctl's current context, so that the file need not name it.
    is_current: bool,
    /// Where the file names it: what else of the context is about reaching it.
    context: Option<Context>,
}

impl Central {
    /// The mcpd that the flags, the environment or the contexts name.
    pub fn of(global: &Global) -> Result<Self, Failure> {
        let identity = global.identity()?;
        let (_, contexts) = global.config()?;
        let is_current = contexts.context(None).is_some_and(|current| {
            current.server == identity.server
                && identity.context.as_ref().is_none_or(|context| context.name == current.name)
        });
        let context = if is_current { None } else { identity.context };
        Ok(Self { server: identity.server, is_current, context })
    }

    /// Its address for people.
    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }

    fn lines(&self) -> String {
        if self.is_current {
            return format!(
                "# The mcpd that requests go to. Without this line it is that of mcpctl's current context when the agent starts.\n\
                 # server: {}\n",
                self.server()
            );
        }
        let mut lines = format!("# The mcpd that requests go to.\nserver: {}\n", self.server());
        if let Some(context) = &self.context {
            let path =
                |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
            for (key, value) in [
                ("serverUser", context.server_user.clone()),
                ("ca", path(&context.ca)),
                ("clientCertificate", path(&context.client_certificate)),
                ("clientKey", path(&context.client_key)),
            ] {
                if let Some(value) = value {
                    lines.push_str(&format!("{key}: {}\n", scalar(&value)));
                }
            }
        }
        lines
    }
}

/// The whole text.
pub fn document(
    central: &Central,
    choice: Option<&Choice>,
    failover_for: &[Name],
    others: &[Choice],
) -> String {
    let mut text = format!(
        "# The agent of this machine, written by `mcpctl local init`. It takes changes of this file over while it runs;\n\
         # `mcpctl local doctor` checks it.\n\n{}\n\
         # Where clients of this machine connect.\n\
         # listen: 127.0.0.1:3200\n",
        central.lines()
    );
    let Some(choice) = choice else {
        text.push_str(
            "\n# Without a local model the agent forwards, and never falls back.\n\
             # providers:\n\
             #   - name: llama\n\
             #     type: llama-server-managed\n\
             #     model: ~/models/model.gguf\n\
             #     failoverFor: [gpt]\n",
        );
        return text;
    };
    text.push_str("\nproviders:\n");
    text.push_str(&match choice {
        Choice::Managed { .. } => {
            "  # The agent starts it when a request needs it, and stops it when it has been idle.\n"
                .to_owned()
        }
        Choice::Running { product, .. } => {
            format!("  # {product} runs by itself; the agent only sends requests to it.\n")
        }
    });
    text.push_str(&entry(choice, choice.name()));
    text.push_str(
        "    # The central Llms that it answers for while they fail, and only as long as mcpd allows them to you.\n",
    );
    text.push_str(&match failover_for {
        [] => "    # failoverFor: [gpt]\n".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(|name| scalar(name.as_str())).collect();
            format!("    failoverFor: [{}]\n", names.join(", "))
        }
    });
    text.push_str(tools(choice));
    if matches!(choice, Choice::Managed { .. }) {
        text.push_str(
            "    # idleTimeout: 15m            # stopped after this time without a request\n\
             \x20   # prewarm: onTrouble          # started as soon as the central model is slow or broken\n",
        );
    }
    if !others.is_empty() {
        text.push_str("\n  # Found too. An Llm falls back to one provider.\n");
    }
    let mut names = vec![choice.name().to_owned()];
    for other in others.iter().take(MAX_ALTERNATIVES) {
        let name = (1..).map(|number| match number {
            1 => other.name().to_owned(),
            number => format!("{}-{number}", other.name()),
        });
        let name = name.take(MAX_ALTERNATIVES + 2).find(|name| !names.contains(name)).unwrap_or_default();
        for line in entry(other, &name).lines() {
            text.push_str(&format!("  # {}\n", line.strip_prefix("  ").unwrap_or(line)));
        }
        names.push(name);
    }
    text
}

/// What the file has about tools: nothing to write where the server reports that the model calls them, because the agent asks it too.
fn tools(choice: &Choice) -> &'static str {
    match choice {
        Choice::Running { tools: Some(true), .. } => {
            "    # Its server reports that the model calls tools, as Claude Code, Codex and other agents need.\n"
        }
        Choice::Running { tools: Some(false), .. } => {
            "    # Its server reports that the model calls no tools: requests with tools, as of Claude Code and Codex, do not fall\n\
             \x20   # back to it. Where it does call them, this line declares it; a list is complete.\n\
             \x20   # capabilities: [tools]\n"
        }
        Choice::Managed { provider_type, .. } if provider_type.starts_with("vllm") => {
            "    # Without these arguments requests with tools, as of Claude Code and Codex, do not fall back to it. The parser is\n\
             \x20   # the model's, by vLLM's documentation.\n\
             \x20   # extraArgs: [--enable-auto-tool-choice, --tool-call-parser, hermes]\n"
        }
        Choice::Running { .. } | Choice::Managed { .. } => {
            "    # Whether the model calls tools, as Claude Code and Codex need: its server is asked once it runs, and\n\
             \x20   # `mcpctl local status` shows it. This line declares it instead; a list is complete.\n\
             \x20   # capabilities: [tools]\n"
        }
    }
}

/// The keys that describe the provider.
fn entry(choice: &Choice, name: &str) -> String {
    match choice {
        Choice::Managed { provider_type, command, model, bytes } => {
            let command = command.as_ref().map(|path| format!("    command: {}\n", scalar(&short(path))));
            let size = bytes.map(|bytes| format!("    # {}", size(bytes))).unwrap_or_default();
            format!(
                "  - name: {name}\n    type: {provider_type}\n{}    model: {}{size}\n",
                command.unwrap_or_default(),
                scalar(&short(model))
            )
        }
        Choice::Running { url, model, .. } => {
            let url = scalar(url.as_str());
            format!("  - name: {name}\n    type: openai\n    url: {url}\n    model: {}\n", scalar(model))
        }
    }
}

/// A path below the home directory as people write it.
pub fn short(path: &str) -> String {
    let home = std::env::var("HOME").ok().filter(|home| home.len() > 1);
    match home.and_then(|home| path.strip_prefix(&home).map(str::to_owned)) {
        Some(rest) if rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}

/// A text as a scalar of YAML: plain where it can be read as nothing else, else quoted as in JSON, which YAML reads too.
pub fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./~+@".contains(c);
    // A colon inside a word, as in an address or in `qwen:7b`, is part of it.
    let colon_inside = !text.ends_with(':') && text.chars().all(|c| is_plain(c) || c == ':');
    let starts_well =
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || text.starts_with("~/");
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    match colon_inside && starts_well && !is_word {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_read_back_as_the_same_text() {
        for text in [
            "qwen2.5:7b",
            "7b",
            "null",
            "No",
            "a: b",
            "a #b",
            "~/m.gguf",
            "~",
            "/a b/c",
            "é",
            "- a",
            "http://127.0.0.1:1/v1",
            "x:",
        ] {
            let read: serde_json::Value =
                mcpctl_api::yaml::from_str(&format!("k: {}\n", scalar(text))).unwrap();
            assert_eq!(read["k"], text, "{}", scalar(text));
        }
    }
}
