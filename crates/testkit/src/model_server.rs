//! A model server with OpenAI's, Azure's and Anthropic's routes on a free loopback port. It follows a test's script, faults included, and records
//! every request. It is a real HTTP server: a client sees a reset or a cut body as it would from a real one. It has no model.

mod messages;
mod reply;
mod responses;
mod serve;
mod wire;

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, sync::watch, task::JoinHandle};

pub use self::reply::{Fault, Gate, Pause, Reply};
use self::wire::Route;
use crate::TIMEOUT;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// The method.
    pub method: Method,
    /// The path, with the query where there is one.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl RecordedRequest {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the recorded body is JSON")
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    /// Bound and never listening: keeps the port while the server refuses connections.
    _reserved: TcpSocket,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    counts: watch::Sender<Counts>,
    requests: Mutex<Vec<RecordedRequest>>,
}

/// Chooses the reply to a request.
type Choose = dyn Fn(&RecordedRequest) -> Reply + Send + Sync;

/// What answers a request that finds the queue empty.
#[derive(Clone)]
enum Answerer {
    Always(Box<Reply>),
    Chosen(Arc<Choose>),
}

impl fmt::Debug for Answerer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(reply) => reply.fmt(formatter),
            Self::Chosen(_) => formatter.write_str("chosen by request"),
        }
    }
}

#[derive(Debug)]
struct Script {
    queue: VecDeque<Reply>,
    default: Answerer,
    key: Option<String>,
    lists_openly: bool,
    counts: bool,
    health: StatusCode,
    models: Vec<String>,
    rejection: (StatusCode, Bytes),
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    connections: usize,
    requests: usize,
    disconnects: usize,
    completed: usize,
    /// Set while the server itself closes connections.
    stopping: bool,
}

impl ModelServer {
    /// Starts a server that answers every request.
    pub async fn start() -> Self {
        Self::with_default(Reply::default()).await
    }

