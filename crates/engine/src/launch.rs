//! The command line and the environment of one start. What each model server needs is in `server`.

use std::{
    ffi::OsString,
    fmt::Display,
    path::{Path, PathBuf},
};

use crate::{EngineOptions, EngineSpec, SpecError, listen::Listen};

/// A program with its arguments and its environment. A variable that is set twice has its last value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
}

/// What a model server makes its arguments and variables from.
#[derive(Clone, Copy)]
pub(crate) struct LaunchContext<'a> {
    pub(crate) spec: &'a EngineSpec,
    pub(crate) options: &'a EngineOptions,
    pub(crate) listen: &'a Listen,
    /// The model with `~` expanded.
    pub(crate) model: &'a Path,
    /// The model's name in requests and responses.
    pub(crate) served_name: &'a str,
    /// The directory of the agent's own Python modules.
    pub(crate) modules: &'a Path,
}

impl LaunchContext<'_> {
    /// The arguments for where it listens, which all servers have in common.
    pub(crate) fn listen_arguments(&self) -> Vec<OsString> {
        match self.listen {
            Listen::Port(port) => {
                vec!["--host".into(), "127.0.0.1".into(), "--port".into(), port.to_string().into()]
            }
            Listen::Socket(socket) => vec!["--host".into(), socket.path().into()],
        }
    }
}

impl Launch {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.to_owned(), value.into()));
    }

    /// Adds a flag and its value, if there is one.
    pub(crate) fn option(&mut self, flag: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.args.extend([flag.into(), value.to_string().into()]);
        }
    }
}

impl EngineSpec {
    /// The command line for a place to listen on. The key travels in the environment, which other users cannot read.
    /// `modules` is the directory of the agent's own Python modules.
    ///
    /// # Errors
    /// What is wrong with the specification or the options, or missing on the machine.
    pub(crate) fn launch(
        &self,
        options: &EngineOptions,
        listen: &Listen,
        api_key: &str,
        modules: &Path,
    ) -> Result<Launch, SpecError> {
        self.check_start(options)?;
        let (model, served_name) = (self.model_path()?, self.served_name());
        let context =
            LaunchContext { spec: self, options, listen, model: &model, served_name: &served_name, modules };
        let server = self.server.server();
        let mut launch = Launch { program: self.program()?, args: Vec::new(), env: Vec::new() };
        // Numbers GPUs as the driver's own program does, and not the fastest first: by these numbers the arbiter knows
        // whose memory an engine takes.
        launch.set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        server.add_to(&mut launch, &context)?;
        launch.args.extend(options.extra_args.iter().map(Into::into));
        for (name, value) in options.env.iter() {
            launch.set(name, value);
        }
        server.override_options(&mut launch, &context);
        launch.set(server.key_variable(), api_key);
        Ok(launch)
    }

    /// The model's name in requests and responses, without the path.
    pub(crate) fn served_name(&self) -> String {
        let name = self.server.server().name_in_path(&self.model);
        name.map_or_else(|| self.model.clone(), |name| name.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use crate::ServerKind;

    fn spec(server: ServerKind, model: &str) -> EngineSpec {
        EngineSpec {
            name: "desk".to_owned(),
            server,
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
    fn command_line_follows_the_configuration_and_has_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("tiny.Q4.gguf");
        std::fs::write(&weights, "").unwrap();
        let model = weights.display().to_string();
        let options = EngineOptions::default();
        let llama = launch(&spec(ServerKind::LLAMA_SERVER, &model), &options);
        let expected = format!(
            "-m {model} --host 127.0.0.1 --port 4711 --alias tiny.Q4 -c 2048 -np 1 --no-ui --offline --sse-ping-interval 1"
        );
        assert_eq!(line(&llama), expected);
        let socket = Listen::choose(ServerKind::LLAMA_SERVER, dir.path()).unwrap();
        let path = socket.socket().unwrap().path().display().to_string();
        let on_socket =
            spec(ServerKind::LLAMA_SERVER, &model).launch(&options, &socket, "k3y", Path::new("/modules"));
        assert!(line(&on_socket.unwrap()).contains(&format!("--host {path} --alias tiny.Q4")), "{path}");
        let env = [("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("LLAMA_API_KEY", "k3y")];
        assert_eq!(llama.env, env.map(|(name, value)| (name.to_owned(), OsString::from(value))));

        let hub = launch(&spec(ServerKind::VLLM, "Qwen/Qwen2.5-7B"), &options);
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
        let local = launch(&spec(ServerKind::VLLM, &dir.path().display().to_string()), &options);
        assert_eq!(value(&local, "HF_HUB_OFFLINE"), Some("1"));
    }

    #[test]
    fn options_come_last_and_cannot_replace_the_key() {
        let options = EngineOptions {
            extra_args: vec!["--enforce-eager".to_owned()],
            env: [("VLLM_NO_USAGE_STATS", "0"), ("CUDA_DEVICE_ORDER", "FASTEST_FIRST")]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ..EngineOptions::default()
        };
        let launch = launch(&spec(ServerKind::VLLM, "Qwen/Qwen2.5-7B"), &options);
        let line = line(&launch);
        assert!(
            line.contains("--served-model-name Qwen/Qwen2.5-7B ") && line.ends_with(" --enforce-eager"),
            "{line}"
        );
        assert_eq!(value(&launch, "VLLM_NO_USAGE_STATS"), Some("0"));
        assert_eq!(value(&launch, "CUDA_DEVICE_ORDER"), Some("FASTEST_FIRST"));
        let options = EngineOptions { extra_args: vec!["--port=1".to_owned()], ..options };
        assert!(
            spec(ServerKind::VLLM, "gpt2")
                .launch(&options, &Listen::Port(4711), "k3y", Path::new("/modules"))
                .is_err()
        );
    }

    #[test]
    fn standby_closes_the_development_routes() {
        let options = EngineOptions {
            standby: true,
            env: [("PYTHONPATH".to_owned(), "/plugins".to_owned())].into_iter().collect(),
            ..EngineOptions::default()
        };
        let launch = launch(&spec(ServerKind::VLLM, "gpt2"), &options);
        assert_eq!(value(&launch, "VLLM_SERVER_DEV_MODE"), Some("1"));
        assert!(line(&launch).contains("--enable-sleep-mode --middleware mcpctl_dev_routes.WantsKey"));
        assert_eq!(value(&launch, "PYTHONPATH"), Some("/modules:/plugins"));
    }

    #[test]
    fn venv_comes_first_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::fs::write(bin.join("vllm"), "").unwrap();
        let mut spec = spec(ServerKind::VLLM, "gpt2");
        (spec.command, spec.venv) = (None, Some(dir.path().to_owned()));
        assert!(spec.check().is_err(), "it cannot be run");
        std::fs::set_permissions(bin.join("vllm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let launch = launch(&spec, &EngineOptions::default());
        assert_eq!(launch.program, bin.join("vllm"));
        assert!(value(&launch, "PATH").unwrap().starts_with(&format!("{}:", bin.display())));
        assert_eq!(value(&launch, "VIRTUAL_ENV"), dir.path().to_str());
    }
}
