//! The options of an engine, whose defaults fit most. What a start cannot do without is in `EngineSpec`.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, path::Path, time::Duration};

use crate::{
    Placement, environment,
    server::{self, ModelServer},
    spec::SpecError,
};

/// The options of an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Arguments after the agent's own.
    pub extra_args: Vec<String>,
    /// Variables besides those that are inherited.
    pub env: EngineEnv,
    /// Maximum of requests at once; unbounded by default.
    pub concurrency: Option<NonZeroU32>,
    /// Maximum of requests that wait while `concurrency` run; more are rejected. Unbounded by default.
    pub queue: Option<u32>,
    /// Which memory it uses, and how much.
    pub placement: Placement,
    /// Whether it sleeps instead of stopping, with its weights in main memory. Not every model server can.
    pub standby: bool,
    /// A sleeping engine is stopped after this time.
    pub standby_timeout: Duration,
    /// Whether it keeps running without requests.
    pub keep: bool,
    /// How long running requests may take once the engine is to stop.
    pub drain_timeout: Duration,
    /// A start without waiters is abandoned after this time; never if `None`. The default lets a client whose request timed
    /// out send it again, and find the start further on.
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

/// Variables of an engine's environment. `Debug` shows no values, because they may be secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EngineEnv(BTreeMap<String, String>);

impl EngineEnv {
    /// Names and values.
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

impl EngineOptions {
    /// Checks that no argument or variable overrides a decision of the agent.
    ///
    /// # Errors
    /// The first that does.
    pub fn check(&self) -> Result<(), SpecError> {
        if let Some(refused) = self.extra_args.iter().find_map(|argument| server::reserved_argument(argument))
        {
            return Err(SpecError::Reserved(refused));
        }
        let odd = |name: &str| {
            name.is_empty()
                || name.contains(['=', '\0'])
                || name == mcpctl_supervisor::MARK_VARIABLE
                || server::all(ModelServer::reserved_variables).any(|reserved| reserved == name)
                || environment::is_own(name)
                || server::is_reserved_variable(name)
        };
        match self.env.iter().find(|(name, value)| odd(name) || value.contains('\0')) {
            Some((name, _)) => Err(SpecError::Reserved(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Checks that the files exist that extra arguments name; a server reports a missing one only after it was spawned.
    ///
    /// # Errors
    /// The first that is missing.
    pub fn check_files(&self) -> Result<(), SpecError> {
        let following = self.extra_args.iter().skip(1);
        for (argument, path) in self.extra_args.iter().zip(following) {
            let names_file = server::all(ModelServer::file_arguments).any(|flag| flag == argument);
            if names_file && !Path::new(path).exists() {
                return Err(SpecError::NoFile { argument: argument.clone(), path: path.clone() });
            }
        }
        Ok(())
    }
}

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
    fn decisions_of_the_agent_cannot_be_overridden() {
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
    fn debug_shows_no_values_of_the_environment() {
        let shown = format!("{:?}", with(&[], &[("HF_TOKEN", "hf_secret")]));
        assert!(shown.contains("HF_TOKEN") && !shown.contains("hf_secret"), "{shown}");
    }
}
