//! The claims of engines to memory, in the order in which they were made: the arbiter's accounting. It preempts engines and
//! asks no driver.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{demand::Demand, tenant::Tenant};
use crate::status::EngineState;

/// The time that a preempted sleeper has to stop: its process is ended like any other, by SIGKILL in the end.
const SLEEPER_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Identifies one claim; no number is used twice.
pub(super) type Ticket = u64;

/// All claims, ordered by ticket.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    next: Ticket,
    claims: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    ticket: Ticket,
    group: String,
    /// Whether later claims of the group wait for it: until it has memory, and where a driver can be asked until its engine
    /// is ready.
    has_turn: bool,
    /// `None` while it waits.
    holding: Option<Holding>,
}

/// The memory of a claim.
#[derive(Debug)]
struct Holding {
    demand: Demand,
    tenant: Tenant,
    state: HoldingState,
}

#[derive(Debug)]
enum HoldingState {
    /// All that it demands.
    Whole { preempted: bool },
    /// The part that an engine keeps asleep: vLLM keeps its CUDA context, its graphs, and what libraries hold.
    Asleep {
        /// Bytes that became free on each GPU when it fell asleep, where the driver reported them.
        released: Option<Vec<(u32, u64)>>,
        /// When it was preempted.
        preempted: Option<Instant>,
    },
}

/// A claim that needs memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub(super) ticket: Ticket,
    pub(super) group: &'a str,
    pub(super) demand: &'a Demand,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Granted,
    /// `must_preempt`: another engine has to leave first.
    Waits {
        must_preempt: bool,
    },
}

