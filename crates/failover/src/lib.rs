//! Failover as decisions without I/O.

pub mod class;

pub use class::{FailureClass, RetryRule};
