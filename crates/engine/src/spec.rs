//! What an engine is started with, checked before anything is spawned.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// Which model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// llama.cpp's `llama-server`.
    LlamaServer,
    /// `vllm serve`.
    Vllm,
}

/// What an engine is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSpec {
    /// The provider's name.
    pub name: String,
    /// Which model server.
    pub kind: EngineKind,
    /// A file, a directory, or for vLLM a name on the hub. `~` stands for the home directory.
    pub model: String,
    /// The program, where it is not found by itself.
    pub command: Option<PathBuf>,
    /// Where `vllm` is installed.
    pub venv: Option<PathBuf>,
    /// Most tokens of prompt and answer together.
    pub context_length: Option<u32>,
    /// Share of the GPU's memory, more than 0 and at most 1.
    pub gpu_memory_utilization: Option<f64>,
    /// After so long without a request it is stopped, counted from the end of the last one.
    pub idle_timeout: Duration,
    /// How long a start may take.
    pub start_timeout: Duration,
}

/// Why an engine cannot be started at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The program is not there.
    #[error("`{program}` is not there or cannot be run")]
    NoProgram {
        /// Where it was looked for.
        program: String,
        /// What to do.
        hint: String,
    },
    /// The model is not there.
    #[error("the model `{0}` does not exist")]
    NoModel(String),
    /// There is no home for `~` to stand for.
    #[error("`{0}` begins with `~`, but HOME is not set")]
    NoHome(String),
}

impl SpecError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProgram { hint, .. } => hint.clone(),
            Self::NoModel(_) => "check the path in `model`, or download the model first".to_owned(),
            Self::NoHome(_) => "write the whole path".to_owned(),
        })
    }
}

/// A program with its arguments, ready to be run on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, String)>,
}