impl Ledger {
    /// Adds a claim at the end of its group's queue.
    pub(super) fn enqueue(&mut self, group: &str) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.claims.push(Claim { ticket, group: group.to_owned(), has_turn: true, holding: None });
        ticket
    }

    /// Lets the next claim of the group have its turn.
    pub(super) fn end_turn(&mut self, ticket: Ticket) {
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.ticket == ticket) {
            claim.has_turn = false;
        }
    }

    pub(super) fn remove(&mut self, ticket: Ticket) {
        self.claims.retain(|claim| claim.ticket != ticket);
    }

    /// Grants a claim if there is memory and no earlier claim has its turn; else preempts others. The claim keeps its turn:
    /// later ones are served when it ends.
    pub(super) fn admit(&mut self, claimant: Claimant<'_>, tenant: &Tenant) -> Admission {
        let queue = self.claims.iter().filter(|claim| claim.has_turn && claim.group == claimant.group);
        let mut ahead = queue.map(|claim| claim.ticket).take_while(|ticket| *ticket != claimant.ticket);
        let (first, second) = (ahead.next(), ahead.next());
        let leaving = self.must_leave(claimant.group, claimant.demand);
        let must_preempt = !leaving.is_empty();
        match first {
            None if !must_preempt => {
                if let Some(claim) = self.claims.iter_mut().find(|claim| claim.ticket == claimant.ticket) {
                    claim.holding = Some(Holding {
                        demand: claimant.demand.clone(),
                        tenant: tenant.clone(),
                        state: HoldingState::Whole { preempted: false },
                    });
                }
                return Admission::Granted;
            }
            None => self.preempt(&leaving),
            // The next claim need not wait for a start that is no longer needed.
            Some(starting) if second.is_none() && leaving.contains(&starting) => self.preempt(&[starting]),
            Some(_) => {}
        }
        Admission::Waits { must_preempt }
    }

    /// The tickets of the engines that have to leave before an engine may enter.
    pub(super) fn must_leave(&self, group: &str, demand: &Demand) -> Vec<Ticket> {
        let others = self.claims.iter().filter(|claim| claim.group == group).filter_map(Resident::of);
        must_leave(demand, others.filter(|other| demand.touches(&other.demand)).collect())
    }

    pub(super) fn has_queue(&self, group: &str) -> bool {
        self.claims.iter().any(|claim| claim.has_turn && claim.group == group)
    }

    pub(super) fn has_holders(&self, group: &str) -> bool {
        self.claims.iter().any(|claim| claim.group == group && claim.holds_whole())
    }

    /// Whether an engine is leaving whose memory the claimant may get. `asleep` is the claimant's own engine, where it is to
    /// be woken.
    pub(super) fn is_any_leaving(
        &self,
        claimant: Claimant<'_>,
        asleep: Option<Ticket>,
        now: Instant,
    ) -> bool {
        self.claims.iter().filter(|claim| claim.is_beside(claimant, asleep)).any(|claim| {
            let Some(Holding { tenant, state, .. }) = &claim.holding else { return false };
            match state {
                HoldingState::Whole { preempted } => *preempted,
                HoldingState::Asleep { preempted, .. } => {
                    let stage = tenant.status.borrow().state;
                    matches!(stage, EngineState::Sleeping | EngineState::Draining)
                        && preempted.is_some_and(|at| now.duration_since(at) < SLEEPER_STOP_TIMEOUT)
                }
            }
        })
    }

    /// Preempts one engine whose memory the claimant may get: the one that was idle for longest, or else the sleeper that
    /// was. Returns `false` where there is none left.
    pub(super) fn preempt_oldest(
        &mut self,
        claimant: Claimant<'_>,
        asleep: Option<Ticket>,
        now: Instant,
    ) -> bool {
        let beside = self.claims.iter().filter(|claim| claim.is_beside(claimant, asleep));
        if let Some(oldest) = beside.filter_map(Resident::of).min_by_key(Resident::order) {
            self.preempt(&[oldest.ticket]);
            return true;
        }
        let sleepers = self.claims.iter_mut().filter(|claim| claim.is_beside(claimant, asleep));
        let sleepers = sleepers.filter_map(|claim| {
            let Holding { tenant, state, .. } = claim.holding.as_mut()?;
            let HoldingState::Asleep { preempted, .. } = state else { return None };
            // An engine that falls asleep or wakes at this moment would ignore it.
            let is_asleep = tenant.status.borrow().state == EngineState::Sleeping;
            (preempted.is_none() && is_asleep).then_some((tenant, preempted))
        });
        let oldest = sleepers.min_by_key(|(tenant, _)| tenant.status.borrow().last_used);
        let Some((tenant, preempted)) = oldest else { return false };
        *preempted = Some(now);
        tenant.preempt.send();
        true
    }

    fn preempt(&mut self, tickets: &[Ticket]) {
        for claim in self.claims.iter_mut().filter(|claim| tickets.contains(&claim.ticket)) {
            if let Some(Holding { tenant, state: HoldingState::Whole { preempted }, .. }) = &mut claim.holding
                && !std::mem::replace(preempted, true)
            {
                tenant.preempt.send();
            }
        }
    }

    /// The demand of a claim that holds all of it.
    pub(super) fn demand(&self, ticket: Ticket) -> Option<Demand> {
        let claim = self.claims.iter().find(|claim| claim.ticket == ticket && claim.holds_whole())?;
        Some(claim.holding.as_ref()?.demand.clone())
    }

    /// Records that the engine of a claim has fallen asleep.
    pub(super) fn fell_asleep(&mut self, ticket: Ticket, released: Option<Vec<(u32, u64)>>) {
        let claim = self.claims.iter_mut().find(|claim| claim.ticket == ticket);
        if let Some(holding) = claim.and_then(|claim| claim.holding.as_mut()) {
            holding.state = HoldingState::Asleep { released, preempted: None };
        }
    }

    /// The bytes that became free on each GPU when the engine of this claim fell asleep, where that is known.
    pub(super) fn released(&self, ticket: Ticket) -> Option<Vec<(u32, u64)>> {
        let claim = self.claims.iter().find(|claim| claim.ticket == ticket)?;
        match &claim.holding.as_ref()?.state {
            HoldingState::Asleep { released, .. } => released.clone(),
            HoldingState::Whole { .. } => None,
        }
    }
}

impl Claim {
    fn holds_whole(&self) -> bool {
        matches!(&self.holding, Some(Holding { state: HoldingState::Whole { .. }, .. }))
    }

    /// Whether it holds memory that a claimant may get. `asleep` is the claimant's own engine.
    fn is_beside(&self, claimant: Claimant<'_>, asleep: Option<Ticket>) -> bool {
        let is_own = self.ticket == claimant.ticket || Some(self.ticket) == asleep;
        let shares = |holding: &Holding| claimant.demand.shares_gpus(&holding.demand);
        !is_own && self.group == claimant.group && self.holding.as_ref().is_some_and(shares)
    }
}

