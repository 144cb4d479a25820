//! `mcplocal.yaml`: the addresses of mcpd, and the local providers. Unknown keys are errors with their place.

mod central;
mod check;
mod limits;
mod primary;
mod provider;
mod vocabulary;
pub mod watch;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use mcpctl_access::proof::PublicKey;
use mcpctl_api::{
    Name, encoding,
    yaml::{self, YamlError},
};
use mcpctl_client::Trust;
use mcpctl_owner::{
    PathError, PathProblem,
    file::{self, Content},
};
use mcpctl_server::{Address, Origin};
use mcpctl_telemetry::TelemetryConfig;
use serde::Deserialize;
use serde_saphyr::Spanned;
use url::Url;

use central::Central;
use check::{place, wrong};
use primary::{FailoverEntry, PrimaryEntry};
use vocabulary::VOCABULARY;

pub use central::DefaultServer;
pub use limits::{JournalLimits, Limits};
pub use primary::{FailoverConfig, PrimaryConfig};
pub use provider::{ManagedEngine, Prewarm, ProviderConfig, ProviderKind};

const DEFAULT_LISTEN: &str = "127.0.0.1:3200";
/// Maximum size of the file, bytes: far more than a hundred providers.
const MAX_FILE: u64 = 1 << 20;
/// Most keys of mcpd that may be pinned.
const MAX_PROOF_KEYS: usize = 8;

/// The agent's configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// mcpd's address for resources and the probe.
    pub server: Url,
    /// The context of mcpctl that `server` is from, where the file does not name it.
    pub context: Option<String>,
    /// mcpd's address for inference; `server` where it has none of its own.
    pub inference: Url,
    /// The agent's address: loopback, or a Unix socket.
    pub listen: Address,
    /// In the order of the file.
    pub providers: Vec<ProviderConfig>,
    /// Timeouts and breaker of the primary, for Llms whose provider has none of its own.
    pub primary: PrimaryConfig,
    /// Web pages that may call the agent, as in the header `Origin`.
    pub allowed_origins: Vec<Origin>,
    /// What proves that the programs at `server` and `inference` are mcpd.
    pub trust: Trust,
    /// The keys of mcpd at `server`, instead of those that `mcpctl login` pins.
    pub proof_keys: Option<Vec<PublicKey>>,
    /// Where traces are sent.
    pub telemetry: TelemetryConfig,
    /// Bounds of the work that callers can cause.
    pub limits: Limits,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigFile {
    /// mcpd's address for resources and the probe [default: that of mcpctl's current context when the agent starts].
    server: Option<Spanned<Url>>,
    /// mcpd's address for inference, where it has one of its own (`--inference-listen`) [default: that of `server`].
    inference: Option<Spanned<Url>>,
    /// The user of this machine that mcpd runs as, where `server` is plain http and that is neither this user nor root.
    server_user: Option<Spanned<String>>,
    /// The authority that signed mcpd's certificate [default: those that this machine trusts].
    ca: Option<Spanned<PathBuf>>,
    /// The certificate to present to an mcpd that asks for one.
    client_certificate: Option<Spanned<PathBuf>>,
    /// The key of that certificate.
    client_key: Option<Spanned<PathBuf>>,
    /// The agent's address: loopback, or a Unix socket [default: 127.0.0.1:3200].
    listen: Option<Spanned<String>>,
    providers: Option<Vec<Spanned<provider::ProviderEntry>>>,
    #[serde(default)]
    groups: provider::Groups,
    #[serde(default)]
    primary: PrimaryEntry,
    #[serde(default)]
    failover: FailoverEntry,
    /// Web pages that may call the agent, as in the header `Origin`.
    #[serde(default)]
    allowed_origins: Vec<Origin>,
    /// The keys of mcpd by which its answers are verified [default: those that `mcpctl login` pins].
    proof_keys: Option<Spanned<Vec<PublicKey>>>,
    #[serde(default)]
    telemetry: TelemetryConfig,
    #[serde(default)]
    limits: Limits,
}

/// Why a configuration cannot be used. Prints as one line with the place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration `{}` cannot be read: {}", path.display(), mcpctl_owner::words(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another user could change it, or a directory above it.
    #[error("the configuration {0}")]
    Untrusted(PathError),
    /// The content is wrong.
    #[error("{}:{error}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The error and its place.
        error: YamlError,
    },
}

