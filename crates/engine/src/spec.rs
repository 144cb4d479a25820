//! What an engine is started with, checked before anything is spawned.

use std::{
    num::NonZeroU32,
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
    /// GPUs that vLLM spreads the model over.
    pub tensor_parallel_size: Option<NonZeroU32>,
    /// vLLM's type of numbers, such as `bfloat16`.
    pub dtype: Option<String>,
    /// vLLM's kind of quantization, such as `awq`.
    pub quantization: Option<String>,
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
    /// The model is a directory, where a file is needed.
    #[error("the model `{0}` is not a file")]
    NotAFile(String),
    /// A file that an extra argument names is not there.
    #[error("the file `{path}` of `{argument}` does not exist")]
    NoFile {
        /// The argument.
        argument: String,
        /// The file.
        path: String,
    },
    /// What it needs is on a disk that does not answer.
    #[error("the disk of its program or model does not answer")]
    Silent,
    /// The name would lead out of the directory of logs and records.
    #[error("`{0}` is no name for an engine")]
    Name(String),
    /// An extra argument or variable that would undo what the agent decides.
    #[error("`{0}` is decided by the agent and cannot be among the extra arguments or the environment")]
    Reserved(String),
    /// The model's name would be read as an option.
    #[error("the model `{0}` begins with a hyphen, so it would be read as an option")]
    OptionLike(String),
    /// There is no home for `~` to stand for.
    #[error("`{0}` begins with `~`, but HOME is not set")]
    NoHome(String),
}

impl SpecError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProgram { hint, .. } => hint.clone(),
            Self::NotAFile(_) => "name the .gguf file itself".to_owned(),
            Self::Name(_) => "use letters, digits, `.`, `_` and `-`, as in `small-model`".to_owned(),
            Self::Reserved(_) => "leave it out".to_owned(),
            Self::OptionLike(_) => "give the file or directory another name".to_owned(),
            Self::NoModel(_) => "check the path in `model`, or download the model first".to_owned(),
            Self::Silent => "see whether a network file system hangs".to_owned(),
            Self::NoFile { .. } => "check the path, or download the file first".to_owned(),
            Self::NoHome(_) => "write the whole path".to_owned(),
        })
    }
}

impl EngineSpec {
    /// Whether everything is there that a start needs.
    ///
    /// # Errors
    /// What is wrong, else what is missing.
    pub fn check(&self) -> Result<(), SpecError> {
        self.validate()?;
        self.program()?;
        self.model_path().map(drop)
    }

    /// Whether the configuration can be right at all, whatever the machine has. Reads no file.
    ///
    /// # Errors
    /// What is wrong; never what may pass.
    pub fn validate(&self) -> Result<(), SpecError> {
        // It becomes part of file names.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.bytes().all(plain) {
            return Err(SpecError::Name(self.name.clone()));
        }
        if self.model.starts_with('-') || self.served_name().starts_with('-') {
            return Err(SpecError::OptionLike(self.model.clone()));
        }
        Ok(())
    }

    /// The program, wherever it was found.
    ///
    /// # Errors
    /// When it is nowhere, or not where it is said to be.
    pub fn program(&self) -> Result<PathBuf, SpecError> {
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
            (kind, _) => kind.find().ok_or_else(|| missing(Path::new(kind.program()), not_found(kind))),
        }
    }

    /// The model, which for vLLM may be a name on the hub instead of a path: `OWNER/MODEL` or `MODEL`.
    ///
    /// # Errors
    /// When it is a path, and nothing or no file is there.
    pub fn model_path(&self) -> Result<PathBuf, SpecError> {
        let path = expand(Path::new(&self.model))?;
        let looks_like_a_path = self.kind == EngineKind::LlamaServer
            || self.model.starts_with(['/', '.', '~'])
            || self.model.ends_with(".gguf")
            || self.model.matches('/').count() > 1
            || path.exists();
        if looks_like_a_path && !path.exists() {
            return Err(SpecError::NoModel(self.model.clone()));
        }
        if self.kind == EngineKind::LlamaServer && !path.is_file() {
            return Err(SpecError::NotAFile(self.model.clone()));
        }
        Ok(path)
    }
}

