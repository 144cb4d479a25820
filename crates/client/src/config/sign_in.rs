//! The context that a sign-in is kept in, and the command for a new one.

use jiff::Timestamp;
use mcpctl_api::spec::{Subject, SubjectKind};
use url::Url;

use super::{Config, Context, same_server};

impl Config {
    /// The context in which a sign-in of this account is kept where none is named: the one that the account has at this server,
    /// the current one first; else one of its own, so that no other account loses its token.
    pub fn context_for(&self, server: &Url, account: &Subject) -> String {
        let own = |context: &&Context| context.is_of(server, account);
        if let Some(known) = self.context(None).into_iter().chain(&self.contexts).find(own) {
            return known.name.clone();
        }
        let name = default_name(server);
        match self.lost_by(&name, server, account) {
            Some(_) => format!("{}@{name}", account.name),
            None => name,
        }
    }

    /// The context of this name, where it has a token of another account that a sign-in of this one would replace.
    pub fn lost_by(&self, name: &str, server: &Url, account: &Subject) -> Option<&Context> {
        let named = self.contexts.iter().find(|context| context.name == name)?;
        let is_over = named.expires_at.is_some_and(|end| end <= Timestamp::now());
        (named.token.is_some() && !is_over && !named.is_of(server, account)).then_some(named)
    }

    /// The command that signs in at this server anew: in the current context, where that is of this server.
    pub fn login_command(&self, server: &Url) -> String {
        login_command(server, self.context(None).filter(|context| same_server(&context.server, server)))
    }
}

impl Context {
    /// Whether it is of this account at this server.
    fn is_of(&self, server: &Url, account: &Subject) -> bool {
        let is_account = match (&self.account, &self.user) {
            (Some(known), _) => known == account,
            (None, Some(user)) => account.kind == SubjectKind::User && account.name.as_str() == user,
            (None, None) => false,
        };
        is_account && same_server(&self.server, server)
    }
}

/// The command that signs in at this server, in this context.
pub fn login_command(server: &Url, context: Option<&Context>) -> String {
    let address = server.as_str().trim_end_matches('/');
    match context.map(|context| context.name.as_str()).filter(|name| *name != default_name(server)) {
        Some(name) => format!("mcpctl login {address} --context {}", shell_word(name)),
        None => format!("mcpctl login {address}"),
    }
}

/// Host and, where it is not the scheme's own, port: two servers of one host are two contexts.
pub fn default_name(server: &Url) -> String {
    let host = server.host_str().unwrap_or_default();
    server.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A text as one word of a command line, in which a shell changes nothing.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use mcpctl_api::spec::SecretValue;

    use super::*;

    fn user(name: &str) -> Subject {
        Subject { kind: SubjectKind::User, name: name.parse().unwrap() }
    }

    fn context(name: &str, server: &Url, account: &str) -> Context {
        Context {
            name: name.to_owned(),
            server: server.clone(),
            user: None,
            account: Some(user(account)),
            token: Some(SecretValue::new("t")),
            server_user: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            expires_at: None,
            session: false,
            provider: None,
        }
    }

    #[test]
    fn sign_in_is_kept_in_the_accounts_own_context() {
        let server: Url = "http://127.0.0.1:3100/".parse().unwrap();
        let mut config = Config::default();
        assert_eq!(config.context_for(&server, &user("alice")), "127.0.0.1:3100");
        config.put(context("127.0.0.1:3100", &server, "admin"));
        assert_eq!(config.context_for(&server, &user("admin")), "127.0.0.1:3100");
        assert_eq!(config.context_for(&server, &user("alice")), "alice@127.0.0.1:3100");
        config.put(context("a b's", &server, "alice"));
        assert_eq!(config.context_for(&server, &user("alice")), "a b's");
        let expected = r"mcpctl login http://127.0.0.1:3100 --context 'a b'\''s'";
        assert_eq!(config.login_command(&server), expected);
        config.current_context = Some("127.0.0.1:3100".to_owned());
        assert_eq!(config.login_command(&server), "mcpctl login http://127.0.0.1:3100");
        let other = "https://mcpd.example.com".parse().unwrap();
        assert_eq!(config.login_command(&other), "mcpctl login https://mcpd.example.com");
    }

    #[test]
    fn only_a_token_of_another_account_is_a_loss() {
        let server: Url = "https://mcpd.example.com".parse().unwrap();
        let lost = |context: Context, account: &str| {
            let config = Config { contexts: vec![context], ..Config::default() };
            config.lost_by("c", &server, &user(account)).is_some()
        };
        let admin = || context("c", &server, "admin");
        assert!(lost(admin(), "alice") && !lost(admin(), "admin"));
        assert!(!lost(Context { token: None, ..admin() }, "alice"));
        assert!(!lost(Context { expires_at: Some(Timestamp::UNIX_EPOCH), ..admin() }, "alice"));
        let elsewhere = "https://other.example.com".parse().unwrap();
        assert!(lost(Context { server: elsewhere, ..admin() }, "admin"));
        // A file from before the kind of an account was in it.
        let old = || Context { account: None, user: Some("admin".to_owned()), ..admin() };
        assert!(lost(old(), "alice") && !lost(old(), "admin"));
        assert!(lost(Context { account: None, user: None, ..admin() }, "admin"), "unknown");
    }
}
