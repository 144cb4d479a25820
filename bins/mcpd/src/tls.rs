//! TLS of the listeners: read at the start, and again when its files change.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use mcpctl_api::HintedError;
use mcpctl_telemetry::McpdMetrics;
use mcpctl_tls::{Refreshed, ServerFiles, ServerTls};

use crate::config::PublicHost;

/// How often the files are looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// From when on a certificate that ends is logged, and how often then.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the files.
///
/// # Errors
/// When they cannot be used.
pub fn read(files: Option<ServerFiles>) -> anyhow::Result<Option<Arc<ServerTls>>> {
    let Some(files) = files else { return Ok(None) };
    let tls = ServerTls::read(files)
        .map_err(|error| HintedError::new(format_args!("TLS cannot be served: {error}"), error.hint()))?;
    Ok(Some(Arc::new(tls)))
}

/// Follows the files as long as mcpd runs.
///
/// # Errors
/// When the first look at them fails.
pub fn follow(
    tls: Arc<ServerTls>,
    public_host: Option<&PublicHost>,
    metrics: Arc<McpdMetrics>,
) -> anyhow::Result<()> {
    if let Some(host) = public_host.map(PublicHost::host).filter(|host| !tls.names(host)) {
        tracing::warn!(
            host,
            "the certificate is not for this name, by which clients call mcpd (`publicHost`)"
        );
    }
    metrics.tls.valid_until(tls.not_after().context("the certificate has no end")?.as_second());
    metrics.tls.refused(false);
    tokio::spawn(async move {
        let mut warned = None;
        loop {
            warn_before_end(&tls, &mut warned);
            tokio::time::sleep(POLL_INTERVAL).await;
            let refreshing = Arc::clone(&tls);
            let Ok(refreshed) = tokio::task::spawn_blocking(move || refreshing.refresh()).await else {
                continue;
            };
            match refreshed {
                Refreshed::Unchanged => {}
                Refreshed::Replaced => {
                    metrics.tls.refused(false);
                    if let Some(end) = tls.not_after() {
                        metrics.tls.valid_until(end.as_second());
                        tracing::info!(until = %end, "the TLS files changed, and new connections use them");
                    }
                    warned = None;
                }
                Refreshed::Refused(error) => {
                    metrics.tls.refused(true);
                    tracing::error!(
                        %error,
                        hint = error.hint(),
                        "the changed TLS files cannot be used; the former certificate stays"
                    );
                }
            }
        }
    });
    Ok(())
}

fn warn_before_end(tls: &ServerTls, warned: &mut Option<Timestamp>) {
    let (now, Some(end)) = (Timestamp::now(), tls.not_after()) else { return };
    let is_near = now.saturating_add(WARN_BEFORE).is_ok_and(|then| then >= end);
    let is_due = warned.is_none_or(|at| at.saturating_add(WARN_INTERVAL).is_ok_and(|next| now >= next));
    if is_near && is_due {
        *warned = Some(now);
        tracing::warn!(until = %end, "clients reject the TLS certificate from then on: renew it");
    }
}
