//! From attempts to answers: retries attempts within a budget, and turns an answer into a body for the caller while it is
//! counted, translated where the upstream speaks another dialect. Which upstream is attempted, and whether that is allowed, is
//! decided elsewhere.

pub mod account;
pub mod body;
pub mod budget;
pub mod cut;
pub mod exchange;
pub mod recovery;
pub mod retry;

pub use account::{StreamAccount, StreamEnd, StreamOutcome};
pub use budget::RetryBudget;
pub use cut::{CuttableBody, Cutter};
pub use exchange::{Exchange, ExchangeError, Exchanged, Sender};
pub use recovery::{Broken, NextAttempt, NextAttempts, Recovery};
pub use retry::{RetryOutcome, RetryPolicy};
