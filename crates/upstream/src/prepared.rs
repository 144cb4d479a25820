//! A target with what its requests have in common: the paths of operations, the header of its credential, and the key of its
//! connections. Made once for many requests.

use std::{
    fmt,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Uri, header::AUTHORIZATION};
use mcpctl_dialect::Operation;
use mcpctl_failover::FailureClass;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Auth, Failure, TargetConfig, UpstreamKind, connect_error::SendError, redact::Redactor, request::path_of,
};

/// How many operations there are.
const OPERATIONS: usize = Operation::CountTokens as usize + 1;

/// A model server that requests are sent to. Cheap to clone; worth keeping while its configuration and credential stay the same.
#[derive(Clone)]
pub struct Target(Arc<Prepared>);

struct Prepared {
    config: TargetConfig,
    endpoint: Arc<Endpoint>,
    credential: Credential,
}

/// What does not depend on the credential.
struct Endpoint {
    key: Key,
    /// Path and query of each operation, made at its first request.
    paths: [OnceLock<Uri>; OPERATIONS],
}

/// The credential as it is sent, and as it is removed from answers.
#[derive(Default)]
struct Credential {
    header: Option<Result<(HeaderName, HeaderValue), Unsendable>>,
    redactor: Option<Arc<Redactor>>,
}

/// No header can carry the credential.
#[derive(Debug, Clone, Copy)]
struct Unsendable;

/// What the connections of a pool have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Scheme, host and port.
    origin: String,
    connect: Duration,
    socket: Option<PathBuf>,
    /// Whether they are to mcpd.
    pub(crate) mcpd: bool,
    /// Whether they speak TLS.
    pub(crate) tls: bool,
}

impl Target {
    /// The target of a configuration.
    pub fn new(config: TargetConfig) -> Self {
        let endpoint = Endpoint { key: Key::of(&config), paths: Default::default() };
        Self::at(Arc::new(endpoint), config)
    }

    /// The same target with another credential.
    #[must_use]
    pub fn with_credential(&self, credential: SecretString) -> Self {
        let config = TargetConfig { credential: Some(credential), ..self.0.config.clone() };
        Self::at(Arc::clone(&self.0.endpoint), config)
    }

    /// A target with a configuration that differs.
    #[must_use]
    pub fn with(&self, change: impl FnOnce(&mut TargetConfig)) -> Self {
        let mut config = self.0.config.clone();
        change(&mut config);
        Self::new(config)
    }

    fn at(endpoint: Arc<Endpoint>, config: TargetConfig) -> Self {
        let credential = Credential::of(&config);
        Self(Arc::new(Prepared { config, endpoint, credential }))
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0.endpoint.key
    }

    /// Path and query of an operation.
    pub(crate) fn path(&self, operation: Operation) -> Result<Uri, SendError> {
        let known = self.0.endpoint.paths.get(operation as usize);
        if let Some(path) = known.and_then(OnceLock::get) {
            return Ok(path.clone());
        }
        let path = path_of(&self.endpoint(operation))?;
        if let Some(known) = known {
            known.get_or_init(|| path.clone());
        }
        Ok(path)
    }

    /// The header of the credential; `None` where there is none.
    ///
    /// # Errors
    /// For a credential that no header can carry.
    pub(crate) fn authorization(&self) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
        self.0.credential.header.clone().transpose().map_err(|Unsendable| {
            Failure::new(FailureClass::UpstreamCredentials, "the credential cannot be sent in a header")
        })
    }

    /// Removes the credential from answers; `None` where it need not be removed.
    pub(crate) fn redactor(&self) -> Option<Arc<Redactor>> {
        self.0.credential.redactor.clone()
    }
}

impl Deref for Target {
    type Target = TargetConfig;

    fn deref(&self) -> &TargetConfig {
        &self.0.config
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.config.fmt(f)
    }
}

impl Key {
    fn of(config: &TargetConfig) -> Self {
        Self {
            origin: config.base_url.origin().ascii_serialization(),
            connect: config.timeouts.connect,
            socket: config.socket.clone(),
            mcpd: config.kind == UpstreamKind::Mcpd,
            tls: config.base_url.scheme() == "https",
        }
    }
}

impl Credential {
    fn of(config: &TargetConfig) -> Self {
        let Some(credential) = &config.credential else { return Self::default() };
        // A key that was read from a file may end with a line end, which is not part of it. A line end inside is an error, so
        // that no key adds a header.
        let key = credential.expose_secret().trim_end_matches(['\r', '\n']);
        let (name, value) = match config.auth() {
            Auth::Bearer => (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))),
            Auth::XApiKey => (HeaderName::from_static("x-api-key"), HeaderValue::try_from(key)),
            Auth::ApiKey => (HeaderName::from_static("api-key"), HeaderValue::try_from(key)),
        };
        let header = value.map_err(|_| Unsendable).map(|mut value| {
            value.set_sensitive(true);
            (name, value)
        });
        // An answer of mcpd passes unchanged: the credential is the caller's own.
        let is_ours = config.kind == UpstreamKind::Provider;
        Self { header: Some(header), redactor: if is_ours { Redactor::of(credential) } else { None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Api, AttemptTimeouts};

    #[test]
    fn targets_share_all_but_their_credential() {
        let target = Target::new(TargetConfig {
            base_url: "http://127.0.0.1:1/v1?a=b".parse().unwrap(),
            socket: None,
            model: None,
            credential: None,
            timeouts: AttemptTimeouts::default(),
            api: Api::Openai,
            kind: UpstreamKind::Provider,
        });
        assert_eq!(target.path(Operation::Chat).unwrap(), "/v1/chat/completions?a=b");
        assert!(target.authorization().unwrap().is_none() && target.redactor().is_none());

        let other = target.with_credential("sk-of-another-account".into());
        assert!(Arc::ptr_eq(&target.0.endpoint, &other.0.endpoint));
        assert_eq!(other.authorization().unwrap().unwrap().1, "Bearer sk-of-another-account");
        assert!(other.redactor().is_some() && !format!("{other:?}").contains("sk-of-another"));

        // A path that was made before does not outlive the address.
        let moved = target.with(|target| target.base_url.set_path("/moved/v1"));
        assert_eq!(moved.path(Operation::Chat).unwrap(), "/moved/v1/chat/completions?a=b");
    }
}