/// An engine that holds all of its memory, when another one needs some.
#[derive(Debug, Clone)]
pub(super) struct Resident {
    pub(super) ticket: Ticket,
    pub(super) demand: Demand,
    pub(super) preempted: bool,
    pub(super) idle: bool,
    pub(super) last_used: Option<Timestamp>,
}

impl Resident {
    fn of(claim: &Claim) -> Option<Self> {
        let Holding { demand, tenant, state: HoldingState::Whole { preempted } } = claim.holding.as_ref()?
        else {
            return None;
        };
        let status = tenant.status.borrow();
        Some(Self {
            ticket: claim.ticket,
            demand: demand.clone(),
            preempted: *preempted,
            idle: status.in_flight + status.queued == 0,
            last_used: status.last_used,
        })
    }

    /// The order of leaving: preempted engines, then idle ones, then those that were used longest ago.
    fn order(&self) -> (bool, bool, Option<Timestamp>) {
        (!self.preempted, !self.idle, self.last_used)
    }
}

/// The tickets of the engines that have to leave before an engine may enter; empty where it fits. Those that were idle for
/// longest leave, and of these none whose memory is not needed once the others have left.
pub(super) fn must_leave(demand: &Demand, mut others: Vec<Resident>) -> Vec<Ticket> {
    others.sort_by_key(Resident::order);
    let fits = |staying: &[&Resident]| demand.fits_beside(staying.iter().map(|other| &other.demand));
    let others: Vec<&Resident> = others.iter().collect();
    let first = (0..=others.len()).find(|&leaving| fits(others.get(leaving..).unwrap_or_default()));
    let (leaving, staying) = others.split_at(first.unwrap_or(others.len()));
    let (mut staying, mut tickets) = (staying.to_vec(), Vec::new());
    for other in leaving.iter().rev() {
        staying.push(other);
        if other.preempted || !fits(&staying) {
            staying.pop();
            tickets.push(other.ticket);
        }
    }
    tickets.reverse();
    tickets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With configured memory and without a driver.
    fn demand(need: Option<u64>, declared: Option<u64>) -> Demand {
        Demand { need, declared, ..Demand::default() }
    }

    fn resident(ticket: Ticket, need: Option<u64>, idle: bool, used: i64) -> Resident {
        let last_used = Timestamp::from_second(used).ok();
        Resident { ticket, demand: demand(need, None), preempted: false, idle, last_used }
    }

    /// As seen with a card of 139.8 GiB: the large engine alone had to leave.
    #[test]
    fn small_engine_stays_where_a_larger_one_has_to_leave() {
        let leaves = |small: Resident| {
            must_leave(&demand(Some(125), Some(139)), vec![small, resident(2, Some(69), true, 20)])
        };
        let small = resident(1, Some(10), true, 10);
        assert_eq!(leaves(small.clone()), [2], "although the other was idle for longer");
        assert_eq!(leaves(Resident { preempted: true, ..small }), [1, 2], "what leaves already is not kept");
    }

    #[test]
    fn engines_idle_for_longest_leave_first_and_no_more() {
        let three = || {
            vec![
                resident(1, Some(4), true, 30),
                resident(2, Some(4), true, 10),
                resident(3, Some(4), false, 0),
            ]
        };
        let leaves = |need, capacity| must_leave(&demand(need, capacity), three());
        assert_eq!(leaves(Some(4), Some(16)), [0; 0], "it fits beside all");
        assert_eq!(leaves(Some(8), Some(16)), [2], "idle, and used before the other");
        assert_eq!(leaves(Some(9), Some(16)), [2, 1], "an engine with a request leaves last");
        assert_eq!(leaves(Some(16), Some(16)), [2, 1, 3]);
        assert_eq!(leaves(None, Some(16)), [2, 1, 3], "an unknown demand is alone");
        assert_eq!(leaves(Some(1), None), [2, 1, 3], "and so is every demand where the capacity is unknown");
        let mut four = three();
        four.push(resident(4, None, true, 99));
        assert_eq!(
            must_leave(&demand(Some(1), Some(99)), four),
            [4],
            "nothing fits beside an unknown demand, and the others stay once it has left"
        );
        let leaving = Resident { preempted: true, ..resident(5, Some(4), false, 99) };
        let all = [three(), vec![leaving]].concat();
        assert_eq!(must_leave(&demand(Some(8), Some(16)), all), [5, 2]);
    }
}
