//! The probe: may this caller see this Llm now? One HEAD request with the caller's own bearer.
//!
//! Bounds of CONTRACT.md, "The Llm probe": no redirects, no proxies of the environment, 300 ms to connect, 1 s in all,
//! never cached. While it is read, hyper bounds the head of an answer: at most 100 headers and 408 KiB over HTTP/1,
//! 16 KiB over HTTP/2. What is longer than [`Probe::MAX_HEAD`] counts as unreadable, whatever its status.

use std::time::Duration;

use mcpctl_failover::{AccessProbe, ProbeError, ProbeRequest};
use reqwest::{
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue},
    redirect::Policy,
};
use url::Url;

use crate::error::{ClientError, check_address, reason};

/// Asks one mcpd.
#[derive(Debug, Clone)]
pub struct Probe {
    server: Url,
    http: reqwest::Client,
}

impl Probe {
    /// Until the connection stands.
    pub const CONNECT: Duration = Duration::from_millis(300);
    /// In all.
    pub const TOTAL: Duration = Duration::from_secs(1);
    /// Bytes of an answer's headers, names and values.
    pub const MAX_HEAD: usize = 16 * 1024;

    /// A probe of the mcpd at this address.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn new(server: Url) -> Result<Self, ClientError> {
        // A query in it would swallow the path of the probe, and the root of a server answers 200 to anybody.
        check_address(&server)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(Self::CONNECT)
            .timeout(Self::TOTAL)
            .tcp_nodelay(true)
            // One connection at a time, and none kept for long: a probe asks now, not some time ago.
            .pool_idle_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| ClientError::setup(&error))?;
        Ok(Self { server, http })
    }

    fn url(&self, request: &ProbeRequest) -> Result<Url, ProbeError> {
        let base = self.server.as_str().trim_end_matches('/');
        let url = format!("{base}{}", request.path());
        Url::parse(&url).map_err(|error| ProbeError(format!("the address of the probe: {error}")))
    }
}

impl AccessProbe for Probe {
    async fn head(&self, request: &ProbeRequest) -> Result<u16, ProbeError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", request.bearer.expose()))
            .map_err(|_| ProbeError("the credential cannot be sent".to_owned()))?;
        bearer.set_sensitive(true);
        let sent = self
            .http
            .head(self.url(request)?)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .header(CACHE_CONTROL, "no-store")
            .send()
            .await;
        let answer = sent.map_err(|error| ProbeError(reason(&error.without_url())))?;
        if head_bytes(answer.headers()) > Self::MAX_HEAD {
            return Err(ProbeError("the head of the answer is too long".to_owned()));
        }
        Ok(answer.status().as_u16())
    }
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
