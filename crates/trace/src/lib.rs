//! The position of a request in its distributed trace, and its spans: W3C Trace Context in headers, OpenTelemetry's API for
//! spans. Where spans go to is `telemetry`'s matter. While that exports none, no span is made, and this crate only passes
//! positions on.

pub mod attribute;
mod span;
mod traceparent;

pub use span::{Span, enable};
pub use traceparent::Traceparent;