    /// Starts a server with another default reply.
    pub async fn with_default(default: Reply) -> Self {
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let script = Script {
            queue: VecDeque::new(),
            default: Answerer::Always(Box::new(default)),
            key: None,
            lists_openly: false,
            counts: false,
            health: StatusCode::OK,
            models: vec!["test-model".into()],
            rejection: (StatusCode::UNAUTHORIZED, Bytes::from_static(br#"{"error":"Unauthorized"}"#)),
        };
        let mut server = Self {
            address: reserved.local_addr().unwrap(),
            _reserved: reserved,
            shared: Arc::new(Shared {
                script: Mutex::new(script),
                counts: watch::Sender::default(),
                requests: Mutex::default(),
            }),
            accepting: None,
        };
        server.listen();
        server
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL for OpenAI clients, `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Queues the reply to the next request for inference that has none yet.
    pub fn queue(&self, reply: Reply) {
        self.shared.script.lock().unwrap().queue.push_back(reply);
    }

    /// Replaces the replies that wait in the queue.
    pub fn replace_queue(&self, replies: Vec<Reply>) {
        self.shared.script.lock().unwrap().queue = replies.into();
    }

    /// Sets the reply for requests that find the queue empty.
    pub fn set_default(&self, reply: Reply) {
        self.shared.script.lock().unwrap().default = Answerer::Always(Box::new(reply));
    }

    /// Chooses the reply for requests that find the queue empty by what each of them asks.
    pub fn answer_with(&self, choose: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) {
        self.shared.script.lock().unwrap().default = Answerer::Chosen(Arc::new(choose));
    }

    /// Rejects requests without this key, as a bearer or in `x-api-key` or `api-key`.
    pub fn require_key(&self, key: &str) {
        self.shared.script.lock().unwrap().key = Some(key.to_owned());
    }

    /// Answers a request with another key like this; with 401 and `Unauthorized` otherwise.
    pub fn reject_keys_with(&self, status: u16, body: &Value) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.shared.script.lock().unwrap().rejection = (status, body.to_string().into());
    }

    /// Lists its models for everyone, as routers do, whatever key it requires otherwise.
    pub fn list_openly(&self) {
        self.shared.script.lock().unwrap().lists_openly = true;
    }

    /// Has a route that counts tokens by Anthropic's API, which misses the fields of an empty request. By default no program
    /// that asks finds one.
    pub fn count_tokens(&self) {
        self.shared.script.lock().unwrap().counts = true;
    }

    /// Sets the status of `/health`.
    pub fn set_health(&self, status: u16) {
        self.shared.script.lock().unwrap().health = StatusCode::from_u16(status).unwrap();
    }

    /// Sets the models that `/v1/models` lists.
    pub fn set_models(&self, models: &[&str]) {
        self.shared.script.lock().unwrap().models = models.iter().map(|&model| model.to_owned()).collect();
    }

    /// Every request so far, in order of arrival, those for health and models included.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests for inference so far, without those that only ask whether there is a route.
    pub fn inferences(&self) -> Vec<RecordedRequest> {
        let is_inference =
            |request: &RecordedRequest| route_of(&request.path).is_some() && request.body != NO_FIELDS;
        self.requests().into_iter().filter(is_inference).collect()
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        self.shared.counts.borrow().connections
    }

    /// The number of requests whose client left before the reply was complete.
    pub fn disconnects(&self) -> usize {
        self.shared.counts.borrow().disconnects
    }

    /// The number of complete replies.
    pub fn completed(&self) -> usize {
        self.shared.counts.borrow().completed
    }

    /// Waits until that many requests have arrived in all.
    pub async fn wait_for_requests(&self, count: usize) {
        self.wait_for("requests", |counts| counts.requests >= count).await;
    }

    /// Waits until that many clients have left in all.
    pub async fn wait_for_disconnects(&self, count: usize) {
        self.wait_for("disconnects", |counts| counts.disconnects >= count).await;
    }

    async fn wait_for(&self, what: &str, reached: impl Fn(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        let reached = tokio::time::timeout(TIMEOUT, counts.wait_for(reached)).await;
        assert!(reached.is_ok(), "{what} not seen in {TIMEOUT:?}: {:?}", self.shared.counts.borrow());
    }

    /// Closes every connection and refuses new ones, until [`ModelServer::listen`].
    pub async fn refuse(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            self.shared.counts.send_modify(|counts| counts.stopping = true);
            accepting.abort();
            let _ = accepting.await;
        }
    }

    /// Listens (again) on its port.
    pub fn listen(&mut self) {
        if self.accepting.is_some() {
            return;
        }
        self.shared.counts.send_modify(|counts| counts.stopping = false);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        self.accepting = Some(tokio::spawn(serve::accept(listener, Arc::clone(&self.shared))));
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            self.shared.counts.send_modify(|counts| counts.stopping = true);
            accepting.abort();
        }
    }
}

impl Script {
    fn next(&mut self, request: &RecordedRequest) -> Reply {
        self.queue.pop_front().unwrap_or_else(|| match &self.default {
            Answerer::Always(reply) => (**reply).clone(),
            Answerer::Chosen(choose) => choose(request),
        })
    }

    fn rejection(&self, headers: &HeaderMap) -> Option<(StatusCode, Bytes)> {
        let key = self.key.as_ref()?;
        let bearer = format!("Bearer {key}");
        let is = |name, expected: &str| {
            headers.get(name).is_some_and(|value| value.as_bytes() == expected.as_bytes())
        };
        let accepted = is("authorization", &bearer) || is("x-api-key", key) || is("api-key", key);
        (!accepted).then(|| self.rejection.clone())
    }

    fn empty_request(&self, route: Route) -> (StatusCode, Bytes) {
        let missing = br#"{"error":{"message":"'messages' is required","type":"invalid_request_error"}}"#;
        match route {
            Route::CountTokens if !self.counts => {
                (StatusCode::NOT_FOUND, Bytes::from_static(br#"{"error":{"message":"no such route"}}"#))
            }
            _ => (StatusCode::BAD_REQUEST, Bytes::from_static(missing)),
        }
    }

    fn other_route(&self, method: &Method, path: &str, headers: &HeaderMap) -> (StatusCode, Bytes) {
        let path = path.split('?').next().unwrap_or(path);
        let is_list = ["/v1/models", "/openai/v1/models", "/openai/models"].contains(&path);
        match (method, path) {
            (&Method::GET, "/health") => (self.health, Bytes::from_static(br#"{"status":"ok"}"#)),
            (&Method::GET, _) if is_list => {
                if let Some(rejection) = self.rejection(headers).filter(|_| !self.lists_openly) {
                    return rejection;
                }
                let data: Vec<_> = self
                    .models
                    .iter()
                    .map(|id| json!({ "id": id, "object": "model", "owned_by": "testkit" }))
                    .collect();
                (StatusCode::OK, json!({ "object": "list", "data": data }).to_string().into())
            }
            _ => (StatusCode::NOT_FOUND, Bytes::from_static(br#"{"error":{"message":"no such route"}}"#)),
        }
    }
}

/// The body of a request that asks whether there is a route.
const NO_FIELDS: &str = "{}";

/// The route of a path, with or without `/v1`, or below Azure's bases: the recorded path shows which one the client chose.
fn route_of(path: &str) -> Option<Route> {
    let path = path.split('?').next().unwrap_or(path);
    let path = path.strip_prefix("/openai").unwrap_or(path);
    let path = match path.strip_prefix("/deployments/").and_then(|rest| rest.find('/').map(|at| &rest[at..]))
    {
        Some(operation) => operation,
        None => path.strip_prefix("/v1").unwrap_or(path),
    };
    match path {
        "/chat/completions" => Some(Route::Chat),
        "/completions" => Some(Route::Completions),
        "/embeddings" => Some(Route::Embeddings),
        "/responses" => Some(Route::Responses),
        "/messages" => Some(Route::Messages),
        "/messages/count_tokens" => Some(Route::CountTokens),
        _ => None,
    }
}
