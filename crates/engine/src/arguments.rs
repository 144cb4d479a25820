//! Which extra arguments an engine may not be given: what the agent decides, and what would have the engine load code or
//! models from elsewhere, listen for others, or write where nobody looks. Of both servers, in every spelling that their
//! parsers take: llama.cpp's and Python's argparse as vLLM extends it.

/// Refused by name, and by every beginning of it that argparse would complete.
const RESERVED: &[&str] = &[
    // Where it listens, and who may ask it.
    "--host",
    "--port",
    "--reuse-port",
    "--uds",
    "--grpc",
    "--headless",
    "--api-key",
    "--api-key-file",
    "--api-prefix",
    "--root-path",
    "--allowed-origins",
    "--allowed-methods",
    "--allowed-headers",
    "--allow-credentials",
    "--cors-origins",
    "--cors-methods",
    "--cors-headers",
    "--cors-credentials",
    "--enable-ssl-refresh",
    // Which model it runs, under which name, and where that comes from.
    "--model",
    "--model-url",
    "--model-draft",
    "--model-vocoder",
    "--model-loader-extra-config",
    "--models-dir",
    "--models-preset",
    "--models-autoload",
    "--alias",
    "--served-model-name",
    "--docker-repo",
    "--mmproj-url",
    "--spec-draft-model",
    "--spec-draft-hf",
    "--speculative-config",
    "--speculative-model",
    "--lora",
    "--lora-scaled",
    "--lora-modules",
    "--control-vector",
    "--control-vector-scaled",
    "--tokenizer",
    "--tokenizer-revision",
    "--revision",
    "--code-revision",
    "--download-dir",
    "--rpc",
    // Configuration from elsewhere.
    "--config",
    "--generation-config",
    "--log-config-file",
    "--ui-config-file",
    "--webui-config-file",
    // Code.
    "--trust-remote-code",
    "--middleware",
    "--tool-parser-plugin",
    "--reasoning-parser-plugin",
    "--io-processor-plugin",
    "--worker-cls",
    "--worker-extension-cls",
    "--scheduler-cls",
    "--logits-processors",
    "--distributed-executor-backend",
    "--tools",
    "--tools-runtime",
    "--tool-server",
    "--agent",
    "--mcp-servers-config",
    "--mcp-servers-json",
    "--ui-mcp-proxy",
    "--webui-mcp-proxy",
    // Files of this machine, for whoever asks, and places where prompts would go.
    "--path",
    "--media-path",
    "--allowed-local-media-path",
    "--slot-save-path",
    "--lookup-cache-static",
    "--lookup-cache-dynamic",
    "--log-file",
    "--log-prompts-dir",
    "--props",
    "--trust-request-chat-template",
    "--profiler-config",
    "--otlp-traces-endpoint",
    "--kv-transfer-config",
    "--kv-events-config",
    "--ec-transfer-config",
    "--weight-transfer-config",
    "--master-addr",
    "--master-port",
    "--nnodes",
    "--data-parallel-address",
    "--data-parallel-rpc-port",
    "--enable-log-outputs",
];
/// Refused with whatever follows.
const FAMILIES: [&str; 3] = ["--ssl", "--hf-", "--fim-"];
/// Presets that download their models.
const PRESET: &str = "-default";
/// A beginning of something refused, and harmless itself.
const HARMLESS: [&str; 2] = ["--mmproj", "--hf-overrides"];
const SHORT: [&str; 20] = [
    "-m", "-a", "-mu", "-md", "-mv", "-dr", "-hf", "-hfr", "-hff", "-hfd", "-hfrd", "-hfv", "-hfrv", "-hffv",
    "-hft", "-mmu", "-lcs", "-lcd", "-ag", "-dpa",
];
/// In any argument, values that are JSON and dotted flags included: what names code to be loaded.
const WORDS: [&str; 7] = [
    "trust-remote-code",
    "plugin",
    "module-path",
    "worker-cls",
    "extension-cls",
    "scheduler-cls",
    "inductor-passes",
];

/// Why an argument is refused: what of it is.
pub(crate) fn refused(argument: &str) -> Option<String> {
    // Both parsers take underscores for hyphens.
    let plain = argument.replace('_', "-");
    // An escape of JSON could spell any word; `\0` ends an argument.
    if plain.contains(['\0']) || plain.contains("\\u") || plain == "--" {
        return Some(argument.chars().take(64).collect());
    }
    let (name, value) = match plain.split_once('=') {
        _ if !plain.starts_with('-') => ("", plain.as_str()),
        Some((name, value)) => (name, value),
        None => (plain.as_str(), ""),
    };
    // A path may be called anything; an object says what its members are called.
    let object = if value.contains('{') { value } else { "" };
    let named = [name, object].map(str::to_ascii_lowercase);
    if let Some(word) = WORDS.iter().find(|word| named.iter().any(|text| text.contains(**word))) {
        return Some((*word).to_owned());
    }
    // `--a.b` is a member of an object.
    let flag = name.split(['.', ' ']).next().unwrap_or_default();
    is_reserved(flag, true).then(|| flag.to_owned())
}

/// Whether a variable stands for an argument that is refused: llama.cpp reads `LLAMA_ARG_…` for every one.
pub(crate) fn is_refused_variable(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("LLAMA_ARG_") else { return false };
    let word = match rest {
        "STATIC_PATH" => "path".to_owned(),
        rest => {
            let rest = rest.strip_prefix("NO_").unwrap_or(rest);
            rest.strip_prefix("ENDPOINT_").unwrap_or(rest).to_ascii_lowercase().replace('_', "-")
        }
    };
    is_reserved(&format!("--{word}"), false)
}

fn is_reserved(flag: &str, abbreviated: bool) -> bool {
    if !flag.starts_with("--") {
        return SHORT.contains(&flag);
    }
    if HARMLESS.contains(&flag) {
        return false;
    }
    let given =
        |reserved: &str| reserved == flag || (abbreviated && flag.len() > 2 && reserved.starts_with(flag));
    RESERVED.iter().any(|reserved| given(reserved))
        || FAMILIES.iter().any(|family| flag.starts_with(family))
        || flag.ends_with(PRESET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_what_is_refused_is_refused() {
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
            assert!(refused(argument).is_some(), "{argument}");
        }
    }

    #[test]
    fn what_only_tunes_is_let_through() {
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
            assert_eq!(refused(argument), None, "{argument}");
        }
    }

    #[test]
    fn variables_that_stand_for_arguments_are_refused_like_them() {
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
            "ALIAS",
        ] {
            assert!(is_refused_variable(&format!("LLAMA_ARG_{name}")), "{name}");
        }
        for name in ["EMBEDDINGS", "N_GPU_LAYERS", "FLASH_ATTN", "CTX_SIZE", "ENDPOINT_METRICS", "MMPROJ"] {
            assert!(!is_refused_variable(&format!("LLAMA_ARG_{name}")), "{name}");
        }
        assert!(!is_refused_variable("HOST"));
    }
}
