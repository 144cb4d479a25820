//! Requests and answers of mcpd, typed.

use std::{path::PathBuf, time::Duration};

use mcpctl_api::{
    Document, Kind, Name, Resource, Revision,
    agent::{AgentStatus, EngineStatus},
    header,
    question::{
        ApplyReport, CanI, CanIAnswer, IssuedToken, List, LoginRequest, TokenRequest, WhoAmI, WhoCan,
    },
};
use mcpctl_owner::TrustedUsers;
use reqwest::{
    Method, RequestBuilder, Response,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, IF_MATCH, LOCATION},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use crate::{
    agent_socket::AgentSocket,
    error::{ClientError, ErrorResponse, check_address, one_line, reason, shown},
    guard::Guard,
    stream::ChatStream,
};

/// Largest answer that is read whole, bytes: far more than mcpd's largest list.
const MAX_ANSWER: usize = 64 << 20;
/// Largest error answer, bytes.
const MAX_ERROR: usize = 256 << 10;
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
    /// Until the connection stands.
    pub connect_timeout: Duration,
    /// For everything but chat, in all.
    pub timeout: Duration,
    /// Whose program may answer where the address is plain http.
    pub trusted: TrustedUsers,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(30),
            trusted: TrustedUsers::default(),
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
}

/// A request to a model.
#[derive(Debug, Clone, Serialize)]
pub struct ChatRequest {
    /// The Llm's name.
    pub model: String,
    /// `{role, content}` each.
    pub messages: Vec<Value>,
    /// Longest answer; the model's own limit where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
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
        let builder = Guard::around(&server, options.trusted, reqwest::Client::builder());
        let builder = builder
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
        Ok(Self { server, http, authorization, agent: None, timeout: options.timeout })
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

    /// Every resource of a kind that the caller may view.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all the requests below.
    pub async fn list(&self, kind: Kind, selector: Option<&str>) -> Result<List<Resource>, ClientError> {
        let mut request = self.request(Method::GET, &["api", "v1", kind.plural()])?;
        if let Some(selector) = selector {
            request = request.query(&[("labelSelector", selector)]);
        }
        self.read(request).await
    }

