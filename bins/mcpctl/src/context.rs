//! The server and the credential of a command: from flags, else the environment, else the file of contexts.

use std::path::PathBuf;

use mcpctl_api::credential;
use mcpctl_client::{
    Client, ClientFiles, ClientOptions, ClientTls, PLAIN_MCPD, Trust, TrustedUsers, check_address,
    config::{Config, Context, login_command, same_server},
    is_loopback,
};
use secrecy::SecretString;
use url::Url;

use crate::failure::Failure;

/// Sets the options that every command has apart from those of its own in its help.
const CONNECTION: &str = "Connection";

/// The options that every command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Context to use instead of the current one
    #[arg(long, global = true, hide_short_help = true, help_heading = CONNECTION, env = "MCPCTL_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// Server to use instead of the context's
    #[arg(long, global = true, hide_short_help = true, help_heading = CONNECTION, env = "MCPCTL_SERVER", value_name = "URL")]
    server: Option<String>,
    /// User that mcpd runs as, where it is on this machine, without TLS, and runs neither as you nor as root
    #[arg(long, global = true, hide_short_help = true, help_heading = CONNECTION, env = "MCPCTL_SERVER_USER", value_name = "USER")]
    server_user: Option<String>,
    /// Private authority that signed mcpd's certificate, instead of those that this machine trusts; `login` keeps it
    #[arg(long, global = true, hide_short_help = true, help_heading = CONNECTION, env = "MCPCTL_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate to present to an mcpd that asks for one; `login` keeps it
    #[arg(
        long,
        global = true, hide_short_help = true, help_heading = CONNECTION,
        env = "MCPCTL_CLIENT_CERTIFICATE",
        value_name = "FILE"
    )]
    client_certificate: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, global = true, hide_short_help = true, help_heading = CONNECTION, env = "MCPCTL_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
}

/// A server, and who calls it.
#[derive(Clone)]
pub struct Identity {
    /// The address of mcpd.
    pub server: Url,
    /// The credential.
    pub bearer: Option<SecretString>,
    /// What proves that the server is the right one.
    pub trust: Trust,
    /// The context that the bearer is from.
    pub context: Option<Context>,
    /// What to do where there is no bearer, or the server does not accept it.
    pub renewal: String,
}

impl Global {
    /// The file of contexts and where it is.
    pub fn config(&self) -> Result<(PathBuf, Config), Failure> {
        let path = Config::default_path()?;
        let config = Config::load(&path)?;
        Ok((path, config))
    }

