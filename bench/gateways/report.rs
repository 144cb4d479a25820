//! The table, the ratios to the pass-through, and what misses its target.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::{
    measure::{Plan, Results, Sample},
    rows::{Row, Target, Unit},
    systems::SystemName,
};

/// The most that one of our daemons takes idle.
const IDLE_MEMORY: u64 = 20 << 20;
/// The longest that one of our daemons takes to start.
const START: Duration = Duration::from_millis(100);

/// Prints everything; returns whether each target is met.
pub fn print(plan: &Plan, results: &Results) -> bool {
    let mut missed = Vec::new();
    for row in &plan.rows {
        println!("\n{}\n", title(row));
        println!("{}", table(plan, row, results, &mut missed));
    }
    println!("\nStart and idle memory\n\n{}", starts(plan, results, &mut missed));
    for system in &results.missing {
        println!("{} is not installed, so that it is not in the tables.", system.label());
    }
    for ((row, system), failure) in &results.failures {
        println!("{} has no figure in {row:?}: {failure}", system.label());
        if system.is_ours() {
            missed.push(format!("{row:?} at {}: {failure}", system.label()));
        }
    }
    if missed.is_empty() {
        println!("\nEvery target is met.");
    } else {
        println!("\nMissed:");
        missed.iter().for_each(|what| println!("- {what}"));
    }
    missed.is_empty()
}

fn title(row: &Row) -> String {
    let text = <_ as clap::ValueEnum>::to_possible_value(&row.name).unwrap().get_help().unwrap().to_string();
    let target = match row.target {
        None => String::new(),
        Some(Target::Ratio(most)) => format!("; target: at most {most} times the pass-through"),
        Some(Target::Added { p50: Some(p50), p99 }) => {
            format!("; target: at most {} ms more at the median, {} at p99", millis(p50), millis(p99))
        }
        Some(Target::Added { p50: None, p99 }) => format!("; target: at most {} ms more at p99", millis(p99)),
        Some(Target::Bytes(most)) => format!("; target: at most {} KiB each", most >> 10),
    };
    format!("## {text}{target}")
}

fn table(plan: &Plan, row: &Row, results: &Results, missed: &mut Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let unit = match row.unit {
        Unit::Request => "request",
        Unit::Event => "event",
        Unit::Stream => "stream",
    };
    table.set_header([
        "system".to_owned(),
        format!("processor per {unit}, µs"),
        "ratio".to_owned(),
        format!("{unit}s per s"),
        "p50, ms".to_owned(),
        "p99, ms".to_owned(),
        if row.unit == Unit::Stream { "KiB each".to_owned() } else { "MiB".to_owned() },
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let of = |system| results.samples.get(&(row.name, system)).map_or(&[][..], Vec::as_slice);
    let (base, direct) = (of(SystemName::PassThrough), of(SystemName::Direct));
    for &system in &plan.systems {
        let samples = of(system);
        if samples.is_empty() {
            continue;
        }
        let spread = |figure: &dyn Fn(&Sample) -> f64| {
            let (least, half, most) = quantiles(samples.iter().map(figure).collect());
            if most == 0.0 { String::new() } else { format!("{half:.1} ({least:.1}–{most:.1})") }
        };
        let ratio = ratio(samples, base);
        let time = |share| percentile(samples, share);
        let memory = middle(samples.iter().map(|sample| sample.memory).collect());
        let scale = if row.unit == Unit::Stream { 1024.0 } else { 1024.0 * 1024.0 };
        table.add_row([
            system.label().to_owned(),
            spread(&|sample| sample.processor * 1e6),
            ratio
                .filter(|_| row.unit != Unit::Stream)
                .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            format!("{:.0}", middle(samples.iter().map(|sample| sample.rate).collect())),
            millis(time(0.5)),
            millis(time(0.99)),
            format!("{:.1}", memory / scale),
        ]);
        if system.is_ours()
            && let Some(miss) = row.target.and_then(|target| miss(target, ratio, samples, direct, memory))
        {
            missed.push(format!("{:?} at {}: {miss}", row.name, system.label()));
        }
    }
    table
}

/// By how much a target is missed.
fn miss(
    target: Target,
    ratio: Option<f64>,
    samples: &[Sample],
    direct: &[Sample],
    memory: f64,
) -> Option<String> {
    let added = |share, most: Duration| {
        let added = percentile(samples, share).saturating_sub(percentile(direct, share));
        let name = if share < 0.9 { "the median" } else { "p99" };
        (added > most).then(|| format!("{} ms more at {name}, the target is {}", millis(added), millis(most)))
    };
    match target {
        Target::Ratio(most) => match ratio {
            Some(ratio) => {
                (ratio > most).then(|| format!("{ratio:.2} times the pass-through, the target is {most}"))
            }
            None => Some("there is no ratio, because the pass-through has no figure".to_owned()),
        },
        Target::Added { p50, p99 } => {
            let misses: Vec<String> =
                p50.and_then(|p50| added(0.5, p50)).into_iter().chain(added(0.99, p99)).collect();
            (!misses.is_empty()).then(|| misses.join("; "))
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        Target::Bytes(most) => (memory > most as f64)
            .then(|| format!("{:.1} KiB each, the target is {}", memory / 1024.0, most >> 10)),
    }
}

/// The median of the rounds' ratios, so that both sides of each were measured beside each other.
fn ratio(samples: &[Sample], base: &[Sample]) -> Option<f64> {
    let ratios: Vec<f64> =
        samples.iter().zip(base).map(|(sample, base)| sample.processor / base.processor).collect();
    (!ratios.is_empty() && samples.iter().any(|sample| sample.processor > 0.0)).then(|| middle(ratios))
}

fn starts(plan: &Plan, results: &Results, missed: &mut Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(["system", "ready after, ms", "idle, MiB"]);
    for &system in &plan.systems {
        let (Some(took), Some(memory)) = (results.started_in.get(&system), results.idle_memory.get(&system))
        else {
            continue;
        };
        table.add_row([system.label().to_owned(), millis(*took), format!("{}", memory >> 20)]);
        if system.is_ours() && *took > START {
            missed.push(format!(
                "{} starts in {} ms, the target is {}",
                system.label(),
                millis(*took),
                millis(START)
            ));
        }
        if system.is_ours() && *memory > IDLE_MEMORY {
            let (memory, most) = (memory >> 20, IDLE_MEMORY >> 20);
            missed.push(format!("{} takes {memory} MiB idle, the target is {most}", system.label()));
        }
    }
    table
}

/// Of the times of all rounds.
fn percentile(samples: &[Sample], share: f64) -> Duration {
    let mut times: Vec<Duration> = samples.iter().flat_map(|sample| sample.times.iter().copied()).collect();
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn middle(figures: Vec<f64>) -> f64 {
    quantiles(figures).1
}

/// The least, the median and the most.
fn quantiles(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    (at(0), at(figures.len() / 2), at(figures.len().saturating_sub(1)))
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}
