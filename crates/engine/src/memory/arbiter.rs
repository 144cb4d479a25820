//! Decides which engines may hold memory when several share a GPU. Engines of one group exclude each other, unless it is
//! known how much each needs and how much there is, and they fit together. Engines get memory in the order in which they
//! claimed it. The engine that was idle for longest is preempted first, and no running request is cut short for another engine.
//!
//! The ledger alone cannot show what is free, so a GPU driver decides where there is one, and one engine of a group
//! starts at a time: no reading shows what a start will take before it is ready.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    demand::{Demand, Unsatisfiable},
    gpu::{Drivers, Gpu, OtherPrograms, Visible},
    ledger::{Admission, Claimant, Ledger, Ticket},
    meter::Meter,
    placement::Placement,
    tenant::Tenant,
};
use crate::{error::EngineError, options::EngineOptions, status::EngineStatus};

/// The memory that an engine claims, and the GPUs that it sees.
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

/// Decides for all engines of an agent.
#[derive(Debug)]
pub struct Arbiter {
    drivers: Drivers,
    ledger: Mutex<Ledger>,
    changed: watch::Sender<()>,
    /// How long memory that was just released may take to be free, before another engine is preempted.
    grace: Duration,
    /// The timeout until the claim counts as unsatisfiable.
    free_timeout: Duration,
    poll_interval: Duration,
    meter: Meter,
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
            meter: Meter::default(),
        }
    }
}

/// The right of one engine to its memory, or to the part that it keeps asleep. Released when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    arbiter: Arc<Arbiter>,
    ticket: Ticket,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.arbiter.ledger().remove(self.ticket);
        self.arbiter.changed.send_replace(());
    }
}

impl Lease {
    /// Lets the next engine start, because this one is ready: the driver's readings show what it holds.
    pub(crate) fn settle(&mut self) {
        self.arbiter.ledger().end_turn(self.ticket);
        self.arbiter.changed.send_replace(());
    }

    /// Releases the memory once the engine has fallen asleep, and records how much became free, which is not all.
    ///
    /// # Errors
    /// When it does not fall asleep; then it keeps its memory.
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
    /// Asks this program instead of `nvidia-smi`, for tests with a scripted driver.
    pub fn with_nvidia_smi(nvidia_smi: PathBuf) -> Self {
        Self { drivers: Drivers { nvidia_smi, ..Drivers::default() }, ..Self::default() }
    }

    /// The bytes of GPU memory that an engine holds; `None` where the driver does not report that.
    pub async fn held_by(&self, engine: &EngineStatus) -> Option<u64> {
        self.meter.held_by(engine, &self.drivers).await
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for memory, and preempts others for it. `asleep` is the lease of an engine that is to be woken. Dropping the
    /// future withdraws the claim.
    ///
    /// # Errors
    /// When the claim cannot be satisfied: it needs more than there is, or other programs hold it.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        claim: &Claim,
        tenant: Tenant,
        asleep: Option<&Lease>,
    ) -> Result<Lease, EngineError> {
        let mut changed = self.changed.subscribe();
        let group = &claim.place.group;
        // Before the driver is asked, so that claims are served in order.
        let ticket = self.ledger().enqueue(group);
        let mut lease = Lease { arbiter: Arc::clone(self), ticket };
        let gpus = self.drivers.gpus().await;
        let demand = Demand::of(&claim.place, &claim.sees.among(&gpus)).map_err(|unsatisfiable| {
            let (reason, hint) = unsatisfiable.describe();
            no_room(&tenant.name, reason, hint)
        })?;
        let asleep = asleep.map(|lease| lease.ticket);
        let released = asleep.and_then(|ticket| self.ledger().released(ticket));
        let takes = released.map_or_else(|| demand.clone(), |released| demand.to_wake(&released));
        // Before an engine is preempted, so that none leaves for a claim that is refused all the same.
        self.until_programs_leave_enough(&takes, gpus, &tenant.name).await?;
        let mut made_room = false;
        loop {
            changed.borrow_and_update();
            match self.ledger().admit(Claimant { ticket, group, demand: &demand }, &tenant) {
                Admission::Granted => break,
                Admission::Waits { must_preempt } => made_room |= must_preempt,
            }
            // The sender lives as long as the arbiter does.
            let _ = changed.changed().await;
        }
        // The next one may preempt this one, or fit beside it.
        self.changed.send_replace(());
        if demand.parts.is_empty() {
            // Without a driver there is no reading to wait for, and the next one may fit beside this one.
            lease.settle();
        } else if demand.need.is_some() {
            self.until_free(Claimant { ticket, group, demand: &takes }, asleep, &tenant.name).await?;
        } else if made_room {
            self.until_steady(&demand).await;
        }
        Ok(lease)
    }