impl EngineSpec {
    /// Whether everything is there that a start needs.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), SpecError> {
        self.program()?;
        self.model_path().map(drop)
    }

    /// The model's name in requests and answers: what people call it, without the path.
    pub(crate) fn served_name(&self) -> String {
        let path = Path::new(&self.model);
        let last = match self.kind {
            EngineKind::LlamaServer => path.file_stem(),
            EngineKind::Vllm if path.exists() => path.file_name(),
            EngineKind::Vllm => None,
        };
        last.map_or_else(|| self.model.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// The command line for a port. The key travels in the environment, where other users cannot see it.
    pub(crate) fn launch(&self, port: u16, api_key: &str) -> Result<Launch, SpecError> {
        let (program, model) = (self.program()?, self.model_path()?);
        let mut args: Vec<OsString> = Vec::new();
        let mut env = Vec::new();
        let (port, served) = (port.to_string(), self.served_name());
        match self.kind {
            EngineKind::LlamaServer => {
                args.extend(["-m".into(), model.into()]);
                args.extend(["--host", "127.0.0.1", "--port", &port, "--alias", &served].map(Into::into));
                if let Some(context) = self.context_length {
                    args.extend(["-c".into(), context.to_string().into()]);
                }
                // A short ping interval, because SIGTERM during a stream waits for the next ping.
                args.extend(["-np", "1", "--no-ui", "--offline", "--sse-ping-interval", "1"].map(Into::into));
                env.push(("LLAMA_API_KEY", api_key.to_owned()));
            }
            EngineKind::Vllm => {
                let local = Path::new(&model).is_dir();
                args.extend(["serve".into(), model.into()]);
                args.extend(
                    ["--host", "127.0.0.1", "--port", &port, "--served-model-name", &served].map(Into::into),
                );
                if let Some(length) = self.context_length {
                    args.extend(["--max-model-len".into(), length.to_string().into()]);
                }
                if let Some(share) = self.gpu_memory_utilization {
                    args.extend(["--gpu-memory-utilization".into(), share.to_string().into()]);
                }
                env.push(("VLLM_API_KEY", api_key.to_owned()));
                env.push(("VLLM_NO_USAGE_STATS", "1".to_owned()));
                if local {
                    env.push(("HF_HUB_OFFLINE", "1".to_owned()));
                }
            }
        }
        Ok(Launch { program, args, env })
    }

    fn program(&self) -> Result<PathBuf, SpecError> {
        let missing = |program: &Path, hint: &str| SpecError::NoProgram {
            program: program.display().to_string(),
            hint: hint.to_owned(),
        };
        if let Some(command) = &self.command {
            let program = expand(command)?;
            let found =
                if program.components().count() > 1 { Some(program.clone()) } else { on_path(&program) };
            return found
                .filter(|found| is_executable(found))
                .ok_or_else(|| missing(&program, "check the path in `command`"));
        }
        match (self.kind, &self.venv) {
            (EngineKind::Vllm, Some(venv)) => {
                let program = expand(venv)?.join("bin/vllm");
                if is_executable(&program) {
                    return Ok(program);
                }
                Err(missing(
                    &program,
                    "install it there: `pip install vllm` in that venv, or name another `venv`",
                ))
            }
            (EngineKind::Vllm, None) => on_path(Path::new("vllm")).ok_or_else(|| {
                missing(Path::new("vllm"), "name the `venv` where vLLM is installed, or its `command`")
            }),
            (EngineKind::LlamaServer, _) => on_path(Path::new("llama-server")).ok_or_else(|| {
                missing(Path::new("llama-server"), "install llama.cpp, or name the program in `command`")
            }),
        }
    }

    /// The model, which for vLLM may be a name on the hub instead of a path.
    fn model_path(&self) -> Result<PathBuf, SpecError> {
        let looks_like_a_path = self.kind == EngineKind::LlamaServer
            || self.model.starts_with(['/', '.', '~'])
            || Path::new(&self.model).exists();
        let path = expand(Path::new(&self.model))?;
        if looks_like_a_path && !path.exists() {
            return Err(SpecError::NoModel(self.model.clone()));
        }
        Ok(path)
    }
}

fn expand(path: &Path) -> Result<PathBuf, SpecError> {
    match path.strip_prefix("~") {
        Err(_) => Ok(path.to_owned()),
        Ok(rest) => match std::env::var_os("HOME") {
            Some(home) => Ok(Path::new(&home).join(rest)),
            None => Err(SpecError::NoHome(path.display().to_string())),
        },
    }
}

fn on_path(program: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: EngineKind, model: &str, command: &Path) -> EngineSpec {
        EngineSpec {
            name: "desk".to_owned(),
            kind,
            model: model.to_owned(),
            command: Some(command.to_owned()),
            venv: None,
            context_length: Some(2048),
            gpu_memory_utilization: Some(0.75),
            idle_timeout: Duration::from_secs(1),
            start_timeout: Duration::from_secs(1),
        }
    }

    fn line(launch: &Launch) -> String {
        launch.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn command_lines_say_what_the_configuration_says_and_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let weights = dir.path().join("tiny.Q4.gguf");
        std::fs::write(&weights, "").unwrap();
        let model = weights.display().to_string();
        let launch = spec(EngineKind::LlamaServer, &model, &program).launch(4711, "k3y").unwrap();
        let expected = format!(
            "-m {model} --host 127.0.0.1 --port 4711 --alias tiny.Q4 -c 2048 -np 1 --no-ui --offline --sse-ping-interval 1"
        );
        assert_eq!(line(&launch), expected);
        assert_eq!(launch.env, [("LLAMA_API_KEY", "k3y".to_owned())]);

        let launch = spec(EngineKind::Vllm, "Qwen/Qwen2.5-7B", &program).launch(4711, "k3y").unwrap();
        assert_eq!(
            line(&launch),
            "serve Qwen/Qwen2.5-7B --host 127.0.0.1 --port 4711 --served-model-name Qwen/Qwen2.5-7B --max-model-len 2048 --gpu-memory-utilization 0.75"
        );
        assert!(launch.env.iter().all(|(name, _)| *name != "HF_HUB_OFFLINE"), "the hub may be needed");
        let local = dir.path().display().to_string();
        let launch = spec(EngineKind::Vllm, &local, &program).launch(4711, "k3y").unwrap();
        assert!(launch.env.contains(&("HF_HUB_OFFLINE", "1".to_owned())));
    }
}
