//! The agent of this machine's user, mcplocal: where it is, what opens it, and whether it is there.

use std::{path::PathBuf, time::Duration};

use mcpctl_client::{
    Client, ClientError, Options,
    config::{self, LOCAL_KEY_FILE},
};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::{
    context::{is_loopback, parse_server},
    failure::Failure,
};

const DEFAULT: &str = "http://127.0.0.1:3200";
const ADDRESS: &str = "MCPLOCAL_ADDRESS";

/// Where it is, by `MCPLOCAL_ADDRESS` or by default.
pub fn address() -> Result<Url, Failure> {
    let text = std::env::var(ADDRESS).ok().filter(|text| !text.is_empty());
    let text = text.as_deref().unwrap_or(DEFAULT);
    let address =
        parse_server(text).map_err(|error| Failure::new(format!("{ADDRESS}: `{text}`: {error}")))?;
    if !is_loopback(&address) {
        // Its key is good on this machine alone and never leaves it.
        return Err(Failure::new(format!("{ADDRESS}: `{address}` is not on this machine"))
            .hint("mcplocal listens on a loopback address, e.g. http://127.0.0.1:3200"));
    }
    Ok(address)
}

/// The key that stands for this machine's user.
pub fn local_key() -> Result<SecretString, Failure> {
    let path = config::agent_state_dir()?.join(LOCAL_KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(SecretString::from(key.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("there is no key for this machine yet at `{}`", path.display()))
                .hint("mcplocal makes it when it starts; start mcplocal"))
        }
        Err(error) => Err(Failure::new(format!("`{}` cannot be read: {}", path.display(), error.kind()))),
    }
}

/// A client of it, as this machine's user.
pub fn client() -> Result<Client, Failure> {
    Ok(Client::new(address()?, Some(local_key()?), &Options::default())?)
}

/// An agent that answered.
pub struct Agent {
    /// As this machine's user.
    pub client: Client,
    /// What it says of itself.
    pub status: Value,
}

impl Agent {
    /// The mcpd that it speaks for.
    pub fn server(&self) -> Option<Url> {
        self.status.get("server")?.as_str()?.parse().ok()
    }

    /// Whom the key of this machine stands for.
    pub fn user(&self) -> Option<&str> {
        self.status.get("signedInAs")?.as_str()
    }
}

/// Finds it, quickly either way. What does not take the local key is somebody else's, or no agent at all.
pub async fn find() -> Result<Agent, Failure> {
    let options = Options { connect: Duration::from_millis(300), total: Duration::from_secs(1) };
    let quick = Client::new(address()?, Some(local_key()?), &options)?;
    let status = quick.local_status().await.map_err(not_running)?;
    Ok(Agent { client: client()?, status })
}

/// The program: beside this one, as they are installed together, else on the PATH.
pub fn program() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join(PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(PROGRAM));
    let found = beside.into_iter().chain(on_path).find(|candidate| candidate.is_file());
    found.ok_or_else(|| {
        Failure::new("`mcplocal` is neither beside mcpctl nor on the PATH")
            .hint("install it where mcpctl is, e.g. with `cargo install --path bins/mcplocal`")
    })
}

const PROGRAM: &str = "mcplocal";

/// The state of one of its engines, in words.
pub fn state_of(engine: &Value) -> String {
    let text = |key: &str| engine.get(key).and_then(Value::as_str);
    let state = text("state").unwrap_or_default();
    let Some(phase) = text("phase") else { return state.to_owned() };
    let phase = match phase {
        "waiting-for-room" => "waiting for memory",
        "spawning" => "starting its process",
        "loading" => "loading weights",
        "compiling" => "compiling",
        "waking" => "waking up",
        "warming-up" => "answering its first request",
        other => other,
    };
    match engine.get("percent").and_then(Value::as_u64) {
        Some(percent) => format!("{state}: {phase}, {percent} %"),
        None => format!("{state}: {phase}"),
    }
}

/// What it means that the agent could not be asked.
pub fn not_running(error: ClientError) -> Failure {
    match error {
        ClientError::Unreachable { server, reason } => Failure::new(format!(
            "mcplocal does not answer at {server}: {reason}"
        ))
        .hint(format!("start it with `mcplocal`; {ADDRESS} says where it is, if not at 127.0.0.1:3200")),
        ClientError::Unreadable { server, .. } => {
            Failure::new(format!("what answers at {server} is not mcplocal"))
                .hint(format!("{ADDRESS} says where it is, if not at 127.0.0.1:3200"))
        }
        error => error.into(),
    }
}
