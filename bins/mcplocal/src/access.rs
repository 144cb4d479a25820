//! Ends local answers, and waits for them, when their caller loses access at mcpd.
//!
//! INVARIANT 6: the probe allowed a request before its first byte. While the request goes on, mcpd's feed shows at once when
//! that does not hold any more, and the whole probe is repeated besides, so that a lost event costs latency and nothing else.
//! Where neither has been heard of for 15 s, the request ends, unless a lease covers it at that moment. With a pinned key the
//! feed causes probes and nothing else, because nothing signs it.

mod follower;
mod group;
mod hints;
mod router;
mod watches;

pub use group::{AccessWatch, RunningRequest};
pub use hints::DenialHints;
pub use watches::AccessWatches;
