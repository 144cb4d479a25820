//! Whether a request got a connection of its own or one that was used before: a server may have closed the latter
//! without the client knowing, so that a request that fails on it says nothing about the server.

use std::{
    cell::Cell,
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether the request that runs in this task has connected. Connecting is polled by the request that asked for it;
    /// once another connection was free first, it goes on in a task of its own and is no longer this request's.
    static CONNECTED: Cell<bool>;
}

/// Which connection a request was sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// One that was made for it, or none at all.
    Own,
    /// One of the pool.
    Reused,
}

/// Sends, and tells which connection it went out on.
pub(crate) async fn watch<F: Future>(sending: F) -> (F::Output, Connection) {
    let watched = async {
        let sent = sending.await;
        let connected = CONNECTED.with(Cell::get);
        (sent, if connected { Connection::Own } else { Connection::Reused })
    };
    CONNECTED.scope(Cell::new(false), watched).await
}

/// Notes that a connection stands, as a layer around whatever connects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoteConnects;

impl<S> Layer<S> for NoteConnects {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Noting<S> {
        Noting(inner)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Noting<S>(S);

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, R> Service<R> for Noting<S>
where
    S: Service<R>,
    S::Response: Send,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            // No request waits for it any more where there is no such value.
            let _ = CONNECTED.try_with(|connected| connected.set(true));
            Ok(connection)
        })
    }
}
