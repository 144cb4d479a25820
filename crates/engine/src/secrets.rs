//! The secrets that must not get into an engine's log.

use mcpctl_supervisor::redaction;
use secrecy::{ExposeSecret as _, SecretString};

use crate::options::EngineOptions;

/// The start's key, and every secret in the agent's environment and in the engine's options.
pub(crate) fn of(options: &EngineOptions, api_key: &SecretString) -> Vec<String> {
    let inherited = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let configured = options.env.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut secrets = redaction::secrets(inherited.chain(configured), &options.extra_args);
    secrets.push(api_key.expose_secret().to_owned());
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_environment_and_arguments_are_redacted() {
        let options = EngineOptions {
            env: [("HF_TOKEN".to_owned(), "hf_abcdefgh".to_owned())].into_iter().collect(),
            extra_args: ["--hf-token", "hf_from_argument", "--seed", "12345678"].map(str::to_owned).to_vec(),
            ..EngineOptions::default()
        };
        let secrets = of(&options, &SecretString::from("k3y"));
        for secret in ["k3y", "hf_abcdefgh", "hf_from_argument"] {
            assert!(secrets.iter().any(|found| found == secret), "{secret}: {secrets:?}");
        }
        assert!(!secrets.iter().any(|found| found == "12345678"));
    }
}
