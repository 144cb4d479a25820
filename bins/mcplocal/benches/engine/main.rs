//! The figures of local engines, on whole daemons built for release: `cargo xtask figures engine`.
//!
//! Each figure has a limit; one that is exceeded ends the run with an error. Differences are measured side by side, one
//! round after the other in the same run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod cancel;
mod cycles;
mod failover;
mod idle;

use std::{process::ExitCode, time::Duration};

/// What was measured, and whether it is within its limit.
struct Figure {
    what: &'static str,
    measured: String,
    limit: &'static str,
    kept: bool,
}

fn main() -> ExitCode {
    // Cargo adds `--bench`; any other word chooses the figures that have it in their name.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut kept = true;
    runtime.block_on(async {
        let mut show = |figures: Vec<Figure>| {
            for Figure { what, measured, limit, kept: within } in figures {
                kept &= within;
                let word = if within { "ok  " } else { "OVER" };
                println!("{word} {what}: {measured} (limit: {limit})");
            }
        };
        if wanted("failover") {
            show(failover::figures().await);
        }
        if wanted("cancel") {
            show(cancel::figures().await);
        }
        if wanted("idle") {
            show(idle::figures().await);
        }
        if wanted("cycles") {
            show(cycles::figures().await);
        }
    });
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Of sorted samples, the one below which that share of them lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (sorted.len() as f64 * share) as usize;
    sorted[at.min(sorted.len() - 1)]
}

fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    samples
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
