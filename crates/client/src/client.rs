//! Requests and answers of mcpd, typed.

use std::time::Duration;

use mcpctl_api::{
    ApiError, Document, Kind, Resource, Revision,
    question::{
        ApplyReport, CanI, CanIAnswer, IssuedToken, List, LoginRequest, TokenRequest, WhoAmI, WhoCan,
    },
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue, IF_MATCH},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use crate::{probe::reason, stream::ChatStream};

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Until the connection stands.
    pub connect: Duration,
    /// For everything but chat, in all.
    pub total: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), total: Duration::from_secs(30) }
    }
}

/// A client of one mcpd, or of an mcplocal, which speaks the same inference API.
#[derive(Debug, Clone)]
pub struct Client {
    server: Url,
    bearer: Option<SecretString>,
    http: reqwest::Client,
    total: Duration,
}

/// A request to a model.
#[derive(Debug, Clone, Serialize)]
pub struct Chat {
    /// The Llm's name.
    pub model: String,
    /// `{role, content}` each.
    pub messages: Vec<Value>,
}

/// Why an answer was not what was asked for. One line, without addresses' credentials and without tokens.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server refused.
    #[error("{error}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// And these words.
        error: Box<ApiError>,
    },
    /// The answer is none of mcpd's.
    #[error("{server} gave an answer that is not mcpd's: {reason}")]
    Unreadable {
        /// The address.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The client cannot work.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

impl ClientError {
    pub(crate) fn setup(error: reqwest::Error) -> Self {
        Self::Setup(reason(&error))
    }

    /// The next step for a person, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("check the address, and that mcpd runs there".to_owned()),
            Self::Refused { error, .. } => error.error.hint.clone(),
            Self::Unreadable { .. } => Some("check the address: is it mcpd that answers there?".to_owned()),
            Self::Setup(_) => None,
        }
    }

    /// The status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The field that the server found wrong.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Refused { error, .. } => error.error.param.as_deref(),
            _ => None,
        }
    }
}

impl Client {
    /// A client of the server at this address.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(server: Url, bearer: Option<SecretString>, options: &Options) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(options.connect)
            .tcp_nodelay(true)
            .user_agent(concat!("mcpctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::setup)?;
        Ok(Self { server, bearer, http, total: options.total })
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
        let mut request = self.request(Method::GET, &["api", "v1", kind.plural()]);
        if let Some(selector) = selector {
            request = request.query(&[("labelSelector", selector)]);
        }
        self.read(request).await
    }

    /// One resource, by id or name.
    pub async fn get(&self, kind: Kind, id_or_name: &str) -> Result<Resource, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", kind.plural(), id_or_name])).await
    }