    /// Waits until an engine could start without preempting another. The driver is asked only after a change.
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
        let (queue, holders) = {
            let ledger = self.ledger();
            (ledger.has_queue(group), ledger.has_holders(group))
        };
        if queue || !holders {
            return !queue;
        }
        // An unsatisfiable claim preempts no engine; its start reports why.
        let Ok(demand) = self.demand(claim).await else { return true };
        let ledger = self.ledger();
        !ledger.has_queue(group) && ledger.must_leave(group, &demand).is_empty()
    }

    async fn demand(&self, claim: &Claim) -> Result<Demand, Unsatisfiable> {
        let gpus = self.drivers.gpus().await;
        Demand::of(&claim.place, &claim.sees.among(&gpus))
    }

    /// Waits for other programs to end where they hold so much that the demand would not be free if every engine had left; not
    /// for long, because they need not end. `gpus` is the last reading.
    async fn until_programs_leave_enough(
        &self,
        demand: &Demand,
        mut gpus: Vec<Gpu>,
        name: &str,
    ) -> Result<(), EngineError> {
        let since = Instant::now();
        loop {
            if demand.is_free(&gpus) {
                return Ok(());
            }
            let programs = self.drivers.other_programs().await;
            if demand.fits_beside_programs(&gpus, &programs) {
                return Ok(());
            }
            if since.elapsed() >= self.grace {
                return Err(short_of(name, demand, &gpus, &programs));
            }
            tokio::time::sleep(self.poll_interval).await;
            gpus = self.drivers.gpus().await;
        }
    }

    /// Waits until the driver reports the memory as free that the ledger has granted. Memory of a process that ended takes a
    /// moment to be free, up to 0.4 s for 70 GiB of an H200, and memory of other programs may never be.
    async fn until_free(
        &self,
        claimant: Claimant<'_>,
        asleep: Option<Ticket>,
        name: &str,
    ) -> Result<(), EngineError> {
        let mut since = Instant::now();
        loop {
            let gpus = self.drivers.gpus().await;
            if claimant.demand.is_free(&gpus) {
                return Ok(());
            }
            let programs = self.drivers.other_programs().await;
            let can_be_free = claimant.demand.fits_beside_programs(&gpus, &programs);
            let now = Instant::now();
            let preempts = can_be_free && {
                let mut ledger = self.ledger();
                ledger.is_any_leaving(claimant, asleep, now)
                    || now >= since + self.grace && ledger.preempt_oldest(claimant, asleep, now)
            };
            let timeout = if can_be_free { self.free_timeout } else { self.grace };
            if preempts {
                since = now;
            } else if now >= since + timeout {
                return Err(short_of(name, claimant.demand, &gpus, &programs));
            }
            tokio::time::sleep(self.poll_interval).await;
        }
    }

    /// Waits until no more memory becomes free: the demand is unknown, so all memory of the preempted engines counts.
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

/// What to do where other programs hold the memory that an engine needs.
const SHORTAGE_HINT: &str = "end what else uses the GPU, or give the engine less memory";

fn short_of(name: &str, demand: &Demand, gpus: &[Gpu], programs: &OtherPrograms) -> EngineError {
    no_room(name, demand.shortage(gpus, programs), SHORTAGE_HINT)
}

/// Why the start of an engine would be refused at this moment because of other programs, and the next step; for diagnosis.
pub fn shortage(
    options: &EngineOptions,
    gpus: &[Gpu],
    programs: &OtherPrograms,
) -> Option<(String, &'static str)> {
    let claim = Claim::of(options);
    let demand = Demand::of(&claim.place, &claim.sees.among(gpus)).ok()?;
    let is_short = demand.need.is_some() && !demand.fits_beside_programs(gpus, programs);
    is_short.then(|| (demand.shortage(gpus, programs), SHORTAGE_HINT))
}

fn no_room(name: &str, reason: String, hint: &str) -> EngineError {
    EngineError::NoRoom { name: name.to_owned(), reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
