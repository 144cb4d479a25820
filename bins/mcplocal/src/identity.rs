//! The caller of a request to the agent: a client with a bearer of mcpd, or this machine's user with the local key.
//!
//! The local key acts for the user who is signed in with `mcpctl login`. It is valid on this machine alone and never leaves
//! it; mcpd gets that user's own bearer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::{HeaderMap, HeaderValue};
use mcpctl_api::{HintedError, credential};
use mcpctl_client::{
    agent_port,
    config::{self, ConfigFile},
};
use mcpctl_failover::Bearer;
use mcpctl_owner::{PathError, PathProblem, file, user_name};
use mcpctl_secret::token::{self, Prefix, TokenHash};
use mcpctl_server::{CredentialError, caller_dialect, presented};
use url::Url;

const NEW_KEY_HINT: &str = "remove it; a new one is made";
/// Maximum size of the local key's file, bytes: it has one line.
const MAX_KEY: u64 = 1024;

/// A caller with a bearer for mcpd.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Sent to mcpd and nowhere else.
    pub bearer: Bearer,
    /// Whether it is this machine's user, who may use its own providers without mcpd.
    pub local: bool,
    /// The name of that user's account, or of the context where the account is unknown.
    pub user: Option<String>,
}

/// Why there is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// There is no credential.
    #[error("no credential was sent")]
    Missing,
    /// The two headers for a credential have different ones.
    #[error("`Authorization` and `x-api-key` hold different credentials")]
    Different,
    /// The credential is neither a bearer of mcpd nor the local key.
    #[error("the credential is not valid")]
    Invalid,
    /// The local key is right, but no user is signed in.
    #[error("not signed in at {server}")]
    SignedOut {
        /// The address of mcpd.
        server: String,
        /// The command that signs in.
        login: String,
    },
}

impl CallerError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            Self::Different => {
                "unset `ANTHROPIC_API_KEY` beside `ANTHROPIC_AUTH_TOKEN`, or send the same in both".to_owned()
            }
            Self::Missing | Self::Invalid => {
                "`mcpctl local env` prints a key for this machine; a token of mcpd works too".to_owned()
            }
            Self::SignedOut { login, .. } => login.clone(),
        }
    }
}

/// The local key, and the file of contexts with signed-in users.
pub struct Identity {
    key: ArcSwap<TokenHash>,
    key_file: PathBuf,
    /// Equivalent to the local key and known to this process alone: given to requests that arrive on the agent's socket.
    socket_key: TokenHash,
    socket_credential: HeaderValue,
    contexts: ConfigFile,
    /// The last bearer of mcpd's whose shape was checked: a client sends the same one with every request.
    last_bearer: ArcSwapOption<Bearer>,
}

impl Identity {
    /// Reads the local key of this state directory. Creates one where there is none, and where clients may have sent it to
    /// another user's program that listened on the agent's port.
    ///
    /// # Errors
    /// When it cannot be read or created, or when other users may read it.
    pub fn load(state_dir: &Path, contexts: PathBuf) -> anyhow::Result<Self> {
        let key_file = state_dir.join(config::LOCAL_KEY_FILE);
        let known = file::read_own(&key_file, MAX_KEY).map_err(|error| unreadable(&error))?;
        let key = match (known, agent_port::read_note(state_dir)) {
            (Some(text), None) => {
                let text = String::from_utf8_lossy(&text);
                token::parse(Prefix::Local, text.trim()).map_err(|error| {
                    HintedError::with(format_args!("`{}`: {error}", key_file.display()), NEW_KEY_HINT)
                })?
            }
            (None, None) => new_key(&key_file)?,
            (_, Some(holder)) => {
                let key = new_key(&key_file)?;
                agent_port::remove_note(state_dir).context("the note of another user's hold of the port")?;
                let holder = holder.map_or_else(|| "another user".to_owned(), user_name);
                tracing::warn!(
                    holder,
                    hint = "set clients up anew: eval \"$(mcpctl local env)\"",
                    "the local key was renewed: the agent's port was in another user's hands while it did not run"
                );
                key
            }
        };
        let socket_key = token::mint(Prefix::Local)?;
        let mut socket_credential = HeaderValue::try_from(format!("Bearer {}", socket_key.expose()))?;
        socket_credential.set_sensitive(true);
        let (key, socket_key) = (ArcSwap::from_pointee(key), socket_key.hash());
        let contexts = ConfigFile::new(contexts);
        Ok(Self {
            key,
            key_file,
            socket_key,
            socket_credential,
            contexts,
            last_bearer: ArcSwapOption::empty(),
        })
    }

    /// Creates a new local key, and refuses the old one from now on.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays.
    pub fn rotate(&self) -> anyhow::Result<()> {
        let key = new_key(&self.key_file)?;
        self.key.store(Arc::new(key));
        Ok(())
    }

