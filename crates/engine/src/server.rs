//! The model servers that can be engines. Everything that is different between them is in one file each, behind
//! `ModelServer`. Adding one is a file here, and its line in `ServerKind::ALL`.

mod arguments;
mod discovery;
mod llama_server;
mod vllm;

use std::{
    ffi::OsString,
    fmt, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use crate::{
    EngineOptions, EngineSpec, Need, SpecError,
    launch::{Launch, LaunchContext},
    status::StartPhase,
};

pub(crate) use arguments::{is_reserved_variable, reserved_argument};
use discovery::Places;
pub(crate) use discovery::is_executable;
pub(crate) use vllm::SharedMemory;

/// What is different between model servers.
pub(crate) trait ModelServer: Sync {
    /// The program's name; its providers have `type: PROGRAM-managed`.
    fn program(&self) -> &'static str;

    /// Directories in which the program is searched, in order.
    fn directories(&self, places: &Places) -> Vec<PathBuf>;

    /// What to do when the program is in none of them.
    fn install_hint(&self) -> &'static str;

    /// The program that a key of this server alone names, and what to do when it is not there.
    ///
    /// # Errors
    /// A path that cannot be expanded.
    fn configured_program(&self, _spec: &EngineSpec) -> Result<Option<(PathBuf, &'static str)>, SpecError> {
        Ok(None)
    }

    /// Checks that the model can be loaded from `path`, the model with `~` expanded.
    ///
    /// # Errors
    /// A model that is missing, or not what this server loads.
    fn check_model(&self, model: &str, path: &Path) -> Result<(), SpecError>;

    /// The last part of the model's path, as its name in requests and responses; `None` where the model is no path.
    fn name_in_path(&self, model: &str) -> Option<OsString>;

    /// Whether a model may be a name that it downloads.
    fn downloads_models(&self) -> bool {
        false
    }

    /// Where a model that is no path was downloaded to; `None` where there is nothing.
    fn downloaded_model(&self, _model: &str) -> Option<PathBuf> {
        None
    }

    /// Keys of its providers in `mcplocal.yaml` besides those of all engines.
    fn provider_keys(&self) -> &'static [&'static str];

    /// Arguments without which its model lacks a capability.
    fn capability_flags(&self) -> CapabilityFlags;

    /// What its user has to know where there is no GPU.
    fn cpu_notices(&self, _options: &EngineOptions) -> Vec<Notice> {
        Vec::new()
    }

    /// Whether it can listen on a Unix socket.
    fn listens_on_socket(&self) -> bool;

    /// The variable that carries the API key: other users can read arguments.
    fn key_variable(&self) -> &'static str;

    /// Adds this server's arguments and variables.
    ///
    /// # Errors
    /// A path that cannot be expanded.
    fn add_to(&self, launch: &mut Launch, context: &LaunchContext<'_>) -> Result<(), SpecError>;

    /// Sets what no option may override.
    fn override_options(&self, _launch: &mut Launch, _context: &LaunchContext<'_>) {}

    /// Writes the files of its own that a start needs into the directory `modules`.
    ///
    /// # Errors
    /// When they cannot be written.
    fn prepare(&self, _options: &EngineOptions, _modules: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Requests that run at once by default.
    fn default_concurrency(&self) -> NonZeroU32;

    /// GPU memory by default.
    fn memory_need(&self, spec: &EngineSpec) -> Need;

    /// The routes by which it gives its GPU memory back and takes it again; `None` where it has none.
    fn standby_routes(&self) -> Option<StandbyRoutes> {
        None
    }

    /// The complaint in a line of its log; `None` where the line is none. A hint for people, never a decision.
    fn complaint<'a>(&self, line: &'a str) -> Option<&'a str>;

    /// What a line adds to the complaint on the line before.
    fn explanation<'a>(&self, _complaint: &str, _line: &'a str) -> Option<&'a str> {
        None
    }

    /// Words of its log, in lower case, that show the phase of a start.
    fn phase_words(&self) -> &'static [(StartPhase, &'static [&'static str])];

    /// Beginnings of variables that it may inherit.
    fn inherited_prefixes(&self) -> &'static [&'static str];

    /// Variables that it must not inherit: they open it, load code, or write prompts to files.
    fn withheld_variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// Variables that the agent sets itself.
    fn reserved_variables(&self) -> &'static [&'static str];

    /// Arguments that the agent decides, or that would load code or other models, listen for others, or write elsewhere.
    /// `--ssl*` are all with this beginning, `--*-default` all with this end.
    fn reserved_arguments(&self) -> &'static [&'static str];

    /// Arguments that are allowed though the list above would reserve them.
    fn allowed_arguments(&self) -> &'static [&'static str] {
        &[]
    }

    /// Words that no argument may contain, JSON and dotted flags included: they name code to be loaded.
    fn code_words(&self) -> &'static [&'static str] {
        &[]
    }

    /// The argument that a variable stands for; `None` where it stands for none.
    fn argument_of(&self, _variable: &str) -> Option<String> {
        None
    }

    /// Arguments that a file follows.
    fn file_arguments(&self) -> &'static [&'static str] {
        &[]
    }
}

/// The routes of an engine that can sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandbyRoutes {
    pub(crate) sleep: &'static str,
    pub(crate) wake: &'static str,
}

