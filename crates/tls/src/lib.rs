//! TLS of this process's clients: one configuration for all of them, so that this machine's trusted certificates are read once. That
//! takes milliseconds, and only connections over TLS need them, so the first of those reads them, unless [`load`] was called.

mod platform_verifier;

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, Error, crypto::aws_lc_rs};

use platform_verifier::PlatformVerifier;

static CLIENTS: OnceLock<Clients> = OnceLock::new();

struct Clients {
    config: Arc<ClientConfig>,
    verifier: Arc<PlatformVerifier>,
}

/// The configuration, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When the cryptography of this build has no usable version of TLS.
pub fn client_config() -> Result<Arc<ClientConfig>, Error> {
    Ok(Arc::clone(&clients()?.config))
}

/// Reads this machine's trusted certificates, for a daemon that will need them; blocks meanwhile.
///
/// # Errors
/// When there are none; the next connection over TLS tries again.
pub fn load() -> Result<(), Error> {
    clients()?.verifier.loaded().map(drop)
}

fn clients() -> Result<&'static Clients, Error> {
    if let Some(clients) = CLIENTS.get() {
        return Ok(clients);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PlatformVerifier::new(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(CLIENTS.get_or_init(|| Clients { config: Arc::new(config), verifier }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_share_one_configuration() {
        let (first, second) = (client_config().unwrap(), client_config().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }
}
