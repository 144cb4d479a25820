//! Which server, and as whom: flags over environment over the file of contexts.

use std::path::PathBuf;

use mcpctl_client::{
    Client, Options,
    config::{self, Config, LOCAL_KEY_FILE},
};
use secrecy::SecretString;
use url::Url;

use crate::failure::Failure;

const AGENT: &str = "http://127.0.0.1:3200";

/// The options that every command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Context to use instead of the current one
    #[arg(long, global = true, env = "MCPCTL_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Server to use instead of the context's
    #[arg(long, global = true, env = "MCPCTL_SERVER", value_name = "URL")]
    pub server: Option<Url>,
}

impl Global {
    /// The file of contexts and where it is.
    pub fn config(&self) -> Result<(PathBuf, Config), Failure> {
        let path = Config::default_path()?;
        let config = Config::load(&path)?;
        Ok((path, config))
    }

    /// Server and bearer.
    pub fn identity(&self) -> Result<(Url, Option<SecretString>), Failure> {
        let (_, config) = self.config()?;
        let context = config.context(self.context.as_deref());
        if let (Some(name), None) = (&self.context, context) {
            return Err(
                Failure::new(format!("there is no context `{name}`")).hint("mcpctl config get-contexts")
            );
        }
        let token =
            std::env::var("MCPCTL_TOKEN").ok().filter(|token| !token.is_empty()).map(SecretString::from);
        let server = match (&self.server, context) {
            (Some(server), _) => server.clone(),
            (None, Some(context)) => context.server.clone(),
            (None, None) => {
                return Err(Failure::new("no server is known").hint("mcpctl login https://mcpd.example.com"));
            }
        };
        check_server(&server)?;
        // A context's token goes to that context's server and to no other, whatever `--server` says.
        let own = context
            .filter(|context| context.server.origin() == server.origin())
            .and_then(|context| context.token.as_ref())
            .map(|token| SecretString::from(token.expose()));
        Ok((server, token.or(own)))
    }

    /// A client of mcpd.
    pub fn client(&self) -> Result<Client, Failure> {
        let (server, bearer) = self.identity()?;
        if bearer.is_none() {
            let login = format!("mcpctl login {}", server.as_str().trim_end_matches('/'));
            return Err(Failure::new(format!("nobody is signed in at {server}")).hint(login));
        }
        Ok(Client::new(server, bearer, &Options::default())?)
    }
}

/// Tokens do not travel where they can be read on the way.
pub fn check_server(server: &Url) -> Result<(), Failure> {
    let loopback = match server.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    };
    match server.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => {
            Err(Failure::new(format!("`{server}` is not encrypted, and your token would travel to it"))
                .hint("use https; http is for loopback addresses"))
        }
        _ => Err(Failure::new(format!("`{server}` is neither http nor https"))),
    }
}

/// Where mcplocal is.
pub fn agent_address() -> Result<Url, Failure> {
    let text = std::env::var("MCPLOCAL_ADDRESS").ok().filter(|text| !text.is_empty());
    let text = text.as_deref().unwrap_or(AGENT);
    let address: Url =
        text.parse().map_err(|_| Failure::new(format!("MCPLOCAL_ADDRESS: `{text}` is not an address")))?;
    check_server(&address)?;
    Ok(address)
}

/// The key that stands for this machine's user.
pub fn local_key() -> Result<SecretString, Failure> {
    let path = config::agent_state_dir()?.join(LOCAL_KEY_FILE);
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(SecretString::from(key.trim())),
        Err(error) => Err(Failure::new(format!("`{}`: {error}", path.display()))
            .hint("mcplocal makes it when it starts; start mcplocal")),
    }
}

/// A client of mcplocal, as this machine's user.
pub fn agent() -> Result<Client, Failure> {
    Ok(Client::new(agent_address()?, Some(local_key()?), &Options::default())?)
}
