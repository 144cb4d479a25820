//! A lease that the agent holds, and every name that its Llm goes by.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::granted::{Lease, LeaseTime};
use crate::llm::{LlmId, LlmRef};

/// Most names of one Llm that are kept; it has one and an id, unless it is renamed.
const MAX_LEASE_NAMES: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
pub(super) struct HeldLease {
    pub lease: Lease,
    /// The name that the Llm was asked for by; `None` where only its id was. A request by this name is covered.
    pub name: Option<String>,
    /// Every name that it was asked for or is configured by, the latest last. A denial of any of them ends the lease.
    pub names: Vec<String>,
    #[zeroize(skip)]
    pub sent: LeaseTime,
    /// Whether it came to the user who is signed in.
    pub signed_in: bool,
}

impl HeldLease {
    pub fn also_known_as(&mut self, names: Vec<String>) {
        self.names.retain(|known| !names.contains(known));
        self.names.extend(names);
        self.names.dedup();
        let surplus = self.names.len().saturating_sub(MAX_LEASE_NAMES);
        self.names.drain(..surplus);
    }

    /// Whether it is of the Llm with this id, or of one that goes by what was asked for.
    pub fn concerns(&self, id: Option<&LlmId>, llm: &LlmRef) -> bool {
        let is_named = self.names.contains(&llm.asked) || self.names.contains(&llm.name);
        Some(&self.lease.llm) == id || self.lease.llm.as_str() == llm.asked || is_named
    }

    /// Whether it is newer than a lease that came with the answer to a probe of this time.
    pub fn is_newer_than(&self, lease: &Lease, sent: LeaseTime) -> bool {
        self.sent.boot > sent.boot || self.lease.revision > lease.revision
    }
}
