//! The health check of mcpd: does it answer at all? One `GET /healthz` on a new connection, because the connection on which mcpd
//! is silent may be dead while mcpd is not.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    header::{CACHE_CONTROL, CONNECTION, HOST},
};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use tokio::time::timeout;
use url::Url;

use crate::{
    ClientError, Trust,
    dial::{DialError, Dialer},
};

/// What one question found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// mcpd answers. Any status is an answer, but 502 and 504: with those a gateway reports that mcpd is silent.
    Answered,
    /// No program accepts connections there: mcpd is gone, or it ends and answers its last requests.
    Refused,
    /// No answer came in time.
    Silent,
}

/// Asks one mcpd whether it is alive. No credential is sent.
#[derive(Debug, Clone)]
pub struct HealthCheck {
    server: Url,
    dialer: Dialer,
}

impl HealthCheck {
    /// Until the connection is established, and from then until the response head.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// Maximum length of a response head, in bytes.
    const MAX_HEAD_BYTES: usize = 16 * 1024;

    /// A check of the mcpd at this address, where it is the right one.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub fn trusting(server: Url, trust: &Trust) -> Result<Self, ClientError> {
        let dialer = Dialer::new(&server, trust, Self::TIMEOUT)?;
        Ok(Self { server, dialer })
    }

    /// Asks once.
    pub async fn ask(&self) -> Health {
        match self.status().await {
            Ok(Some(StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) | None)
            | Err(DialError::Failed(_) | DialError::TooLate) => Health::Silent,
            Ok(Some(_)) => Health::Answered,
            Err(DialError::Refused(_)) => Health::Refused,
        }
    }

    /// The status of its answer; none where none came in time.
    async fn status(&self) -> Result<Option<StatusCode>, DialError> {
        let base = self.server.as_str().trim_end_matches('/');
        let Ok(uri) = format!("{base}/healthz").parse::<Uri>() else { return Ok(None) };
        let request = Request::get(uri.path())
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(CACHE_CONTROL, "no-store")
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new());
        let Ok(request) = request else { return Ok(None) };
        let stream = self.dialer.connect(uri).await?;
        let answering = async {
            let mut builder = Builder::new();
            let handshake = builder.max_buf_size(Self::MAX_HEAD_BYTES).handshake(stream);
            let (mut sender, connection) = handshake.await.ok()?;
            // The connection may end together with the answer, which decides.
            let driving = async {
                let _ = connection.await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = sender.send_request(request) => Some(answer.ok()?.status()),
                () = driving => None,
            }
        };
        Ok(timeout(Self::TIMEOUT, answering).await.ok().flatten())
    }
}
