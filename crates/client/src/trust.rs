//! What proves to a client that it talks to the right server.

use mcpctl_owner::TrustedUsers;
use mcpctl_tls::ClientTls;

/// What proves that a server is the right one: over plain http the user that its program runs as, over https its certificate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trust {
    /// The users whose programs may respond over plain http.
    pub users: TrustedUsers,
    /// The authorities that sign certificates, and the client's own certificate.
    pub tls: ClientTls,
}

impl From<TrustedUsers> for Trust {
    /// These users, and the authorities that this machine trusts.
    fn from(users: TrustedUsers) -> Self {
        Self { users, tls: ClientTls::default() }
    }
}
