//! `$XDG_CONFIG_HOME/mcpctl/config.yaml`: the servers that this user is signed in at, like a kubeconfig. Only this user can
//! read it.

mod reader;
mod sign_in;

use std::{
    fmt::Write as _,
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use mcpctl_access::proof::PublicKey;
use mcpctl_api::{
    credential, encoding,
    spec::{SecretValue, Subject},
    yaml,
};
use mcpctl_owner::{
    PathError, PathProblem, TrustedUsers, UserNameError, dir,
    file::{self, Content, OpenMode},
};
use mcpctl_tls::ClientFiles;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::agent_socket::MAX_PATH;

pub use reader::ConfigFile;
pub use sign_in::{default_name, login_command, shell_word};

/// Maximum length of the file, in bytes: far more than a thousand contexts.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The context that is used where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
    /// By name, each once.
    pub contexts: Vec<Context>,
    /// The keys of servers by which their answers are verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<ServerPins>,
}

/// A server, and the account that is signed in there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// The address of mcpd.
    pub server: Url,
    /// The user that `login` found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The account that `login` found: a user or a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Subject>,
    /// The bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretValue>,
    /// The user of this machine that mcpd runs as, where that is neither this one nor root and `server` is plain http;
    /// `*` is every user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_user: Option<String>,
    /// The authorities that may sign the server's certificate, instead of those that this machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The certificate that is presented to the server, where it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// The key of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// The time from which mcpd rejects the bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether the bearer is a session of some hours that a login made, rather than a token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session: bool,
    /// The OpenID provider at which that login was, where it was not one with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

impl Context {
    /// The users whose programs may answer at `server`, where that is plain http.
    ///
    /// # Errors
    /// When `server_user` is no user of this machine.
    pub fn trusted(&self) -> Result<TrustedUsers, UserNameError> {
        self.server_user.as_deref().map_or(Ok(TrustedUsers::default()), str::parse)
    }

    /// The files of TLS of connections to `server`.
    pub fn tls_files(&self) -> ClientFiles {
        let Self { ca, client_certificate: certificate, client_key: key, .. } = self;
        ClientFiles { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() }
    }

    /// Kind and name of the account, for people; of a file that has no kind the name, or else the context's.
    pub fn account_label(&self) -> String {
        match &self.account {
            Some(account) => account.to_string(),
            None => self.user.clone().unwrap_or_else(|| self.name.clone()),
        }
    }

    /// The name of the account, or the context's where the file does not have it.
    pub fn account_name(&self) -> &str {
        let account = self.account.as_ref().map(|account| account.name.as_str());
        account.or(self.user.as_deref()).unwrap_or(&self.name)
    }
}

/// The pinned keys of one mcpd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerPins {
    /// The address of mcpd.
    pub server: Url,
    /// The key that signs, then the one that signs after the next rotation. Where there is none, no answer counts.
    pub keys: Vec<PublicKey>,
    /// When they were pinned.
    pub at: Timestamp,
}

/// The bytes of the file, after the checks that it is this user's; none where it is not there.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    match file::read_named(path, Content::Secret, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(to_config_error(path, error)),
    }
}

impl Config {
    /// The pinned keys of this server.
    pub fn pins_of(&self, server: &Url) -> Option<&ServerPins> {
        self.pins.iter().find(|pins| same_server(&pins.server, server))
    }

