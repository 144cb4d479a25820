//! The console's cookies. Their names begin with `__Host-`, so that browsers accept them from this host alone and send them to no other.
//! Servers on other ports of the host read and write them all the same: a name has the port, and a value counts at the console alone.

use axum::http::{HeaderMap, HeaderValue, header, uri::Authority};
use jiff::Timestamp;

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// The token of a session.
    Session,
    /// Binds the forms of a browser that is not signed in.
    Visitor,
    /// Binds a sign-in at a provider to the browser that began it.
    SignIn,
}

impl Cookie {
    fn name(self, host: Option<&Authority>) -> String {
        let purpose = match self {
            Self::Session => "session",
            Self::Visitor => "visitor",
            Self::SignIn => "sign-in",
        };
        match host.and_then(Authority::port_u16) {
            Some(port) => format!("__Host-mcpd-{purpose}-{port}"),
            None => format!("__Host-mcpd-{purpose}"),
        }
    }

    /// Whether a request has it, once or more often.
    pub fn is_in(self, headers: &HeaderMap, host: Option<&Authority>) -> bool {
        self.values(headers, host).next().is_some()
    }

    /// Its value in a request; `None` where it occurs more than once.
    pub fn read<'a>(self, headers: &'a HeaderMap, host: Option<&Authority>) -> Option<&'a str> {
        let mut values = self.values(headers, host);
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    }

    fn values<'a>(self, headers: &'a HeaderMap, host: Option<&Authority>) -> impl Iterator<Item = &'a str> {
        let name = self.name(host);
        let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        texts
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Sets it until `ends_at`, or until the browser is closed.
    pub fn set(
        self,
        host: Option<&Authority>,
        value: &str,
        ends_at: Option<Timestamp>,
    ) -> Option<HeaderValue> {
        let age = ends_at.map(|at| at.duration_since(Timestamp::now()).as_secs().max(0));
        let age = age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let name = self.name(host);
        // Lax: a link from elsewhere shows the page that it means. Forms are checked by their own token and by `Origin`.
        let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
        let mut value = HeaderValue::from_str(&cookie).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Removes it.
    pub fn clear(self, host: Option<&Authority>) -> Option<HeaderValue> {
        self.set(host, "", Some(Timestamp::UNIX_EPOCH))
    }
}
