//! The socket by which `mcpctl` of the same user reaches the agent. The kernel identifies the user of each end, so no
//! credential is needed, and none can reach a program of another user.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};
use mcpctl_api::ErrorKind;
use mcpctl_client::config;
use mcpctl_owner::dir;
use mcpctl_server::{Address, Listener, dialect_of, presents_any};

use super::error::LocalHttpError;
use crate::{app::App, with_hint};

/// Binds the socket of this state directory; replaces a dead one of an earlier agent.
pub async fn bind(state_dir: &Path) -> anyhow::Result<Listener> {
    let path = config::agent_socket(state_dir).map_err(|error| with_hint(&error, error.hint()))?;
    if let Some(parent) = path.parent() {
        dir::ensure_private(parent).map_err(|error| with_hint(&error, error.hint()))?;
    }
    Listener::bind(Address::Unix(path)).await.map_err(|error| with_hint(&error, Some(error.hint())))
}

/// All routes of the agent, for this machine's user, and those for `mcpctl` alone.
pub fn routes(app: Arc<App>) -> Router {
    let own =
        Router::new().route("/api/v1/local-key/rotate", post(rotate_local_key)).with_state(Arc::clone(&app));
    super::routes(Arc::clone(&app), own).layer(middleware::from_fn_with_state(app, as_own_user))
}

/// A connection without a credential is this machine's user's.
async fn as_own_user(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    // The layer that knows the dialect comes after this one.
    let dialect = dialect_of(request.uri().path(), request.headers());
    if !presents_any(request.headers(), dialect) {
        request.headers_mut().insert(header::AUTHORIZATION, app.identity.socket_credential());
    }
    next.run(request).await
}

/// Makes a new local key; the old one is refused from now on.
async fn rotate_local_key(State(app): State<Arc<App>>) -> Response {
    let rotating = tokio::task::spawn_blocking(move || app.identity.rotate());
    match rotating.await {
        Ok(Ok(())) => {
            tracing::info!("the local key was renewed; the old one is refused");
            StatusCode::NO_CONTENT.into_response()
        }
        failed => {
            let reason = failed.map_or_else(|panic| panic.to_string(), |done| format!("{done:?}"));
            tracing::error!(reason, "the local key cannot be renewed");
            let message = "the local key cannot be renewed; the old one stays";
            LocalHttpError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorKind::ServerError,
                "not_renewed",
                message,
            )
            .hint("the log of mcplocal has the reason")
            .into_response()
        }
    }
}
