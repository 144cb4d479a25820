//! A lease as mcpd granted it, the clocks that it is counted on, and what it covers.

use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{bearer::BearerDigest, llm::LlmId};

/// Longest grace that is accepted, whatever mcpd signed.
pub const MAX_GRACE: Duration = Duration::from_secs(300);
/// How far the wall clock may lag behind the other one within a grace without having been stepped: NTP slews by at most 0.05 %
/// (adjtime), 150 ms in 300 s.
const MAX_WALL_LAG: Duration = Duration::from_secs(1);

/// A reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseTime {
    /// Since the machine was booted, suspended time included.
    pub boot: Duration,
    /// Since 1970, as the machine's wall clock has it.
    pub wall: Duration,
}

/// A lease that mcpd signed.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub struct Lease {
    /// The id of the account that it is for.
    pub subject: String,
    /// The credential that it is for.
    pub bearer: BearerDigest,
    /// The Llm that it is for.
    #[zeroize(skip)]
    pub llm: LlmId,
    /// The agent that it is for.
    pub agent: String,
    /// The revision that mcpd judged.
    pub revision: u64,
    /// How long it covers the caller from the sending of the probe on.
    #[zeroize(skip)]
    pub grace: Duration,
    /// The signed text, for the journal.
    pub token: String,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { subject, llm, revision, grace, .. } = self;
        write!(f, "Lease({subject}, {llm}, revision {revision}, {grace:?})")
    }
}

/// A lease that covers a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseCover {
    /// The Llm.
    pub llm: LlmId,
    /// The id of the account.
    pub subject: String,
    /// How long it still covers.
    pub remaining: Duration,
    /// The reading of the clock that runs during suspend at which it ends.
    pub ends: Duration,
    /// The signed text, for the journal.
    pub token: String,
}

/// Whose request a lease is for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseCaller<'a> {
    /// The caller's credential.
    pub bearer: &'a BearerDigest,
    /// Whether the caller is the user who is signed in.
    pub signed_in: bool,
}

/// What is left of a grace; `None` where it has ended, or a clock shows that the time since `sent` is not known.
pub(super) fn remaining(grace: Duration, sent: LeaseTime, now: LeaseTime) -> Option<Duration> {
    let boot = now.boot.checked_sub(sent.boot)?;
    // Void: the wall clock was stepped back.
    let wall = now.wall.checked_sub(sent.wall)?;
    if wall.saturating_add(MAX_WALL_LAG) < boot {
        return None;
    }
    // A paused virtual machine stops the clock of the boot, and its wall clock is set right afterwards.
    grace.checked_sub(boot.max(wall)).filter(|left| !left.is_zero())
}
