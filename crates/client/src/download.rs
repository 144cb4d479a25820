//! Fetches a file from the web. No credential travels, neither to its address nor to one that it redirects to.

use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use url::Url;

use crate::{
    ClientTls,
    error::{is_loopback, one_line, reason, shown},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of the whole download.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_REDIRECTS: usize = 5;

/// Why a file cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[error("`{url}` cannot be fetched: {reason}")]
pub struct DownloadError {
    url: String,
    reason: String,
}

/// Fetches a file of at most so many bytes by https, or by http from this machine.
///
/// # Errors
/// Another address, no answer within a minute, a status other than 200, too many redirects or one to an address that is not encrypted,
/// or a longer file.
pub async fn download(url: &Url, tls: &ClientTls, max_bytes: usize) -> Result<Vec<u8>, DownloadError> {
    let failed = |reason: String| DownloadError { url: shown(url), reason };
    if !is_allowed(url) {
        return Err(failed("only https is read, and http from this machine".to_owned()));
    }
    let is_plain = url.scheme() == "http";
    let tls = tls.config().map_err(|error| failed(error.to_string()))?;
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .redirect(Policy::custom(move |attempt| follow(attempt, is_plain)))
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .user_agent(concat!("mcpctl/", env!("CARGO_PKG_VERSION")));
    // What is on this machine is not reached by a proxy.
    let builder = if is_plain { builder.no_proxy() } else { builder };
    let failed_at = |error: reqwest::Error| failed(one_line(&reason(&error.without_url())));
    let client = builder.build().map_err(failed_at)?;
    let mut answer = client.get(url.clone()).send().await.map_err(failed_at)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(failed(format!("status {}", answer.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed_at)? {
        if bytes.len().saturating_add(chunk.len()) > max_bytes {
            return Err(failed(format!("it has more than {} MiB", max_bytes >> 20)));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Never from an encrypted address to one that is not.
fn follow(attempt: Attempt<'_>, from_plain: bool) -> reqwest::redirect::Action {
    let is_allowed = is_allowed(attempt.url()) && (from_plain || attempt.url().scheme() == "https");
    if !is_allowed {
        return attempt.error("it redirects to an address that is not encrypted");
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(format!("it redirects more than {MAX_REDIRECTS} times"));
    }
    attempt.follow()
}

fn is_allowed(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => is_loopback(url),
        _ => false,
    }
}
