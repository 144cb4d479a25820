//! What people write into `mcplocal.yaml` who know other programs, and what takes its place.

use mcpctl_api::vocabulary::{Habit, Vocabulary};

/// The words of the file.
pub(super) const VOCABULARY: Vocabulary = Vocabulary::of_file(&HABITS, &FORMS);

const RUNNING: &str =
    "a server that runs already is `type: openai` with its address, e.g. `url: http://127.0.0.1:11434/v1`";

const HABITS: [Habit; 41] = [
    // The file.
    Habit {
        words: &["loglevel", "level", "logging", "verbosity", "verbose", "debug", "log", "logformat"],
        beside: "proofKeys",
        hint: "leave it out: `mcplocal --log debug`, or MCPLOCAL_LOG",
    },
    Habit {
        words: &["url", "mcpd", "upstream", "remote", "central", "api", "baseurl", "apibase", "endpoint"],
        beside: "proofKeys",
        hint: "write mcpd's address: `server: https://mcpd.example.com`",
    },
    Habit {
        words: &["port", "host", "bind", "bindaddress", "address", "addr", "listenaddr", "socket"],
        beside: "proofKeys",
        hint: "write `listen: 127.0.0.1:3200`, or `listen: unix:/run/user/1000/mcp.sock`",
    },
    Habit {
        words: &["token", "apikey", "key", "user", "password", "login", "context"],
        beside: "proofKeys",
        hint: "leave it out: clients send their own, and the local key acts for the account of `mcpctl login`",
    },
    Habit {
        words: &["models", "model", "modellist", "llms", "llm", "engines", "engine", "backends", "routes"],
        beside: "proofKeys",
        hint: "write `providers`, a list of local models; `mcpctl local init` writes it",
    },
    Habit {
        words: &["fallback", "fallbacks", "routersettings"],
        beside: "proofKeys",
        hint: "write `failoverFor` in a provider, and in `failover` for which failures",
    },
    Habit {
        words: &["cafile", "cacert", "cabundle", "tls"],
        beside: "proofKeys",
        hint: "write `ca`, a file in PEM",
    },
    Habit {
        words: &["timeouts", "timeout", "breaker"],
        beside: "proofKeys",
        hint: "write e.g. `primary: {timeouts: {response: 30s}}`",
    },
    Habit {
        words: &["kind", "apiversion", "metadata", "spec"],
        beside: "proofKeys",
        hint: "this file is the agent's own; resources are mcpd's: `mcpctl apply -f FILE`",
    },
    Habit {
        words: &["endpoint", "url", "exporter", "collector"],
        beside: "otlp",
        hint: "write e.g. `otlp: http://127.0.0.1:4318`",
    },
    // A provider.
    Habit {
        words: &["provider", "kind", "backend", "engine", "api", "server"],
        beside: "failoverFor",
        hint: "write `type`: openai, anthropic, llama-server-managed or vllm-managed",
    },
    Habit {
        words: &["baseurl", "apibase", "endpoint", "address", "host", "port", "listen"],
        beside: "failoverFor",
        hint: "write the server's address on this machine, e.g. `url: http://127.0.0.1:8000/v1`",
    },
    Habit {
        words: &[
            "fallbackfor",
            "for",
            "llm",
            "llms",
            "replaces",
            "alias",
            "modelname",
            "fallbacks",
            "fallback",
        ],
        beside: "failoverFor",
        hint: "write `failoverFor`, the name of a central Llm or a list of names",
    },
    Habit {
        words: &["apikey", "key", "token", "secret"],
        beside: "failoverFor",
        hint: "write `apiKeyFile`, a file that holds the key, mode 0600",
    },
    Habit {
        words: &["path", "file", "gguf", "modelpath", "hfrepo", "repo"],
        beside: "failoverFor",
        hint: "write `model`, a GGUF file, a directory or a name at Hugging Face",
    },
    Habit {
        words: &["ctx", "ctxsize", "nctx", "context", "contextsize", "contextwindow", "numctx", "maxtokens"],
        beside: "failoverFor",
        hint: "write `contextLength`; of vLLM `maxModelLen`",
    },
    Habit {
        words: &["args", "flags", "arguments", "options", "params"],
        beside: "failoverFor",
        hint: "write e.g. `extraArgs: [--threads, \"8\"]`",
    },
    Habit {
        words: &["environment", "envvars"],
        beside: "failoverFor",
        hint: "write e.g. `env: {NAME: value}`",
    },
    Habit {
        words: &["gpu", "gpus", "vram", "gpumemory", "ram"],
        beside: "failoverFor",
        hint: "write what the engine needs, e.g. `memory: 18GiB`",
    },
    Habit {
        words: &["ttl", "keepalive", "timeout", "unloadafter", "sleepidleseconds"],
        beside: "failoverFor",
        hint: "write `idleTimeout`, after which an engine stops, e.g. `idleTimeout: 15m`",
    },
    Habit {
        words: &["parallel", "nparallel", "numparallel", "maxconcurrency", "maxnumseqs", "slots"],
        beside: "failoverFor",
        hint: "write `concurrency`",
    },
    Habit {
        words: &["binary", "bin", "executable", "program", "cmd", "exec"],
        beside: "failoverFor",
        hint: "write `command`, the program's path",
    },
    Habit {
        words: &["autostart", "preload", "warm", "warmup"],
        beside: "failoverFor",
        hint: "write `prewarm`: never, onTrouble or always",
    },
    Habit {
        words: &["tp", "tpsize", "tensorparallel"],
        beside: "failoverFor",
        hint: "write `tensorParallelSize`",
    },
    // `primary` and `failover`.
    Habit {
        words: &["threshold", "maxfailures", "failurethreshold", "count"],
        beside: "open",
        hint: "write e.g. `failures: 3`",
    },
    Habit {
        words: &["timeout", "cooldown", "reset", "duration", "for"],
        beside: "open",
        hint: "write e.g. `open: 10s`",
    },
    Habit {
        words: &["ttfb", "read", "head", "headers"],
        beside: "firstToken",
        hint: "write `response`, to the head of the answer, or `firstToken`",
    },
    Habit {
        words: &["request", "total", "all"],
        beside: "firstToken",
        hint: "write `answer`, to the end of an answer that is not streamed",
    },
    Habit {
        words: &["timeout", "timeouts", "slow"],
        beside: "no_first_token",
        hint: "write `no_response` or `no_first_token`",
    },
    Habit {
        words: &["5xx", "500", "502", "503", "error", "errors"],
        beside: "no_first_token",
        hint: "write `server_error`",
    },
    Habit {
        words: &["429", "toomanyrequests", "ratelimit"],
        beside: "no_first_token",
        hint: "write `rate_limited`",
    },
    Habit { words: &["resume", "retry"], beside: "restart", hint: "write `continue`, or `restart`" },
    // Values.
    Habit {
        words: &[
            "ollama",
            "lmstudio",
            "sglang",
            "tgi",
            "localai",
            "jan",
            "koboldcpp",
            "mlx",
            "litellm",
            "openaicompatible",
        ],
        beside: "llama-server-managed",
        hint: RUNNING,
    },
    Habit {
        words: &[
            "gemini",
            "google",
            "azure",
            "azureopenai",
            "bedrock",
            "mistral",
            "groq",
            "openrouter",
            "deepseek",
        ],
        beside: "llama-server-managed",
        hint: "a local provider is on this machine; one elsewhere is an Llm of mcpd: `mcpctl create llm`",
    },
    Habit {
        words: &["vllm", "vllmserve"],
        beside: "vllm-managed",
        hint: "write `vllm-managed` for one that the agent starts; one that runs already is `type: openai` with its `url`",
    },
    Habit {
        words: &["llamacpp", "llamaserver", "llama", "gguf", "ggml"],
        beside: "llama-server-managed",
        hint: "write `llama-server-managed` for one that the agent starts; one that runs already is `type: openai` with its `url`",
    },
    Habit { words: &["sleep", "suspend", "pause"], beside: "standby", hint: "write `standby`" },
    Habit {
        words: &["true", "yes", "on", "start", "eager"],
        beside: "onTrouble",
        hint: "write `always`, or `onTrouble` for when mcpd is slow or fails",
    },
    Habit { words: &["false", "no", "off", "lazy"], beside: "onTrouble", hint: "write `never`" },
    Habit {
        words: &["functions", "function", "functioncalling", "toolcalls", "toolcalling"],
        beside: "prefill",
        hint: "write `tools`",
    },
    Habit { words: &["images", "image", "multimodal"], beside: "prefill", hint: "write `vision`" },
];

