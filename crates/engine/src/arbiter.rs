//! Which engines may hold memory when several share a GPU. Engines of one group exclude each other, unless it is known how
//! much each needs and how much there is, and they fit together. Engines get memory in the order in which they asked for it.
//! The engine that was idle for longest is preempted first, and no running request is cut short for another engine.
//!
//! The ledger alone cannot show what is free, so a GPU driver has the last word where there is one, and one engine of a group
//! starts at a time: what a start will take shows in no reading before it is ready. What a start does with its room is
//! not decided here.

mod demand;
mod ledger;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    error::EngineError,
    gpu::{Drivers, Visible},
    guard::Command,
    options::EngineOptions,
    status::EngineStatus,
};
use demand::{Demand, Unsatisfiable, gib};
use ledger::{Asker, Entry, Ledger, Ticket};

/// Where an engine's memory is, and how much it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// Engines of one group share the same memory.
    pub group: String,
    /// How much it needs.
    pub need: Need,
    /// How much there is for the group, bytes; by default what the GPU drivers tell.
    pub capacity: Option<u64>,
}

/// How much memory an engine needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Need {
    /// Not configured: it is alone in its group.
    Unknown,
    /// So many bytes, of whichever GPUs it sees.
    Bytes(u64),
    /// A share of each of some GPUs, the first that it sees, as vLLM takes it.
    Share {
        /// More than 0, at most 1.
        of: f64,
        /// On how many GPUs.
        gpus: u32,
    },
}

impl Default for Placement {
    fn default() -> Self {
        Self { group: "default".to_owned(), need: Need::Unknown, capacity: None }
    }
}

/// What an engine asks for, and which GPUs it sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claim {
    place: Placement,
    sees: Visible,
}

impl Claim {
    pub(crate) fn of(options: &EngineOptions) -> Self {
        Self { place: options.placement.clone(), sees: Visible::to(&options.env) }
    }
}

/// Shared by all engines of an agent.
#[derive(Debug)]
pub struct Arbiter {
    drivers: Drivers,
    ledger: Mutex<Ledger>,
    changed: watch::Sender<()>,
    /// How long memory that somebody held a moment ago may take to be free, before another has to give way.
    grace: Duration,
    /// How long it may take before there is none.
    free_timeout: Duration,
    poll_interval: Duration,
}

impl Default for Arbiter {
    fn default() -> Self {
        Self {
            drivers: Drivers::default(),
            ledger: Mutex::default(),
            changed: watch::Sender::default(),
            grace: Duration::from_secs(2),
            free_timeout: Duration::from_secs(15),
            poll_interval: Duration::from_millis(500),
        }
    }
}

/// An engine that wants room, and how it is told to give it back.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) start: u32,
    pub(crate) commands: mpsc::WeakUnboundedSender<Command>,
    pub(crate) status: watch::Receiver<EngineStatus>,
}

/// Room for one engine, or what it left of it when it fell asleep; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    arbiter: Arc<Arbiter>,
    ticket: Ticket,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.arbiter.ledger().forget(self.ticket);
        self.arbiter.changed.send_replace(());
    }
}

impl Lease {
    /// Says that the start came to a ready engine: what it holds shows in the driver's readings now, so the next may start.
    pub(crate) fn settle(&mut self) {
        self.arbiter.ledger().leave_queue(self.ticket);
        self.arbiter.changed.send_replace(());
    }

