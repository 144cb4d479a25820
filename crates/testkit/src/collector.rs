//! An OpenTelemetry collector on a free loopback port: accepts OTLP over HTTP with protobuf and keeps the spans.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::daemons::eventually;

/// A span as it arrived.
#[derive(Debug, Clone)]
pub struct RecordedSpan {
    /// The `service.name` of the program.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits; empty for a root.
    pub parent_id: String,
    /// 2 for a server, 3 for a client.
    pub kind: i32,
    /// Texts as they are, other values printed.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub failed: bool,
    /// From its start to its end, nanoseconds.
    pub took_ns: u64,
}

impl RecordedSpan {
    /// An attribute; empty where it is absent.
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector; it stops when dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    spans: Mutex<Vec<RecordedSpan>>,
    heads: Mutex<Vec<HeaderMap>>,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The headers of all exports so far.
    pub fn heads(&self) -> Vec<HeaderMap> {
        self.shared.heads.lock().unwrap().clone()
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<RecordedSpan> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// The spans of a trace, once there are at least `count`.
    pub async fn trace(&self, trace_id: &str, count: usize) -> Vec<RecordedSpan> {
        let of_trace = || {
            let spans = self.spans().into_iter().filter(|span| span.trace_id == trace_id);
            spans.collect::<Vec<_>>()
        };
        eventually("the spans of the trace arrived", async || (of_trace().len() >= count).then(of_trace))
            .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { export(&shared, request).await }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn export(shared: &Shared, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let is_export = head.method == Method::POST && head.uri.path() == "/v1/traces";
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let mut answer = Response::new(Full::default());
    match ExportTraceServiceRequest::decode(body) {
        Ok(export) if is_export => {
            shared.heads.lock().unwrap().push(head.headers);
            shared.spans.lock().unwrap().extend(spans(export));
        }
        _ => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}

fn spans(export: ExportTraceServiceRequest) -> impl Iterator<Item = RecordedSpan> {
    export.resource_spans.into_iter().flat_map(|of_resource| {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        let service = resource.get("service.name").cloned().unwrap_or_default();
        let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.map(move |span| RecordedSpan {
            service: service.clone(),
            name: span.name,
            trace_id: hex(&span.trace_id),
            span_id: hex(&span.span_id),
            parent_id: hex(&span.parent_span_id),
            kind: span.kind,
            attributes: attributes(span.attributes),
            failed: span.status.is_some_and(|status| status.code == 2),
            took_ns: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
        })
    })
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
