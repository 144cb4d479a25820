//! A client of one mcpd or agent: how it connects, sends a request and reads a response.

mod audit;
mod health;
mod people;
mod requests;
mod sign_on;
mod usage;

pub use audit::AuditRequest;
pub use health::HealthQuestion;
pub use requests::{Batch, Changed, ChatRequest};
pub use sign_on::DeviceAnswer;
pub use usage::UsageRequest;

use std::{path::PathBuf, time::Duration};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue, LOCATION},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    agent_socket::AgentSocket,
    config::login_command,
    error::{ClientError, ErrorResponse, check_address, one_line, reason, shown},
    guard::Guard,
    trust::Trust,
};

/// Maximum length of a response that is read whole, in bytes: far more than mcpd's largest list.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Maximum length of an error response, in bytes.
const MAX_ERROR_BYTES: usize = 256 << 10;
/// When a silent connection is first asked whether the other end is still there, how often then, and after how many
/// questions it is given up, so that no wait is for ever.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// How long sent data may stay unacknowledged.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Until the connection is established.
    pub connect_timeout: Duration,
    /// Of a whole request, except for streams.
    pub timeout: Duration,
    /// What proves that the server is the right one.
    pub trust: Trust,
    /// The next step where the server does not accept the bearer; `mcpctl login SERVER` where none is named.
    pub renewal: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(30),
            trust: Trust::default(),
            renewal: None,
        }
    }
}

/// A client of one mcpd, or of this user's mcplocal, which speaks the same inference API.
#[derive(Debug, Clone)]
pub struct Client {
    server: Url,
    http: reqwest::Client,
    /// The `Authorization` of every request.
    authorization: Option<HeaderValue>,
    /// Where requests go instead of to `server`.
    agent: Option<AgentSocket>,
    timeout: Duration,
    /// As [`ClientOptions::renewal`].
    renewal: Option<String>,
    /// Whether writes ask mcpd not to check new credentials at their providers.
    skip_check: bool,
    /// Whether writes are judged and not stored.
    dry_run: bool,
}

impl Client {
    /// A client of the server at this address.
    ///
    /// # Errors
    /// When the address or the token is none, or TLS cannot be set up.
    pub fn new(
        server: Url,
        bearer: Option<SecretString>,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        check_address(&server)?;
        let authorization = bearer.as_ref().map(authorization).transpose()?;
        let builder = Guard::around(&server, options.trust.users, reqwest::Client::builder());
        Self::build(server, authorization, builder, options)
    }

