//! The id, the dialect, the spans and the access line of the current request, for everything that is polled or dropped as a
//! part of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcpctl_dialect::Dialect;
use tracing::{Instrument as _, Span};

use crate::access_line::AccessLine;

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
    line: Arc<Mutex<AccessLine>>,
}

impl RequestScope {
    /// The scope of a request that has arrived.
    pub(crate) fn new(id: &str, dialect: Dialect) -> Self {
        Self { id: id.into(), dialect, line: Arc::default() }
    }

    fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| Self::new("", Dialect::Openai))
    }

    /// What handlers added for the access log so far.
    pub(crate) fn line(&self) -> MutexGuard<'_, AccessLine> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a future as this request.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), future)
    }

    /// Runs a function as a part of this request.
    pub(crate) fn within<T>(&self, span: &Span, traced: &mcpctl_trace::Span, run: impl FnOnce() -> T) -> T {
        traced.in_scope(|| span.in_scope(|| CURRENT.sync_scope(self.clone(), run)))
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

/// Adds to the access log's line of the current request; a no-op outside of one.
pub fn access_line(add: impl FnOnce(&mut AccessLine)) {
    // Outside of a request nothing is written, and the future that asks has no error to report.
    let _ = CURRENT.try_with(|scope| add(&mut scope.line()));
}

/// Keeps the current request's scope and spans for a future that is polled elsewhere: a body is polled when the request's own
/// future has ended.
pub fn in_request_scope<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let future = mcpctl_trace::Span::current().around(future);
    RequestScope::current().run(future.in_current_span())
}
