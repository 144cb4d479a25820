//! `vllm serve`.

mod dev_routes;
mod shared_memory;

use std::{
    env,
    ffi::OsString,
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use super::{CapabilityFlags, ModelServer, Notice, Places, StandbyRoutes};
use crate::{
    EngineOptions, EngineSpec, Need, SpecError,
    launch::{Launch, LaunchContext},
    spec::expand,
    status::StartPhase,
};

pub(crate) use shared_memory::SharedMemory;

/// Roots below the home directory: a plain venv, the tools of uv and pipx, and what `pip install --user` makes.
const AT_HOME: [&str; 7] = [
    "vllm",
    ".venv",
    "venv",
    "vllm/.venv",
    ".local/share/uv/tools/vllm",
    ".local/share/pipx/venvs/vllm",
    ".local",
];
const OF_THE_SYSTEM: [&str; 2] = ["/opt/vllm", "/usr/local"];
/// Many requests together take hardly longer than one.
const CONCURRENCY: NonZeroU32 = NonZeroU32::new(16).unwrap();
/// The default of `--gpu-memory-utilization`.
const DEFAULT_SHARE: f64 = 0.9;
/// GiB of main memory for the cache where there is no GPU.
const CPU_CACHE: &str = "VLLM_CPU_KVCACHE_SPACE";
const PYTHON_PATH: &str = "PYTHONPATH";

pub(super) struct Vllm;

impl ModelServer for Vllm {
    fn program(&self) -> &'static str {
        "vllm"
    }

    fn directories(&self, places: &Places) -> Vec<PathBuf> {
        let bin = |root: PathBuf| root.join("bin");
        let usual = places.at_home(&AT_HOME).chain(OF_THE_SYSTEM.map(PathBuf::from)).map(bin);
        places.venv.clone().map(bin).into_iter().chain(places.path()).chain(usual).collect()
    }

    fn install_hint(&self) -> &'static str {
        "install it, e.g. with `uv tool install vllm`, or name its `venv` or `command`"
    }

    fn configured_program(&self, spec: &EngineSpec) -> Result<Option<(PathBuf, &'static str)>, SpecError> {
        let Some(venv) = &spec.venv else { return Ok(None) };
        let hint = "install it there: `pip install vllm` in that venv, or name another `venv`";
        Ok(Some((expand(venv)?.join("bin/vllm"), hint)))
    }

    /// A name on the hub, `OWNER/MODEL` or `MODEL`, is downloaded by the start.
    fn check_model(&self, model: &str, path: &Path) -> Result<(), SpecError> {
        let is_path = model.starts_with(['/', '.', '~'])
            || model.ends_with(".gguf")
            || model.matches('/').count() > 1
            || path.exists();
        if is_path && !path.exists() {
            return Err(SpecError::NoModel(model.to_owned()));
        }
        Ok(())
    }

    fn name_in_path(&self, model: &str) -> Option<OsString> {
        let path = Path::new(model);
        let is_path = path.exists() || model.starts_with('~');
        path.file_name().filter(|_| is_path).map(ToOwned::to_owned)
    }

    fn downloads_models(&self) -> bool {
        true
    }

    /// Where the hub's library keeps models.
    fn downloaded_model(&self, model: &str) -> Option<PathBuf> {
        let var = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let hub = var("HF_HUB_CACHE")
            .or_else(|| Some(var("HF_HOME")?.join("hub")))
            .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface/hub")))
            .or_else(|| Some(var("HOME")?.join(".cache/huggingface/hub")))?;
        Some(hub.join(format!("models--{}", model.replace('/', "--")))).filter(|path| path.is_dir())
    }

    fn provider_keys(&self) -> &'static [&'static str] {
        &[
            "venv",
            "maxModelLen",
            "gpuMemoryUtilization",
            "tensorParallelSize",
            "dtype",
            "quantization",
            "swap",
            "standbyTimeout",
        ]
    }

    fn capability_flags(&self) -> CapabilityFlags {
        CapabilityFlags { tools: &["--enable-auto-tool-choice"], ..CapabilityFlags::default() }
    }

    /// By its documentation of the CPU backend.
    fn cpu_notices(&self, options: &EngineOptions) -> Vec<Notice> {
        let mut notices = Vec::new();
        if options.standby {
            notices.push(Notice {
                is_fatal: true,
                message: "without a GPU vLLM cannot sleep, and ends at its start with `swap: standby`"
                    .to_owned(),
                hint: "leave out `swap: standby`".to_owned(),
            });
        }
        let is_set =
            options.env.iter().any(|(name, _)| name == CPU_CACHE) || env::var_os(CPU_CACHE).is_some();
        if !is_set {
            notices.push(Notice {
                is_fatal: false,
                message: "without a GPU vLLM takes a share of main memory, nine tenths by default".to_owned(),
                hint: format!("set the GiB of its cache: `env: {{{CPU_CACHE}: \"4\"}}`"),
            });
        }
        notices
    }

    /// Its own processes find it by a port, and its key protects every route that names models.
    fn listens_on_socket(&self) -> bool {
        false
    }

    fn key_variable(&self) -> &'static str {
        "VLLM_API_KEY"
    }

    fn add_to(&self, launch: &mut Launch, context: &LaunchContext<'_>) -> Result<(), SpecError> {
        let LaunchContext { spec, options, model, .. } = *context;
        if model.is_dir() {
            launch.set("HF_HUB_OFFLINE", "1");
        }
        launch.set("VLLM_NO_USAGE_STATS", "1");
        // Keeps the environment of its processes readable, by which the processes of an engine are recognized.
        launch.set("SPT_NOENV", "1");
        if let Some(venv) = python_venv(spec, &launch.program)? {
            // Kernels are compiled with tools of that venv, such as ninja.
            launch.set("PATH", first_on_path(&venv.join("bin")));
            launch.set("VIRTUAL_ENV", venv);
        }
        launch.args.extend(["serve".into(), model.into()]);
        launch.args.extend(context.listen_arguments());
        launch.option("--served-model-name", Some(context.served_name));
        launch.option("--max-model-len", spec.context_length);
        launch.option("--gpu-memory-utilization", spec.gpu_memory_utilization);
        launch.option("--tensor-parallel-size", spec.tensor_parallel_size);
        launch.option("--dtype", spec.dtype.as_ref());
        launch.option("--quantization", spec.quantization.as_ref());
        launch.option("--max-num-seqs", options.concurrency);
        // Set to 0 where the agent itself was started with 1: these routes are open.
        launch.set("VLLM_SERVER_DEV_MODE", if options.standby { "1" } else { "0" });
        if options.standby {
            launch.args.push("--enable-sleep-mode".into());
            launch.args.extend(["--middleware".into(), dev_routes::middleware().into()]);
        }
        Ok(())
    }

    fn override_options(&self, launch: &mut Launch, context: &LaunchContext<'_>) {
        if context.options.standby {
            // The agent's own PYTHONPATH is not inherited: it would be code from there.
            let given = context.options.env.iter().find(|(name, _)| *name == PYTHON_PATH);
            let others = given.map(|(_, path)| path.as_ref());
            launch.set(PYTHON_PATH, dev_routes::python_path(context.modules, others));
        }
    }

    fn prepare(&self, options: &EngineOptions, modules: &Path) -> io::Result<()> {
        if options.standby { dev_routes::write(modules) } else { Ok(()) }
    }

    fn default_concurrency(&self) -> NonZeroU32 {
        CONCURRENCY
    }

    /// It takes a share of each GPU, whatever the model needs.
    fn memory_need(&self, spec: &EngineSpec) -> Need {
        Need::Share {
            of: spec.gpu_memory_utilization.unwrap_or(DEFAULT_SHARE),
            gpus: spec.tensor_parallel_size.map_or(1, NonZeroU32::get),
        }
    }

    /// Level 1 keeps the weights in main memory.
    fn standby_routes(&self) -> Option<StandbyRoutes> {
        Some(StandbyRoutes { sleep: "/sleep?level=1", wake: "/wake_up" })
    }

    /// The line with an exception of Python, `ValueError: …`, unless it only refers to another: bare, or after
    /// `(EngineCore pid=1) ERROR 11-24 14:54:23 [FILE:15] `.
    fn complaint<'a>(&self, line: &'a str) -> Option<&'a str> {
        let is_logged = ["INFO ", "DEBUG ", "WARNING "].iter().any(|level| line.contains(level));
        let text = without_head(line);
        let (name, message) = text.split_once(": ")?;
        let is_exception = ["Error", "Exception"].iter().any(|ending| name.ends_with(ending))
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
        let refers_to_another = message.to_ascii_lowercase().contains("root cause");
        (is_exception && !is_logged && !refers_to_another).then_some(text)
    }

    /// The line with a validation error of Python only counts; the errors follow on indented lines.
    fn explanation<'a>(&self, complaint: &str, line: &'a str) -> Option<&'a str> {
        let text = without_head(line);
        let explains = complaint.contains(" validation error") && text.starts_with("  ");
        // The input that was validated follows.
        let message = text.split_once(" [type=").map_or(text, |(message, _)| message).trim();
        (explains && !message.is_empty()).then_some(message)
    }

    fn phase_words(&self) -> &'static [(StartPhase, &'static [&'static str])] {
        &[
            (StartPhase::Loading, &["loading weights", "checkpoint shards", "starting to load model"]),
            (
                StartPhase::Compiling,
                &["torch.compile", "compiling", "cuda graph", "graph capturing", "dynamo bytecode"],
            ),
        ]
    }

    fn inherited_prefixes(&self) -> &'static [&'static str] {
        &["VLLM_", "FLASHINFER_"]
    }

    fn withheld_variables(&self) -> &'static [&'static str] {
        &[
            "VLLM_SERVER_DEV_MODE",
            "VLLM_PLUGINS",
            "VLLM_ALLOW_INSECURE_SERIALIZATION",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            "VLLM_LORA_RESOLVER_CACHE_DIR",
            "VLLM_USE_MODELSCOPE",
            "VLLM_LOGGING_CONFIG_PATH",
            "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
            "VLLM_TRACE_FUNCTION",
            "VLLM_TORCH_PROFILER_DIR",
            "VLLM_RPC_BASE_PATH",
            "VLLM_HOST_IP",
            "VLLM_PORT",
        ]
    }

    fn reserved_variables(&self) -> &'static [&'static str] {
        &["VLLM_API_KEY", "VLLM_SERVER_DEV_MODE"]
    }

    fn reserved_arguments(&self) -> &'static [&'static str] {
        &RESERVED_ARGUMENTS
    }

    fn allowed_arguments(&self) -> &'static [&'static str] {
        &["--hf-overrides"]
    }

    fn code_words(&self) -> &'static [&'static str] {
        &[
            "trust-remote-code",
            "plugin",
            "module-path",
            "worker-cls",
            "extension-cls",
            "scheduler-cls",
            "inductor-passes",
        ]
    }
}