    /// The file of contexts with signed-in users.
    pub fn contexts(&self) -> &Path {
        self.contexts.path()
    }

    /// The credential of a request that arrived on the agent's socket without one.
    pub fn socket_credential(&self) -> HeaderValue {
        self.socket_credential.clone()
    }

    /// The caller that these headers identify.
    ///
    /// # Errors
    /// When they identify none.
    pub fn caller(&self, headers: &HeaderMap, server: &Url) -> Result<Caller, CallerError> {
        let presented = credential_of(headers)?;
        if presented.starts_with(Prefix::Mcpd.as_str()) {
            return Ok(Caller { bearer: self.checked(presented)?, local: false, user: None });
        }
        self.check_local(presented)?;
        self.signed_in(server)
    }

    /// Checks that these headers have the local key.
    ///
    /// # Errors
    /// When they do not.
    pub fn local(&self, headers: &HeaderMap) -> Result<(), CallerError> {
        self.check_local(credential_of(headers)?)
    }

    /// Kind and name of the account for which the local key acts now.
    pub fn account(&self, server: &Url) -> Option<String> {
        let contexts = self.contexts.load().ok()?;
        Some(contexts.signed_in_at(server)?.account_label())
    }

    /// The bearer of the user for whom the local key acts now.
    pub fn signed_in_bearer(&self, server: &Url) -> Option<Bearer> {
        let contexts = self.contexts.load().ok()?;
        let token = contexts.signed_in_at(server)?.token.as_ref()?;
        credential::check(token.expose()).ok()?;
        Some(Bearer::new(token.expose()))
    }

    /// A bearer of mcpd's. Only mcpd knows whether it is valid; its checksum is all that can be checked here.
    fn checked(&self, presented: &str) -> Result<Bearer, CallerError> {
        if let Some(last) = self.last_bearer.load().as_ref().filter(|last| last.is(presented)) {
            return Ok(Bearer::clone(last));
        }
        token::verify_shape(Prefix::Mcpd, presented).map_err(|_| CallerError::Invalid)?;
        let bearer = Bearer::new(presented);
        self.last_bearer.store(Some(Arc::new(bearer.clone())));
        Ok(bearer)
    }

    fn check_local(&self, presented: &str) -> Result<(), CallerError> {
        let hash = token::parse(Prefix::Local, presented).map_err(|_| CallerError::Invalid)?;
        // Hashes compare in constant time.
        if hash == **self.key.load() || hash == self.socket_key { Ok(()) } else { Err(CallerError::Invalid) }
    }

    /// Read at every request, so that a logout takes effect at once.
    fn signed_in(&self, server: &Url) -> Result<Caller, CallerError> {
        let signed_out = |login| CallerError::SignedOut {
            server: server.as_str().trim_end_matches('/').to_owned(),
            login,
        };
        let contexts = self.contexts.load().map_err(|error| {
            tracing::warn!(%error, "the signed-in user cannot be read");
            signed_out(config::login_command(server, None))
        })?;
        let signed_out = || signed_out(contexts.login_command(server));
        let context = contexts.signed_in_at(server).ok_or_else(signed_out)?;
        let token = context.token.as_ref().ok_or_else(signed_out)?;
        if let Err(why) = credential::check(token.expose()) {
            tracing::warn!(%why, context = context.name, "the signed-in user's token cannot be sent");
            return Err(signed_out());
        }
        let user = context.account_name().to_owned();
        Ok(Caller { bearer: Bearer::new(token.expose()), local: true, user: Some(user) })
    }
}

fn new_key(path: &Path) -> anyhow::Result<TokenHash> {
    let minted = token::mint(Prefix::Local)?;
    config::write_private(path, format!("{}\n", minted.expose()).as_bytes())?;
    Ok(minted.hash())
}

fn unreadable(error: &PathError) -> anyhow::Error {
    match error.problem {
        PathProblem::ReadableByOthers(_) => {
            HintedError::with(format_args!("{error}, and it stands for you"), NEW_KEY_HINT).into()
        }
        _ => crate::with_hint(error, error.hint()),
    }
}

