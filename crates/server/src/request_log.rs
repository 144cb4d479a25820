//! The access log: one line per request, written when the last byte of its answer is out or the caller has left. The layer
//! knows the head of the request and what the answer's headers show; handlers add the rest (`access_line`). There is no
//! path, query, header value, prompt or credential in it.

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use mcpctl_api::{
    header::{ATTEMPTS, FAILOVER, FAILURE, SERVED_BY},
    visible::{short, shown},
};
use mcpctl_trace::attribute;
use tokio::time::Instant;

use crate::{access_line::AccessLine, request_scope::RequestScope};

/// Where the lines go in a filter of the log: `info,access=off` turns them off.
const TARGET: &str = "access";
/// Longest text of a field, in bytes: some come from callers.
const MAX_TEXT_BYTES: usize = 128;
/// The class of a request whose caller left before the last byte.
const CANCELLED: &str = "cancelled";

/// A request that has ended, for metrics.
#[derive(Debug)]
pub struct EndedRequest<'a> {
    /// What handlers knew of it.
    pub line: &'a AccessLine,
    /// The status of its answer; `None` where the caller left before there was one.
    pub status: Option<u16>,
    /// From its arrival to the last byte.
    pub took: Duration,
    /// From its arrival to the first byte of a stream; `None` for an answer that is none.
    pub stream_began: Option<Duration>,
}

/// What is called when a request has ended.
pub type OnEnd = Box<dyn FnOnce(&EndedRequest<'_>) + Send>;

/// A request from its arrival on; writes the line once, when it ends.
pub(crate) struct RequestLog {
    pub(crate) scope: RequestScope,
    pub(crate) span: mcpctl_trace::Span,
    started: Instant,
    status: Option<StatusCode>,
    first_byte: Option<Duration>,
    bytes_in: Option<u64>,
    bytes_out: u64,
    streams: bool,
    on_end: Option<OnEnd>,
    written: bool,
}

impl RequestLog {
    /// A request that has arrived now; `bytes_in` is the length of its body, where the head names it.
    pub(crate) fn begin(
        scope: RequestScope,
        span: mcpctl_trace::Span,
        bytes_in: Option<u64>,
        on_end: Option<OnEnd>,
    ) -> Self {
        Self {
            scope,
            span,
            started: Instant::now(),
            status: None,
            first_byte: None,
            bytes_in,
            bytes_out: 0,
            streams: false,
            on_end,
            written: false,
        }
    }

    /// Takes what the head of the answer shows.
    pub(crate) fn answered(&mut self, response: &Response) {
        self.status = Some(response.status());
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        self.streams = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let text = |name| Some(short(response.headers().get(name)?.to_str().ok()?, MAX_TEXT_BYTES));
        let mut line = self.scope.line();
        line.served_by = text(SERVED_BY).or(line.served_by.take());
        line.failover = text(FAILOVER).or(line.failover.take());
        line.class = text(FAILURE).map(Cow::Owned).or(line.class.take());
        line.attempts = text(ATTEMPTS).and_then(|count| count.parse().ok()).or(line.attempts);
    }

    /// Counts bytes of the answer as they go out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.first_byte.get_or_insert_with(|| self.started.elapsed());
        self.bytes_out = self.bytes_out.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The last byte is out.
    pub(crate) fn complete(&mut self) {
        self.write("answered");
    }

    fn write(&mut self, message: &'static str) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let line = std::mem::take(&mut *self.scope.line());
        self.end_span(&line);
        let took = self.started.elapsed();
        let status = self.status.map(|status| status.as_u16());
        if let Some(on_end) = self.on_end.take() {
            let stream_began = self.first_byte.filter(|_| self.streams);
            on_end(&EndedRequest { line: &line, status, took, stream_began });
        }
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        // Written in quotes, so that a name that a caller made up is no further field.
        fn text(text: Option<&str>) -> Option<Cow<'_, str>> {
            text.map(|text| shown(text, MAX_TEXT_BYTES))
        }
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (principal, llm) = (text(line.principal.as_deref()), text(line.llm.as_deref()));
        let (served_by, failover) = (text(line.served_by.as_deref()), text(line.failover.as_deref()));
        let (upstream, class) = (text(line.upstream.as_deref()), text(line.class.as_deref()));
        let usage = line.usage.as_ref();
        tracing::info!(
            target: TARGET,
            status,
            took_ms = milliseconds(took),
            first_byte_ms = self.first_byte.map(milliseconds),
            id = %self.scope.id,
            trace_id = %self.scope.trace_id,
            method = %self.scope.method,
            route = self.scope.route,
            principal = principal.as_deref(),
            operation = line.operation,
            llm = llm.as_deref(),
            served_by = served_by.as_deref(),
            upstream = upstream.as_deref(),
            class = class.as_deref(),
            failover = failover.as_deref(),
            attempts = line.attempts,
            input_tokens = usage.map(|usage| usage.input_tokens),
            output_tokens = usage.map(|usage| usage.output_tokens),
            cached_tokens = usage.map(|usage| usage.cached_input_tokens),
            reasoning_tokens = usage.map(|usage| usage.reasoning_tokens),
            cost = line.cost,
            captured = line.captured.then_some(true),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            "{message}"
        );
    }

    fn end_span(&self, line: &AccessLine) {
        if self.span.is_recording() {
            self.describe(line);
        }
        self.span.end();
    }

    fn describe(&self, line: &AccessLine) {
        let span = &self.span;
        span.set(attribute::REQUEST_ID, self.scope.id.clone());
        span.set(attribute::HTTP_METHOD, self.scope.method.to_string());
        span.set(attribute::HTTP_ROUTE, self.scope.route);
        if let Some(status) = self.status {
            span.count(attribute::HTTP_STATUS, status.as_u16().into());
        }
        let texts = [
            (attribute::ENDUSER, line.principal.as_deref()),
            (attribute::OPERATION, line.operation),
            (attribute::REQUEST_MODEL, line.llm.as_deref()),
            (attribute::SERVED_BY, line.served_by.as_deref()),
            (attribute::FAILOVER, line.failover.as_deref()),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                span.set(key, short(text, MAX_TEXT_BYTES));
            }
        }
        if let Some(attempts) = line.attempts {
            span.count(attribute::ATTEMPTS, attempts.into());
        }
        if let Some(usage) = &line.usage {
            span.usage(
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_input_tokens,
                usage.reasoning_tokens,
            );
        }
        if let Some(cost) = line.cost {
            span.set(attribute::COST, cost);
        }
        // A caller's mistake is no failure of the server (HTTP conventions): its class is an attribute all the same.
        let server_error = self.status.is_none_or(|status| status.is_server_error());
        match &line.class {
            Some(class) => span.fail(class.clone()),
            None if server_error => {
                span.fail(self.status.map_or(CANCELLED.to_owned(), |s| s.as_str().to_owned()))
            }
            None => {}
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if !self.written {
            self.scope.line().class.get_or_insert(Cow::Borrowed(CANCELLED));
            self.write("cancelled");
        }
    }
}
