//! What is seldom said about an engine: the defaults fit most. What it needs to be started at all is its `EngineSpec`.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, path::Path, time::Duration};

use crate::{Placement, arguments, environment, spec::SpecError};

/// What is seldom said about an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Arguments after those that the agent gives.
    pub extra_args: Vec<String>,
    /// Variables for the engine, besides those that it inherits.
    pub env: EngineEnv,
    /// Requests at once; by default as many as come.
    pub concurrency: Option<NonZeroU32>,
    /// Requests that may wait while so many run; more are refused. By default as many as come.
    pub queue: Option<u32>,
    /// Where its memory is, and how much it needs.
    pub placement: Placement,
    /// Whether it sleeps where it would be stopped, and keeps its weights in the machine's memory: vLLM's sleep mode.
    pub standby: bool,
    /// How long it sleeps until it is stopped.
    pub standby_timeout: Duration,
    /// Whether it is kept although nobody uses it.
    pub keep: bool,
    /// How long running requests may go on once the engine is to stop.
    pub drain_timeout: Duration,
    /// A start that nobody waits for is broken off after so long, or never. Some time is left by default, so that a
    /// client that lost patience with a slow start and comes again finds it further on, and not at its beginning.
    pub abandon_after: Option<Duration>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            extra_args: Vec::new(),
            env: EngineEnv::default(),
            concurrency: None,
            queue: None,
            placement: Placement::default(),
            standby: false,
            standby_timeout: Duration::from_secs(4 * 3600),
            keep: false,
            drain_timeout: Duration::from_secs(30),
            abandon_after: Some(Duration::from_secs(10)),
        }
    }
}

/// Variables of an engine's environment. Their values may be secrets and are not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EngineEnv(BTreeMap<String, String>);

impl EngineEnv {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for EngineEnv {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for EngineEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the agent sets itself.
const RESERVED_ENV: [&str; 4] =
    ["LLAMA_API_KEY", "VLLM_API_KEY", "VLLM_SERVER_DEV_MODE", mcpctl_supervisor::MARK_VARIABLE];

impl EngineOptions {
    /// Whether they leave alone what the agent decides.
    ///
    /// # Errors
    /// Names what does not.
    pub fn check(&self) -> Result<(), SpecError> {
        if let Some(refused) = self.extra_args.iter().find_map(|argument| arguments::refused(argument)) {
            return Err(SpecError::Reserved(refused));
        }
        let odd = |name: &str| {
            name.is_empty()
                || name.contains(['=', '\0'])
                || RESERVED_ENV.contains(&name)
                || environment::is_own(name)
                || arguments::is_refused_variable(name)
        };
        match self.env.iter().find(|(name, value)| odd(name) || value.contains('\0')) {
            Some((name, _)) => Err(SpecError::Reserved(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether the files are there that extra arguments name. A server says only after it was spawned that one is not.
    ///
    /// # Errors
    /// Names the first that is missing.
    pub fn check_files(&self) -> Result<(), SpecError> {
        let following = self.extra_args.iter().skip(1);
        for (argument, path) in self.extra_args.iter().zip(following) {
            if FILE_ARGUMENTS.contains(&argument.as_str()) && !Path::new(path).exists() {
                return Err(SpecError::NoFile { argument: argument.clone(), path: path.clone() });
            }
        }
        Ok(())
    }
}

/// Arguments of llama.cpp that are followed by a file (its `common/arg.cpp`). vLLM has none that is no model.
const FILE_ARGUMENTS: [&str; 4] = ["--mmproj", "-mm", "--chat-template-file", "--grammar-file"];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(args: &[&str], env: &[(&str, &str)]) -> EngineOptions {
        EngineOptions {
            extra_args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..EngineOptions::default()
        }
    }

    #[test]
    fn what_the_agent_decides_cannot_be_undone() {
        for arg in
            ["--host", "--hos=0.0.0.0", "--port", "--api-key=x", "--api_key", "--served_model_name=x", "-m"]
        {
            assert!(matches!(with(&[arg], &[]).check(), Err(SpecError::Reserved(_))), "{arg}");
        }
        for name in ["VLLM_API_KEY", "LLAMA_API_KEY", "", "A=B", "MCPCTL_TOKEN", "LLAMA_ARG_HOST"] {
            assert_eq!(with(&[], &[(name, "x")]).check(), Err(SpecError::Reserved(name.to_owned())));
        }
        assert_eq!(
            with(&["--enforce-eager", "-ngl", "0"], &[("VLLM_CPU_KVCACHE_SPACE", "1")]).check(),
            Ok(())
        );
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let shown = format!("{:?}", with(&[], &[("HF_TOKEN", "hf_secret")]));
        assert!(shown.contains("HF_TOKEN") && !shown.contains("hf_secret"), "{shown}");
    }
}