const RESERVED_ARGUMENTS: [&str; 54] = [
    // Where it listens, and who may send it requests.
    "--host",
    "--port",
    "--uds",
    "--grpc",
    "--headless",
    "--api-key",
    "--root-path",
    "--allowed-origins",
    "--allowed-methods",
    "--allowed-headers",
    "--allow-credentials",
    "--enable-ssl-refresh",
    "--ssl*",
    // Which model it runs, under which name, and where that comes from.
    "--model",
    "--model-loader-extra-config",
    "--served-model-name",
    "--speculative-config",
    "--speculative-model",
    "--lora-modules",
    "--tokenizer",
    "--tokenizer-revision",
    "--revision",
    "--code-revision",
    "--download-dir",
    "--hf-*",
    // Configuration from elsewhere.
    "--config",
    "--generation-config",
    "--log-config-file",
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
    "--tool-server",
    // Files of this machine for callers, and places to which prompts would be sent or written.
    "--allowed-local-media-path",
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
    "-dpa",
    "--data-parallel-address",
    "--data-parallel-rpc-port",
    "--enable-log-outputs",
];

/// The venv of the program; a `command` of the user's own takes care of that itself.
fn python_venv(spec: &EngineSpec, program: &Path) -> Result<Option<PathBuf>, SpecError> {
    if let (None, Some(venv)) = (&spec.command, &spec.venv) {
        return expand(venv).map(Some);
    }
    // Installed tools are links into their venv.
    let program = program.canonicalize().ok().filter(|_| spec.command.is_none());
    let root = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    Ok(root.filter(|root| root.join("pyvenv.cfg").is_file()).map(Path::to_owned))
}

fn first_on_path(directory: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(env::split_paths(&path));
    // A directory with a colon in its name cannot be on the path: then the path stays as it is.
    env::join_paths(all).unwrap_or(path)
}

/// The text of a line of the log at the level of errors, without process, time and place.
fn without_head(line: &str) -> &str {
    line.split_once(" ERROR ").and_then(|(_, rest)| rest.split_once("] ")).map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests;
