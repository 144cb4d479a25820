//! Fetches a small JSON document of a service that the operator named, such as an OpenID provider: bounded in bytes and
//! time, only from addresses that the policy allows, without following redirects.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use mcpctl_api::visible;
use tokio::time::{Instant, sleep_until, timeout_at};
use url::Url;

use crate::{
    Api, AttemptTimeouts, Client, Target, TargetConfig, UpstreamKind,
    body::{BodyEnd, read_body},
    connect_error,
    connection::Connection,
    request::{message, path_of},
};

/// How long a fetch may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a fetch takes at most.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest cause that an error repeats, in bytes.
const MAX_CAUSE_BYTES: usize = 200;

/// One request for a document.
#[derive(Debug)]
pub struct DocumentRequest<'a> {
    /// Where it is.
    pub url: &'a Url,
    /// The fields of a form to POST; a GET without them.
    pub form: Option<&'a [(&'a str, &'a str)]>,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
    /// Maximum size of the document, in bytes.
    pub max_bytes: usize,
}

/// A response, whatever its status.
#[derive(Debug)]
pub struct FetchedDocument {
    /// The response's status; never a redirect.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no response. Its text names the host and no query, and contains nothing of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host}: {why}")]
pub struct DocumentError {
    host: String,
    why: String,
}

/// Sends the request and reads the whole response.
///
/// # Errors
/// When the address is refused or cannot be reached, the response is a redirect, larger than `max_bytes`, or incomplete
/// after 5 s.
pub async fn fetch_document(
    client: &Client,
    request: DocumentRequest<'_>,
) -> Result<FetchedDocument, DocumentError> {
    let until = Instant::now() + FETCH_TIMEOUT;
    let error = |why: String| DocumentError {
        host: request.url.host_str().unwrap_or_default().to_owned(),
        why: visible::short(&why, MAX_CAUSE_BYTES),
    };
    let target = Target::new(TargetConfig {
        base_url: request.url.clone(),
        socket: None,
        model: None,
        credential: None,
        timeouts: AttemptTimeouts { connect: CONNECT_TIMEOUT, ..AttemptTimeouts::default() },
        api: Api::default(),
        kind: UpstreamKind::Provider,
    });
    let pool = client.pool(&target).map_err(|cause| error(connect_error::reason(&cause)))?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("mcpctl/", env!("CARGO_PKG_VERSION"))));
    if let Some(mut value) = request.authorization {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let (method, body) = match request.form {
        None => (Method::GET, Bytes::new()),
        Some(fields) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            (Method::POST, body.into())
        }
    };
    let sending = async {
        let message = message(method, path_of(request.url)?, headers, body);
        Connection::fresh(&pool).await?.send(message).await
    };
    let response = match timeout_at(until, sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(cause)) => return Err(error(connect_error::reason(&cause))),
        Err(_) => return Err(error(format!("no answer within {} s", FETCH_TIMEOUT.as_secs()))),
    };
    let status = response.status();
    if status.is_redirection() {
        return Err(error("it answers with a redirect, which is not followed".to_owned()));
    }
    let timer = pin!(sleep_until(until));
    match read_body(response.into_body(), Bytes::new(), request.max_bytes, timer).await {
        (body, BodyEnd::Complete) => Ok(FetchedDocument { status, body }),
        (_, BodyEnd::TooLarge) => {
            Err(error(format!("its answer is larger than {} bytes", request.max_bytes)))
        }
        (_, BodyEnd::Cut(_)) => Err(error("the connection broke before the end of its answer".to_owned())),
        (_, BodyEnd::TooLate) => {
            Err(error(format!("its answer did not end within {} s", FETCH_TIMEOUT.as_secs())))
        }
    }
}