    /// The context that was asked for by name; an empty variable is none.
    pub fn named_context(&self) -> Option<&str> {
        self.context.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether no server is chosen: no flag, no variable, no current context in a file that can be read.
    pub fn chooses_nothing(&self) -> bool {
        let named =
            self.named_context().is_some() || self.server.as_deref().is_some_and(|text| !text.is_empty());
        !named && self.config().is_ok_and(|(_, config)| config.context(None).is_none())
    }

    /// The user that mcpd runs as, where one was named; an empty variable is none.
    pub fn server_user(&self) -> Option<&str> {
        self.server_user.as_deref().filter(|name| !name.is_empty())
    }

    /// The files of TLS: from the flags, else from the context. Whole paths, because a later command runs elsewhere.
    fn tls_files(&self, context: Option<&Context>) -> Result<ClientFiles, Failure> {
        let kept = context.map(Context::tls_files).unwrap_or_default();
        let whole = |named: &Option<PathBuf>, kept: Option<PathBuf>| match named {
            Some(path) if path.as_os_str().is_empty() => Ok(kept),
            Some(path) => std::path::absolute(path).map(Some).map_err(Failure::new),
            None => Ok(kept),
        };
        Ok(ClientFiles {
            ca: whole(&self.ca, kept.ca)?,
            certificate: whole(&self.client_certificate, kept.certificate)?,
            key: whole(&self.client_key, kept.key)?,
        })
    }

    /// What proves that a server is the right one: from the flags, else from the context.
    pub fn trust(&self, context: Option<&Context>) -> Result<Trust, Failure> {
        Ok(Trust { users: self.trusted_users(context)?, tls: self.tls(context)? })
    }

    /// As [`Global::trust`], for a sign-in: the files are those of any context of the server, its user has to be named again.
    pub fn trust_at(&self, server: &Url, config: &Config) -> Result<Trust, Failure> {
        let current = config.context(None).into_iter();
        let known = current.chain(&config.contexts).find(|known| same_server(&known.server, server));
        Ok(Trust { users: self.trusted_users(None)?, tls: self.tls(known)? })
    }

    fn tls(&self, context: Option<&Context>) -> Result<ClientTls, Failure> {
        ClientTls::read(self.tls_files(context)?).map_err(|error| {
            let failure = Failure::new(&error);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    /// The users whose programs may respond over plain http.
    fn trusted_users(&self, context: Option<&Context>) -> Result<TrustedUsers, Failure> {
        let named = match (self.server_user(), context) {
            (Some(name), _) => name.parse(),
            (None, Some(context)) => context.trusted(),
            (None, None) => Ok(TrustedUsers::default()),
        };
        named.map_err(|error| Failure::new(error).hint("name the user that mcpd runs as with --server-user"))
    }

    /// Server and bearer.
    pub fn identity(&self) -> Result<Identity, Failure> {
        let (_, config) = self.config()?;
        let context = config.context(self.named_context());
        if let (Some(name), None) = (self.named_context(), context) {
            return Err(
                Failure::new(format!("there is no context `{name}`")).hint("mcpctl config get-contexts")
            );
        }
        let token = std::env::var("MCPCTL_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.map(|token| bearer("MCPCTL_TOKEN", &token).map(SecretString::from)).transpose()?;
        let server = match (self.server.as_deref().filter(|text| !text.is_empty()), context) {
            (Some(text), _) => parse_server(text).map_err(Failure::usage)?,
            (None, Some(context)) => context.server.clone(),
            (None, None) => {
                return Err(Failure::new("no server is known").hint("mcpctl login https://mcpd.example.com"));
            }
        };
        check_server(&server)?;
        // The token of a context is for that context's server and for no other, whatever `--server` is.
        let own = context.filter(|context| same_server(&context.server, &server));
        let trust = self.trust(own)?;
        if let Some(token) = token {
            // No sign-in changes which one is used.
            let renewal = "unset MCPCTL_TOKEN, or set it to a valid token".to_owned();
            return Ok(Identity { server, bearer: Some(token), trust, context: None, renewal });
        }
        let renewal = login_command(&server, own);
        let signed_in = own.filter(|context| context.token.is_some());
        let bearer = signed_in.and_then(|context| context.token.as_ref());
        Ok(Identity {
            server,
            bearer: bearer.map(|token| SecretString::from(token.expose())),
            trust,
            context: signed_in.cloned(),
            renewal,
        })
    }

    /// A client of mcpd.
    pub fn client(&self) -> Result<Client, Failure> {
        self.identity()?.client()
    }
}

impl Identity {
    /// A client of mcpd, which needs a bearer.
    pub fn client(self) -> Result<Client, Failure> {
        if self.bearer.is_none() {
            return Err(self.not_signed_in());
        }
        let options = self.options();
        Ok(Client::new(self.server, self.bearer, &options)?)
    }

    /// How its server is reached.
    pub fn options(&self) -> ClientOptions {
        let renewal = Some(self.renewal.clone());
        ClientOptions { trust: self.trust.clone(), renewal, ..ClientOptions::default() }
    }

    /// The failure of a command that needs a bearer where there is none.
    pub fn not_signed_in(&self) -> Failure {
        let server = self.server.as_str().trim_end_matches('/');
        Failure::new(format!("not signed in at {server}")).hint(&self.renewal)
    }
}

/// A token as people paste it, without the blanks around it; `what` names it in the error.
pub fn bearer<'a>(what: &str, text: &'a str) -> Result<&'a str, Failure> {
    let token = credential::trimmed(text)
        .map_err(|error| Failure::new(format!("{what} cannot be sent: {error}")).hint(error.hint()))?;
    let quoted = |quote: char| token.len() > 1 && token.starts_with(quote) && token.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Err(Failure::new(format!("{what} is in quotes")).hint("give it without the quotes"));
    }
    Ok(token)
}

/// Parses the address of a server; where the scheme was left out, the error gives the address to write.
pub fn parse_server(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        let host = text.split([':', '/']).next().unwrap_or_default();
        let scheme = if host == "localhost" || host.starts_with("127.") { "http" } else { "https" };
        return Err(format!("write it with its scheme: {scheme}://{text}"));
    }
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    check_address(&url).map_err(|error| error.to_string())?;
    Ok(url)
}

/// Rejects a server to which tokens would travel unencrypted.
pub fn check_server(server: &Url) -> Result<(), Failure> {
    check_address(server)?;
    if server.scheme() == "http" && !is_loopback(server) {
        let message = format!("`{server}` is not encrypted, and your token would travel to it");
        return Err(Failure::new(message).hint(PLAIN_MCPD));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_scheme_is_named() {
        let error = |text: &str| parse_server(text).unwrap_err();
        assert_eq!(error("mcpd.example.com"), "write it with its scheme: https://mcpd.example.com");
        assert_eq!(error("localhost:3100"), "write it with its scheme: http://localhost:3100");
        assert_eq!(error("127.0.0.1:3100"), "write it with its scheme: http://127.0.0.1:3100");
        for wrong in ["ftp://host", "https://a:b@host", "https://host?token=x", "https://"] {
            assert!(!error(wrong).contains("token=x") && !error(wrong).contains("a:b"), "{wrong}");
        }
    }

    #[test]
    fn tokens_travel_encrypted_or_not_at_all() {
        let check = |text: &str| check_server(&text.parse().unwrap());
        for good in
            ["https://mcpd.example.com", "http://127.0.0.1:3100", "http://localhost", "http://[::1]:1"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in
            ["http://mcpd.example.com", "http://10.0.0.1", "http://localhost.example.com", "http://0.0.0.0"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
