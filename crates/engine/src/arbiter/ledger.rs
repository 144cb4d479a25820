//! Which engines wait for memory, which hold some, and which sleep and have kept some: the arbiter's accounting. It preempts
//! engines and asks no driver.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Tenant, demand::Demand};
use crate::{guard::Command, status::EngineState};

/// How long a sleeper that was asked to go may take: its process is ended as any other's, by SIGKILL in the end.
const SLEEPER_STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Identifies one claim; no number is used twice.
pub(super) type Ticket = u64;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    next: Ticket,
    /// Who waits for room, in the order of asking. Where a driver can be asked, who has room and still starts is here too.
    queue: VecDeque<(Ticket, String)>,
    tenants: Vec<Holder>,
    sleepers: Vec<Sleeper>,
}

#[derive(Debug)]
struct Holder {
    ticket: Ticket,
    group: String,
    demand: Demand,
    tenant: Tenant,
    preempted: bool,
}

/// It has given its memory back, but not all of it: vLLM keeps its CUDA context, its graphs, and what libraries hold.
#[derive(Debug)]
struct Sleeper {
    ticket: Ticket,
    group: String,
    demand: Demand,
    tenant: Tenant,
    /// Bytes that came free of each GPU when it fell asleep, where the driver told.
    released: Option<Vec<(u32, u64)>>,
    asked: Option<Instant>,
}

/// Who needs room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) ticket: Ticket,
    pub(super) group: &'a str,
    pub(super) demand: &'a Demand,
}

/// How it went with somebody who wanted to enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Entered,
    /// `must_preempt`: and somebody who is there has to leave first.
    Waits {
        must_preempt: bool,
    },
}

impl Ledger {
    pub(super) fn enqueue(&mut self, group: &str) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.queue.push_back((ticket, group.to_owned()));
        ticket
    }

    /// Lets the next one have its turn.
    pub(super) fn leave_queue(&mut self, ticket: Ticket) {
        self.queue.retain(|(other, _)| *other != ticket);
    }

    /// Strikes somebody out everywhere.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.leave_queue(ticket);
        self.tenants.retain(|tenant| tenant.ticket != ticket);
        self.sleepers.retain(|sleeper| sleeper.ticket != ticket);
    }

    /// Takes the room if there is some and nobody asked before; else tells others to give way. The place in the queue
    /// stays: others have their turn when it is left.
    pub(super) fn try_enter(&mut self, asker: Asker<'_>, tenant: &Tenant) -> Entry {
        let line = self.queue.iter().filter(|(_, group)| group == asker.group).map(|(ticket, _)| *ticket);
        let mut ahead = line.take_while(|ticket| *ticket != asker.ticket);
        let (first, second) = (ahead.next(), ahead.next());
        let leaving = self.must_leave(asker.group, asker.demand);
        let must_preempt = !leaving.is_empty();
        match first {
            None if !must_preempt => {
                self.tenants.push(Holder {
                    ticket: asker.ticket,
                    group: asker.group.to_owned(),
                    demand: asker.demand.clone(),
                    tenant: tenant.clone(),
                    preempted: false,
                });
                return Entry::Entered;
            }
            None => self.preempt(&leaving),
            // The next in line need not wait for a start that nobody wants any more.
            Some(starting) if second.is_none() && leaving.contains(&starting) => self.preempt(&[starting]),
            Some(_) => {}
        }
        Entry::Waits { must_preempt }
    }

    /// The tickets of those who have to leave before an engine may enter.
    pub(super) fn must_leave(&self, group: &str, demand: &Demand) -> Vec<Ticket> {
        let others =
            self.tenants.iter().filter(|tenant| tenant.group == group && demand.touches(&tenant.demand));
        must_leave(demand, others.map(Resident::of).collect())
    }

    pub(super) fn has_queue(&self, group: &str) -> bool {
        self.queue.iter().any(|(_, other)| other == group)
    }

    pub(super) fn has_tenants(&self, group: &str) -> bool {
        self.tenants.iter().any(|tenant| tenant.group == group)
    }

    /// Whether somebody gives way already whose memory the asker may get. `asleep` is the asker itself, where it is to be
    /// woken.
    pub(super) fn is_anyone_leaving(&self, asker: Asker<'_>, asleep: Option<Ticket>, now: Instant) -> bool {
        let leaves = |sleeper: &Sleeper| {
            let on_its_way =
                matches!(sleeper.tenant.status.borrow().state, EngineState::Sleeping | EngineState::Draining);
            on_its_way && sleeper.asked.is_some_and(|asked| now.duration_since(asked) < SLEEPER_STOP_TIMEOUT)
        };
        self.tenants.iter().any(|tenant| tenant.preempted && tenant.is_beside(asker))
            || self.sleepers.iter().any(|sleeper| leaves(sleeper) && sleeper.is_beside(asker, asleep))
    }

    /// Has one give way whose memory the asker may get: the tenant that rested longest, and where there is none, the
    /// sleeper that did. False where nobody is left to be asked.
    pub(super) fn preempt_oldest(&mut self, asker: Asker<'_>, asleep: Option<Ticket>, now: Instant) -> bool {
        let tenants = self.tenants.iter().filter(|tenant| tenant.is_beside(asker));
        if let Some(oldest) = tenants.map(Resident::of).min_by_key(Resident::order) {
            let oldest = oldest.ticket;
            self.preempt(&[oldest]);
            return true;
        }
        // One that falls asleep or wakes at this moment would not hear it.
        let hears = |sleeper: &&mut Sleeper| {
            sleeper.asked.is_none()
                && sleeper.is_beside(asker, asleep)
                && sleeper.tenant.status.borrow().state == EngineState::Sleeping
        };
        let sleepers = self.sleepers.iter_mut().filter(hears);
        let Some(oldest) = sleepers.min_by_key(|sleeper| sleeper.tenant.status.borrow().last_used) else {
            return false;
        };
        oldest.asked = Some(now);
        oldest.tenant.preempt();
        true
    }

    fn preempt(&mut self, tickets: &[Ticket]) {
        for tenant in self.tenants.iter_mut().filter(|tenant| tickets.contains(&tenant.ticket)) {
            if !std::mem::replace(&mut tenant.preempted, true) {
                tenant.tenant.preempt();
            }
        }
    }

    /// What a tenant takes.
    pub(super) fn demand(&self, ticket: Ticket) -> Option<Demand> {
        self.tenants.iter().find(|tenant| tenant.ticket == ticket).map(|tenant| tenant.demand.clone())
    }

    /// Makes a sleeper of a tenant.
    pub(super) fn fell_asleep(&mut self, ticket: Ticket, released: Option<Vec<(u32, u64)>>) {
        let Some(at) = self.tenants.iter().position(|tenant| tenant.ticket == ticket) else { return };
        let Holder { ticket, group, demand, tenant, .. } = self.tenants.remove(at);
        self.sleepers.push(Sleeper { ticket, group, demand, tenant, released, asked: None });
    }

    /// What came free when this sleeper fell asleep, where that is known.
    pub(super) fn released(&self, ticket: Ticket) -> Option<Vec<(u32, u64)>> {
        self.sleepers.iter().find(|sleeper| sleeper.ticket == ticket)?.released.clone()
    }
}

