//! One attempt as a client span of the request's trace: it begins with the attempt, ends with the last byte of a stream, and is
//! the parent that is sent to the upstream. Without a current span, an attempt is made as it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use mcpctl_dialect::{EventMeaning, usage::Usage};
use mcpctl_failover::FailureClass;
use mcpctl_trace::{Span, attribute};
use tokio::time::Instant;

use crate::{
    Answer, Api, Client, Failure, Request, StreamAnswer, StreamEvent, StreamEvents, Target, UpstreamKind,
    attempt,
};

/// Makes one attempt, as a span where the current request has one.
///
/// # Errors
/// As [`attempt::send`].
pub async fn send(client: &Client, target: &Target, request: &Request) -> Result<Answer, Failure> {
    let span = begin(target, request);
    if !span.is_some() {
        return attempt::send(client, target, request).await;
    }
    let mut request = request.clone();
    name_parent(&span, &mut request.headers);
    let (begun, streams) = (Instant::now(), request.stream);
    match span.around(attempt::send(client, target, &request)).await {
        Ok(Answer::Whole(whole)) => {
            span.count(attribute::HTTP_STATUS, whole.status.as_u16().into());
            describe(&span, whole.model.as_deref(), whole.usage.as_ref());
            span.end();
            Ok(Answer::Whole(whole))
        }
        Ok(Answer::Stream(stream)) => {
            span.count(attribute::HTTP_STATUS, stream.status.as_u16().into());
            span.set(attribute::TIME_TO_FIRST_CHUNK, begun.elapsed().as_secs_f64());
            Ok(Answer::Stream(traced(stream, span)))
        }
        Err(failure) => {
            if let Some(status) = failure.status {
                span.count(attribute::HTTP_STATUS, status.as_u16().into());
            }
            span.set(attribute::REQUEST_STREAM, streams);
            span.fail(failure.class.as_str());
            span.end();
            Err(failure)
        }
    }
}

fn begin(target: &Target, request: &Request) -> Span {
    let operation = request.operation.genai_name();
    let model = target.model.as_deref();
    let span = Span::client(|| match model {
        Some(model) => format!("{operation} {model}").into(),
        None => operation.into(),
    });
    if span.is_recording() {
        span.set(attribute::OPERATION, operation);
        span.set(attribute::PROVIDER, provider(target));
        if let Some(model) = model {
            span.set(attribute::REQUEST_MODEL, model.to_owned());
        }
        if request.stream {
            span.set(attribute::REQUEST_STREAM, true);
        }
        if let Some(host) = target.base_url.host_str() {
            span.set(attribute::SERVER_ADDRESS, host.to_owned());
        }
        if let Some(port) = target.base_url.port_or_known_default() {
            span.count(attribute::SERVER_PORT, port.into());
        }
    }
    span
}

/// `gen_ai.provider.name`, which names the API.
fn provider(target: &Target) -> &'static str {
    match (target.kind, &target.api) {
        (UpstreamKind::Mcpd, _) => "mcpctl",
        (UpstreamKind::Provider, Api::Openai) => "openai",
        (UpstreamKind::Provider, Api::Anthropic) => "anthropic",
        (UpstreamKind::Provider, Api::AzureOpenai { .. }) => "azure.ai.openai",
    }
}

/// Puts the attempt into the `traceparent` in place of the request; `tracestate` stays.
fn name_parent(span: &Span, headers: &mut HeaderMap) {
    if let Some(position) = span.traceparent() {
        position.write(headers, true);
    }
}

fn describe(span: &Span, model: Option<&str>, usage: Option<&Usage>) {
    if let Some(model) = model {
        span.set(attribute::RESPONSE_MODEL, mcpctl_api::visible::short(model, MAX_MODEL_BYTES));
    }
    if let Some(usage) = usage {
        span.usage(
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.reasoning_tokens,
        );
    }
}

/// Longest name of a model that an answer may give itself in a span, in bytes.
const MAX_MODEL_BYTES: usize = 200;

/// The stream, with its span until its end.
fn traced(stream: StreamAnswer, span: Span) -> StreamAnswer {
    let StreamAnswer { status, headers, held, rest } = stream;
    let mut rest = TracedEvents { rest, span, model: None, usage: None, ended: false };
    held.iter().for_each(|event| rest.see(event));
    StreamAnswer { status, headers, held, rest: StreamEvents::new(rest) }
}

struct TracedEvents {
    rest: StreamEvents,
    span: Span,
    model: Option<String>,
    usage: Option<Usage>,
    ended: bool,
}

impl TracedEvents {
    fn see(&mut self, event: &StreamEvent) {
        let event = &event.event;
        self.usage = event.usage.or(self.usage);
        if self.model.is_none() {
            self.model.clone_from(&event.model);
        }
        if event.meaning == EventMeaning::Done {
            self.end(None);
        }
    }

    fn end(&mut self, failure: Option<FailureClass>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let usage = self.usage.and_then(Usage::plausible);
        describe(&self.span, self.model.as_deref(), usage.as_ref());
        if let Some(class) = failure {
            self.span.fail(class.as_str());
        }
        self.span.end();
    }
}

impl Stream for TracedEvents {
    type Item = Result<StreamEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.rest.poll_next_unpin(context);
        match &polled {
            Poll::Ready(Some(Ok(event))) => self.see(event),
            Poll::Ready(Some(Err(failure))) => self.end(Some(failure.class)),
            Poll::Ready(None) => self.end(None),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for TracedEvents {
    fn drop(&mut self) {
        // Dropped before its end, because the caller has left.
        self.end(Some(FailureClass::Cancelled));
    }
}