const fn not_found(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Vllm => "install it, e.g. with `uv tool install vllm`, or name its `venv` or `command`",
        EngineKind::LlamaServer => "install llama.cpp, or name the program in `command`",
    }
}

pub(crate) fn expand(path: &Path) -> Result<PathBuf, SpecError> {
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

pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: EngineKind, model: &str) -> EngineSpec {
        EngineSpec {
            name: "desk".to_owned(),
            kind,
            model: model.to_owned(),
            command: Some(std::env::current_exe().unwrap()),
            venv: None,
            context_length: None,
            gpu_memory_utilization: None,
            tensor_parallel_size: None,
            dtype: None,
            quantization: None,
            idle_timeout: Duration::from_secs(1),
            start_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_path_has_to_be_there_and_a_name_on_the_hub_does_not() {
        for path in ["/no/model", "./no-model", "~/no-model-of-that-name", "a/b/c", "model.gguf"] {
            let error = spec(EngineKind::Vllm, path).check().unwrap_err();
            assert_eq!(error, SpecError::NoModel(path.to_owned()));
        }
        for name in ["Qwen/Qwen2.5-7B", "gpt2"] {
            assert_eq!(spec(EngineKind::Vllm, name).check(), Ok(()));
            assert_eq!(spec(EngineKind::LlamaServer, name).check(), Err(SpecError::NoModel(name.to_owned())));
        }
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().display().to_string();
        assert_eq!(spec(EngineKind::Vllm, &model).check(), Ok(()));
        assert_eq!(spec(EngineKind::LlamaServer, &model).check(), Err(SpecError::NotAFile(model)));
    }

    #[test]
    fn a_model_that_would_be_read_as_an_option_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("--config=x");
        std::fs::write(&path, "").unwrap();
        let path = path.display().to_string();
        for model in ["-m", "--trust-remote-code", path.as_str()] {
            for kind in [EngineKind::Vllm, EngineKind::LlamaServer] {
                assert_eq!(spec(kind, model).check(), Err(SpecError::OptionLike(model.to_owned())));
            }
        }
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let missing = |change: fn(&mut EngineSpec)| {
            let mut spec = spec(EngineKind::Vllm, "gpt2");
            spec.command = None;
            change(&mut spec);
            let error = spec.check().unwrap_err();
            format!("{error}\nhint: {}", error.hint().unwrap())
        };
        let said = missing(|spec| spec.venv = Some("/no/venv".into()));
        assert!(
            said.starts_with("`/no/venv/bin/vllm` is not there") && said.contains("pip install vllm"),
            "{said}"
        );
        let said = missing(|spec| spec.command = Some("no-such-vllm".into()));
        assert!(said.starts_with("`no-such-vllm` is not there") && said.contains("`command`"), "{said}");
        // A directory has the executable bit too.
        let said = missing(|spec| spec.command = Some("/tmp".into()));
        assert!(said.starts_with("`/tmp` is not there or cannot be run"), "{said}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "..", "../x", "a/b", "a b", ".hidden"] {
            let mut spec = spec(EngineKind::Vllm, "gpt2");
            spec.name = name.to_owned();
            assert_eq!(spec.check(), Err(SpecError::Name(name.to_owned())));
        }
    }

    #[test]
    fn the_tilde_is_the_home_directory_and_only_at_the_beginning() {
        let home = std::env::var("HOME").unwrap();
        assert_eq!(expand(Path::new("~/x")).unwrap(), Path::new(&home).join("x"));
        assert_eq!(expand(Path::new("~x")).unwrap(), Path::new("~x"));
        assert_eq!(expand(Path::new("/a/~/b")).unwrap(), Path::new("/a/~/b"));
    }
}
