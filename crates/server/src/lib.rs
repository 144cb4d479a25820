//! The HTTP server of both daemons: bounded connections and request bodies, graceful shutdown, and the layer around every
//! request. Of routes it knows only which dialect their callers speak.
//!
//! `axum::serve` has no limits, so connections are served through hyper-util.

mod access_line;
mod address;
mod answer;
mod body;
mod caller_dialect;
mod connection;
mod connections;
mod credential;
mod encoding;
mod error_body;
mod handshake;
mod limits;
mod listener;
mod nearest;
mod origin;
mod peer;
mod process_limits;
mod progress;
mod request_log;
mod request_scope;
mod runtimes;
mod shutdown_signal;
mod socket;
mod socket_file;
mod tcp;
mod trace;
mod traced_body;
mod unknown_parameter;

pub use access_line::AccessLine;
pub use address::{Address, BindError, NotAnAddress, socket_address};
pub use body::{BodyError, BodyOwner, RequestBodies};
pub use caller_dialect::dialect_of;
pub use connections::{Connection, Connections};
pub use credential::{CredentialError, presented, presents_any};
pub use error_body::error_body;
pub use limits::{Limits, byte_size};
pub use listener::Listener;
pub use nearest::nearest;
pub use origin::{NotAnOrigin, Origin, is_loopback, origin_is_allowed, requested_host};
pub use peer::Peer;
pub use process_limits::{handle_size_limit, prevent_core_dumps, raise_descriptor_limit};
pub use request_log::{EndedRequest, OnEnd};
pub use request_scope::{access_line, caller_dialect, in_request_scope, log_fields, request_id};
pub use runtimes::{Runtimes, Workload};
pub use shutdown_signal::ShutdownSignal;
pub use trace::trace;
pub use unknown_parameter::unknown_parameter;
