//! Extra arguments that an engine must not get, in every spelling that the servers' parsers accept: llama.cpp's, and
//! Python's argparse as vLLM extends it. What one server reserves is refused for all of them.

use super::{ModelServer, ServerKind, all};

/// The longest part of an argument that an error repeats, in characters.
const MAX_SHOWN_CHARS: usize = 64;

/// The reserved part of an argument; `None` where the argument is allowed.
pub(crate) fn reserved_argument(argument: &str) -> Option<String> {
    // Both parsers accept underscores for hyphens.
    let plain = argument.replace('_', "-");
    // An escape of JSON could spell any word; `\0` ends an argument.
    if plain.contains(['\0']) || plain.contains("\\u") || plain == "--" {
        return Some(argument.chars().take(MAX_SHOWN_CHARS).collect());
    }
    let (name, value) = match plain.split_once('=') {
        _ if !plain.starts_with('-') => ("", plain.as_str()),
        Some((name, value)) => (name, value),
        None => (plain.as_str(), ""),
    };
    // A path may have any name; an object names its members.
    let object = if value.contains('{') { value } else { "" };
    let texts = [name, object].map(str::to_ascii_lowercase);
    let mut code_words = all(ModelServer::code_words);
    if let Some(word) = code_words.find(|word| texts.iter().any(|text| text.contains(word))) {
        return Some(word.to_owned());
    }
    // `--a.b` is a member of an object.
    let flag = name.split(['.', ' ']).next().unwrap_or_default();
    is_reserved(flag, true).then(|| flag.to_owned())
}

/// Whether a variable stands for a reserved argument.
pub(crate) fn is_reserved_variable(name: &str) -> bool {
    let mut arguments = ServerKind::ALL.iter().filter_map(|kind| kind.server().argument_of(name));
    arguments.any(|argument| is_reserved(&argument, false))
}

/// `abbreviated`: whether the beginning of a reserved argument is reserved too, because argparse completes it.
fn is_reserved(flag: &str, abbreviated: bool) -> bool {
    if all(ModelServer::allowed_arguments).any(|allowed| allowed == flag) {
        return false;
    }
    all(ModelServer::reserved_arguments).any(|reserved| match reserved.split_once('*') {
        Some((beginning, end)) => flag.starts_with(beginning) && flag.ends_with(end),
        None if !flag.starts_with("--") => reserved == flag,
        None => reserved == flag || (abbreviated && flag.len() > 2 && reserved.starts_with(flag)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_argument_is_refused_in_every_spelling() {
        for argument in [
            "--host",
            "--hos=0.0.0.0",
            "--port",
            "--po",
            "--api-key=x",
            "--api_key",
            "--served_model_name=x",
            "-m",
            "--",
            "--trust-remote-code",
            "--trust_remote_code",
            "--trust-rem",
            "--no-trust-remote-code",
            "--Trust-Remote-Code",
            "--config",
            "--conf=x.yaml",
            "--middleware=x.y",
            "--middle",
            "--ssl-keyfile",
            "--ssl_ca_certs=/x",
            "--ssl",
            "--hf-token",
            "--hf_token=x",
            "--hf-config-path",
            "-hft",
            "-hf",
            "-mu",
            "--model-url",
            "--lora",
            "--lora-modules",
            "--tokenizer=/x",
            "--tool-parser-plugin",
            "--tool-parser-plug=/x.py",
            "--reasoning_parser_plugin=/x.py",
            "--structured-outputs-config.reasoning_parser_plugin=/x.py",
            r#"{"reasoning_parser_plugin": "/x.py"}"#,
            r#"{"reasoning_parser_pl\u0075gin": "/x.py"}"#,
            "-O.inductor_passes=x",
            r#"--compilation-config={"inductor_passes":{"a":"b"}}"#,
            "--worker-cls=a.b",
            "--worker_extension_cls",
            "--logits-processors",
            "--logits_proc=a:B",
            "--distributed-executor-backend=a.B",
            "--speculative-config.model=x",
            "--download-dir",
            "--allowed-local-media-path=/",
            "--log-file",
            "--log_file=/x",
            "--slot-save-path",
            "--tools",
            "--agent",
            "-ag",
            "--mcp-servers-json",
            "--rpc",
            "--cors-origins",
            "--props",
            "--gpt-oss-20b-default",
            "--fim-qwen-7b-spec",
            "--kv-transfer-config",
            "-dpa",
            "--enable-log-out",
            "a\0b",
        ] {
            assert!(reserved_argument(argument).is_some(), "{argument}");
        }
    }

    #[test]
    fn tuning_argument_is_allowed() {
        for argument in [
            "--enforce-eager",
            "--enable-auto-tool-choice",
            "--tool-call-parser",
            "hermes",
            "--tool-call-parser=hermes",
            "--metrics",
            "--threads",
            "1",
            "-ngl",
            "99",
            "-t",
            "-fa",
            "on",
            "--max-num-seqs=8",
            "--max_num_batched_tokens",
            "--chat-template",
            "/plugins/t.jinja",
            "--chat-template=/plugins/t.jinja",
            "--chat-template-file",
            "--jinja",
            "--reasoning-format",
            "--tokenizer-mode",
            "--model-impl=auto",
            "--mmproj",
            "--mmproj-offload",
            "--hf-overrides",
            "--tensor-parallel-size",
            "-tp",
            "-O3",
            "--swap-space",
            "--kv-cache-dtype",
            "--seed",
            "--embedding",
            "--load-format",
            "--limit-mm-per-prompt",
            r#"{"image": 2}"#,
            "--config-format",
            "--data-parallel-size",
            "--cache-type-k",
            "q8_0",
            "-c",
            "--no-warmup",
            "--enable-lora",
            "--lora-dtype",
            "--logprobs-mode",
            "0.5",
            "--temp=0.5",
            "--language-model-only",
        ] {
            assert_eq!(reserved_argument(argument), None, "{argument}");
        }
    }

    #[test]
    fn variable_of_a_reserved_argument_is_refused() {
        for name in [
            "HOST",
            "PORT",
            "MODEL",
            "MODEL_URL",
            "HF_REPO",
            "API_KEY_FILE",
            "TOOLS",
            "AGENT",
            "MCP_SERVERS_CONFIG",
            "RPC",
            "STATIC_PATH",
            "ENDPOINT_PROPS",
            "LOG_FILE",
            "SSL_KEY_FILE",
            "UI_MCP_PROXY",
            "SPEC_DRAFT_MODEL",
            "HFD_REPO",
            "ALIAS",
        ] {
            assert!(is_reserved_variable(&format!("LLAMA_ARG_{name}")), "{name}");
        }
        for name in ["EMBEDDINGS", "N_GPU_LAYERS", "FLASH_ATTN", "CTX_SIZE", "ENDPOINT_METRICS", "MMPROJ"] {
            assert!(!is_reserved_variable(&format!("LLAMA_ARG_{name}")), "{name}");
        }
        assert!(is_reserved_variable("LLAMA_LOG_FILE"));
        assert!(!is_reserved_variable("HOST"));
    }
}
