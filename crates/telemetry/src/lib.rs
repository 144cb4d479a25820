//! Logs on stderr, metrics, and the export of traces.
//!
//! This crate defines how logs, metrics and traces are written and what they are called. The daemons decide what is logged and
//! counted. No request body, token or prompt gets in here.

pub mod log;
pub mod metrics;
pub mod names;
pub mod otlp;
pub mod output;

pub use log::{InitError, LogFilter, LogFilterError, LogFormat, LogGuard, init, init_to};
pub use metrics::{
    Configured, HttpMetrics, InFlight, InferenceMetrics, McpdMetrics, McplocalMetrics, Operation, TokenType,
};
pub use otlp::{OtlpUrl, TelemetryConfig, Traces};
pub use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};
