//! Detects whether a request was sent on a new or a reused connection. The server may have closed a reused one without the
//! client having noticed, so that a failure on it is no sign of a failing server.

use std::{
    cell::Cell,
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// Whether the request that runs in this task has connected. The request polls its own connecting; when another
    /// connection becomes free first, connecting continues in a task of its own and no longer belongs to the request.
    static CONNECTED: Cell<bool>;
}

/// Which connection a request was sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// One that was made for it, or none.
    Own,
    /// One of the pool.
    Reused,
}

/// Sends a request, and returns which connection it was sent on.
pub(crate) async fn watch<F: Future>(sending: F) -> (F::Output, Connection) {
    let watched = async {
        let sent = sending.await;
        let connected = CONNECTED.with(Cell::get);
        (sent, if connected { Connection::Own } else { Connection::Reused })
    };
    CONNECTED.scope(Cell::new(false), watched).await
}

/// A layer around the connector that records that a connection was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordConnects;

impl<S> Layer<S> for RecordConnects {
    type Service = RecordingConnector<S>;

    fn layer(&self, inner: S) -> RecordingConnector<S> {
        RecordingConnector(inner)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RecordingConnector<S>(S);

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, R> Service<R> for RecordingConnector<S>
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
            // Without the value, this is a task of its own: no request waits for the connection.
            let _ = CONNECTED.try_with(|connected| connected.set(true));
            Ok(connection)
        })
    }
}
