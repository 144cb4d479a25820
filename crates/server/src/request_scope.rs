//! The id, the dialect and the span of the current request, for everything that is polled or dropped as a part of it.

use std::sync::Arc;

use mcpctl_dialect::Dialect;
use tracing::{Instrument as _, Span};

tokio::task_local! {
    static CURRENT: RequestScope;
}

/// What is known of a request everywhere within it.
#[derive(Debug, Clone)]
pub(crate) struct RequestScope {
    /// Its id.
    pub(crate) id: Arc<str>,
    /// The dialect that its caller speaks.
    pub(crate) dialect: Dialect,
}

impl RequestScope {
    fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self { id: Arc::from(""), dialect: Dialect::Openai })
    }

    /// Runs a future as this request.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), future)
    }

    /// Runs a function as a part of this request.
    pub(crate) fn within<T>(&self, span: &Span, run: impl FnOnce() -> T) -> T {
        span.in_scope(|| CURRENT.sync_scope(self.clone(), run))
    }
}

/// The id of the current request; empty outside of one.
pub fn request_id() -> String {
    CURRENT.try_with(|scope| scope.id.to_string()).unwrap_or_default()
}

/// The dialect that the caller of the current request speaks; OpenAI's outside of one.
pub fn caller_dialect() -> Dialect {
    CURRENT.try_with(|scope| scope.dialect).unwrap_or(Dialect::Openai)
}

/// Keeps the current request's id, dialect and span for a future that is polled elsewhere: a body is polled when the
/// request's own future has ended.
pub fn in_request_scope<F: Future>(future: F) -> impl Future<Output = F::Output> {
    RequestScope::current().run(future.in_current_span())
}
