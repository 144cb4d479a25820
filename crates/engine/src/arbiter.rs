//! Who may hold memory when several engines share a GPU. Engines of one group exclude each other, unless it is known how
//! much each needs and how much there is, and they fit together. Whoever needs room gets it in the order of asking;
//! engines that rest longest give way first, and no running request is cut short for another engine.
//!
//! What a start does with its room is not decided here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    error::EngineError,
    gpu::{Drivers, Gpu},
    guard::Command,
    status::EngineStatus,
};

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
    /// Nobody said: it is alone in its group.
    Unknown,
    /// So many bytes.
    Bytes(u64),
    /// A share of each of some GPUs, as vLLM takes it.
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

/// Shared by all engines of an agent.
#[derive(Debug)]
pub struct Arbiter {
    drivers: Drivers,
    book: Mutex<Book>,
    changed: watch::Sender<()>,
    /// How long memory may take to be free once those who held it are gone.
    freed_within: Duration,
    look_every: Duration,
}

impl Default for Arbiter {
    fn default() -> Self {
        Self {
            drivers: Drivers::default(),
            book: Mutex::default(),
            changed: watch::Sender::default(),
            freed_within: Duration::from_secs(15),
            look_every: Duration::from_millis(500),
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    /// Who waits for room, in the order of asking.
    queue: VecDeque<(u64, String)>,
    tenants: Vec<Tenant>,
}

#[derive(Debug)]
struct Tenant {
    ticket: u64,
    group: String,
    /// Bytes; none: it is alone.
    need: Option<u64>,
    party: Party,
    yielding: bool,
}

/// An engine that wants room, and how it is told to give it back.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) start: u32,
    pub(crate) commands: mpsc::WeakUnboundedSender<Command>,
    pub(crate) status: watch::Receiver<EngineStatus>,
}

/// Room for one engine; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    arbiter: Arc<Arbiter>,
    ticket: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut book = self.arbiter.book();
        book.queue.retain(|(ticket, _)| *ticket != self.ticket);
        book.tenants.retain(|tenant| tenant.ticket != self.ticket);
        drop(book);
        self.arbiter.changed.send_replace(());
    }
}

impl Arbiter {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, and has others give way. Dropping the future gives the place in the queue back.
    ///
    /// # Errors
    /// When there can be none: it needs more than there is, or other programs hold it.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        place: &Placement,
        party: Party,
    ) -> Result<Lease, EngineError> {
        let gpus = if place.need == Need::Unknown { Vec::new() } else { self.drivers.gpus().await };
        if let Need::Share { gpus: wanted, .. } = place.need
            && !gpus.is_empty()
            && wanted as usize > gpus.len()
        {
            let reason = format!("wants {wanted} GPUs, and the driver knows {}", gpus.len());
            return Err(no_room(&party.name, reason, "lower `tensorParallelSize`"));
        }
        let (need, capacity) = known(place, &gpus).unzip();
        if let (Some(need), Some(capacity)) = (need, capacity)
            && need > capacity
        {
            let reason = format!("needs {}, and there are {} in all", gib(need), gib(capacity));
            return Err(no_room(&party.name, reason, "choose a smaller model, or give it less memory"));
        }
        let mut changed = self.changed.subscribe();
        let lease = self.enqueue(&place.group);
        loop {
            changed.borrow_and_update();
            if self.try_enter(&lease, place, need, capacity, &party) {
                break;
            }
            // The sender lives as long as the arbiter does.
            let _ = changed.changed().await;
        }
        if need.is_some() && !gpus.is_empty() {
            self.until_free(&lease, place, &party.name).await?;
        }
        Ok(lease)
    }

    /// Waits until an engine could start without anybody giving way.
    pub(crate) async fn until_vacant(&self, place: &Placement) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let vacant = {
                let book = self.book();
                let tenants = book.tenants.iter().any(|tenant| tenant.group == place.group);
                !tenants && !book.queue.iter().any(|(_, group)| *group == place.group)
            };
            if vacant {
                return;
            }
            let _ = changed.changed().await;
        }
    }

    fn enqueue(self: &Arc<Self>, group: &str) -> Lease {
        let mut book = self.book();
        let ticket = book.next;
        book.next += 1;
        book.queue.push_back((ticket, group.to_owned()));
        Lease { arbiter: Arc::clone(self), ticket }
    }

    /// Takes the room if there is some and nobody asked before; else tells others to give way.
    fn try_enter(
        &self,
        lease: &Lease,
        place: &Placement,
        need: Option<u64>,
        capacity: Option<u64>,
        party: &Party,
    ) -> bool {
        let mut book = self.book();
        let first = book.queue.iter().find(|(_, group)| *group == place.group);
        if first.is_none_or(|(ticket, _)| *ticket != lease.ticket) {
            return false;
        }
        let others: Vec<Resident> =
            book.tenants.iter().filter(|tenant| tenant.group == place.group).map(Resident::of).collect();
        let leaving = who_leaves(need, capacity, others);
        if !leaving.is_empty() {
            ask_to_yield(&mut book, &leaving);
            return false;
        }
        book.queue.retain(|(ticket, _)| *ticket != lease.ticket);
        book.tenants.push(Tenant {
            ticket: lease.ticket,
            group: place.group.clone(),
            need,
            party: party.clone(),
            yielding: false,
        });
        drop(book);
        // Whoever is next may fit beside it.
        self.changed.send_replace(());
        true
    }

    /// Books say that it fits; the driver has the last word. What a process held may take a moment to be free, and what
    /// others hold that are not ours never will be.
    async fn until_free(&self, lease: &Lease, place: &Placement, name: &str) -> Result<(), EngineError> {
        let mut until = Instant::now() + self.freed_within;
        loop {
            let gpus = self.drivers.gpus().await;
            // A driver that stopped answering knows no more than none.
            if gpus.is_empty() || is_free(place.need, &gpus) {
                return Ok(());
            }
            if self.oldest_gives_way(lease, &place.group) {
                until = Instant::now() + self.freed_within;
            } else if Instant::now() >= until {
                let (free, total) = (sum(&gpus, |gpu| gpu.free), sum(&gpus, |gpu| gpu.total));
                let need = known(place, &gpus).map_or_else(String::new, |(need, _)| gib(need));
                let reason = format!(
                    "needs {need} of GPU memory, and {} of {} are free; other programs hold the rest",
                    gib(free),
                    gib(total)
                );
                return Err(no_room(
                    name,
                    reason,
                    "end what else uses the GPU, or give the engine less memory",
                ));
            }
            tokio::time::sleep(self.look_every).await;
        }
    }

    /// Has the tenant that rested longest give way; false where there is none but this lease's own. While somebody
    /// gives way, that is waited for.
    fn oldest_gives_way(&self, lease: &Lease, group: &str) -> bool {
        let mut book = self.book();
        let mut others: Vec<Resident> = book
            .tenants
            .iter()
            .filter(|tenant| tenant.group == group && tenant.ticket != lease.ticket)
            .map(Resident::of)
            .collect();
        others.sort_by_key(Resident::order);
        let Some(first) = others.first() else { return false };
        ask_to_yield(&mut book, &[first.ticket]);
        true
    }
}

