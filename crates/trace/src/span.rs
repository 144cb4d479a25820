//! Spans: one per request at a daemon, one per request that it sends. A span costs nothing while none are exported.

use std::{borrow::Cow, future::Future, sync::OnceLock};

use futures::future::Either;
use opentelemetry::{
    Context, KeyValue, Value,
    global::{self, BoxedTracer},
    trace::{
        FutureExt as _, SpanContext, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceState,
        Tracer as _,
    },
};

use crate::{
    Traceparent,
    attribute::{CACHED_TOKENS, ERROR_TYPE, INPUT_TOKENS, OUTPUT_TOKENS, REASONING_TOKENS},
};

/// The source of spans; empty while none are exported.
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// Makes spans from now on, by the global tracer provider, which is set before.
pub fn enable() {
    TRACER.get_or_init(|| global::tracer("mcpctl"));
}

/// A span of a trace, which ends when it is dropped; or none, while spans are not exported.
#[derive(Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// No span.
    pub const NONE: Self = Self(None);

    /// The span of a request that arrived, below the caller's span.
    ///
    /// The sampler alone decides whether it is recorded. With the default sampler, a caller's flag has no influence on that.
    pub fn server(name: impl FnOnce() -> String, parent: Option<Traceparent>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::NONE };
        let parent = parent.map_or_else(Context::new, |parent| {
            let remote = SpanContext::new(
                parent.trace_id.into(),
                parent.parent_id.into(),
                TraceFlags::default().with_sampled(parent.sampled),
                true,
                TraceState::NONE,
            );
            Context::new().with_remote_span_context(remote)
        });
        Self::start(tracer, name().into(), SpanKind::Server, &parent)
    }

    /// The span of a request to another server, below the current span; none where there is no current span.
    pub fn client(name: impl FnOnce() -> Cow<'static, str>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::NONE };
        let parent = Context::current();
        if !parent.span().span_context().is_valid() {
            return Self::NONE;
        }
        Self::start(tracer, name(), SpanKind::Client, &parent)
    }

    fn start(tracer: &BoxedTracer, name: Cow<'static, str>, kind: SpanKind, parent: &Context) -> Self {
        let span = tracer.span_builder(name).with_kind(kind).start_with_context(tracer, parent);
        Self(Some(parent.with_span(span)))
    }

    /// Whether there is a span, recorded or not.
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether attributes of the span are kept.
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|context| context.span().is_recording())
    }

    /// The position for the next server.
    pub fn traceparent(&self) -> Option<Traceparent> {
        let context = self.0.as_ref()?;
        let span = context.span();
        let position = span.span_context();
        Some(Traceparent {
            trace_id: u128::from_be_bytes(position.trace_id().to_bytes()),
            parent_id: u64::from_be_bytes(position.span_id().to_bytes()),
            sampled: position.is_sampled(),
        })
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(context) = self.0.as_ref().filter(|context| context.span().is_recording()) {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Sets an attribute that counts something.
    pub fn count(&self, key: &'static str, count: u64) {
        self.set(key, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the tokens that the answering model counted.
    pub fn usage(&self, input: u64, output: u64, cached: u64, reasoning: u64) {
        let counts = [
            (INPUT_TOKENS, input),
            (OUTPUT_TOKENS, output),
            (CACHED_TOKENS, cached),
            (REASONING_TOKENS, reasoning),
        ];
        for (key, count) in counts {
            self.count(key, count);
        }
    }

    /// Marks the span as failed; `error` is a failure class or a status.
    pub fn fail(&self, error: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            let error = error.into();
            context.span().set_attribute(KeyValue::new(ERROR_TYPE, error));
            context.span().set_status(Status::error(""));
        }
    }

    /// Runs a function with this span as the current one.
    pub fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        let _entered = self.0.clone().map(Context::attach);
        run()
    }

    /// Polls a future with this span as the current one.
    pub fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        match self.0.clone() {
            Some(context) => Either::Left(future.with_context(context)),
            None => Either::Right(future),
        }
    }

    /// The current span's context, for a future that is polled elsewhere.
    pub fn current() -> Self {
        match TRACER.get() {
            Some(_) => Self(Some(Context::current()).filter(Context::has_active_span)),
            None => Self::NONE,
        }
    }

    /// Ends the span, though other parts of its request still hold it.
    pub fn end(&self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}
