//! How mcpd is installed, as far as it decides what goes on where a part of it fails: `GET /api/v1/admin/installation`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How mcpd is installed, as the replica that answers knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Installation {
    /// Its version.
    pub version: String,
    /// Where it keeps its records.
    pub database: DatabaseKind,
    /// Whether inference has an address of its own.
    pub inference_listener: bool,
    /// The proxy that the request came through.
    pub proxy: ProxyState,
    /// TLS of mcpd itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsState>,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DatabaseKind {
    /// A file of one mcpd.
    Sqlite,
    /// PostgreSQL, which several replicas can share.
    Postgres,
}

/// A reverse proxy between the caller and mcpd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProxyState {
    /// The request has no `X-Forwarded-For`.
    None,
    /// It came from one of `trustedProxies`.
    Trusted,
    /// It has the header, and came from none of `trustedProxies`, so that the header is ignored.
    Untrusted,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsState {
    /// The time from which clients reject the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
    /// Whether every client has to present a certificate.
    pub client_certificates: bool,
    /// Why the files as they are now are not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}