    /// Gives the room back once the engine has fallen asleep, and keeps in mind how much came free by that: not all does.
    ///
    /// # Errors
    /// When it does not fall asleep; then it keeps its room.
    pub(crate) async fn sleep(
        &mut self,
        falls_asleep: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<(), EngineError> {
        let demand = self.arbiter.ledger().demand(self.ticket).filter(|demand| !demand.parts.is_empty());
        let released = match demand {
            Some(demand) => {
                let before = self.arbiter.drivers.gpus().await;
                falls_asleep.await?;
                demand.came_free(&before, &self.arbiter.drivers.gpus().await)
            }
            None => falls_asleep.await.map(|()| None)?,
        };
        self.arbiter.ledger().fell_asleep(self.ticket, released);
        self.arbiter.changed.send_replace(());
        Ok(())
    }
}

impl Arbiter {
    /// One that asks this program where it would ask `nvidia-smi`: for a driver that is played.
    pub fn with_nvidia_smi(nvidia_smi: PathBuf) -> Self {
        Self { drivers: Drivers { nvidia_smi, ..Drivers::default() }, ..Self::default() }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, and has others give way. `asleep` is what the engine left when it fell asleep, where it is to be
    /// woken. Dropping the future gives the place in the queue back.
    ///
    /// # Errors
    /// When there can be none: it needs more than there is, or other programs hold it.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        claim: &Claim,
        tenant: Tenant,
        asleep: Option<&Lease>,
    ) -> Result<Lease, EngineError> {
        let mut changed = self.changed.subscribe();
        let group = &claim.place.group;
        // Before the driver is asked, so that the order is that of asking.
        let ticket = self.ledger().enqueue(group);
        let mut lease = Lease { arbiter: Arc::clone(self), ticket };
        let demand = self.demand(claim).await.map_err(|unsatisfiable| {
            let (reason, hint) = unsatisfiable.told();
            no_room(&tenant.name, reason, hint)
        })?;
        let mut made_room = false;
        loop {
            changed.borrow_and_update();
            match self.ledger().try_enter(Asker { ticket, group, demand: &demand }, &tenant) {
                Entry::Entered => break,
                Entry::Waits { must_preempt } => made_room |= must_preempt,
            }
            // The sender lives as long as the arbiter does.
            let _ = changed.changed().await;
        }
        // Whoever is next may have it give way, or fit beside it.
        self.changed.send_replace(());
        if demand.parts.is_empty() {
            // No driver shows what the next one would have to wait for, and it may fit beside this one.
            lease.settle();
        } else if demand.need.is_some() {
            let asleep = asleep.map(|lease| lease.ticket);
            let released = asleep.and_then(|ticket| self.ledger().released(ticket));
            let demand = released.map_or_else(|| demand.clone(), |released| demand.to_wake(&released));
            self.until_free(Asker { ticket, group, demand: &demand }, asleep, &tenant.name).await?;
        } else if made_room {
            self.until_steady(&demand).await;
        }
        Ok(lease)
    }

    /// Waits until an engine could start without anybody giving way. The driver is asked only after something changed.
    pub(crate) async fn until_vacant(&self, claim: &Claim) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.is_vacant(claim).await {
                return;
            }
            let _ = changed.changed().await;
        }
    }

    async fn is_vacant(&self, claim: &Claim) -> bool {
        let group = &claim.place.group;
        let (queue, tenants) = {
            let ledger = self.ledger();
            (ledger.has_queue(group), ledger.has_tenants(group))
        };
        if queue || !tenants {
            return !queue;
        }
        // What can never fit makes nobody give way; its start says why.
        let Ok(demand) = self.demand(claim).await else { return true };
        let ledger = self.ledger();
        !ledger.has_queue(group) && ledger.must_leave(group, &demand).is_empty()
    }

    async fn demand(&self, claim: &Claim) -> Result<Demand, Unsatisfiable> {
        let gpus = self.drivers.gpus().await;
        Demand::of(&claim.place, &claim.sees.among(&gpus))
    }

    /// Books say that it fits; the driver has the last word. What a process held may take a moment to be free, and what
    /// others hold that are not ours never will be.
    async fn until_free(
        &self,
        asker: Asker<'_>,
        asleep: Option<Ticket>,
        name: &str,
    ) -> Result<(), EngineError> {
        let mut since = Instant::now();
        loop {
            let gpus = self.drivers.gpus().await;
            if asker.demand.is_free(&gpus) {
                return Ok(());
            }
            let now = Instant::now();
            let preempts = {
                let mut ledger = self.ledger();
                ledger.is_anyone_leaving(asker, asleep, now)
                    || now >= since + self.grace && ledger.preempt_oldest(asker, asleep, now)
            };
            if preempts {
                since = now;
            } else if now >= since + self.free_timeout {
                let need = gib(asker.demand.need.unwrap_or(0));
                let told = asker.demand.told(&gpus);
                let reason = format!("needs {need} of GPU memory, and {told}; other programs hold the rest");
                return Err(no_room(
                    name,
                    reason,
                    "end what else uses the GPU, or give the engine less memory",
                ));
            }
            tokio::time::sleep(self.poll_interval).await;
        }
    }

    /// Nobody knows how much is needed, so what those held who gave way has to be free: until no more comes free.
    async fn until_steady(&self, demand: &Demand) {
        let until = Instant::now() + self.free_timeout;
        let mut before = None;
        loop {
            let free = demand.free(&self.drivers.gpus().await);
            if before.is_some_and(|before| free <= before) || Instant::now() >= until {
                return;
            }
            before = Some(free);
            tokio::time::sleep(self.poll_interval).await;
        }
    }
}

fn no_room(name: &str, reason: String, hint: &str) -> EngineError {
    EngineError::NoRoom { name: name.to_owned(), reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
