//! Whether an engine can serve: its health route while it starts, its first request, and the health check of one that may
//! have broken.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::{endpoint::Endpoint, error::EngineError, log::EngineLog};

/// The health route is polled quickly at first, because small models load in no time, and slowly after so many polls.
const FAST_POLLS: u32 = 100;
const FAST_POLL_INTERVAL: Duration = Duration::from_millis(20);
const SLOW_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Of one request to the health route.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// The first request may compile kernels.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Of a request to an engine that may have broken.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// After so many rejected first requests the engine counts as broken.
const MAX_REJECTIONS: u32 = 5;
/// Precedes the agent's own lines in the engine's log.
const LOG_PREFIX: &str = "mcplocal: the first request: ";

/// Sends an engine the requests that show whether it serves.
pub(crate) struct HealthCheck<'a> {
    /// The engine's name.
    pub(crate) name: &'a str,
    pub(crate) endpoint: &'a Endpoint,
    /// Gets the responses of rejected requests.
    pub(crate) log: &'a EngineLog,
}

impl HealthCheck<'_> {
    /// Checks that the engine still responds. Without a free place only the health route is asked: a completion would wait for
    /// the requests that have the places.
    pub(crate) async fn run(&self, has_place: bool) -> Result<(), EngineError> {
        let endpoint = self.endpoint;
        let hung = |reason: String| EngineError::Hung { name: self.name.to_owned(), reason };
        let url = endpoint.base_url.join("/health").map_err(|error| hung(error.to_string()))?;
        let health = endpoint.http.get(url).timeout(HEALTH_TIMEOUT).send().await;
        health.and_then(Response::error_for_status).map_err(|error| hung(error.without_url().to_string()))?;
        if !has_place {
            return Ok(());
        }
        tokio::time::timeout(CHECK_TIMEOUT, self.complete_first_request())
            .await
            .unwrap_or_else(|_| Err(hung(format!("no completion within {} s", CHECK_TIMEOUT.as_secs()))))
    }

    /// A health route proves little: a server can report health and fail its first request. A server for embeddings rejects
    /// completions, and is asked for an embedding.
    pub(crate) async fn complete_first_request(&self) -> Result<(), EngineError> {
        let endpoint = self.endpoint;
        let model = &endpoint.model;
        let requests = [
            ("completions", json!({"model": model, "prompt": "Hi", "max_tokens": 1})),
            ("embeddings", json!({"model": model, "input": "Hi"})),
        ];
        let mut rejections = 0_u32;
        loop {
            let mut rejected = None;
            for (path, body) in &requests {
                let url = format!("{}/{path}", endpoint.base_url);
                let request =
                    endpoint.http.post(&url).bearer_auth(endpoint.api_key.expose_secret()).json(body);
                match request.timeout(FIRST_REQUEST_TIMEOUT).send().await {
                    Ok(response) if response.status().is_success() => return Ok(()),
                    Ok(response) => {
                        let status = response.status();
                        let text = beginning(response).await;
                        let line = self.log.line(&format!("{LOG_PREFIX}{status}: {text}"));
                        rejected.get_or_insert((status, line));
                    }
                    // The engine is ending, which is noticed elsewhere, or the start's own deadline ends this.
                    Err(error) => {
                        self.log.line(&format!("{LOG_PREFIX}{}", error.without_url()));
                        break;
                    }
                }
            }
            if let Some((status, line)) = rejected {
                rejections += 1;
                // A server that still loads responds with 503.
                if rejections >= MAX_REJECTIONS && status != StatusCode::SERVICE_UNAVAILABLE {
                    let refusal = line.strip_prefix(LOG_PREFIX).unwrap_or(&line).trim_end().to_owned();
                    return Err(EngineError::WarmUp { name: self.name.to_owned(), refusal });
                }
            }
            tokio::time::sleep(SLOW_POLL_INTERVAL).await;
        }
    }
}

/// The beginning of a response's body, in characters.
async fn beginning(mut response: Response) -> String {
    let bytes = response.chunk().await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).chars().take(200).collect()
}

/// Refused connections and 503 both mean that the engine loads: vLLM does the one, llama-server the other.
pub(crate) async fn until_healthy(endpoint: &Endpoint) {
    let mut url = endpoint.base_url.clone();
    url.set_path("/health");
    let mut polls = 0_u32;
    loop {
        let health = endpoint.http.get(url.clone()).timeout(HEALTH_TIMEOUT).send().await;
        if health.is_ok_and(|response| response.status().is_success()) {
            return;
        }
        tokio::time::sleep(if polls < FAST_POLLS { FAST_POLL_INTERVAL } else { SLOW_POLL_INTERVAL }).await;
        polls = polls.saturating_add(1);
    }
}
