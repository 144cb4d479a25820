//! The agent of this machine's user, mcplocal: how it is reached, and whether it is there.
//!
//! It is reached by its socket in the state directory, where both ends know each other's user, and never by its TCP port:
//! any user of the machine can listen there. The port and the local key are for other programs.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use mcpctl_client::{
    Client, ClientError, Options, agent_port,
    config::{self, LOCAL_KEY_FILE},
};
use mcpctl_owner::{PathError, file, user_name};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::{
    context::{is_loopback, parse_server},
    failure::Failure,
};

const DEFAULT: &str = "http://127.0.0.1:3200";
const ADDRESS: &str = "MCPLOCAL_ADDRESS";
const STATE_DIR: &str = "MCPLOCAL_STATE_DIR";
/// Most bytes of the file of the local key: it has one line.
const MAX_KEY: u64 = 1024;

/// Where other programs reach the agent, where `MCPLOCAL_ADDRESS` says it.
fn said_address() -> Result<Option<Url>, Failure> {
    let Some(text) = std::env::var(ADDRESS).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let address =
        parse_server(&text).map_err(|error| Failure::new(format!("{ADDRESS}: `{text}`: {error}")))?;
    if !is_loopback(&address) {
        // Its key is good on this machine alone and never leaves it.
        return Err(Failure::new(format!("{ADDRESS}: `{address}` is not on this machine"))
            .hint("mcplocal listens on a loopback address, e.g. http://127.0.0.1:3200"));
    }
    Ok(Some(address))
}

/// Where other programs reach the agent: by `MCPLOCAL_ADDRESS`, else as the agent says, else by default.
///
/// # Errors
/// When another user's program listens there.
pub async fn address() -> Result<Url, Failure> {
    let address = match said_address()? {
        Some(address) => address,
        None => {
            let agent = find().await.ok();
            let listen = agent.as_ref().and_then(|agent| agent.status.get("listen")?.as_str());
            let listen = listen.and_then(|listen| listen.parse::<std::net::SocketAddr>().ok());
            let listen = listen.and_then(|listen| format!("http://{listen}").parse().ok());
            match listen {
                Some(address) => address,
                None => DEFAULT.parse().map_err(Failure::new)?,
            }
        }
    };
    match foreign_holder(&address) {
        None => Ok(address),
        Some(uid) => Err(Failure::new(format!("a program of user {} listens at {address}", user_name(uid)))
            .hint("clients would give them your key: let mcplocal `listen` on another port")),
    }
}

/// The other user whose program a client of this address could reach. A note of it is left for the agent's next start.
fn foreign_holder(address: &Url) -> Option<u32> {
    let holders = agent_port::foreign_holders(address.port_or_known_default()?);
    let ip = match address.host()? {
        url::Host::Ipv4(ip) => Some(IpAddr::from(ip)),
        url::Host::Ipv6(ip) => Some(IpAddr::from(ip)),
        url::Host::Domain(_) => None,
    };
    let uid = holders.iter().find(|holder| ip.is_none_or(|ip| holder.serves(ip)))?.uid;
    if let Ok(state_dir) = state_dir() {
        // Where it cannot be written there is no agent to read it.
        let _ = agent_port::note_foreign(&state_dir, uid);
    }
    Some(uid)
}

/// The state directory of the agent: the one that it is started with.
pub fn state_dir() -> Result<PathBuf, Failure> {
    match std::env::var_os(STATE_DIR).filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(std::path::absolute(PathBuf::from(dir))?),
        None => Ok(config::agent_state_dir()?),
    }
}

/// The key that stands for this machine's user, for programs that are not ours.
pub fn local_key() -> Result<SecretString, Failure> {
    let path = state_dir()?.join(LOCAL_KEY_FILE);
    match file::read_own(&path, MAX_KEY)? {
        Some(key) => Ok(SecretString::from(String::from_utf8_lossy(&key).trim())),
        None => Err(Failure::new(format!("there is no key for this machine yet at `{}`", path.display()))
            .hint("mcplocal makes it when it starts; start mcplocal")),
    }
}

/// A client of it, as this machine's user.
pub fn client() -> Result<Client, Failure> {
    connect(&Options::default())
}

fn connect(options: &Options) -> Result<Client, Failure> {
    Ok(Client::of_agent(config::agent_socket(&state_dir()?)?, options)?)
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

    /// The user who is signed in at that mcpd on this machine.
    pub fn user(&self) -> Option<&str> {
        self.status.get("signedInAs")?.as_str()
    }
}

/// Finds it, quickly either way.
pub async fn find() -> Result<Agent, Failure> {
    let quick =
        Options { connect: Duration::from_millis(300), total: Duration::from_secs(1), ..Options::default() };
    let status = connect(&quick)?.local_status().await.map_err(not_running)?;
    Ok(Agent { client: client()?, status })
}

/// The program: beside this one, as they are installed together, else on the PATH.
pub fn program() -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join(PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // What a relative entry finds depends on the directory that one happens to be in.
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(PROGRAM));
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

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        let failure = Self::new(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What it means that the agent could not be asked.
pub fn not_running(error: ClientError) -> Failure {
    match error {
        ClientError::Unreachable { server, reason } => {
            let failure = Failure::new(format!("mcplocal does not answer at {server}: {reason}"));
            let address = said_address().ok().flatten().or_else(|| DEFAULT.parse().ok());
            match address.and_then(|address| Some((foreign_holder(&address)?, address))) {
                Some((uid, address)) => failure.hint(format!(
                    "a program of user {} listens at {address}; clients that were set up with `mcpctl local env` give \
                     it their key: let mcplocal `listen` on another port, then run `mcpctl local rotate-key`",
                    user_name(uid)
                )),
                None => failure.hint("start it with `mcplocal`"),
            }
        }
        ClientError::Unreadable { server, .. } => {
            Failure::new(format!("what answers at {server} is not mcplocal")).hint("start mcplocal anew")
        }
        error => error.into(),
    }
}
