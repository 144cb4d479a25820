//! The failover of one request as a state machine: `(FailoverState, Event, now) -> (FailoverState, Action)`. It opens no socket and
//! reads no clock; a driver performs the actions and reports their results.
//!
//! ```text
//!            primary ok ──────────────────────────────▶ Return primary
//! CallPrimary ─ failed ─┬─ may not fail over ─────────▶ Return primary's error
//!                       ├─ no local provider ────────▶ Return primary's error
//!                       └─▶ Probe ─┬─ not allowed ────▶ Return primary's error
//!                             ▲    └─▶ Prepare ─┬─ failed ──────────▶ Return primary's error
//!                             └── took a while ─┤
//!                                               └─▶ RunLocal ─┬─ failed ▶ Return primary's error
//!                                                             └─ ok ────▶ Return local
//! ```
//!
//! With an open breaker it begins at `Probe`; wherever that path would return the primary's error there is none yet, so
//! the primary is called after all and its result is returned.

use std::time::{Duration, Instant};

use crate::{Access, FailureClass};

/// What is known when the request begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whether the breaker skips the primary.
    pub breaker_open: bool,
    /// Whether this Llm has a local provider.
    pub has_local: bool,
    /// Classes that fail over beyond the defaults.
    pub also_on: Vec<FailureClass>,
    /// When preparing took longer than this, mcpd is asked again before anything runs.
    pub reprobe_after: Duration,
}

/// How far a request has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverState {
    phase: FailoverPhase,
    /// How the primary failed; `None` where it did not, or was not called.
    failed: Option<FailureClass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailoverPhase {
    Start,
    Primary { last: bool },
    Probing { prepared: bool },
    Preparing { since: Instant },
    Running,
    Done,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The request arrived.
    Begin,
    /// The primary answered.
    PrimaryOk,
    /// The primary failed.
    PrimaryFailed(FailureClass),
    /// The probe returned this for caller and Llm.
    Probed(Access),
    /// The local provider is ready.
    Prepared,
    /// It did not become ready.
    PrepareFailed,
    /// The local provider answered.
    LocalOk,
    /// It failed.
    LocalFailed,
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Call the primary.
    CallPrimary,
    /// Ask mcpd about this caller and this Llm.
    Probe,
    /// Make the local provider ready. Nothing of the caller's reaches it yet.
    Prepare,
    /// Run the request locally; only with this grant.
    RunLocal(AccessGrant),
    /// Return the primary's answer, or its error.
    ReturnPrimary,
    /// Return the local provider's answer.
    ReturnLocal,
}

/// Proof that mcpd allowed this request a moment ago. Only the machine makes one, and it permits one run.
///
/// ```compile_fail,E0603
/// let forged = mcpctl_failover::machine::AccessGrant(());
/// ```
///
/// ```compile_fail,E0599
/// fn twice(grant: mcpctl_failover::machine::AccessGrant) {
///     let another = grant.clone();
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn needs_default<T: Default>() {}
/// needs_default::<mcpctl_failover::machine::AccessGrant>();
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct AccessGrant(());

impl FailoverState {
    /// A request that has not begun.
    pub const fn start() -> Self {
        Self { phase: FailoverPhase::Start, failed: None }
    }

    /// How the primary failed; `None` where it did not, or the breaker skipped it.
    pub const fn failed(&self) -> Option<FailureClass> {
        self.failed
    }

    /// Whether there is nothing more to do.
    pub fn is_done(&self) -> bool {
        self.phase == FailoverPhase::Done
    }

    /// One step. An event that does not belong to the state ends the request with the primary's result.
    #[must_use]
    pub fn on(self, event: Event, setup: &Setup, now: Instant) -> (Self, Action) {
        let Self { phase, failed } = self;
        let to = |phase, failed, action| (Self { phase, failed }, action);
        match (phase, event) {
            (FailoverPhase::Start, Event::Begin) if setup.breaker_open && setup.has_local => {
                to(FailoverPhase::Probing { prepared: false }, None, Action::Probe)
            }
            (FailoverPhase::Start, Event::Begin) => {
                to(FailoverPhase::Primary { last: false }, None, Action::CallPrimary)
            }

            (FailoverPhase::Primary { .. }, Event::PrimaryOk) => {
                to(FailoverPhase::Done, failed, Action::ReturnPrimary)
            }
            // INVARIANT 2: what the caller caused, or mcpd decided, never gets this far.
            (FailoverPhase::Primary { last: false }, Event::PrimaryFailed(class))
                if setup.has_local && class.may_fail_over(&setup.also_on) =>
            {
                to(FailoverPhase::Probing { prepared: false }, Some(class), Action::Probe)
            }
            (FailoverPhase::Primary { .. }, Event::PrimaryFailed(class)) => {
                to(FailoverPhase::Done, Some(class), Action::ReturnPrimary)
            }

            // INVARIANT 1, 8: only *allowed* leads on, every other result leads back.
            (FailoverPhase::Probing { prepared: false }, Event::Probed(Access::Allowed)) => {
                to(FailoverPhase::Preparing { since: now }, failed, Action::Prepare)
            }
            (FailoverPhase::Probing { prepared: true }, Event::Probed(Access::Allowed)) => {
                to(FailoverPhase::Running, failed, Action::RunLocal(AccessGrant(())))
            }
            (FailoverPhase::Preparing { since }, Event::Prepared) => {
                // The probe's result held at its moment: after a cold start mcpd is asked again.
                if now.saturating_duration_since(since) > setup.reprobe_after {
                    to(FailoverPhase::Probing { prepared: true }, failed, Action::Probe)
                } else {
                    to(FailoverPhase::Running, failed, Action::RunLocal(AccessGrant(())))
                }
            }
            (FailoverPhase::Running, Event::LocalOk) => to(FailoverPhase::Done, failed, Action::ReturnLocal),

            // INVARIANT 3: whatever else happens, the primary's result is returned.
            (FailoverPhase::Probing { .. } | FailoverPhase::Preparing { .. } | FailoverPhase::Running, _)
                if failed.is_none() =>
            {
                to(FailoverPhase::Primary { last: true }, None, Action::CallPrimary)
            }
            (FailoverPhase::Start, _) => to(FailoverPhase::Primary { last: true }, None, Action::CallPrimary),
            (_, _) => to(FailoverPhase::Done, failed, Action::ReturnPrimary),
        }
    }
}
