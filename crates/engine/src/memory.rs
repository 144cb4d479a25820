//! The GPU memory that engines share: what each needs, which of them may hold it, and what the drivers report. An engine is
//! known here by its name, its status, and a way to preempt it.

mod arbiter;
mod bytes;
mod demand;
mod gpu;
mod ledger;
mod meter;
mod placement;
mod tenant;

pub use arbiter::{Arbiter, shortage};
pub(crate) use arbiter::{Claim, Lease};
pub use gpu::{Gpu, OtherPrograms, gpus, other_programs};
pub use placement::{Need, Placement};
pub(crate) use tenant::{Preempt, Tenant};
