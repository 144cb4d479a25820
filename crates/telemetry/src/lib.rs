//! Logs on stderr, metrics, and the trace context of requests.
//!
//! This crate defines how logs and metrics are written and what they are called. The daemons decide what is logged and
//! counted. No request body, token or prompt gets in here.

pub mod log;
pub mod metrics;
pub mod names;
pub mod output;
pub mod traceparent;

pub use log::{InitError, LogFormat, init, init_to};
pub use metrics::{Configured, InFlight, McpdMetrics, McplocalMetrics, Operation, TokenType, Traffic};
pub use traceparent::Traceparent;
pub use tracing_subscriber::fmt::MakeWriter;
