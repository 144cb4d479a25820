//! The agent of this machine's user, mcplocal: how mcpctl connects to it, and whether it runs.
//!
//! mcpctl uses the agent's socket in the state directory, where both ends know each other's user, and never its TCP port: any
//! user of the machine can listen there. The port and the local key are for other programs.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use mcpctl_api::{
    Id,
    agent::{AgentStatus, EngineStatus},
};
use mcpctl_client::{
    AgentRecord, Client, ClientError, ClientOptions, agent_port,
    config::{self, LOCAL_KEY_FILE},
    is_loopback,
};
use mcpctl_owner::{PathError, connection, file, user_name};
use secrecy::SecretString;
use url::Url;

use crate::{context::parse_server, failure::Failure, own_path::own_path};

const DEFAULT: &str = "http://127.0.0.1:3200";
const ADDRESS: &str = "MCPLOCAL_ADDRESS";
/// The file of the agent's id, which its first start makes.
const ID_FILE: &str = "agent-id";
const STATE_DIR: &str = "MCPLOCAL_STATE_DIR";
/// Maximum length of the file of the local key, in bytes: it has one line.
const MAX_KEY_BYTES: u64 = 1024;

/// The address in `MCPLOCAL_ADDRESS`, where the variable is set.
fn address_from_environment() -> Result<Option<Url>, Failure> {
    let Some(text) = std::env::var(ADDRESS).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let address =
        parse_server(&text).map_err(|error| Failure::new(format!("{ADDRESS}: `{text}`: {error}")))?;
    if !is_loopback(&address) {
        // The local key is valid on this machine alone and never leaves it.
        return Err(Failure::new(format!("{ADDRESS}: `{address}` is not on this machine"))
            .hint("mcplocal listens on a loopback address, e.g. http://127.0.0.1:3200"));
    }
    Ok(Some(address))
}

/// The address by which other programs connect to the agent: `MCPLOCAL_ADDRESS`, else where the running agent listens.
///
/// # Errors
/// When nothing listens there, or another user's program does.
pub async fn address() -> Result<Url, Failure> {
    let address = match address_from_environment()? {
        Some(address) => address,
        None => listening().await?,
    };
    if let Some(uid) = foreign_holder(&address) {
        return Err(Failure::new(format!("a program of user {} listens at {address}", user_name(uid)))
            .hint("clients would give them your key: let mcplocal `listen` on another port"));
    }
    if is_free(&address) {
        return Err(Failure::new(format!("{ADDRESS}: nothing listens at {address}"))
            .hint(format!("start mcplocal with `mcpctl local up`, or unset {ADDRESS}")));
    }
    Ok(address)
}

/// Where the agent listens: from its status, else from its record, where the process of the record holds that address.
async fn listening() -> Result<Url, Failure> {
    let unreachable = match find().await {
        Ok(agent) => {
            let listen = &agent.status.listen;
            return match listen.parse::<SocketAddr>() {
                Ok(listen) => url_of(listen),
                Err(_) => Err(Failure::new(format!("mcplocal listens at `{listen}`, which has no URL"))
                    .hint("set `listen: 127.0.0.1:3200` in mcplocal.yaml for clients that need one")),
            };
        }
        Err(failure) => failure,
    };
    match AgentRecord::read(&state_dir()?).and_then(|record| record.confirmed_address()) {
        Some(listen) => url_of(listen),
        None => Err(unreachable),
    }
}

fn url_of(listen: SocketAddr) -> Result<Url, Failure> {
    format!("http://{listen}").parse().map_err(Failure::new)
}

/// Whether no program of this machine listens at an address; `false` where the system does not list who does.
fn is_free(address: &Url) -> bool {
    let Some(Ok(holders)) = address.port_or_known_default().map(connection::listeners) else { return false };
    let ip = match address.host() {
        Some(url::Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
        Some(url::Host::Ipv6(ip)) => Some(IpAddr::from(ip)),
        _ => None,
    };
    !holders.iter().any(|holder| ip.is_none_or(|ip| holder.serves(ip)))
}

/// The other user whose program a client of this address could connect to. Leaves a note of it for the agent's next start.
fn foreign_holder(address: &Url) -> Option<u32> {
    let holders = agent_port::foreign_holders(address.port_or_known_default()?);
    let ip = match address.host()? {
        url::Host::Ipv4(ip) => Some(IpAddr::from(ip)),
        url::Host::Ipv6(ip) => Some(IpAddr::from(ip)),
        url::Host::Domain(_) => None,
    };
    let uid = holders.iter().find(|holder| ip.is_none_or(|ip| holder.serves(ip)))?.uid;
    if let Ok(state_dir) = state_dir() {
        // Without a state directory there is no agent that would read the note.
        let _ = agent_port::note_foreign(&state_dir, uid);
    }
    Some(uid)
}

/// The state directory that the agent is started with.
pub fn state_dir() -> Result<PathBuf, Failure> {
    match std::env::var_os(STATE_DIR).filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(std::path::absolute(PathBuf::from(dir))?),
        None => Ok(config::agent_state_dir()?),
    }
}

/// The agent's id; `None` where it has never run.
pub fn id(state_dir: &Path) -> Result<Option<Id>, Failure> {
    let Some(text) = file::read_own(&state_dir.join(ID_FILE), MAX_KEY_BYTES)? else { return Ok(None) };
    String::from_utf8_lossy(&text).trim().parse().map(Some).map_err(Failure::new)
}

