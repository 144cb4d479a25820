//! llama.cpp's `llama-server`.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use super::{CapabilityFlags, ModelServer, Places};
use crate::{
    EngineSpec, Need, SpecError,
    launch::{Launch, LaunchContext},
    status::StartPhase,
};

/// Where it is built, and where releases are unpacked.
const AT_HOME: [&str; 4] = ["llama.cpp/build/bin", "llama.cpp/bin", "llama.cpp", ".local/bin"];
const OF_THE_SYSTEM: [&str; 5] = [
    "/usr/local/bin",
    "/opt/llama.cpp/bin",
    "/opt/llama.cpp",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];
/// Every argument has a variable with this beginning, but for those of the log.
const ARGUMENT_VARIABLE: &str = "LLAMA_ARG_";
const LOG_FILE_VARIABLE: &str = "LLAMA_LOG_FILE";

pub(super) struct LlamaServer;

impl ModelServer for LlamaServer {
    fn program(&self) -> &'static str {
        "llama-server"
    }

    fn directories(&self, places: &Places) -> Vec<PathBuf> {
        places.path().chain(places.at_home(&AT_HOME)).chain(OF_THE_SYSTEM.map(PathBuf::from)).collect()
    }

    fn install_hint(&self) -> &'static str {
        "install llama.cpp, or name the program in `command`"
    }

    fn check_model(&self, model: &str, path: &Path) -> Result<(), SpecError> {
        if !path.exists() {
            return Err(SpecError::NoModel(model.to_owned()));
        }
        if !path.is_file() {
            return Err(SpecError::NotAFile(model.to_owned()));
        }
        Ok(())
    }

    fn name_in_path(&self, model: &str) -> Option<OsString> {
        Path::new(model).file_stem().map(ToOwned::to_owned)
    }

    fn provider_keys(&self) -> &'static [&'static str] {
        &["contextLength"]
    }

    fn capability_flags(&self) -> CapabilityFlags {
        CapabilityFlags { embeddings: &["--embedding", "--embeddings"], ..CapabilityFlags::default() }
    }

    fn listens_on_socket(&self) -> bool {
        true
    }

    fn key_variable(&self) -> &'static str {
        "LLAMA_API_KEY"
    }

    fn add_to(&self, launch: &mut Launch, context: &LaunchContext<'_>) -> Result<(), SpecError> {
        launch.args.extend(["-m".into(), context.model.into()]);
        launch.args.extend(context.listen_arguments());
        launch.option("--alias", Some(context.served_name));
        let slots = context.options.concurrency.map_or(1, NonZeroU32::get);
        // It shares its context among its slots.
        let context_length = context.spec.context_length.map(|length| u64::from(length) * u64::from(slots));
        launch.option("-c", context_length);
        launch.option("-np", Some(slots));
        // A short ping interval, because SIGTERM during a stream waits for the next ping.
        launch.args.extend(["--no-ui", "--offline", "--sse-ping-interval", "1"].map(Into::into));
        Ok(())
    }

    /// Its slots share one context, so more than one slot shortens the prompts that fit.
    fn default_concurrency(&self) -> NonZeroU32 {
        NonZeroU32::MIN
    }

    fn memory_need(&self, _: &EngineSpec) -> Need {
        Need::Unknown
    }

    /// A line of level `E`: `0.00.005.420 E gguf_init_from_reader: invalid magic characters`; before lines had times and
    /// levels, `error: …`.
    fn complaint<'a>(&self, line: &'a str) -> Option<&'a str> {
        if line.starts_with("error: ") {
            return Some(line);
        }
        let (time, rest) = line.split_once(" E ")?;
        let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_time.then(|| rest.trim_start())
    }

    fn phase_words(&self) -> &'static [(StartPhase, &'static [&'static str])] {
        &[(StartPhase::Loading, &["load_tensors"])]
    }

    fn inherited_prefixes(&self) -> &'static [&'static str] {
        &["LLAMA_", "GGML_"]
    }

    fn withheld_variables(&self) -> &'static [&'static str] {
        &["GGML_BACKEND_PATH"]
    }

    fn reserved_variables(&self) -> &'static [&'static str] {
        &["LLAMA_API_KEY"]
    }

    fn reserved_arguments(&self) -> &'static [&'static str] {
        &RESERVED_ARGUMENTS
    }

    /// Its beginning is also that of `--mmproj-url`.
    fn allowed_arguments(&self) -> &'static [&'static str] {
        &["--mmproj"]
    }

    fn argument_of(&self, variable: &str) -> Option<String> {
        if variable == LOG_FILE_VARIABLE {
            return Some("--log-file".to_owned());
        }
        let rest = variable.strip_prefix(ARGUMENT_VARIABLE)?;
        let word = if rest == "STATIC_PATH" {
            "path".to_owned()
        } else {
            let rest = rest.strip_prefix("NO_").unwrap_or(rest);
            rest.strip_prefix("ENDPOINT_").unwrap_or(rest).to_ascii_lowercase().replace('_', "-")
        };
        Some(format!("--{word}"))
    }

    /// By its `common/arg.cpp`.
    fn file_arguments(&self) -> &'static [&'static str] {
        &["--mmproj", "-mm", "--chat-template-file", "--grammar-file"]
    }
}

