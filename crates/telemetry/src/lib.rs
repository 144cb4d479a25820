//! What the programs tell their operators: logs on stderr, metrics, and the trace context they hand on.
//!
//! This crate says how things are written and what they are called, never when: the daemons decide what is
//! worth a line. It keeps no request, body, token or prompt.

pub mod log;
pub mod metrics;
pub mod names;
pub mod output;
pub mod traceparent;

pub use log::{InitError, LogFormat, init, init_to};
pub use metrics::{Configured, InFlight, McpdMetrics, McplocalMetrics, Operation, TokenType, Traffic};
pub use traceparent::Traceparent;
pub use tracing_subscriber::fmt::MakeWriter;
