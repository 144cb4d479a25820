//! Leases: what mcpd handed out beside an *allowed* so that the same caller may go on using the Llm for some minutes while no
//! verdict can be had.

mod answers;
mod book;
mod granted;
mod held;
mod leases;

pub use book::LeaseBook;
pub use granted::{Lease, LeaseCaller, LeaseCover, LeaseTime, MAX_GRACE};
pub use leases::{Leases, MAX_LEASES};