const FORMS: [(&str, &str); 6] = [
    ("providers", "providers: [{name: small, type: openai, url: http://127.0.0.1:11434/v1}]"),
    ("groups", "groups: {gpu0: {memory: 24GiB}}"),
    ("primary", "primary: {timeouts: {response: 30s}}"),
    ("failover", "failover: {on: [context_length]}"),
    ("env", "env: {NAME: value}"),
    ("allowedOrigins", "allowedOrigins: [https://app.example.com]"),
];

#[cfg(test)]
mod tests {
    use mcpctl_api::yaml;

    use super::{
        super::{Config, ConfigFile},
        *,
    };

    fn hint(text: &str) -> String {
        let error = Config::parse(&format!("server: https://mcpd.example.com\n{text}\n")).unwrap_err();
        error.hint.unwrap_or_else(|| panic!("{text}: {}: no hint", error.message))
    }

    #[test]
    fn words_of_other_programs_lead_to_ours() {
        let provider = |keys: &str| format!("providers:\n  - name: a\n    {keys}");
        let openai = |keys: &str| provider(&format!("type: openai\n    {keys}"));
        let vllm = |keys: &str| provider(&format!("type: vllm-managed\n    model: m\n    {keys}"));
        for (text, expected) in [
            ("log_level: debug".to_owned(), "--log debug"),
            ("models: []".to_owned(), "`providers`"),
            ("token: x".to_owned(), "clients send their own"),
            ("primary: {breaker: {threshold: 5}}".to_owned(), "`failures: 3`"),
            ("failover: {on: [timeout]}".to_owned(), "`no_response`"),
            ("failover: true".to_owned(), "failover: {on: [context_length]}"),
            ("groups: {gpu: 24GiB}".to_owned(), "write `key: value`"),
            (provider("type: ollama"), "url: http://127.0.0.1:11434/v1"),
            (provider("type: llama.cpp"), "`llama-server-managed`"),
            (provider("type: gemini"), "an Llm of mcpd"),
            (provider("type: OpenAI"), "did you mean `openai`?"),
            (provider("provider: ollama"), "write `type`"),
            (openai("api_base: http://127.0.0.1:1/v1"), "`url: http://127.0.0.1:8000/v1`"),
            (openai("url: 127.0.0.1:8000"), "with its scheme"),
            (openai("url: localhost:8000"), "with its scheme"),
            (openai("model: m"), "write the server's address"),
            (openai("url: http://127.0.0.1:1/v1\n    venv: /x"), "it is for `type: vllm-managed`"),
            (vllm("prewarm: true"), "write `always`"),
            (vllm("capabilities: [function_calling]"), "write `tools`"),
            (vllm("ctx_size: 4096"), "`contextLength`"),
        ] {
            assert!(hint(&text).contains(expected), "{text}: {}", hint(&text));
        }
    }

