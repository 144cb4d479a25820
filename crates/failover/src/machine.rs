//! The failover of one request as a state machine: `(FailoverState, Event, now) -> (FailoverState, Action)`. It opens no socket and
//! reads no clock; a driver performs the actions and reports their results.
//!
//! ```text
//!            primary ok ──────────────────────────────▶ Return primary
//! CallPrimary ─ failed ─┬─ may not fail over ─────────▶ Return primary's error
//!                       ├─ no local provider ────────▶ Return primary's error
//!                       └─▶ Probe ─┬─ no verdict, no lease, or denied ─▶ Return primary's error
//!                             ▲    └─▶ Prepare ─┬─ failed ──────────▶ Return primary's error
//!                             └── took a while ─┤
//!                                               └─▶ RunLocal ─┬─ failed ▶ Return primary's error
//!                                                             └─ ok ────▶ Return local
//! ```
//!
//! With an open breaker it begins at `Probe`; wherever that path would return the primary's error there is none yet, so
//! the primary is called after all and its result is returned.

use std::time::{Duration, Instant};

use crate::{
    FailureClass,
    access::{AccessVerdict, Allowance},
    lease::LeaseCover,
    llm::LlmId,
};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FailoverState {
    phase: FailoverPhase,
    /// How the primary failed; `None` where it did not, or was not called.
    failed: Option<FailureClass>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum FailoverPhase {
    Start,
    Primary { last: bool },
    Probing { prepared: bool },
    Preparing { since: Instant, basis: GrantBasis },
    Running,
    Done,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The request arrived.
    Begin,
    /// The primary answered.
    PrimaryOk,
    /// The primary failed.
    PrimaryFailed(FailureClass),
    /// This is known of the caller's access to the Llm.
    Probed(AccessVerdict),
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

/// What a local run is allowed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GrantBasis {
    /// mcpd allowed it a moment ago.
    Allowed(Allowance),
    /// A lease covers it.
    Leased(LeaseCover),
}

/// Proof that mcpd allowed this request a moment ago, or that a lease covers it. Only the machine makes one, and it permits one
/// run.
///
/// ```compile_fail,E0451
/// fn forge(basis: mcpctl_failover::machine::GrantBasis) -> mcpctl_failover::machine::AccessGrant {
///     mcpctl_failover::machine::AccessGrant { basis }
/// }
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
pub struct AccessGrant {
    basis: GrantBasis,
}

impl AccessGrant {
    /// The Llm that was judged; `None` where mcpd did not name it. What runs is bound to it: an Llm that is made again under the
    /// same name is another one.
    pub const fn llm_id(&self) -> Option<&LlmId> {
        match &self.basis {
            GrantBasis::Allowed(allowance) => allowance.llm.as_ref(),
            GrantBasis::Leased(cover) => Some(&cover.llm),
        }
    }

    /// What mcpd allowed, and for how long the run may rely on it; `None` where a lease covers it.
    pub const fn allowance(&self) -> Option<&Allowance> {
        match &self.basis {
            GrantBasis::Allowed(allowance) => Some(allowance),
            GrantBasis::Leased(_) => None,
        }
    }

    /// The lease, where no verdict could be had.
    pub const fn lease(&self) -> Option<&LeaseCover> {
        match &self.basis {
            GrantBasis::Allowed(_) => None,
            GrantBasis::Leased(cover) => Some(cover),
        }
    }
}

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

    /// One step. An event that does not belong to the state ends the request with the primary's result. `now` is of a clock
    /// that runs while the machine is suspended: a verdict ages meanwhile.
    #[must_use]
    pub fn on(self, event: Event, setup: &Setup, now: Instant) -> (Self, Action) {
        let Self { phase, failed } = self;
        let to = |phase, failed, action| (Self { phase, failed }, action);
        // To the primary's error, where there is one already.
        let back = |failed: Option<FailureClass>| match failed {
            Some(_) => to(FailoverPhase::Done, failed, Action::ReturnPrimary),
            None => to(FailoverPhase::Primary { last: true }, None, Action::CallPrimary),
        };
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

            // INVARIANT 1, 8: only *allowed* and a lease lead on, every other result leads back.
            (FailoverPhase::Probing { prepared }, Event::Probed(verdict)) => {
                match (GrantBasis::of(verdict), prepared) {
                    (Some(basis), false) => {
                        to(FailoverPhase::Preparing { since: now, basis }, failed, Action::Prepare)
                    }
                    (Some(basis), true) => {
                        to(FailoverPhase::Running, failed, Action::RunLocal(AccessGrant { basis }))
                    }
                    (None, _) => back(failed),
                }
            }
            (FailoverPhase::Preparing { since, basis }, Event::Prepared) => {
                // The verdict held at its moment: after a cold start mcpd is asked again.
                let age = now.saturating_duration_since(since);
                if age > setup.reprobe_after || basis.has_ended(age) {
                    to(FailoverPhase::Probing { prepared: true }, failed, Action::Probe)
                } else {
                    to(FailoverPhase::Running, failed, Action::RunLocal(AccessGrant { basis }))
                }
            }
            (FailoverPhase::Running, Event::LocalOk) => to(FailoverPhase::Done, failed, Action::ReturnLocal),

            // INVARIANT 3: whatever else happens, the primary's result is returned.
            (FailoverPhase::Probing { .. } | FailoverPhase::Preparing { .. } | FailoverPhase::Running, _) => {
                back(failed)
            }
            (FailoverPhase::Start, _) => to(FailoverPhase::Primary { last: true }, None, Action::CallPrimary),
            (_, _) => to(FailoverPhase::Done, failed, Action::ReturnPrimary),
        }
    }
}

impl GrantBasis {
    fn of(verdict: AccessVerdict) -> Option<Self> {
        match verdict {
            AccessVerdict::Allowed(allowance) => Some(Self::Allowed(allowance)),
            AccessVerdict::Leased { cover, .. } => Some(Self::Leased(cover)),
            AccessVerdict::Forbidden { .. } | AccessVerdict::Unreachable(_) => None,
        }
    }

    /// Whether a lease that was found so long ago has ended since.
    fn has_ended(&self, age: Duration) -> bool {
        matches!(self, Self::Leased(cover) if cover.remaining <= age)
    }
}
