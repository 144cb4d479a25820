//! The printed rows: what was measured, and the bound that it has.

use std::time::Duration;

/// The rows so far.
#[derive(Default)]
pub struct Table {
    exceeded: bool,
}

impl Table {
    /// A count and the most that it may be.
    pub fn count(&mut self, what: &str, count: usize, most: usize, detail: &str) {
        self.row(count <= most, &format!("{what}: {count}, at most {most} ({detail})"));
    }

    /// Times, of which a share has to be within a bound.
    pub fn times(&mut self, what: &str, mut samples: Vec<Duration>, share: f64, bound: Duration) {
        samples.sort();
        let at = |share: f64| percentile(&samples, share);
        let (held, word) = (at(share), name(share));
        let [half, p95, p99, last] = [0.5, 0.95, 0.99, 1.0].map(|share| millis(at(share)));
        let count = samples.len();
        let text = format!(
            "{what}: p50 {half:.1}, p95 {p95:.1}, p99 {p99:.1}, longest {last:.1} ms, of {count} (bound of {word}: {:.0} ms)",
            millis(bound)
        );
        self.row(held <= bound && !samples.is_empty(), &text);
    }

    /// A figure without a bound.
    #[expect(clippy::unused_self, reason = "it is printed among the others")]
    pub fn note(&self, text: &str) {
        println!("     {text}");
    }

    /// Whether all bounds hold.
    pub fn within(&self) -> bool {
        !self.exceeded
    }

    fn row(&mut self, holds: bool, text: &str) {
        self.exceeded |= !holds;
        println!("{} {text}", if holds { "ok  " } else { "OVER" });
    }
}

fn name(share: f64) -> String {
    if share >= 1.0 { "the longest".to_owned() } else { format!("p{:.0}", share * 100.0) }
}

/// Of sorted samples.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