impl ConfigError {
    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`mcpctl local init` writes one; or name another with --config".to_owned())
            }
            Self::Unreadable { .. } => None,
            Self::Untrusted(error) => error.hint(),
            Self::Wrong { error, .. } => error.hint.clone(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first error, with its place.
    pub fn read(path: &Path, default: DefaultServer<'_>) -> Result<Self, ConfigError> {
        let bytes =
            file::read_named(path, Content::Public, MAX_FILE).map_err(|error| match error.problem {
                PathProblem::Io(source) => ConfigError::Unreadable { path: path.to_owned(), source },
                _ => ConfigError::Untrusted(error),
            })?;
        let text = encoding::decode(&bytes).map_err(YamlError::from);
        text.and_then(|text| Self::parse_with(&text, default))
            .map_err(|error| ConfigError::Wrong { path: path.to_owned(), error })
    }

    /// Checks the text of a file that names its server.
    #[cfg(test)]
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        Self::parse_with(text, DefaultServer::Context(Path::new("/nonexistent/config.yaml")))
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// The first error, with its place.
    pub fn parse_with(text: &str, default: DefaultServer<'_>) -> Result<Self, YamlError> {
        let file: ConfigFile = yaml::from_str_with(text, &VOCABULARY)?;
        let Central { server, inference, trust, context } = central::read(&file, default)?;
        let listen = listen(file.listen.as_ref())?;
        let primary = file.primary.over(PrimaryConfig::default())?;
        let failover = file.failover.over(&FailoverConfig::default())?;
        let mut providers = Vec::new();
        let mut names: HashMap<Name, u64> = HashMap::new();
        let mut provider_of: HashMap<Name, Name> = HashMap::new();
        let entries = file.providers.unwrap_or_default();
        for (name, group) in &file.groups {
            if !entries.iter().any(|entry| entry.value.group() == name.as_str()) {
                let mut error = wrong(group, format!("no provider is of the group `{name}`"));
                error.hint = Some(format!("write `group: {name}` in a provider that the agent starts"));
                return Err(error);
            }
        }
        for entry in entries {
            let line = entry.referenced.line();
            let failover_for = entry.value.failover_place();
            let provider = provider::check(entry, &file.groups, primary, &failover)?;
            if let Some(first) = names.insert(provider.name.clone(), line) {
                let message =
                    format!("provider `{}` stands here a second time, first in line {first}", provider.name);
                return Err(YamlError {
                    line,
                    column: 1,
                    message,
                    hint: Some("give it another name".to_owned()),
                });
            }
            for central in &provider.failover_for {
                if let Some(other) = provider_of.insert(central.clone(), provider.name.clone()) {
                    let message = if other == provider.name {
                        format!("`{central}` is named twice")
                    } else {
                        format!("`{central}` has two providers: `{other}` and `{}`", provider.name)
                    };
                    let hint = Some("name it in one `failoverFor` only".to_owned());
                    let (line, column) = failover_for.unwrap_or((line, 1));
                    return Err(YamlError { line, column, message, hint });
                }
            }
            providers.push(provider);
        }
        Ok(Self {
            inference,
            server,
            context,
            listen,
            providers,
            primary,
            allowed_origins: file.allowed_origins,
            trust,
            proof_keys: proof_keys(file.proof_keys)?,
            telemetry: file.telemetry,
            limits: file.limits,
        })
    }
}

/// INVARIANT 15: an empty list would be a key ring that no answer satisfies, so it is an error and not "no key".
fn proof_keys(keys: Option<Spanned<Vec<PublicKey>>>) -> Result<Option<Vec<PublicKey>>, YamlError> {
    let Some(keys) = keys else { return Ok(None) };
    if keys.value.is_empty() || keys.value.len() > MAX_PROOF_KEYS {
        let mut error = wrong(&keys, format!("`proofKeys` has one to {MAX_PROOF_KEYS} keys"));
        error.hint = Some("name `publicKey` of the current and of the next key that mcpd lists".to_owned());
        return Err(error);
    }
    Ok(Some(keys.value))
}

fn listen(configured: Option<&Spanned<String>>) -> Result<Address, YamlError> {
    let text = configured.map_or(DEFAULT_LISTEN, |text| text.value.as_str());
    let here = |message: String| {
        let (line, column) = configured.map_or((1, 1), place);
        YamlError { line, column, message, hint: Some("write e.g. `127.0.0.1:3200`".to_owned()) }
    };
    let address: Address = text.parse().map_err(|error| here(format!("{error}")))?;
    match &address {
        Address::Tcp(address) if !address.ip().is_loopback() => {
            Err(here(format!("`{address}` is not a loopback address; the agent is for this machine alone")))
        }
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_limits_and_origins_are_errors_with_their_place() {
        for (text, expected) in [
            ("limits: {http: {bodyBytes: 0B}}", "2:28: `0B` is not between"),
            ("limits: {http: {conections: 5}}", "2:17: unknown field `conections`"),
            ("allowedOrigins: [evil]", "2:18: `evil` is not an origin"),
            ("proofKeys: []", "2:12: `proofKeys` has one to 8 keys"),
            ("proofKeys: [SHA256:x]", "2:13: a public key is base64url of 32 bytes"),
        ] {
            let error = Config::parse(&format!("server: https://mcpd.example.com\n{text}\n")).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn absurd_durations_are_rejected_with_their_place() {
        let engine = "providers:\n  - name: a\n    type: vllm-managed\n    model: m\n    ";
        for (text, place) in [
            ("primary: {timeouts: {answer: 31d}}".to_owned(), (2, 30)),
            ("primary: {breaker: {open: 200000000000s}}".to_owned(), (2, 27)),
            (format!("{engine}idleTimeout: 31d"), (6, 18)),
            (format!("{engine}startTimeout: 31d"), (6, 19)),
            (format!("{engine}abandonAfter: 31d"), (6, 19)),
        ] {
            let error = Config::parse(&format!("server: https://mcpd.example.com\n{text}\n")).unwrap_err();
            assert_eq!((error.line, error.column), place, "{error}");
        }
    }
}