impl Holder {
    fn is_beside(&self, asker: Asker<'_>) -> bool {
        self.ticket != asker.ticket && self.group == asker.group && asker.demand.shares_gpus(&self.demand)
    }
}

impl Sleeper {
    fn is_beside(&self, asker: Asker<'_>, asleep: Option<Ticket>) -> bool {
        Some(self.ticket) != asleep && self.group == asker.group && asker.demand.shares_gpus(&self.demand)
    }
}

impl Tenant {
    fn preempt(&self) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(Command::Preempt { start: self.start });
        }
    }
}

/// What is known of a tenant when somebody else needs room.
#[derive(Debug, Clone)]
pub(super) struct Resident {
    pub(super) ticket: Ticket,
    pub(super) demand: Demand,
    pub(super) preempted: bool,
    pub(super) idle: bool,
    pub(super) last_used: Option<Timestamp>,
}

impl Resident {
    fn of(tenant: &Holder) -> Self {
        let status = tenant.tenant.status.borrow();
        Self {
            ticket: tenant.ticket,
            demand: tenant.demand.clone(),
            preempted: tenant.preempted,
            idle: status.in_flight + status.queued == 0,
            last_used: status.last_used,
        }
    }

    /// Who leaves first: who is leaving already, then who is idle, then who was used longest ago.
    fn order(&self) -> (bool, bool, Option<Timestamp>) {
        (!self.preempted, !self.idle, self.last_used)
    }
}

/// The tickets of those who have to leave before an engine may enter; empty where it fits.
pub(super) fn must_leave(demand: &Demand, mut others: Vec<Resident>) -> Vec<Ticket> {
    others.sort_by_key(Resident::order);
    let fits = |staying: &[Resident]| demand.fits_beside(staying.iter().map(|other| &other.demand));
    let leaving = (0..=others.len()).find(|&leaving| fits(others.get(leaving..).unwrap_or_default()));
    others.iter().take(leaving.unwrap_or(others.len())).map(|other| other.ticket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of memory that was said to be there: no driver tells.
    fn demand(need: Option<u64>, declared: Option<u64>) -> Demand {
        Demand { need, declared, ..Demand::default() }
    }

    fn resident(ticket: Ticket, need: Option<u64>, idle: bool, used: i64) -> Resident {
        let last_used = Timestamp::from_second(used).ok();
        Resident { ticket, demand: demand(need, None), preempted: false, idle, last_used }
    }

    #[test]
    fn those_that_rest_longest_leave_first_and_no_more_than_have_to() {
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
        assert_eq!(leaves(Some(9), Some(16)), [2, 1], "who runs a request leaves last");
        assert_eq!(leaves(Some(16), Some(16)), [2, 1, 3]);
        assert_eq!(leaves(None, Some(16)), [2, 1, 3], "what nobody knows the size of is alone");
        assert_eq!(
            leaves(Some(1), None),
            [2, 1, 3],
            "and so is everything where nobody knows how much there is"
        );
        let mut four = three();
        four.push(resident(4, None, true, 99));
        assert_eq!(
            must_leave(&demand(Some(1), Some(99)), four),
            [2, 1, 4],
            "beside it nothing else has room"
        );
        let leaving = Resident { preempted: true, ..resident(5, Some(4), false, 99) };
        let all = [three(), vec![leaving]].concat();
        assert_eq!(must_leave(&demand(Some(8), Some(16)), all), [5, 2]);
    }
}