    /// One resource, by id or name.
    pub async fn get(&self, kind: Kind, id_or_name: &str) -> Result<Resource, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", kind.plural(), id_or_name])?).await
    }

    /// Makes a resource.
    pub async fn create(&self, document: &Document) -> Result<Changed, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", document.kind().plural()])?;
        self.changed(request.json(document)).await
    }

    /// Replaces a resource, where `expected` is given only at that revision.
    pub async fn put(
        &self,
        id_or_name: &str,
        document: &Document,
        expected: Option<Revision>,
    ) -> Result<Changed, ClientError> {
        let request = self.request(Method::PUT, &["api", "v1", document.kind().plural(), id_or_name])?;
        self.changed(if_match(request, expected).json(document)).await
    }

    /// Changes fields of a resource (RFC 7396).
    pub async fn patch(
        &self,
        kind: Kind,
        id_or_name: &str,
        patch: &Value,
        expected: Option<Revision>,
    ) -> Result<Changed, ClientError> {
        let request = self.request(Method::PATCH, &["api", "v1", kind.plural(), id_or_name])?;
        self.changed(if_match(request, expected).json(patch)).await
    }

    /// Removes a resource; answers what the writer should know.
    pub async fn delete(
        &self,
        kind: Kind,
        id_or_name: &str,
        dry_run: bool,
    ) -> Result<Vec<String>, ClientError> {
        let mut request = self.request(Method::DELETE, &["api", "v1", kind.plural(), id_or_name])?;
        if dry_run {
            request = request.query(&[("dryRun", true)]);
        }
        self.send(request).await.map(|answer| warnings(&answer))
    }

    /// Makes or changes all documents, or none.
    pub async fn apply(&self, documents: &[&Document], dry_run: bool) -> Result<ApplyReport, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "apply"])?;
        self.read(request.query(&[("dryRun", dry_run)]).json(&documents)).await
    }

    /// Makes a token; the answer is the only one that holds it.
    pub async fn create_token(&self, wanted: &TokenRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "tokens"])?.json(wanted)).await
    }

    /// Exchanges a password for a token.
    pub async fn login(&self, login: &LoginRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "login"])?.json(login)).await
    }

    /// Ends the session of this client's token.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["api", "v1", "auth", "logout"])?).await.map(drop)
    }

    /// Who is calling.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "auth", "whoami"])?).await
    }

    /// Whether the caller may do something, and why.
    pub async fn can_i(&self, question: &CanI) -> Result<CanIAnswer, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "can-i"])?.json(question)).await
    }

    /// Who may do something, and why.
    pub async fn who_can(&self, verb: &str, kind: &str, name: &str) -> Result<WhoCan, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "auth", "who-can"])?;
        self.read(request.query(&[("verb", verb), ("kind", kind), ("name", name)])).await
    }

    /// The models that the caller may run, as OpenAI lists them.
    pub async fn models(&self) -> Result<Value, ClientError> {
        self.models_with(HeaderMap::new()).await
    }

    /// The same with more headers, for a program that asks for its own caller.
    pub async fn models_with(&self, headers: HeaderMap) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["v1", "models"])?.headers(headers)).await
    }

    /// One of them, by name or id.
    pub async fn model_with(&self, model: &str, headers: HeaderMap) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["v1", "models", model])?.headers(headers)).await
    }

    /// What `GET /status` of an mcplocal says.
    pub async fn local_status(&self) -> Result<AgentStatus, ClientError> {
        self.read(self.request(Method::GET, &["status"])?).await
    }

    /// The log of an engine of an mcplocal, as it comes.
    pub async fn engine_logs(
        &self,
        engine: &str,
        previous: bool,
        follow: bool,
    ) -> Result<Response, ClientError> {
        let request = self.untimed(Method::GET, &["api", "v1", "engines", engine, "logs"])?;
        self.send(request.query(&[("previous", previous), ("follow", follow)])).await
    }

    /// Starts or stops an engine of an mcplocal; `action` is `start` or `stop`.
    pub async fn engine_action(&self, engine: &str, action: &str) -> Result<EngineStatus, ClientError> {
        self.read(self.untimed(Method::POST, &["api", "v1", "engines", engine, action])?).await
    }

    /// Makes a new local key for an mcplocal; the old one is refused from then on.
    pub async fn rotate_local_key(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["api", "v1", "local-key", "rotate"])?).await.map(drop)
    }

    /// Changes as server-sent events; resumable by the revision of the last event.
    pub async fn watch(&self, kinds: &[Kind], since: Option<Revision>) -> Result<Response, ClientError> {
        let kinds = kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(",");
        let mut request = self.untimed(Method::GET, &["api", "v1", "watch"])?.query(&[("kinds", kinds)]);
        if let Some(Revision(since)) = since {
            request = request.query(&[("since", since)]);
        }
        self.send(request).await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["openapi.json"])?).await
    }

    /// Asks a model; the answer streams.
    pub async fn chat(&self, chat: &ChatRequest) -> Result<ChatStream, ClientError> {
        #[derive(Serialize)]
        struct Streamed<'a> {
            #[serde(flatten)]
            chat: &'a ChatRequest,
            stream: bool,
            stream_options: Value,
        }
        let body = Streamed { chat, stream: true, stream_options: json!({"include_usage": true}) };
        let request = self.untimed(Method::POST, &["v1", "chat", "completions"])?.json(&body);
        self.send(request).await.map(ChatStream::new)
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
        // An error whose words are cut off is still an error with a status.
        let body = self.body(answer, MAX_ERROR).await.unwrap_or_default();
        match ErrorResponse::read(status, &headers, &body) {
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
        let body = tokio::time::timeout(self.timeout, self.body(answer, MAX_ANSWER)).await;
        let body = body.map_err(|_| self.unreadable("it does not end".to_owned()))??;
        serde_json::from_slice(&body).map_err(|error| self.unreadable(one_line(&error.to_string())))
    }

    async fn changed(&self, request: RequestBuilder) -> Result<Changed, ClientError> {
        /// What is shown to a writer who may not view the resource, and more where they may.
        #[derive(serde::Deserialize)]
        struct Written {
            kind: Kind,
            name: Name,
            revision: Revision,
        }
        let answer = self.send(request).await?;
        let warnings = warnings(&answer);
        let Written { kind, name, revision } = self.json(answer).await?;
        Ok(Changed { kind, name, revision, warnings })
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

fn warnings(answer: &Response) -> Vec<String> {
    let warnings = answer.headers().get_all(header::WARNING).iter();
    // mcpd puts all of them into one header.
    let texts = warnings.filter_map(|warning| warning.to_str().ok());
    texts.flat_map(|text| text.split("; ")).map(str::to_owned).collect()
}

/// Which resource a change left, and what the writer should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The revision of the change.
    pub revision: Revision,
    /// E.g. that a credential was detached.
    pub warnings: Vec<String>,
}

fn authorization(bearer: &SecretString) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret()));
    let mut value = value.map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn if_match(request: RequestBuilder, expected: Option<Revision>) -> RequestBuilder {
    match expected {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => request,
    }
}
