//! What is known of the current request, for everything that is polled or dropped as a part of it: its id, its dialect, its line of
//! the access log, and the fields of every line that is logged meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::Method;
use mcpctl_dialect::Dialect;

use crate::access_line::AccessLine;

tokio::task_local! {
    static CURRENT: RequestScope;
}

/// What is known of a request everywhere within it.
#[derive(Debug, Clone)]
pub(crate) struct RequestScope(Arc<Known>);

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its id; empty outside of a request.
    pub(crate) id: String,
    pub(crate) trace_id: String,
    pub(crate) method: Method,
    /// The pattern of its route.
    pub(crate) route: &'static str,
    /// The dialect that its caller speaks.
    pub(crate) dialect: Dialect,
    line: Mutex<AccessLine>,
}

impl std::ops::Deref for RequestScope {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl RequestScope {
    /// The scope of a request that has arrived.
    pub(crate) fn new(
        id: String,
        trace_id: String,
        method: Method,
        route: &'static str,
        dialect: Dialect,
    ) -> Self {
        Self(Arc::new(Known { id, trace_id, method, route, dialect, line: Mutex::default() }))
    }

    fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_else(|_| {
            Self::new(String::new(), String::new(), Method::default(), "", Dialect::Openai)
        })
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
    pub(crate) fn within<T>(&self, traced: &mcpctl_trace::Span, run: impl FnOnce() -> T) -> T {
        traced.in_scope(|| CURRENT.sync_scope(self.clone(), run))
    }
}

/// The id of the current request; empty outside of one.
pub fn request_id() -> String {
    CURRENT.try_with(|scope| scope.id.clone()).unwrap_or_default()
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

/// Names the current request to `field`, by name and value, for a line that is logged; a no-op outside of one.
pub fn log_fields(field: &mut dyn FnMut(&'static str, &str)) {
    // Outside of a request there is nothing to name.
    let _ = CURRENT.try_with(|scope| {
        if scope.id.is_empty() {
            return;
        }
        field("id", &scope.id);
        field("trace_id", &scope.trace_id);
        field("method", scope.method.as_str());
        field("route", scope.route);
        // Locked where the line is logged by what adds to it.
        if let Ok(line) = scope.line.try_lock()
            && let Some(principal) = &line.principal
        {
            field("principal", principal);
        }
    });
}

/// Keeps the current request's scope and span for a future that is polled elsewhere: a body is polled when the request's own
/// future has ended.
pub fn in_request_scope<F: Future>(future: F) -> impl Future<Output = F::Output> {
    RequestScope::current().run(mcpctl_trace::Span::current().around(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        log_fields(&mut |name, value| fields.push((name, value.to_owned())));
        fields
    }

    #[tokio::test]
    async fn lines_within_a_request_name_it() {
        let scope = RequestScope::new("i".into(), "t".into(), Method::PUT, "/r/{id}", Dialect::Openai);
        let expected = [("id", "i"), ("trace_id", "t"), ("method", "PUT"), ("route", "/r/{id}")]
            .map(|(name, value)| (name, value.to_owned()));
        assert_eq!(scope.run(async { fields() }).await, expected);
        access_line(|line| line.principal = Some("of no request".to_owned()));
        let later = scope.within(&mcpctl_trace::Span::NONE, || {
            access_line(|line| line.principal = Some("User a".to_owned()));
            in_request_scope(async { fields() })
        });
        assert_eq!(later.await.last(), Some(&("principal", "User a".to_owned())));
        // A line that is logged by what adds to the access log does not wait for it.
        let meanwhile = scope.within(&mcpctl_trace::Span::NONE, || {
            let mut named = Vec::new();
            access_line(|_| named = fields());
            named
        });
        assert_eq!(meanwhile, expected);
        assert_eq!(fields(), []);
        assert_eq!(in_request_scope(async { fields() }).await, []);
    }
}
