//! Addresses to listen on, and why one cannot be bound.

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr};

use mcpctl_api::HintedError;

/// Where to listen: `127.0.0.1:3100`, or `unix:/path/to/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket file that only this user may connect to.
    Unix(PathBuf),
}

/// Reads an IP address and a port, of an argument. The message has its next step with it.
///
/// # Errors
/// When it is something else.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.unwrap_or(3100);
        HintedError::with(
            "this is not an IP address and a port",
            format_args!(
                "write e.g. `127.0.0.1:{port}`, or `0.0.0.0:{port}` for every address of the machine"
            ),
        )
        .lines()
    })
}

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address to listen on; write e.g. `127.0.0.1:3100` or `unix:/run/user/1000/mcp.sock`"
)]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(NotAnAddress(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| NotAnAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {}", mcpctl_owner::words(source))]
pub struct BindError {
    pub(crate) address: Address,
    pub(crate) source: io::Error,
}

impl BindError {
    /// Whether another program listens there.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; choose another address or end it",
            io::ErrorKind::AlreadyExists => "remove what is there, or choose another path",
            io::ErrorKind::PermissionDenied => "this user may not listen there; choose another address",
            _ => "choose an address of this machine",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print() {
        for text in ["127.0.0.1:3100", "[::1]:0", "unix:/tmp/s"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "3100", "localhost:1", "unix:", "unix:relative"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn argument_that_is_no_address_is_refused_with_one_of_its_port() {
        assert_eq!(socket_address("127.0.0.1:3100").unwrap().port(), 3100);
        for (text, meant) in [
            ("4000", "`127.0.0.1:4000`"),
            (":4000", "`0.0.0.0:4000`"),
            ("localhost:4000", "`127.0.0.1:4000`"),
            ("", "`127.0.0.1:3100`"),
        ] {
            let error = socket_address(text).unwrap_err();
            assert!(
                error.starts_with("this is not an IP address and a port\nhint: ") && error.contains(meant),
                "{error}"
            );
        }
    }
}