/// Arguments that give a model a capability; none where arguments don't decide it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CapabilityFlags {
    /// For calling tools.
    pub tools: &'static [&'static str],
    /// For computing embeddings.
    pub embeddings: &'static [&'static str],
}

/// Something that the user of an engine has to know about the machine.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Whether the engine cannot run.
    pub is_fatal: bool,
    /// One line.
    pub message: String,
    /// The next step.
    pub hint: String,
}

/// One of the model servers.
#[derive(Clone, Copy)]
pub struct ServerKind(&'static dyn ModelServer);

impl ServerKind {
    /// llama.cpp's `llama-server`.
    pub const LLAMA_SERVER: Self = Self(&llama_server::LlamaServer);
    /// `vllm serve`.
    pub const VLLM: Self = Self(&vllm::Vllm);

    /// All that the agent can start.
    pub const ALL: [Self; 2] = [Self::VLLM, Self::LLAMA_SERVER];

    /// The server whose program has this name.
    pub fn named(program: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.program() == program)
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        self.0.program()
    }

    /// Requests that run at once where the configuration has no `concurrency`.
    pub fn default_concurrency(self) -> NonZeroU32 {
        self.0.default_concurrency()
    }

    /// GPU memory where the configuration has no `memory`.
    pub fn memory_need(self, spec: &EngineSpec) -> Need {
        self.0.memory_need(spec)
    }

    /// Whether a model may be a name that it downloads.
    pub fn downloads_models(self) -> bool {
        self.0.downloads_models()
    }

    /// Where a model that is no path was downloaded to; `None` where there is nothing.
    pub fn downloaded_model(self, model: &str) -> Option<PathBuf> {
        self.0.downloaded_model(model)
    }

    /// Keys of its providers in `mcplocal.yaml` besides those of all engines.
    pub fn provider_keys(self) -> &'static [&'static str] {
        self.0.provider_keys()
    }

    /// Arguments without which its model lacks a capability.
    pub fn capability_flags(self) -> CapabilityFlags {
        self.0.capability_flags()
    }

    /// Whether a variable stands for one of these arguments.
    pub fn has_variable_for(self, variable: &str, arguments: &[&str]) -> bool {
        self.0.argument_of(variable).is_some_and(|argument| arguments.contains(&argument.as_str()))
    }

    /// What its user has to know where there is no GPU.
    pub fn cpu_notices(self, options: &EngineOptions) -> Vec<Notice> {
        self.0.cpu_notices(options)
    }

    pub(crate) fn server(self) -> &'static dyn ModelServer {
        self.0
    }
}

impl PartialEq for ServerKind {
    fn eq(&self, other: &Self) -> bool {
        self.program() == other.program()
    }
}

impl Eq for ServerKind {}

impl fmt::Debug for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// One list of all servers together.
pub(crate) fn all(
    list: fn(&'static dyn ModelServer) -> &'static [&'static str],
) -> impl Iterator<Item = &'static str> {
    ServerKind::ALL.into_iter().flat_map(move |kind| list(kind.server())).copied()
}

/// Whether a variable stands for an argument of some server.
pub(crate) fn stands_for_argument(variable: &str) -> bool {
    ServerKind::ALL.iter().any(|kind| kind.server().argument_of(variable).is_some())
}

/// How far a start is, by a line of the server's log: the phase, and the percentage if there is one.
pub(crate) fn start_progress(server: &dyn ModelServer, line: &str) -> Option<(StartPhase, Option<u8>)> {
    let lower = line.to_ascii_lowercase();
    let (phase, _) =
        server.phase_words().iter().find(|(_, words)| words.iter().any(|word| lower.contains(word)))?;
    Some((*phase, percent(line)))
}

/// The first number before a percent sign, as progress bars have it: `Loading … shards:  50% Completed | 2/4`.
fn percent(line: &str) -> Option<u8> {
    let (before, _) = line.split_once('%')?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    before.get(before.len() - digits..)?.parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as vLLM 0.32 and llama-server write them.
    #[test]
    fn progress_is_read_from_lines_of_real_servers() {
        let of = |kind: ServerKind, line| start_progress(kind.server(), line);
        let (llama, vllm) = (ServerKind::LLAMA_SERVER, ServerKind::VLLM);
        assert_eq!(
            of(vllm, "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01,  1.52it/s]"),
            Some((StartPhase::Loading, Some(50)))
        );
        assert_eq!(
            of(vllm, "INFO [gpu_model_runner.py:2653] Starting to load model Qwen..."),
            Some((StartPhase::Loading, None))
        );
        assert_eq!(
            of(llama, "load_tensors: loading model tensors, this can take a while"),
            Some((StartPhase::Loading, None))
        );
        assert_eq!(
            of(vllm, "INFO [monitor.py:34] torch.compile takes 21.04 s in total"),
            Some((StartPhase::Compiling, None))
        );
        assert_eq!(
            of(vllm, "Capturing CUDA graphs (decode): 100%|####| 35/35"),
            Some((StartPhase::Compiling, Some(100)))
        );
        assert_eq!(of(vllm, "GET /health 200"), None);
        assert_eq!(of(vllm, "Loading weights took 250% longer"), Some((StartPhase::Loading, None)));
    }
}