fn credential_of(headers: &HeaderMap) -> Result<&str, CallerError> {
    presented(headers, caller_dialect()).map_err(|error| match error {
        CredentialError::Missing => CallerError::Missing,
        CredentialError::Different => CallerError::Different,
        CredentialError::Several | CredentialError::NotBearer => CallerError::Invalid,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use mcpctl_api::spec::SecretValue;
    use mcpctl_client::config::{Config, Context};

    use super::*;

    fn bearer(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {text}").parse().unwrap());
        headers
    }

    fn server() -> Url {
        "https://mcpd.example.com".parse().unwrap()
    }

    fn identity() -> (tempfile::TempDir, Identity, String) {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load(dir.path(), dir.path().join("config.yaml")).unwrap();
        let key = std::fs::read_to_string(dir.path().join(config::LOCAL_KEY_FILE)).unwrap();
        (dir, identity, key.trim().to_owned())
    }

    #[test]
    fn local_key_acts_for_the_user_signed_in_now() {
        let (dir, identity, key) = identity();
        let signed_out = identity.caller(&bearer(&key), &server()).unwrap_err();
        let expected = |login: &str| CallerError::SignedOut {
            server: "https://mcpd.example.com".to_owned(),
            login: login.to_owned(),
        };
        assert_eq!(signed_out, expected("mcpctl login https://mcpd.example.com"));

        let mut contexts = Config::default();
        let token = Some(SecretValue::new("alice's own"));
        contexts.put(Context {
            name: "c".into(),
            server: server(),
            user: Some("alice".into()),
            account: None,
            token,
            server_user: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            expires_at: None,
            session: false,
            provider: None,
        });
        contexts.save(&dir.path().join("config.yaml")).unwrap();
        let caller = identity.caller(&bearer(&key), &server()).unwrap();
        assert_eq!((caller.bearer.expose(), caller.local), ("alice's own", true));

        // INVARIANT 10: a token goes to its own server, and another account's is not used in its place.
        let mut other = contexts.contexts[0].clone();
        (other.name, other.token) = ("admin".into(), Some(SecretValue::new("the admin's own")));
        contexts.put_beside(other);
        contexts.contexts[0].token = None;
        contexts.save(&dir.path().join("config.yaml")).unwrap();
        let signed_out = identity.caller(&bearer(&key), &server()).unwrap_err();
        assert_eq!(signed_out, expected("mcpctl login https://mcpd.example.com --context c"));
        assert_eq!(identity.account(&server()), None);

        let elsewhere = "https://other.example.com".parse().unwrap();
        assert!(identity.caller(&bearer(&key), &elsewhere).is_err(), "a token goes to its own server only");
    }

    #[test]
    fn a_bearer_of_mcpd_is_passed_on_as_it_is() {
        let (_dir, identity, _) = identity();
        let minted = token::mint(Prefix::Mcpd).unwrap();
        let caller = identity.caller(&bearer(minted.expose()), &server()).unwrap();
        assert_eq!((caller.bearer.expose(), caller.local), (minted.expose(), false));

        let other = token::mint(Prefix::Mcpd).unwrap();
        let bearer_of = |token: &str| identity.caller(&bearer(token), &server()).map(|caller| caller.bearer);
        for token in [&other, &minted, &minted, &other] {
            assert_eq!(bearer_of(token.expose()).unwrap().expose(), token.expose());
        }
        let cut = &other.expose()[..other.expose().len() - 1];
        assert_eq!(bearer_of(cut), Err(CallerError::Invalid), "the beginning of the last one");
    }

    #[test]
    fn no_credential_no_answer() {
        let (_dir, identity, key) = identity();
        let other = token::mint(Prefix::Local).unwrap();
        for (headers, expected) in [
            (HeaderMap::new(), CallerError::Missing),
            (bearer("sk-whatever"), CallerError::Invalid),
            (bearer("mcpd_short"), CallerError::Invalid),
            (bearer(other.expose()), CallerError::Invalid),
            (bearer(&key[..key.len() - 1]), CallerError::Invalid),
        ] {
            assert_eq!(identity.caller(&headers, &server()).unwrap_err(), expected);
        }
        assert!(identity.local(&bearer(&key)).is_ok());
    }

    #[test]
    fn rotated_key_replaces_the_old_one_at_once() {
        let (dir, identity, old) = identity();
        identity.rotate().unwrap();
        let new = std::fs::read_to_string(dir.path().join(config::LOCAL_KEY_FILE)).unwrap();
        assert!(identity.local(&bearer(new.trim())).is_ok());
        assert_eq!(identity.local(&bearer(&old)), Err(CallerError::Invalid));
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, identity.socket_credential());
        assert!(identity.local(&headers).is_ok(), "the socket has a credential of its own");
    }

    #[test]
    fn key_that_another_user_may_know_is_renewed_once() {
        let (dir, _, old) = identity();
        let load = || {
            Identity::load(dir.path(), dir.path().join("config.yaml")).unwrap();
            std::fs::read_to_string(dir.path().join(config::LOCAL_KEY_FILE)).unwrap()
        };
        agent_port::note_foreign(dir.path(), 65534).unwrap();
        let new = load();
        assert_ne!(new.trim(), old);
        assert_eq!(load(), new);
    }

    #[test]
    fn the_key_stays_the_same_and_is_private() {
        let (dir, _, key) = identity();
        Identity::load(dir.path(), dir.path().join("config.yaml")).unwrap();
        let path = dir.path().join(config::LOCAL_KEY_FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), key);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Identity::load(dir.path(), dir.path().join("config.yaml")).is_err());
    }
}