    #[test]
    fn each_word_has_its_hint_at_a_place_of_the_file() {
        let places = [
            "WORD: 1",
            "telemetry: {WORD: 1}",
            "primary: {breaker: {WORD: 1}}",
            "primary: {timeouts: {WORD: 1}}",
            "failover: {on: [WORD]}",
            "failover: {midStream: WORD}",
            "providers: [{name: a, type: WORD}]",
            "providers: [{name: a, type: vllm-managed, WORD: 1}]",
            "providers: [{name: a, type: vllm-managed, swap: WORD}]",
            "providers: [{name: a, type: vllm-managed, prewarm: WORD}]",
            "providers: [{name: a, type: vllm-managed, capabilities: [WORD]}]",
        ];
        for Habit { words, hint, .. } in HABITS {
            for word in words {
                let has_hint = |place: &&str| {
                    let text = format!("server: https://mcpd.example.com\n{}\n", place.replace("WORD", word));
                    let error = Config::parse(&text).err();
                    error.and_then(|error| error.hint).as_deref() == Some(hint)
                };
                assert!(places.iter().any(has_hint), "{word}: {hint}");
            }
        }
    }

    #[test]
    fn pattern_is_no_central_llm() {
        for list in ["'*'", "[gpt, 'gpt-*']"] {
            let text = format!(
                "server: https://a.example\nproviders: [{{name: a, type: openai, url: 'http://127.0.0.1:1', failoverFor: {list}}}]"
            );
            let error = Config::parse(&text).unwrap_err();
            assert!(error.message.contains("central Llms are named one by one"), "{error}");
        }
    }

    #[test]
    fn forms_are_read_as_they_are_shown() {
        for (key, form) in FORMS {
            assert!(form.starts_with(&format!("{key}: ")), "{form}");
            if key != "env" {
                assert!(yaml::from_str_with::<ConfigFile>(form, &VOCABULARY).is_ok(), "{form}");
            }
        }
    }
}
