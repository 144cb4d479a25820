//! Decides who may do what, as a pure function of a [`Snapshot`].
//!
//! A [`Snapshot`] is every resource at one revision. [`Snapshot::authenticate`] turns the hash of a bearer into a
//! [`Principal`]; [`Snapshot::authorize`] turns a principal, a verb and a resource into a [`Permit`], which the next stage
//! consumes. Nothing here reads a clock, a file or a socket, and every failure denies.
//!
//! Code that skips authorization does not compile, because no other code can make a permit:
//!
//! ```compile_fail,E0451
//! # use mcpctl_access::{Permit, Stored, verb::Run};
//! fn forge(resource: std::sync::Arc<Stored>) -> Permit<Run> {
//!     Permit { resource, revision: mcpctl_api::Revision(1), verb: std::marker::PhantomData }
//! }
//! ```
//!
//! A permit to view an Llm does not send inference through it:
//!
//! ```compile_fail,E0308
//! # use mcpctl_access::{Permit, verb::{Run, View}};
//! fn route(permit: Permit<Run>) {}
//! fn handler(permit: Permit<View>) {
//!     route(permit);
//! }
//! ```
//!
//! And a permit is spent once:
//!
//! ```compile_fail,E0382
//! # use mcpctl_access::{Permit, verb::Run};
//! fn route(permit: Permit<Run>) {}
//! fn handler(permit: Permit<Run>) {
//!     route(permit);
//!     route(permit);
//! }
//! ```

pub mod builtin;
mod credentials;
mod decide;
mod escalation;
mod explain;
mod failover;
mod limits;
mod narrowing;
mod own_tokens;
mod permitted;
mod principal;
pub mod proof;
mod references;
mod rules;
mod secret_in_force;
mod shared;
mod snapshot;
pub mod verb;
mod withdrawal;

pub use decide::{Denied, Permit};
pub use escalation::Escalation;
pub use failover::{FailoverDecision, FailoverReason};
pub use narrowing::Narrowing;
pub use principal::{Principal, Rejected};
pub use rules::Reason;
pub use secret_in_force::VoidKey;
pub use snapshot::{Change, Confidential, Decisions, ListedIssuers, Snapshot, Stored};
pub use withdrawal::{Withdrawals, Withdrawn};
