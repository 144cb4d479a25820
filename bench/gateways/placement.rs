//! Which core runs what.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// The core of the system under test.
pub const SYSTEM: usize = 0;
/// The core of the load, of the model server, and of what stands behind the system under test.
pub const LOAD: usize = 1;

/// Runs this thread, and what it starts from now on, on one core.
pub fn use_core(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).expect("two cores");
}

/// Runs on a core what `start` starts; this thread returns to the load's.
pub async fn on_core<T>(core: usize, start: impl Future<Output = T>) -> T {
    use_core(core);
    let started = start.await;
    use_core(LOAD);
    started
}
