//! The command line and the environment of an engine, as `shared/engines` and the servers' own documentation have them.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use crate::{
    dev_routes,
    listen::Listen,
    options::EngineOptions,
    spec::{EngineKind, EngineSpec, SpecError, expand},
};

const PYTHON_PATH: &str = "PYTHONPATH";

/// A program with its arguments, ready to be run on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
}

impl EngineSpec {
    /// The command line for a place to listen at. The key travels in the environment, where other users cannot see it. Python modules of
    /// the agent's are in `modules`.
    pub(crate) fn launch(
        &self,
        options: &EngineOptions,
        listen: &Listen,
        api_key: &str,
        modules: &Path,
    ) -> Result<Launch, SpecError> {
        self.check_start(options)?;
        let (program, model) = (self.program()?, self.model_path()?);
        let served = self.served_name();
        let place: Vec<OsString> = match listen {
            Listen::Port(port) => {
                vec!["--host".into(), "127.0.0.1".into(), "--port".into(), port.to_string().into()]
            }
            Listen::Socket(socket) => vec!["--host".into(), socket.path().into()],
        };
        let mut args: Vec<OsString> = Vec::new();
        let mut env: Vec<(String, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| env.push((name.to_owned(), value));
        // Numbers of GPUs mean what the driver's own program means, and not the fastest first: by them it is known whose
        // memory an engine takes.
        set("CUDA_DEVICE_ORDER", "PCI_BUS_ID".into());
        match self.kind {
            EngineKind::LlamaServer => {
                args.extend(["-m".into(), model.into()]);
                args.extend(place);
                args.extend(["--alias", &served].map(Into::into));
                let slots = options.concurrency.map_or(1, NonZeroU32::get);
                if let Some(context) = self.context_length {
                    // It shares what it is given among its slots.
                    args.extend(["-c".into(), (u64::from(context) * u64::from(slots)).to_string().into()]);
                }
                // A short ping interval, because SIGTERM during a stream waits for the next ping.
                let slots = slots.to_string();
                args.extend(
                    ["-np", &slots, "--no-ui", "--offline", "--sse-ping-interval", "1"].map(Into::into),
                );
            }
            EngineKind::Vllm => {
                if model.is_dir() {
                    set("HF_HUB_OFFLINE", "1".into());
                }
                set("VLLM_NO_USAGE_STATS", "1".into());
                // Leaves the environment of its processes readable, by which what it leaves behind is known.
                set("SPT_NOENV", "1".into());
                if let Some(venv) = self.python_venv(&program)? {
                    // Kernels are compiled with tools of that venv, such as ninja.
                    set("PATH", first_on_path(&venv.join("bin")));
                    set("VIRTUAL_ENV", venv.into());
                }
                args.extend(["serve".into(), model.into()]);
                args.extend(place);
                args.extend(["--served-model-name", &served].map(Into::into));
                if let Some(length) = self.context_length {
                    args.extend(["--max-model-len".into(), length.to_string().into()]);
                }
                let mut option = |flag: &str, value: Option<String>| {
                    args.extend(value.into_iter().flat_map(|value| [flag.into(), value.into()]));
                };
                option(
                    "--gpu-memory-utilization",
                    self.gpu_memory_utilization.map(|share| share.to_string()),
                );
                option("--tensor-parallel-size", self.tensor_parallel_size.map(|count| count.to_string()));
                option("--dtype", self.dtype.clone());
                option("--quantization", self.quantization.clone());
                option("--max-num-seqs", options.concurrency.map(|count| count.to_string()));
                // Also where the agent itself was started with it: those routes are open.
                set("VLLM_SERVER_DEV_MODE", if options.standby { "1" } else { "0" }.into());
                if options.standby {
                    args.push("--enable-sleep-mode".into());
                    args.extend(["--middleware".into(), dev_routes::middleware().into()]);
                }
            }
        }
        args.extend(options.extra_args.iter().map(Into::into));
        for (name, value) in options.env.iter() {
            set(name, value.into());
        }
        // Last, so that nothing undoes it.
        if options.standby {
            // What the agent's own environment says is not inherited: it would be code from there.
            let given = options.env.iter().find(|(name, _)| *name == PYTHON_PATH);
            let others = given.map(|(_, path)| path.as_ref());
            set(PYTHON_PATH, dev_routes::python_path(modules, others));
        }
        let key_name = match self.kind {
            EngineKind::LlamaServer => "LLAMA_API_KEY",
            EngineKind::Vllm => "VLLM_API_KEY",
        };
        set(key_name, api_key.into());
        Ok(Launch { program, args, env })
    }

    /// The venv that `vllm` lies in; a command of one's own sees to that itself.
    fn python_venv(&self, program: &Path) -> Result<Option<PathBuf>, SpecError> {
        if let (None, Some(venv)) = (&self.command, &self.venv) {
            return expand(venv).map(Some);
        }
        // Tools are linked to from elsewhere.
        let program = program.canonicalize().ok().filter(|_| self.command.is_none());
        let root = program.as_deref().and_then(Path::parent).and_then(Path::parent);
        Ok(root.filter(|root| root.join("pyvenv.cfg").is_file()).map(Path::to_owned))
    }

    /// The model's name in requests and answers: what people call it, without the path.
    pub(crate) fn served_name(&self) -> String {
        let path = Path::new(&self.model);
        let last = match self.kind {
            EngineKind::LlamaServer => path.file_stem(),
            EngineKind::Vllm if path.exists() || self.model.starts_with('~') => path.file_name(),
            EngineKind::Vllm => None,
        };
        last.map_or_else(|| self.model.clone(), |name| name.to_string_lossy().into_owned())
    }
}

fn first_on_path(dir: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&path));
    // A directory with a colon in its name cannot be on the path: then the path stays as it is.
    std::env::join_paths(all).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;

    #[test]
    fn a_tool_that_is_linked_to_has_the_venv_that_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().canonicalize().unwrap().join("tools/vllm");
        std::fs::create_dir_all(venv.join("bin")).unwrap();
        std::fs::write(venv.join("bin/vllm"), "").unwrap();
        let link = dir.path().join("vllm");
        std::os::unix::fs::symlink(venv.join("bin/vllm"), &link).unwrap();
        let mut spec = spec(EngineKind::Vllm, "gpt2");
        (spec.command, spec.venv) = (None, None);
        assert_eq!(spec.python_venv(&link), Ok(None), "a directory is no venv by its name");
        std::fs::write(venv.join("pyvenv.cfg"), "").unwrap();
        assert_eq!(spec.python_venv(&link), Ok(Some(venv)));
        spec.command = Some(link.clone());
        assert_eq!(spec.python_venv(&link), Ok(None));
    }

    fn spec(kind: EngineKind, model: &str) -> EngineSpec {
        EngineSpec {
            name: "desk".to_owned(),
            kind,
            model: model.to_owned(),
            command: Some(std::env::current_exe().unwrap()),
            venv: None,
            context_length: Some(2048),
            gpu_memory_utilization: Some(0.75),
            tensor_parallel_size: None,
            dtype: None,
            quantization: None,
            idle_timeout: Duration::from_secs(1),
            start_timeout: Duration::from_secs(1),
        }
    }

    fn launch(spec: &EngineSpec, options: &EngineOptions) -> Launch {
        spec.launch(options, &Listen::Port(4711), "k3y", Path::new("/modules")).unwrap()
    }

    fn line(launch: &Launch) -> String {
        launch.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// The value that counts: the last.
    fn value<'a>(launch: &'a Launch, name: &str) -> Option<&'a str> {
        launch.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn command_lines_say_what_the_configuration_says_and_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("tiny.Q4.gguf");
        std::fs::write(&weights, "").unwrap();
        let model = weights.display().to_string();
        let options = EngineOptions::default();
        let llama = launch(&spec(EngineKind::LlamaServer, &model), &options);
        let expected = format!(
            "-m {model} --host 127.0.0.1 --port 4711 --alias tiny.Q4 -c 2048 -np 1 --no-ui --offline --sse-ping-interval 1"
        );
        assert_eq!(line(&llama), expected);
        let socket = Listen::choose(EngineKind::LlamaServer, dir.path()).unwrap();
        let path = socket.socket().unwrap().path().display().to_string();
        let on_socket =
            spec(EngineKind::LlamaServer, &model).launch(&options, &socket, "k3y", Path::new("/modules"));
        assert!(line(&on_socket.unwrap()).contains(&format!("--host {path} --alias tiny.Q4")), "{path}");
        let env = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("LLAMA_API_KEY", "k3y")];
        assert_eq!(llama.env, env.map(|(name, value)| (name.to_owned(), OsString::from(value))));

        let hub = launch(&spec(EngineKind::Vllm, "Qwen/Qwen2.5-7B"), &options);
        assert_eq!(
            line(&hub),
            "serve Qwen/Qwen2.5-7B --host 127.0.0.1 --port 4711 --served-model-name Qwen/Qwen2.5-7B --max-model-len 2048 --gpu-memory-utilization 0.75"
        );
        assert_eq!(value(&hub, "HF_HUB_OFFLINE"), None, "the hub may be needed");
        assert_eq!(value(&hub, "VLLM_SERVER_DEV_MODE"), Some("0"));
        assert_eq!(
            (value(&hub, "VLLM_API_KEY"), value(&hub, "VLLM_NO_USAGE_STATS")),
            (Some("k3y"), Some("1"))
        );
        let local = launch(&spec(EngineKind::Vllm, &dir.path().display().to_string()), &options);
        assert_eq!(value(&local, "HF_HUB_OFFLINE"), Some("1"));
    }

    #[test]
    fn options_come_after_and_cannot_take_the_key_away() {
        let options = EngineOptions {
            extra_args: vec!["--enforce-eager".to_owned()],
            env: [("VLLM_NO_USAGE_STATS", "0"), ("CUDA_DEVICE_ORDER", "FASTEST_FIRST")]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ..EngineOptions::default()
        };
        let launch = launch(&spec(EngineKind::Vllm, "Qwen/Qwen2.5-7B"), &options);
        let line = line(&launch);
        assert!(
            line.contains("--served-model-name Qwen/Qwen2.5-7B ") && line.ends_with(" --enforce-eager"),
            "{line}"
        );
        assert_eq!(value(&launch, "VLLM_NO_USAGE_STATS"), Some("0"));
        assert_eq!(value(&launch, "CUDA_DEVICE_ORDER"), Some("FASTEST_FIRST"));
        let options = EngineOptions { extra_args: vec!["--port=1".to_owned()], ..options };
        assert!(
            spec(EngineKind::Vllm, "gpt2")
                .launch(&options, &Listen::Port(4711), "k3y", Path::new("/modules"))
                .is_err()
        );
    }

    #[test]
    fn what_stands_by_has_its_development_routes_closed_whatever_else_python_reads() {
        let options = EngineOptions {
            standby: true,
            env: [("PYTHONPATH".to_owned(), "/plugins".to_owned())].into_iter().collect(),
            ..EngineOptions::default()
        };
        let launch = launch(&spec(EngineKind::Vllm, "gpt2"), &options);
        assert_eq!(value(&launch, "VLLM_SERVER_DEV_MODE"), Some("1"));
        assert!(line(&launch).contains("--enable-sleep-mode --middleware mcpctl_dev_routes.WantsKey"));
        assert_eq!(value(&launch, "PYTHONPATH"), Some("/modules:/plugins"));
    }

    #[test]
    fn a_venv_comes_first_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("vllm"), "").unwrap();
        let mut spec = spec(EngineKind::Vllm, "gpt2");
        (spec.command, spec.venv) = (None, Some(dir.path().to_owned()));
        assert!(spec.check().is_err(), "it cannot be run");
        std::fs::set_permissions(bin.join("vllm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let launch = launch(&spec, &EngineOptions::default());
        assert_eq!(launch.program, bin.join("vllm"));
        assert!(value(&launch, "PATH").unwrap().starts_with(&format!("{}:", bin.display())));
        assert_eq!(value(&launch, "VIRTUAL_ENV"), dir.path().to_str());
    }
}
