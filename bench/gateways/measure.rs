//! Measures each row at each system, in rounds.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    load, profile,
    rows::{Offer, Row, RowName, Unit},
    systems::{self, System, SystemName},
    upstream,
};

/// How long a row is offered before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the streams of a row may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be measured.
pub struct Plan {
    pub rows: Vec<Row>,
    pub systems: Vec<SystemName>,
    pub rounds: usize,
    pub window: Duration,
    pub profile: Option<PathBuf>,
}

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Processor time per unit, seconds.
    pub processor: f64,
    /// Units per second.
    pub rate: f64,
    /// The times of requests, sorted.
    pub times: Vec<Duration>,
    /// Memory per unit, bytes.
    pub memory: f64,
}

/// What was measured.
#[derive(Default)]
pub struct Results {
    pub samples: HashMap<(RowName, SystemName), Vec<Sample>>,
    /// Why a system has no figure in a row.
    pub failures: HashMap<(RowName, SystemName), String>,
    pub started_in: HashMap<SystemName, Duration>,
    /// Memory after the start, bytes.
    pub idle_memory: HashMap<SystemName, u64>,
    pub missing: Vec<SystemName>,
}

pub async fn run(plan: &Plan) -> Results {
    let upstream = upstream::start();
    let mut results = Results::default();
    let mut running = Vec::new();
    for &name in &plan.systems {
        let Some(system) = systems::start(name, upstream).await else {
            results.missing.push(name);
            continue;
        };
        if let (Some(pid), Some(started_in)) = (system.pid, system.started_in) {
            results.started_in.insert(name, started_in);
            results.idle_memory.insert(name, memory(pid));
        }
        running.push(system);
    }
    for row in &plan.rows {
        eprintln!("{:?}", row.name);
        // Memory grows with each repetition, so that one is all that counts.
        let rounds = if row.unit == Unit::Stream { 1 } else { plan.rounds };
        for _ in 0..rounds {
            for system in &running {
                measure(plan, row, system, &mut results).await;
            }
        }
        if let Some(dir) = &plan.profile {
            for system in running.iter().filter(|system| system.name.is_ours()) {
                profile_of(plan, row, system, dir).await;
            }
        }
    }
    results
}

async fn measure(plan: &Plan, row: &Row, system: &System, results: &mut Results) {
    let key = (row.name, system.name);
    if results.failures.contains_key(&key) {
        return;
    }
    match tokio::task::LocalSet::new().run_until(sample(plan.window, row, system)).await {
        Ok(sample) => results.samples.entry(key).or_default().push(sample),
        Err(failure) => drop(results.failures.insert(key, failure)),
    }
}

async fn sample(window: Duration, row: &Row, system: &System) -> Result<Sample, String> {
    let memory_before = system.pid.map_or(0, memory);
    let load = load::start(row, &system.destination);
    let answered = &load.answered;
    let units = || match row.unit {
        Unit::Request => answered.requests.get(),
        Unit::Event | Unit::Stream => answered.events.get(),
    };
    let failed = || answered.failure().map_or(Ok(()), Err);
    if let Offer::Held(count) = row.offer {
        let began = Instant::now();
        while answered.open.get() < count {
            failed()?;
            if began.elapsed() > OPEN_TIMEOUT {
                return Err(format!("{} of {count} streams opened", answered.open.get()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let grown = system.pid.map_or(0, memory).saturating_sub(memory_before);
        return Ok(Sample { memory: ratio(grown, count as u64), ..Sample::default() });
    }
    tokio::time::sleep(WARM_UP).await;
    failed()?;
    answered.take_times();
    let (began, units_before, processor_before) =
        (Instant::now(), units(), system.pid.map_or(0.0, processor));
    tokio::time::sleep(window).await;
    let (took, counted) = (began.elapsed(), units() - units_before);
    let processor = system.pid.map_or(0.0, processor) - processor_before;
    failed()?;
    let mut times = answered.take_times();
    times.sort_unstable();
    if counted == 0 {
        return Err("nothing was answered in time".to_owned());
    }
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let counted = counted as f64;
    let memory = system.pid.map_or(0, memory);
    Ok(Sample {
        processor: processor / counted,
        rate: counted / took.as_secs_f64(),
        times,
        memory: ratio(memory, 1),
    })
}

async fn profile_of(plan: &Plan, row: &Row, system: &System, dir: &std::path::Path) {
    let (Some(pid), Unit::Request | Unit::Event) = (system.pid, row.unit) else { return };
    let name = format!("{:?}-{:?}", row.name, system.name).to_lowercase();
    tokio::task::LocalSet::new()
        .run_until(async {
            let _load = load::start(row, &system.destination);
            tokio::time::sleep(WARM_UP).await;
            profile::record(pid, plan.window, dir, &name).await;
        })
        .await;
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn ratio(bytes: u64, count: u64) -> f64 {
    bytes as f64 / count as f64
}

/// Seconds of processor time of a process and all that it started.
fn processor(pid: u32) -> f64 {
    tree(pid).into_iter().map(mcpctl_testkit::process::processor_seconds).sum()
}

/// Resident memory of a process and all that it started, bytes.
fn memory(pid: u32) -> u64 {
    tree(pid).into_iter().map(mcpctl_testkit::process::resident_bytes).sum()
}

/// A process and its descendants.
fn tree(root: u32) -> HashSet<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut tree = HashSet::from([root]);
    loop {
        let before = tree.len();
        tree.extend(
            parents
                .iter()
                .filter(|(_, parent)| tree.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if tree.len() == before {
            return tree;
        }
    }
}
