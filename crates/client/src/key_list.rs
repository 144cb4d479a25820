//! Fetches the list of mcpd's keys: on a connection as of the probe, without a credential. It proves nothing by itself; what counts
//! is the signature of a pinned key, or at first contact a person who compares fingerprints.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, CONNECTION, HOST},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::Builder;
use mcpctl_api::signing_keys::SigningKeyList;
use tokio::time::timeout;
use url::Url;

use crate::{
    ClientError,
    dial::{DialError, Dialer},
    error::{one_line, reason},
    trust::Trust,
};

/// Until the connection is established, and again until the list is there.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum length of the response's head, and of its body, in bytes.
const MAX_BYTES: usize = 16 * 1024;
const PATH: &str = "/.well-known/mcpctl-keys";

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("the keys of mcpd cannot be fetched: {0}")]
pub struct KeyListError(String);

/// The list of the mcpd at this address, where it is the right one.
///
/// # Errors
/// When there is no list: the address is none, mcpd does not answer, or answers something else.
pub async fn fetch_keys(server: &Url, trust: &Trust) -> Result<SigningKeyList, KeyListError> {
    let dialer =
        Dialer::new(server, trust, TIMEOUT).map_err(|error: ClientError| KeyListError(error.to_string()))?;
    match timeout(TIMEOUT.saturating_mul(2), fetch(server, &dialer)).await {
        Ok(list) => list,
        Err(_) => Err(KeyListError("no answer in time".to_owned())),
    }
}

async fn fetch(server: &Url, dialer: &Dialer) -> Result<SigningKeyList, KeyListError> {
    let failed = |error: &(dyn std::error::Error + 'static)| KeyListError(one_line(&reason(error)));
    let base = server.as_str().trim_end_matches('/');
    let uri: Uri = format!("{base}{PATH}").parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
    let request = Request::get(uri.path())
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(CACHE_CONTROL, "no-cache")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let stream = dialer.connect(uri).await.map_err(|error| match error {
        DialError::TooLate => KeyListError("no connection in time".to_owned()),
        DialError::Refused(reason) | DialError::Failed(reason) => KeyListError(reason),
    })?;
    let mut builder = Builder::new();
    let handshake = builder.max_buf_size(MAX_BYTES).handshake(stream);
    let (mut sender, connection) = handshake.await.map_err(|error| failed(&error))?;
    let answering = async move {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(KeyListError(format!("mcpd answered with status {}", answer.status().as_u16())));
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| KeyListError(one_line(&error.to_string())))?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| KeyListError("it is not a list of keys".to_owned()))
    };
    // The connection ends with the answer, which decides.
    let driving = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        list = answering => list,
        () = driving => Err(KeyListError("the connection ended".to_owned())),
    }
}