    /// A client without a credential, which therefore sends its requests whichever user's program answers over plain http.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn anonymous(server: Url, options: &ClientOptions) -> Result<Self, ClientError> {
        check_address(&server)?;
        Self::build(server, None, reqwest::Client::builder(), options)
    }

    fn build(
        server: Url,
        authorization: Option<HeaderValue>,
        builder: reqwest::ClientBuilder,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let tls = options.trust.tls.config().map_err(|error| ClientError::Setup(error.to_string()))?;
        let mut tls = (*tls).clone();
        // One request has the connection to itself, and its error is the connection's own: HTTP/2 would not pass on why TLS ended.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let builder = builder
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(options.connect_timeout)
            // A person thinks between two requests for longer than any server keeps a connection, and nothing of this
            // program runs meanwhile that would notice its end. So each request has a connection of its own.
            .pool_max_idle_per_host(0)
            .tcp_nodelay(true)
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_keepalive_interval(TCP_KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES)
            .user_agent(concat!("mcpctl/", env!("CARGO_PKG_VERSION")));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
        let http = builder.build().map_err(|error| ClientError::setup(&error))?;
        Ok(Self {
            server,
            http,
            authorization,
            agent: None,
            timeout: options.timeout,
            renewal: options.renewal.clone(),
            skip_check: false,
            dry_run: false,
        })
    }

    /// A client of this user's agent by its socket, where the user of both ends is known and no credential is needed.
    ///
    /// # Errors
    /// When HTTP cannot be set up.
    pub fn of_agent(socket: PathBuf, options: &ClientOptions) -> Result<Self, ClientError> {
        let server = Url::parse("http://localhost").map_err(|error| ClientError::Setup(error.to_string()))?;
        let agent = Some(AgentSocket::new(socket, options.connect_timeout));
        Ok(Self { agent, ..Self::new(server, None, options)? })
    }

    /// The same client, whose writes are stored without asking providers whether they accept new credentials, where `skip` is set.
    #[must_use]
    pub fn skipping_check(self, skip: bool) -> Self {
        Self { skip_check: skip, ..self }
    }

    /// The same client; in a dry run mcpd judges its writes of documents and its removals, and does not store them.
    #[must_use]
    pub fn as_dry_run(self, is_dry: bool) -> Self {
        Self { dry_run: is_dry, ..self }
    }

    /// The same client with another bearer. The TLS set-up is shared; connections are not, because none is kept.
    ///
    /// # Errors
    /// When the bearer is none.
    pub fn with_bearer(&self, bearer: &SecretString) -> Result<Self, ClientError> {
        Ok(Self { authorization: Some(authorization(bearer)?), ..self.clone() })
    }

    /// The address of the server.
    pub fn server(&self) -> &Url {
        &self.server
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        Ok(self.untimed(method, path)?.timeout(self.timeout))
    }

    fn untimed(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        // Segments are encoded one by one, so a name cannot reach into another path. Dots alone would be folded away.
        if let Some(bad) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(ClientError::Segment((*bad).to_owned()));
        }
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        Ok(match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = match &self.agent {
            None => {
                let sent = request.send().await;
                sent.map_err(|error| ClientError::unanswered(self.name(), &error.without_url()))?
            }
            Some(agent) => {
                let request = request.build().map_err(|error| ClientError::setup(&error.without_url()))?;
                let sent = agent.send(request).await;
                sent.map_err(|error| ClientError::Unreachable {
                    server: self.name(),
                    reason: error.to_string(),
                })?
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if let Some(location) = answer.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            let location = one_line(&String::from_utf8_lossy(location.as_bytes()));
            return Err(ClientError::Redirected { server: self.name(), location });
        }
        let headers = answer.headers().clone();
        // An error whose body is cut is still an error with a status.
        let body = self.body(answer, MAX_ERROR_BYTES).await.unwrap_or_default();
        match ErrorResponse::read(status, &headers, &body) {
            // mcpd's hint is for who writes requests, and this is a person who signs in.
            Some(error) if status == StatusCode::UNAUTHORIZED && self.authorization.is_some() => {
                let hint = self.renewal.clone().unwrap_or_else(|| login_command(&self.server, None));
                Err(ClientError::Refused { status, error: Box::new(error.with_hint(hint)) })
            }
            Some(error) => Err(ClientError::Refused { status, error: Box::new(error) }),
            None => Err(self.unreadable(format!("status {status}"))),
        }
    }

    async fn body(&self, mut answer: Response, most: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) <= most => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => return Err(self.unreadable(format!("it is longer than {most} bytes"))),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.unreadable(reason(&error.without_url()))),
            }
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let answer = self.send(request).await?;
        self.json(answer).await
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ClientError> {
        let body = tokio::time::timeout(self.timeout, self.body(answer, MAX_RESPONSE_BYTES)).await;
        let body = body.map_err(|_| self.unreadable("it does not end".to_owned()))??;
        serde_json::from_slice(&body).map_err(|error| self.unreadable(one_line(&error.to_string())))
    }

    fn unreadable(&self, reason: String) -> ClientError {
        ClientError::Unreadable { server: self.name(), reason }
    }

    fn name(&self) -> String {
        match &self.agent {
            Some(agent) => format!("`{}`", agent.path().display()),
            None => shown(&self.server),
        }
    }
}

fn authorization(bearer: &SecretString) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret()));
    let mut value = value.map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}
