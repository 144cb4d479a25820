//! What engines hold of GPUs, for people who look. No decision depends on it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::{
    bytes::sum,
    gpu::{Drivers, Gpu, GpuProcess, Maker, held_by},
};
use crate::status::EngineStatus;

/// A younger reading is used again, because each one starts the driver's program.
const MAX_AGE: Duration = Duration::from_secs(2);
/// A reading ends after so long.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a status waits for a reading from its begin: those who ask an agent whether it runs wait for a second. After that
/// the one before counts.
const PATIENCE: Duration = Duration::from_millis(300);
/// Memory of a GPU in use that no process is reported to hold. An H200 has 32 MiB of it beside one process.
const UNACCOUNTED: u64 = 128 << 20;

/// Reads what engines hold.
#[derive(Debug, Default)]
pub(super) struct Meter(watch::Sender<Last>);

#[derive(Debug, Default)]
struct Last {
    reading: Arc<Reading>,
    /// When it was over; `None` before the first one.
    taken: Option<Instant>,
    /// When the next one began, while it is under way.
    begun: Option<Instant>,
}

#[derive(Debug, Default)]
struct Reading {
    /// When it began; the epoch of one that shows nothing.
    at: Timestamp,
    gpus: Vec<Gpu>,
    processes: Vec<GpuProcess>,
}

impl Meter {
    /// The bytes that an engine holds of all GPUs; `None` where the driver does not report that, or has not yet.
    pub(super) async fn held_by(&self, engine: &EngineStatus, drivers: &Drivers) -> Option<u64> {
        let leader = engine.pid?;
        if let Some(begun) = self.read(drivers) {
            let mut last = self.0.subscribe();
            let over = last.wait_for(|last| last.begun.is_none());
            let _ = tokio::time::timeout_at(begun + PATIENCE, over).await;
        }
        let reading = Arc::clone(&self.0.borrow().reading);
        let held = held_by(leader, &reading.processes);
        // An older one shows what was before.
        let is_settled = reading.at > engine.since;
        (held > 0 || is_settled && reading.is_whole()).then_some(held)
    }

    /// Begins a reading where the last one is too old; returns when the one that is under way began. It goes on in a task, so that
    /// it counts for later questions when nothing waits for it any more.
    fn read(&self, drivers: &Drivers) -> Option<Instant> {
        let (mut begun, mut is_new) = (None, false);
        self.0.send_if_modified(|last| {
            is_new = last.begun.is_none() && last.taken.is_none_or(|at| at.elapsed() > MAX_AGE);
            if is_new {
                last.begun = Some(Instant::now());
            }
            begun = last.begun;
            false
        });
        if is_new {
            let (sender, drivers) = (self.0.clone(), drivers.clone());
            tokio::spawn(async move {
                let reading = tokio::time::timeout(READ_TIMEOUT, Reading::take(&drivers)).await;
                let reading = Arc::new(reading.unwrap_or_default());
                sender.send_replace(Last { reading, taken: Some(Instant::now()), begun: None });
            });
        }
        begun
    }
}

impl Reading {
    async fn take(drivers: &Drivers) -> Self {
        let at = Timestamp::now();
        Self { at, gpus: drivers.gpus().await, processes: drivers.processes().await }
    }

    /// Whether it names every process that holds memory of an NVIDIA GPU: drivers name none in most containers, no program
    /// that only draws, and none at all of AMD's.
    fn is_whole(&self) -> bool {
        let in_use = sum(self.gpus.iter().map(|gpu| gpu.total.saturating_sub(gpu.free)));
        let named = sum(self.processes.iter().map(|process| process.bytes));
        let cards = u64::try_from(self.gpus.len()).unwrap_or(u64::MAX);
        let is_nvidia = self.gpus.first().is_some_and(|gpu| gpu.maker == Maker::Nvidia);
        is_nvidia && in_use <= named.saturating_add(UNACCOUNTED.saturating_mul(cards))
    }
}
