//! The TLS configuration that all pools share, so that a new pool does not load this machine's trusted certificates again.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, Error, crypto::aws_lc_rs};

static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// The configuration.
///
/// # Errors
/// When this machine's trusted certificates cannot be loaded.
pub(crate) fn config() -> Result<Arc<ClientConfig>, Error> {
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.try_with_platform_verifier()?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
