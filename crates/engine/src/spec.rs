//! The specification of an engine, checked before anything is spawned.

use std::{
    env,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{ServerKind, server::is_executable};

/// The specification of an engine. Keys that the configuration can leave out are `EngineOptions`.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSpec {
    /// The provider's name.
    pub name: String,
    /// The model server.
    pub server: ServerKind,
    /// A file, a directory, or a name on the hub, as the server takes it. `~` is the home directory.
    pub model: String,
    /// The program; where left out, it is searched.
    pub command: Option<PathBuf>,
    /// The Python venv of the program.
    pub venv: Option<PathBuf>,
    /// Maximum of tokens of prompt and answer together.
    pub context_length: Option<u32>,
    /// Share of the GPU's memory, more than 0 and at most 1.
    pub gpu_memory_utilization: Option<f64>,
    /// Number of GPUs that share the model.
    pub tensor_parallel_size: Option<NonZeroU32>,
    /// The type of numbers, such as `bfloat16`.
    pub dtype: Option<String>,
    /// The kind of quantization, such as `awq`.
    pub quantization: Option<String>,
    /// An engine without a request for this long, counted from the end of the last one, is stopped.
    pub idle_timeout: Duration,
    /// The timeout of a start.
    pub start_timeout: Duration,
}

/// Why an engine cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The program is missing, or not executable.
    #[error("`{program}` is not there or cannot be run")]
    NoProgram {
        /// The path that was expected.
        program: String,
        /// The next step.
        hint: String,
    },
    /// The model is missing.
    #[error("the model `{0}` does not exist")]
    NoModel(String),
    /// The model is a directory, where a file is needed.
    #[error("the model `{0}` is not a file")]
    NotAFile(String),
    /// A file that an extra argument names is missing.
    #[error("the file `{path}` of `{argument}` does not exist")]
    NoFile {
        /// The argument.
        argument: String,
        /// The file.
        path: String,
    },
    /// The program or model is on a disk that does not respond.
    #[error("the disk of its program or model does not answer")]
    Silent,
    /// The name is not safe as part of a file name.
    #[error("`{0}` is not a valid name of an engine")]
    Name(String),
    /// An extra argument or variable would override a decision of the agent.
    #[error("`{0}` is decided by the agent and cannot be among the extra arguments or the environment")]
    Reserved(String),
    /// The model would be parsed as an option.
    #[error("the model `{0}` begins with a hyphen, so it would be read as an option")]
    OptionLike(String),
    /// `~` cannot be expanded.
    #[error("`{0}` begins with `~`, but HOME is not set")]
    NoHome(String),
}

impl SpecError {
    /// The next step.
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
            Self::NoHome(_) => "write an absolute path".to_owned(),
        })
    }
}

impl EngineSpec {
    /// Checks the specification, and that program and model are there.
    ///
    /// # Errors
    /// What is wrong, else what is missing.
    pub fn check(&self) -> Result<(), SpecError> {
        self.validate()?;
        self.program()?;
        self.model_path().map(drop)
    }

    /// Checks the specification alone, and reads no file.
    ///
    /// # Errors
    /// What is wrong on every machine.
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

    /// The program: by `command`, by a key of the server's own, or searched.
    ///
    /// # Errors
    /// When it is not where the configuration has it, or in no usual place.
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
        let server = self.server.server();
        if let Some((program, hint)) = server.configured_program(self)? {
            return if is_executable(&program) { Ok(program) } else { Err(missing(&program, hint)) };
        }
        let program = self.server.program();
        self.server.find().ok_or_else(|| missing(Path::new(program), server.install_hint()))
    }

    /// The model with `~` expanded.
    ///
    /// # Errors
    /// A model that is missing, or not what the server loads.
    pub fn model_path(&self) -> Result<PathBuf, SpecError> {
        let path = expand(Path::new(&self.model))?;
        self.server.server().check_model(&self.model, &path)?;
        Ok(path)
    }
}

