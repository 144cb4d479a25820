//! What every request passes before its handler, in this order. It is one layer: each layer of the router copies what is inside it
//! for every request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{authentication, body, console, error::HttpError, guard::Guard, parameters, trace};
use crate::app::App;

/// A header of nginx, by which an upstream turns buffering off.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What a listener admits requests by.
pub struct Admission {
    /// The daemon.
    pub app: Arc<App>,
    /// The hosts and origins that may call the listener.
    pub guard: Guard,
    /// Whether the console is at the listener.
    pub console: bool,
}

/// The layer: admits a request, and runs its handler.
pub async fn admit(State(admission): State<Arc<Admission>>, request: Request, next: Next) -> Response {
    let Admission { app, guard, console: has_console } = &*admission;
    // Outside of everything else, so that refusals are logged and counted like every other answer.
    trace::trace(app, request, async |request| {
        if *has_console && console::admission::is_of_console(request.uri().path()) {
            return unbuffered(Box::pin(console::admission::admit(app, guard, request, next)).await);
        }
        match admitted(app, guard, request).await {
            Ok(request) => unbuffered(next.run(request).await),
            Err(refused) => refused,
        }
    })
    .await
}

/// Keeps nginx, and what imitates it, from holding the events of a stream back.
fn unbuffered(mut response: Response) -> Response {
    let media = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if media.starts_with(b"text/event-stream") {
        response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    response
}

/// The request with its caller and its body, or the answer that refuses it.
async fn admitted(app: &Arc<App>, guard: &Guard, mut request: Request) -> Result<Request, Response> {
    guard.check(&request).map_err(HttpError::into_response)?;
    authentication::require(app, &mut request).await?;
    // Before a body is read for a request that is rejected anyway.
    parameters::known_only(&request).map_err(HttpError::into_response)?;
    body::read(app, request).await.map_err(HttpError::into_response)
}
