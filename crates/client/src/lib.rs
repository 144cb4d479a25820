//! A typed client of mcpd's and mcplocal's API, the probe, and the file of contexts.
//!
//! It sends requests and parses responses; its callers decide what a response means.

pub mod agent_port;
mod agent_record;
mod agent_socket;
mod client;
pub mod config;
mod dial;
mod download;
mod error;
pub mod expiry;
mod feed;
mod guard;
mod health;
mod key_list;
pub mod pins;
mod probe;
mod resolver;
mod stream;
mod trust;
mod way;

pub use agent_record::AgentRecord;
pub use client::{
    AuditRequest, Batch, Changed, ChatRequest, Client, ClientOptions, DeviceAnswer, HealthQuestion,
    UsageRequest,
};
pub use download::{DownloadError, download};
pub use error::{ClientError, ErrorResponse, PLAIN_MCPD, check_address, is_loopback, shown};
pub use feed::{FeedClient, FeedError, FeedEvent, FeedStream};
pub use guard::{ForeignPeer, Guard};
pub use health::{Health, HealthCheck};
pub use key_list::{KeyListError, fetch_keys};
pub use mcpctl_owner::TrustedUsers;
pub use mcpctl_tls::{ClientFiles, ClientTls, TlsError};
pub use probe::{PinnedKeys, Probe, ProofKeys};
pub use stream::{BrokenStream, ChatStream, Delta, ServedBy};
pub use trust::Trust;
pub use way::{Certificate, Connected, Way};