fn ask_to_yield(book: &mut Book, tickets: &[u64]) {
    for tenant in book.tenants.iter_mut().filter(|tenant| tickets.contains(&tenant.ticket)) {
        if !std::mem::replace(&mut tenant.yielding, true)
            && let Some(commands) = tenant.party.commands.upgrade()
        {
            let _ = commands.send(Command::Yield { start: tenant.party.start });
        }
    }
}

/// What is known of a tenant when somebody else needs room.
#[derive(Debug, Clone)]
struct Resident {
    ticket: u64,
    need: Option<u64>,
    yielding: bool,
    idle: bool,
    last_used: Option<Timestamp>,
}

impl Resident {
    fn of(tenant: &Tenant) -> Self {
        let status = tenant.party.status.borrow();
        Self {
            ticket: tenant.ticket,
            need: tenant.need,
            yielding: tenant.yielding,
            idle: status.in_flight + status.queued == 0,
            last_used: status.last_used,
        }
    }

    /// Who leaves first: who is leaving already, then who is idle, then who was used longest ago.
    fn order(&self) -> (bool, bool, Option<Timestamp>) {
        (!self.yielding, !self.idle, self.last_used)
    }
}

/// The tickets of those who have to leave before an engine of this need may enter; empty where it fits.
fn who_leaves(need: Option<u64>, capacity: Option<u64>, mut others: Vec<Resident>) -> Vec<u64> {
    others.sort_by_key(Resident::order);
    let fits = |staying: &[Resident]| match (need, capacity) {
        _ if staying.is_empty() => true,
        (Some(need), Some(capacity)) => staying
            .iter()
            .try_fold(need, |sum, other| sum.checked_add(other.need?))
            .is_some_and(|sum| sum <= capacity),
        _ => false,
    };
    let leaving = (0..=others.len()).find(|&leaving| fits(others.get(leaving..).unwrap_or_default()));
    others.iter().take(leaving.unwrap_or(others.len())).map(|other| other.ticket).collect()
}

/// Need and capacity in bytes, where both are known.
fn known(place: &Placement, gpus: &[Gpu]) -> Option<(u64, u64)> {
    let total = (!gpus.is_empty()).then(|| sum(gpus, |gpu| gpu.total));
    let need = match place.need {
        Need::Unknown => return None,
        Need::Bytes(bytes) => bytes,
        Need::Share { of, gpus: count } => {
            let asked = gpus.iter().take(count as usize).map(|gpu| share(gpu.total, of));
            (!gpus.is_empty()).then(|| asked.fold(0, u64::saturating_add))?
        }
    };
    Some((need, place.capacity.or(total)?))
}

fn is_free(need: Need, gpus: &[Gpu]) -> bool {
    match need {
        Need::Unknown => true,
        Need::Bytes(bytes) => sum(gpus, |gpu| gpu.free) >= bytes,
        Need::Share { of, gpus: count } => {
            gpus.iter().filter(|gpu| gpu.free >= share(gpu.total, of)).count() >= count as usize
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of memory, to be compared and shown; the share is between 0 and 1"
)]
fn share(total: u64, of: f64) -> u64 {
    (total as f64 * of) as u64
}

fn sum(gpus: &[Gpu], bytes: impl Fn(&Gpu) -> u64) -> u64 {
    gpus.iter().map(bytes).fold(0, u64::saturating_add)
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 30;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn no_room(name: &str, reason: String, hint: &str) -> EngineError {
    EngineError::NoRoom { name: name.to_owned(), reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