    /// Makes a resource.
    pub async fn create(&self, document: &Document) -> Result<Changed, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", document.kind().plural()]);
        self.changed(request.json(document)).await
    }

    /// Replaces a resource, where `expected` is given only at that revision.
    pub async fn put(
        &self,
        id_or_name: &str,
        document: &Document,
        expected: Option<Revision>,
    ) -> Result<Changed, ClientError> {
        let request = self.request(Method::PUT, &["api", "v1", document.kind().plural(), id_or_name]);
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
        let request = self.request(Method::PATCH, &["api", "v1", kind.plural(), id_or_name]);
        self.changed(if_match(request, expected).json(patch)).await
    }

    /// Removes a resource.
    pub async fn delete(
        &self,
        kind: Kind,
        id_or_name: &str,
        expected: Option<Revision>,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &["api", "v1", kind.plural(), id_or_name]);
        self.send(if_match(request, expected)).await.map(drop)
    }

    /// Makes or changes all documents, or none.
    pub async fn apply(&self, documents: &[&Document], dry_run: bool) -> Result<ApplyReport, ClientError> {
        let request = self.request(Method::POST, &["api", "v1", "apply"]);
        self.read(request.query(&[("dryRun", dry_run)]).json(&documents)).await
    }

    /// Makes a token; the answer is the only one that holds it.
    pub async fn create_token(&self, wanted: &TokenRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "tokens"]).json(wanted)).await
    }

    /// Exchanges a password for a token.
    pub async fn login(&self, login: &LoginRequest) -> Result<IssuedToken, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "login"]).json(login)).await
    }

    /// Ends the session of this client's token.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, &["api", "v1", "auth", "logout"])).await.map(drop)
    }

    /// Who is calling.
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.read(self.request(Method::GET, &["api", "v1", "auth", "whoami"])).await
    }

    /// Whether the caller may do something, and why.
    pub async fn can_i(&self, question: &CanI) -> Result<CanIAnswer, ClientError> {
        self.read(self.request(Method::POST, &["api", "v1", "auth", "can-i"]).json(question)).await
    }

    /// Who may do something, and why.
    pub async fn who_can(&self, verb: &str, kind: &str, name: &str) -> Result<WhoCan, ClientError> {
        let request = self.request(Method::GET, &["api", "v1", "auth", "who-can"]);
        self.read(request.query(&[("verb", verb), ("kind", kind), ("name", name)])).await
    }

    /// The models that the caller may run, as OpenAI lists them.
    pub async fn models(&self) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["v1", "models"])).await
    }

    /// What `GET /status` of an mcplocal says.
    pub async fn local_status(&self) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["status"])).await
    }

    /// The log of an engine of an mcplocal, as it comes.
    pub async fn engine_logs(
        &self,
        engine: &str,
        previous: bool,
        follow: bool,
    ) -> Result<Response, ClientError> {
        let request = self.untimed(Method::GET, &["api", "v1", "engines", engine, "logs"]);
        self.send(request.query(&[("previous", previous), ("follow", follow)])).await
    }

    /// Starts or stops an engine of an mcplocal; `action` is `start` or `stop`.
    pub async fn engine_action(&self, engine: &str, action: &str) -> Result<Value, ClientError> {
        self.read(self.untimed(Method::POST, &["api", "v1", "engines", engine, action])).await
    }

    /// Changes as server-sent events; resumable by the revision of the last event.
    pub async fn watch(&self, kinds: &[Kind], since: Option<Revision>) -> Result<Response, ClientError> {
        let kinds = kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(",");
        let mut request = self.untimed(Method::GET, &["api", "v1", "watch"]).query(&[("kinds", kinds)]);
        if let Some(Revision(since)) = since {
            request = request.query(&[("since", since)]);
        }
        self.send(request).await
    }

    /// The OpenAPI document.
    pub async fn openapi(&self) -> Result<Value, ClientError> {
        self.read(self.request(Method::GET, &["openapi.json"])).await
    }

    /// Asks a model; the answer streams.
    pub async fn chat(&self, chat: &Chat) -> Result<ChatStream, ClientError> {
        let body = json!({
            "model": chat.model,
            "messages": chat.messages,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let request = self.untimed(Method::POST, &["v1", "chat", "completions"]).json(&body);
        self.send(request).await.map(ChatStream::new)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.untimed(method, path).timeout(self.total)
    }

    fn untimed(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.server.clone();
        // Segments are encoded one by one, so a name cannot reach into another path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match &self.bearer {
            None => request,
            Some(bearer) => match HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret())) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.header(AUTHORIZATION, value)
                }
                // Sent without, and refused by the server with words that fit.
                Err(_) => request,
            },
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = request.send().await.map_err(|error| ClientError::Unreachable {
            server: self.name(),
            reason: reason(&error.without_url()),
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => Err(ClientError::Refused { status, error: Box::new(error) }),
            Err(_) => Err(self.unreadable(format!("status {status}"))),
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let body = self.send(request).await?.bytes().await;
        let body = body.map_err(|error| self.unreadable(reason(&error.without_url())))?;
        serde_json::from_slice(&body).map_err(|error| self.unreadable(error.to_string()))
    }

    async fn changed(&self, request: RequestBuilder) -> Result<Changed, ClientError> {
        let answer = self.send(request).await?;
        let warnings = answer.headers().get_all("mcpctl-warning").iter();
        let warnings = warnings.filter_map(|w| w.to_str().ok().map(str::to_owned)).collect();
        let body = answer.bytes().await.map_err(|error| self.unreadable(reason(&error.without_url())))?;
        let resource = serde_json::from_slice(&body).map_err(|error| self.unreadable(error.to_string()))?;
        Ok(Changed { resource, warnings })
    }

    fn unreadable(&self, reason: String) -> ClientError {
        ClientError::Unreadable { server: self.name(), reason }
    }

    fn name(&self) -> String {
        self.server.as_str().trim_end_matches('/').to_owned()
    }
}

/// A resource as it is after a change, and what the writer should know.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The resource.
    pub resource: Resource,
    /// E.g. that a credential was detached.
    pub warnings: Vec<String>,
}

fn if_match(request: RequestBuilder, expected: Option<Revision>) -> RequestBuilder {
    match expected {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => request,
    }
}
