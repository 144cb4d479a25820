//! The TLS configuration that all pools share, so that a new pool does not load this machine's trusted certificates again.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt as _;
use rustls::{ClientConfig, crypto::aws_lc_rs};

static CONFIG: OnceLock<ClientConfig> = OnceLock::new();

/// The configuration; `None` where it cannot be made, so that the client reports why when it makes its own.
pub(crate) fn config() -> Option<ClientConfig> {
    if let Some(config) = CONFIG.get() {
        return Some(config.clone());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let mut config = builder.try_with_platform_verifier().ok()?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Some(CONFIG.get_or_init(|| config).clone())
}