const RESERVED_ARGUMENTS: [&str; 68] = [
    // Where it listens, and who may send it requests.
    "--host",
    "--port",
    "--reuse-port",
    "--api-key",
    "--api-key-file",
    "--api-prefix",
    "--cors-origins",
    "--cors-methods",
    "--cors-headers",
    "--cors-credentials",
    // Which model it runs, under which name, and where that comes from.
    "-m",
    "--model",
    "-mu",
    "--model-url",
    "-md",
    "--model-draft",
    "-mv",
    "--model-vocoder",
    "--models-dir",
    "--models-preset",
    "--models-autoload",
    "-a",
    "--alias",
    "-dr",
    "--docker-repo",
    "-hf",
    "-hfr",
    "-hff",
    "-hfd",
    "-hfrd",
    "-hfv",
    "-hfrv",
    "-hffv",
    "-hft",
    "-mmu",
    "--mmproj-url",
    "--spec-draft-model",
    "--spec-draft-hf",
    "--lora",
    "--lora-scaled",
    "--control-vector",
    "--control-vector-scaled",
    "--rpc",
    // Configuration from elsewhere.
    "--ui-config-file",
    "--webui-config-file",
    // Code.
    "--tools",
    "--tools-runtime",
    "-ag",
    "--agent",
    "--mcp-servers-config",
    "--mcp-servers-json",
    "--ui-mcp-proxy",
    "--webui-mcp-proxy",
    // Files of this machine for callers, and places to which prompts would be written.
    "--path",
    "--media-path",
    "--slot-save-path",
    "-lcs",
    "--lookup-cache-static",
    "-lcd",
    "--lookup-cache-dynamic",
    "--log-file",
    "--log-prompts-dir",
    "--props",
    // Every argument with this beginning or end: TLS, the hub, and presets that download their models.
    "--ssl*",
    "--hf-*",
    "--hfd-*",
    "--fim-*",
    "--*-default",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as llama-server writes them.
    #[test]
    fn complaint_is_a_line_of_level_error() {
        let complaint = |line| LlamaServer.complaint(line);
        let line = "0.00.005.420 E gguf_init_from_reader: invalid magic characters: 'no m', expected 'GGUF'";
        assert_eq!(
            complaint(line),
            Some("gguf_init_from_reader: invalid magic characters: 'no m', expected 'GGUF'")
        );
        assert_eq!(complaint("error: invalid argument: --portx"), Some("error: invalid argument: --portx"));
        for other in
            ["0.00.005.522 I srv    operator(): operator(): cleaning up before exit...", "all is well"]
        {
            assert_eq!(complaint(other), None, "{other}");
        }
    }
}