/// Replaces a leading `~` by the home directory.
///
/// # Errors
/// When there is one, and `HOME` is not set.
pub fn expand(path: &Path) -> Result<PathBuf, SpecError> {
    match path.strip_prefix("~") {
        Err(_) => Ok(path.to_owned()),
        Ok(rest) => match env::var_os("HOME") {
            Some(home) => Ok(Path::new(&home).join(rest)),
            None => Err(SpecError::NoHome(path.display().to_string())),
        },
    }
}

fn on_path(program: &Path) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| is_executable(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(server: ServerKind, model: &str) -> EngineSpec {
        EngineSpec {
            name: "desk".to_owned(),
            server,
            model: model.to_owned(),
            command: Some(env::current_exe().unwrap()),
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
    fn path_must_exist_and_name_on_the_hub_need_not() {
        for path in ["/no/model", "./no-model", "~/no-model-of-that-name", "a/b/c", "model.gguf"] {
            let error = spec(ServerKind::VLLM, path).check().unwrap_err();
            assert_eq!(error, SpecError::NoModel(path.to_owned()));
        }
        for name in ["Qwen/Qwen2.5-7B", "gpt2"] {
            assert_eq!(spec(ServerKind::VLLM, name).check(), Ok(()));
            assert_eq!(
                spec(ServerKind::LLAMA_SERVER, name).check(),
                Err(SpecError::NoModel(name.to_owned()))
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().display().to_string();
        assert_eq!(spec(ServerKind::VLLM, &model).check(), Ok(()));
        assert_eq!(spec(ServerKind::LLAMA_SERVER, &model).check(), Err(SpecError::NotAFile(model)));
    }

    #[test]
    fn model_that_looks_like_an_option_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("--config=x");
        std::fs::write(&path, "").unwrap();
        let path = path.display().to_string();
        for model in ["-m", "--trust-remote-code", path.as_str()] {
            for kind in ServerKind::ALL {
                assert_eq!(spec(kind, model).check(), Err(SpecError::OptionLike(model.to_owned())));
            }
        }
    }

    #[test]
    fn missing_program_is_reported_with_a_hint() {
        let missing = |change: fn(&mut EngineSpec)| {
            let mut spec = spec(ServerKind::VLLM, "gpt2");
            spec.command = None;
            change(&mut spec);
            let error = spec.check().unwrap_err();
            format!("{error}\nhint: {}", error.hint().unwrap())
        };
        let error = missing(|spec| spec.venv = Some("/no/venv".into()));
        assert!(
            error.starts_with("`/no/venv/bin/vllm` is not there") && error.contains("pip install vllm"),
            "{error}"
        );
        let error = missing(|spec| spec.command = Some("no-such-vllm".into()));
        assert!(error.starts_with("`no-such-vllm` is not there") && error.contains("`command`"), "{error}");
        // A directory has the executable bit too.
        let error = missing(|spec| spec.command = Some("/tmp".into()));
        assert!(error.starts_with("`/tmp` is not there or cannot be run"), "{error}");
    }

    #[test]
    fn name_that_is_not_safe_in_paths_is_rejected() {
        for name in ["", "..", "../x", "a/b", "a b", ".hidden"] {
            let mut spec = spec(ServerKind::VLLM, "gpt2");
            spec.name = name.to_owned();
            assert_eq!(spec.check(), Err(SpecError::Name(name.to_owned())));
        }
    }

    #[test]
    fn only_a_leading_tilde_is_the_home_directory() {
        let home = env::var("HOME").unwrap();
        assert_eq!(expand(Path::new("~/x")).unwrap(), Path::new(&home).join("x"));
        assert_eq!(expand(Path::new("~x")).unwrap(), Path::new("~x"));
        assert_eq!(expand(Path::new("/a/~/b")).unwrap(), Path::new("/a/~/b"));
    }
}
