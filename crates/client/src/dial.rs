//! New connections to mcpd for a single small request: nothing is shared with inference, no proxy of the environment is used, and
//! over plain HTTP a trusted user must hold the other end.

use std::{
    error::Error,
    io::{self, ErrorKind},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service as _;
use url::Url;

use crate::{
    error::{ClientError, check_address, one_line, reason},
    guard::Guard,
    resolver::Resolver,
    trust::Trust,
};

/// Connects to one mcpd.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    connector: HttpsConnector<HttpConnector<Resolver>>,
    /// Checks who holds a plain connection.
    guard: Option<Guard>,
    connect_timeout: Duration,
}

/// A connection, with TLS where the address asks for it.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Not in time.
    TooLate,
    /// No program listens there, for this reason.
    Refused(String),
    /// For this reason.
    Failed(String),
}

impl Dialer {
    /// Connects to this address within `connect_timeout`, TLS included.
    ///
    /// # Errors
    /// When the address is none, or TLS cannot be set up.
    pub(crate) fn new(server: &Url, trust: &Trust, connect_timeout: Duration) -> Result<Self, ClientError> {
        // With a query in the address the request's path would become part of the query, and the root of a server answers 200
        // to every caller.
        check_address(server)?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let tls = trust.tls.config().map_err(|error| ClientError::Setup(error.to_string()))?;
        let mut tls = (*tls).clone();
        // The connector adds the one version of HTTP that it is made for.
        tls.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { connector, guard: Guard::of(server, trust.users), connect_timeout })
    }

    /// A new connection for a request to `uri`.
    pub(crate) async fn connect(&self, uri: Uri) -> Result<Stream, DialError> {
        let connecting = timeout(self.connect_timeout, self.connector.clone().call(uri));
        let stream = connecting.await.map_err(|_| DialError::TooLate)?;
        let stream = stream.map_err(|error| {
            let reason = one_line(&reason(&*error));
            if is_refused(&*error) { DialError::Refused(reason) } else { DialError::Failed(reason) }
        })?;
        // Before the first byte: over plain http a trusted user must hold the other end.
        if let Some(guard) = self.guard {
            guard.check(&stream).await.map_err(|error| DialError::Failed(error.to_string()))?;
        }
        Ok(stream)
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        {
            return true;
        }
        next = error.source();
    }
    false
}