    /// Pins these keys of a server, in place of those before.
    pub fn pin(&mut self, server: &Url, keys: Vec<PublicKey>, at: Timestamp) {
        self.pins.retain(|pins| !same_server(&pins.server, server));
        self.pins.push(ServerPins { server: server.clone(), keys, at });
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no home directory to keep it in.
    #[error("neither {0} nor HOME is set")]
    NoHome(&'static str),
    /// It cannot be read or written.
    #[error("`{}` cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It, or a directory above it, could be another user's.
    #[error(transparent)]
    Untrusted(PathError),
    /// The path of the socket is longer than the system allows.
    #[error("the path of the agent's socket is too long: `{}`", path.display())]
    SocketPath {
        /// Where it would be.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("`{}` can be read by others, and it holds tokens", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Two contexts have one name.
    #[error("`{}`: there are two contexts `{name}`", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// It does not parse.
    #[error("{}:{error}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, and where.
        error: yaml::YamlError,
    },
}

impl ConfigError {
    /// The next step for a person, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Untrusted(error) => error.hint(),
            Self::SocketPath { .. } => {
                Some("set XDG_RUNTIME_DIR, or name a shorter state directory".to_owned())
            }
            Self::Exposed { path } => Some(format!("chmod 600 {}", path.display())),
            Self::NoHome(_) => Some("set HOME".to_owned()),
            Self::Twice { .. } => Some("remove one of them".to_owned()),
            Self::Wrong { .. } => Some("fix it, or remove it and sign in again".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

/// A directory of the XDG base directory specification, below which mcpctl keeps its own.
fn base(variable: &'static str, below_home: &str) -> Result<PathBuf, ConfigError> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match from(variable) {
        Some(dir) => Ok(dir.join("mcpctl")),
        None => Ok(from("HOME").ok_or(ConfigError::NoHome(variable))?.join(below_home).join("mcpctl")),
    }
}

/// `$XDG_CONFIG_HOME/mcpctl`, else `~/.config/mcpctl`.
///
/// # Errors
/// When there is no home.
pub fn config_dir() -> Result<PathBuf, ConfigError> {
    base("XDG_CONFIG_HOME", ".config")
}

/// Where the agent keeps its key, logs and journal: `$XDG_STATE_HOME/mcpctl/mcplocal`, else
/// `~/.local/state/mcpctl/mcplocal`.
///
/// # Errors
/// When there is no home.
pub fn agent_state_dir() -> Result<PathBuf, ConfigError> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("mcplocal"))
}

/// The socket of the agent with this state directory, by which our own programs reach it: in that directory, or where its
/// path would be too long for a socket, in `$XDG_RUNTIME_DIR/mcpctl` under a name made from it.
///
/// # Errors
/// When its path is too long in both places.
pub fn agent_socket(state_dir: &Path) -> Result<PathBuf, ConfigError> {
    let fits = |path: &PathBuf| path.as_os_str().len() <= MAX_PATH;
    let state_dir = std::path::absolute(state_dir)
        .map_err(|source| ConfigError::Io { path: state_dir.to_owned(), source })?;
    let beside = state_dir.join("agent.sock");
    if fits(&beside) {
        return Ok(beside);
    }
    let mut name = "agent-".to_owned();
    for byte in Sha256::digest(state_dir.as_os_str().as_bytes()).iter().take(8) {
        let _ = write!(name, "{byte:02x}");
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let short = runtime_dir.map(|dir| dir.join("mcpctl").join(name + ".sock"));
    short.filter(fits).ok_or(ConfigError::SocketPath { path: beside })
}

/// Name of the file in the agent's state directory that holds the local key, the credential of this machine's user.
pub const LOCAL_KEY_FILE: &str = "local-key";

impl Config {
    /// The file that is used where no other is named.
    ///
    /// # Errors
    /// When there is no home.
    pub fn default_path() -> Result<PathBuf, ConfigError> {
        Ok(config_dir()?.join("config.yaml"))
    }

    /// Reads the file; one that does not exist is empty.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, it does not parse, or two contexts have one name.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let wrong = |error| ConfigError::Wrong { path: path.to_owned(), error };
        let text = encoding::decode(bytes).map_err(|error| wrong(error.into()))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut config: Self = yaml::from_str(&text).map_err(wrong)?;
        // A token that a person pasted may have blanks around it. One that still cannot be sent is reported where it is used.
        for token in config.contexts.iter_mut().filter_map(|context| context.token.as_mut()) {
            if let Ok(trimmed) = credential::trimmed(token.expose()) {
                *token = SecretValue::new(trimmed);
            }
        }
        let mut names: Vec<&str> = config.contexts.iter().map(|context| context.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            Some(name) => Err(ConfigError::Twice { path: path.to_owned(), name: (*name).to_owned() }),
            None => Ok(config),
        }
    }

    /// Writes the file whole or not at all, for this user alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let text = serde_saphyr::to_string(self).map_err(|error| ConfigError::Io {
            path: path.to_owned(),
            source: io::Error::other(error.to_string()),
        })?;
        write_private(path, text.as_bytes())
    }

    /// The context of that name, or the current one.
    pub fn context(&self, name: Option<&str>) -> Option<&Context> {
        let name = name.or(self.current_context.as_deref())?;
        self.contexts.iter().find(|context| context.name == name)
    }

    /// The current context, where it is of this server and signed in. No other context counts: a user who signs out, or changes
    /// to another server, must not act as another account that the file happens to have.
    pub fn signed_in_at(&self, server: &Url) -> Option<&Context> {
        self.context(None).filter(|context| same_server(&context.server, server) && context.token.is_some())
    }

    /// Puts a context in place of the one of the same name, or adds it, and makes it the current one.
    pub fn put(&mut self, context: Context) {
        self.current_context = Some(context.name.clone());
        self.put_beside(context);
    }

    /// Puts a context in place of the one of the same name, or adds it. Becomes the current one only where it is the only one.
    pub fn put_beside(&mut self, context: Context) {
        if self.contexts.iter().all(|known| known.name == context.name) {
            self.current_context = Some(context.name.clone());
        }
        match self.contexts.iter_mut().find(|known| known.name == context.name) {
            Some(known) => *known = context,
            None => self.contexts.push(context),
        }
    }
}

