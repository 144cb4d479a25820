//! Ends local answers, and waits for them, when their caller loses access at mcpd.
//!
//! INVARIANT 6: the probe allowed a request before its first byte. While the request goes on, mcpd's feed shows at once when
//! that does not hold any more, and the whole probe is repeated besides, so that a lost event costs latency and nothing else.
//! Where neither has been heard of for 15 s, the request ends.

mod ended;
mod follower;
mod group;
mod router;
mod watches;

pub use ended::AccessEnded;
pub use group::{AccessWatch, RunningRequest};
pub use watches::AccessWatches;
