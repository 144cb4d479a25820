//! What engines hold of GPUs, for people who look. No decision depends on it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{sync::Mutex, time::Instant};

use super::{
    bytes::sum,
    gpu::{Drivers, Gpu, GpuProcess, Maker, held_by},
};
use crate::status::EngineStatus;

/// A younger reading is used again, because each one starts the driver's program.
const MAX_AGE: Duration = Duration::from_secs(2);
/// A status does not wait longer for a driver.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Memory of a GPU in use that no process is reported to hold. An H200 has 32 MiB of it beside one process.
const UNACCOUNTED: u64 = 128 << 20;

/// Reads what engines hold.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Option<(Instant, Reading)>>);

#[derive(Debug, Default)]
struct Reading {
    gpus: Vec<Gpu>,
    processes: Vec<GpuProcess>,
}

impl Meter {
    /// The bytes that an engine holds of all GPUs; `None` where the driver does not report that.
    pub(super) async fn held_by(&self, engine: &EngineStatus, drivers: &Drivers) -> Option<u64> {
        let leader = engine.pid?;
        let mut last = self.0.lock().await;
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() > MAX_AGE) {
            let reading = tokio::time::timeout(READ_TIMEOUT, Reading::take(drivers)).await;
            *last = Some((Instant::now(), reading.unwrap_or_default()));
        }
        let (_, reading) = last.as_ref()?;
        let held = held_by(leader, &reading.processes);
        // The reading may be older than what the engine does now.
        let is_settled = Timestamp::now().duration_since(engine.since).unsigned_abs() > MAX_AGE;
        (held > 0 || is_settled && reading.is_whole()).then_some(held)
    }
}

impl Reading {
    async fn take(drivers: &Drivers) -> Self {
        Self { gpus: drivers.gpus().await, processes: drivers.processes().await }
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
