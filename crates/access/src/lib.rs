//! Who may do what: a pure function of a [`Snapshot`].
//!
//! A [`Snapshot`] is every resource at one revision. [`Snapshot::authenticate`] turns a bearer's hash into a
//! [`Principal`]; [`Snapshot::authorize`] turns principal, verb and resource into a [`Permit`], which nothing else can
//! make and which the next stage consumes. Nothing here reads a clock, a file or a socket, and whatever goes wrong is
//! a denial.
//!
//! A permit cannot be forged, so code that skips authorization does not compile:
//!
//! ```compile_fail,E0451
//! # fn forge(resource: std::sync::Arc<mcpctl_access::Stored>, principal: mcpctl_access::Principal) {
//! let permit = mcpctl_access::Permit {
//!     principal,
//!     verb: mcpctl_api::Verb::Run,
//!     resource,
//!     revision: mcpctl_api::Revision(1),
//! };
//! # }
//! ```

pub mod builtin;
mod decide;
mod escalation;
mod explain;
mod principal;
mod rules;
mod snapshot;

pub use decide::{Denied, Permit};
pub use escalation::Escalation;
pub use principal::{Principal, Rejected};
pub use rules::Reason;
pub use snapshot::{Change, Confidential, Snapshot, Stored};