/// Reads the file, changes it, and writes it where `change` returns true, while no other program of ours changes it.
///
/// # Errors
/// When it cannot be read, changed or written.
pub fn update<T, E: From<ConfigError>>(
    path: &Path,
    change: impl FnOnce(&mut Config) -> Result<(bool, T), E>,
) -> Result<T, E> {
    let _locked = lock(path)?;
    let mut config = Config::load(path)?;
    let (changed, result) = change(&mut config)?;
    if changed {
        config.save(path)?;
    }
    Ok(result)
}

/// Waits until no other program of ours changes the file; holds the lock until the result is dropped.
fn lock(path: &Path) -> Result<File, ConfigError> {
    let to_config_error = |error| to_config_error(path, error);
    if let Some(parent) = path.parent() {
        dir::ensure_private(parent).map_err(to_config_error)?;
    }
    let lock = path.with_extension("lock");
    let file = file::open_own(&lock, OpenMode::ReadWrite).map_err(to_config_error)?;
    file.lock().map_err(|source| ConfigError::Io { path: lock, source })?;
    Ok(file)
}

/// Whether two addresses are of one server; a slash at the end is no difference.
pub fn same_server(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin() && a.path().trim_end_matches('/') == b.path().trim_end_matches('/')
}

/// Writes a file that only this user can read, whole or not at all, and makes its directory if need be.
///
/// # Errors
/// When it cannot be written, or its directory could be another user's.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    let written = match path.parent() {
        Some(parent) => dir::ensure_private(parent).and_then(|_| file::replace(path, bytes)),
        None => file::replace(path, bytes),
    };
    written.map_err(|error| to_config_error(path, error))
}

fn to_config_error(file: &Path, error: PathError) -> ConfigError {
    match error.problem {
        PathProblem::ReadableByOthers(_) => ConfigError::Exposed { path: file.to_owned() },
        PathProblem::Io(source) => ConfigError::Io { path: error.path, source },
        _ => ConfigError::Untrusted(error),
    }
}