/// The local key, for programs other than ours.
pub fn local_key() -> Result<SecretString, Failure> {
    let path = state_dir()?.join(LOCAL_KEY_FILE);
    match file::read_own(&path, MAX_KEY_BYTES)? {
        Some(key) => Ok(SecretString::from(String::from_utf8_lossy(&key).trim())),
        None => Err(Failure::new(format!("there is no key for this machine yet at `{}`", path.display()))
            .hint("mcplocal makes it when it starts; start mcplocal")),
    }
}

/// A client of the agent, as this machine's user.
pub fn client() -> Result<Client, Failure> {
    connect(&ClientOptions::default())
}

fn connect(options: &ClientOptions) -> Result<Client, Failure> {
    Ok(Client::of_agent(config::agent_socket(&state_dir()?)?, options)?)
}

/// An agent that responded.
pub struct Agent {
    /// As this machine's user.
    pub client: Client,
    /// Its status.
    pub status: AgentStatus,
}

impl Agent {
    /// Its record in the state directory; `None` where the record is of another process.
    pub fn record(&self) -> Option<AgentRecord> {
        AgentRecord::read(&state_dir().ok()?).filter(|record| record.pid == self.status.pid)
    }
}

/// Finds the running agent, within about a second.
pub async fn find() -> Result<Agent, Failure> {
    let quick = ClientOptions {
        connect_timeout: Duration::from_millis(300),
        timeout: Duration::from_secs(1),
        ..ClientOptions::default()
    };
    let status = connect(&quick)?.local_status().await.map_err(not_running)?;
    Ok(Agent { client: client()?, status })
}

/// Whether this user has set an agent up, has run one, or names one: then its absence is a fault.
pub fn is_expected() -> bool {
    let is_named = std::env::var_os(ADDRESS).is_some_and(|address| !address.is_empty());
    let is_configured = config::config_dir().is_ok_and(|dir| dir.join("mcplocal.yaml").exists());
    let has_run = state_dir().is_ok_and(|dir| dir.join(ID_FILE).exists());
    is_named || is_configured || has_run
}

/// For which account the running agent acts.
#[derive(Debug, PartialEq, Eq)]
pub struct AgentAccount(Option<Option<String>>);

impl AgentAccount {
    /// At this moment; the file of contexts decides, and the agent reads it at each request.
    pub async fn now() -> Self {
        Self(find().await.ok().map(|agent| agent.status.signed_in_as))
    }

    /// Prints for which account the agent acts from now on, where a command has changed that.
    pub async fn report_change(&self) {
        let now = Self::now().await;
        match &now.0 {
            Some(Some(account)) if now != *self => note!("mcplocal acts for {account} from now on"),
            Some(None) if now != *self => note!("mcplocal acts for no account now"),
            _ => {}
        }
    }
}

/// The path of mcplocal: beside mcpctl, as they are installed together, else on the PATH. A service names it, so that links to both
/// come before what they lead to.
pub fn program() -> Result<PathBuf, Failure> {
    let beside = [own_path().ok(), std::env::current_exe().ok()];
    let beside = beside.into_iter().flatten().filter_map(|this| Some(this.parent()?.join(PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Relative entries are skipped: what they find depends on the current directory.
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(PROGRAM));
    let found = beside.chain(on_path).find(|candidate| candidate.is_file());
    found.ok_or_else(|| {
        Failure::new("`mcplocal` is neither beside mcpctl nor on the PATH")
            .hint("install it where mcpctl is, e.g. with `cargo install --path bins/mcplocal`")
    })
}

const PROGRAM: &str = "mcplocal";

/// The state of an engine for people, e.g. `starting: loading weights, 40 %`.
pub fn engine_state(engine: &EngineStatus) -> String {
    let state = engine.state.as_str();
    match (engine.phase, engine.percent) {
        (None, _) => state.to_owned(),
        (Some(phase), None) => format!("{state}: {}", phase.as_str()),
        (Some(phase), Some(percent)) => format!("{state}: {}, {percent} %", phase.as_str()),
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

/// The address of the last agent, also of a killed one, else the default: clients may still send their key there.
fn last_address() -> Option<Url> {
    let record = state_dir().ok().and_then(|dir| AgentRecord::read(&dir));
    let listen = record.and_then(|record| record.listen.parse().ok());
    listen.and_then(|listen| url_of(listen).ok()).or_else(|| DEFAULT.parse().ok())
}

/// The failure of a request to the agent, with the likely reason and the next step.
pub fn not_running(error: ClientError) -> Failure {
    match error {
        ClientError::Unreachable { server, reason } => {
            let failure = Failure::new(format!("mcplocal does not answer at {server}: {reason}"));
            let address = address_from_environment().ok().flatten().or_else(last_address);
            match address.and_then(|address| Some((foreign_holder(&address)?, address))) {
                Some((uid, address)) => failure.hint(format!(
                    "a program of user {} listens at {address}; clients that were set up with `mcpctl local env` give \
                     it their key: let mcplocal `listen` on another port, then run `mcpctl local rotate-key`",
                    user_name(uid)
                )),
                None => failure.hint("start it with `mcpctl local up`"),
            }
        }
        ClientError::Unreadable { server, .. } => {
            Failure::new(format!("what answers at {server} is not mcplocal")).hint("start mcplocal anew")
        }
        error => error.into(),
    }
}
