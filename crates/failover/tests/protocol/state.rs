//! One state of the world: clocks, mcpd's store, the network, and the agent with its requests and leases.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mcpctl_failover::{
    FailureClass,
    lease::{LeaseTime, Leases},
    machine::FailoverState,
};

/// How long a step of time is: far beyond the drift that leases accept, and beyond what a warm start takes.
pub const TICK: Duration = Duration::from_secs(10);
/// `offlineGrace` of the Llm.
pub const GRACE: Duration = Duration::from_secs(20);
/// Grace in steps of time.
pub const GRACE_TICKS: u8 = 2;
/// Most Llms that are made under the one name.
pub const MAX_LLMS: usize = 3;

/// The time that has passed, and how each clock of the agent's machine differs from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Clock {
    /// Steps of time that have passed in truth.
    pub real: u8,
    /// Of these, those in which the machine was suspended: the monotonic clock stood still.
    pub suspended: u8,
    /// Of these, those in which the virtual machine was paused: the clock of the boot stood still too.
    pub paused: u8,
    /// By how many steps the wall clock was set back.
    pub back: u8,
}

impl Clock {
    /// The time that the router passes to the machine in a request that began at `begun`: suspended time included.
    pub fn awake(self, beginning: Instant, begun: Self) -> Instant {
        begun.monotonic(beginning) + (self.lease_time().boot - begun.lease_time().boot)
    }

    fn monotonic(self, beginning: Instant) -> Instant {
        beginning + TICK * u32::from(self.real - self.suspended - self.paused)
    }

    /// What leases are counted on.
    pub fn lease_time(self) -> LeaseTime {
        LeaseTime {
            boot: Duration::from_secs(1000) + TICK * u32::from(self.real - self.paused),
            wall: Duration::from_secs(1_700_000_000) + TICK * u32::from(self.real)
                - TICK * u32::from(self.back),
        }
    }
}

/// mcpd's store, as far as it decides about the Llm `claude`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Store {
    /// Number of changes.
    pub revision: u8,
    /// Whether the first caller may use the Llm; the second one never may.
    pub granted: bool,
    /// Number of the Llm that has the name; its id is never used again.
    pub llm: Option<u8>,
    /// Number of the next Llm.
    pub next: u8,
    /// Number of the key that signs.
    pub key: u8,
}

/// How a request names the Llm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asked {
    /// By its name.
    Name,
    /// By the id of the Llm of this number.
    Id(u8),
}

/// mcpd's answer to a probe, signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    /// The request and the number of its probe: the nonce.
    pub nonce: (usize, u8),
    /// The Llm that is allowed; `None` denies.
    pub allowed: Option<u8>,
    /// The revision that decided.
    pub revision: u8,
    /// The key that signed.
    pub key: u8,
}

/// What is known of a caller's access at the end of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    /// A signed answer to this very probe.
    Answer(Answer),
    /// None.
    Nothing,
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The caller has not sent it.
    Ahead,
    /// At the primary.
    Primary,
    /// At mcpd, by a probe.
    Probing,
    /// The local engine starts.
    Preparing,
    /// The local engine answers.
    Running {
        /// By a lease.
        leased: bool,
    },
    /// The caller has the local answer.
    Local {
        /// By a lease.
        leased: bool,
    },
    /// The caller has the primary's result.
    Primarys,
    /// The agent went away.
    Lost,
}

/// One request of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Run {
    pub phase: Phase,
    pub machine: FailoverState,
    pub begun: Clock,
    /// Number of probes so far.
    pub probes: u8,
    /// When the last probe was sent.
    pub sent: Option<Clock>,
    /// What it found, and when.
    pub known: Option<(Known, Clock)>,
    /// How the primary ended.
    pub primary: Option<Result<(), FailureClass>>,
    /// Llms for which mcpd has allowed the caller at some time since the request began, as bits.
    pub true_since: u8,
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A local run without an *allowed* for this caller and Llm that was true after the request began.
    WithoutAllow,
    /// A local run on a verdict that is older than a warm start.
    OldAllow,
    /// A local run after a failure that does not fail over, or after the primary's answer.
    WithoutFailure,
    /// A local run by a lease of which no moment within its grace was true at mcpd.
    LeaseTooOld,
    /// A local run by a lease after a signed denial of the same caller and Llm.
    LeaseAfterDenial,
    /// A local run by a lease although there was a verdict.
    LeaseDespiteVerdict,
    /// The caller got neither the primary's own result nor the answer of an allowed local run.
    NoResult,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub clock: Clock,
    pub store: Store,
    pub runs: Vec<Run>,
    /// Answers on the wire. They stay there: any may be late, come twice, or be replayed.
    pub answers: BTreeSet<Answer>,
    pub leases: Leases,
    /// Per Llm: when mcpd last allowed the first caller.
    pub last_true: [Option<u8>; MAX_LLMS],
    /// Per Llm: the revision of the latest signed denial of the first caller that the agent has read.
    pub denied_at: [Option<u8>; MAX_LLMS],
    /// Restarts of the agent so far.
    pub restarts: u8,
    pub violation: Option<Violation>,
}
