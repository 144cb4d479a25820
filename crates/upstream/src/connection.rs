//! A connection for one request: it sends the request, and the body of the response puts it back.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::Full;

use crate::{body::Body, connect_error::SendError, connector::Sender, pool::Pool};

/// A connection for one request.
pub(crate) struct Connection {
    pool: Arc<Pool>,
    sender: Sender,
    /// Whether another request was sent on it before. The server may have closed such a connection without the client having
    /// noticed, so that a failure on it is no sign of a failing server.
    pub(crate) is_reused: bool,
}

impl Connection {
    /// A connection of the pool, idle or new.
    pub(crate) async fn of(pool: &Arc<Pool>) -> Result<Self, SendError> {
        let (sender, is_reused) = pool.take().await?;
        Ok(Self { pool: Arc::clone(pool), sender, is_reused })
    }

    /// A new connection, for what is asked for rarely and not sent twice: an idle one may have been closed by its server.
    pub(crate) async fn fresh(pool: &Arc<Pool>) -> Result<Self, SendError> {
        // Boxed, because the future is large: callers hold it inside their own.
        let sender = Box::pin(pool.connector.connect()).await?;
        Ok(Self { pool: Arc::clone(pool), sender, is_reused: false })
    }

    /// Sends a request whose address is a path and query, and returns its response with the head read.
    pub(crate) async fn send(self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, SendError> {
        let Self { pool, sender, .. } = self;
        match sender {
            Sender::Http1(mut sender) => {
                request.headers_mut().insert(HOST, pool.connector.host.clone());
                let response = sender.send_request(request).await.map_err(SendError::Exchange)?;
                Ok(Body::of(response, Some((sender, pool))).await)
            }
            Sender::Http2(mut sender) => {
                let uri = pool.connector.absolute(std::mem::take(request.uri_mut()));
                *request.uri_mut() = uri.map_err(|error| SendError::Request(error.into()))?;
                let response = sender.send_request(request).await.map_err(SendError::Exchange)?;
                Ok(Body::of(response, None).await)
            }
        }
    }
}
