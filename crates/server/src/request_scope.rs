//! The id and the span of the current request, for everything that is polled or dropped as a part of it.

use std::sync::Arc;

use tracing::{Instrument as _, Span};

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The id of the current request; empty outside of one.
pub fn request_id() -> String {
    CURRENT.try_with(|id| id.to_string()).unwrap_or_default()
}

/// Keeps the current request's id and span for a future that is polled elsewhere: a body is polled when the request's own
/// future has ended.
pub fn in_request_scope<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let id = CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Arc::from(""));
    CURRENT.scope(id, future.in_current_span())
}

/// Runs a future as a request with this id.
pub(crate) fn with_id<F: Future>(id: Arc<str>, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, future)
}

/// Runs a function as a part of a request.
pub(crate) fn within_request<T>(id: &Arc<str>, span: &Span, run: impl FnOnce() -> T) -> T {
    span.in_scope(|| CURRENT.sync_scope(Arc::clone(id), run))
}
