//! From attempts to answers: repeats attempts within a budget, and turns what came into a body for the caller while
//! it is counted. Which target is asked, and whether it may be, is decided elsewhere.

pub mod body;
pub mod budget;
pub mod retry;

pub use body::{StreamEnd, StreamOutcome};
pub use budget::RetryBudget;
pub use retry::{RetryOutcome, RetryPolicy};
