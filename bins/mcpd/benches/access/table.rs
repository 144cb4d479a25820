//! The printed rows: what was measured, and the target that it has.

use std::time::Duration;

/// Width of the name of a figure.
const NAME: usize = 40;

/// The rows so far. A figure is printed as soon as it is measured.
#[derive(Default)]
pub struct Table {
    measured: usize,
    missed: usize,
}

impl Table {
    /// A count and the most that it may be.
    pub fn count(&mut self, what: &str, count: usize, most: usize) {
        self.row(count <= most, what, &format!("{count:>8}"), &format!("at most {most}"));
    }

    /// Times, of which a share has to be within a target.
    pub fn times(&mut self, what: &str, mut samples: Vec<Duration>, share: f64, target: Duration) {
        samples.sort();
        let holds = !samples.is_empty() && percentile(&samples, share) <= target;
        let shown =
            [0.5, 0.95, 0.99, 1.0].map(|share| format!("{:>8.1}", millis(percentile(&samples, share))));
        let target = format!("{} at most {:.0} ms", name(share), millis(target));
        self.row(holds, what, &format!("{} {:>6}", shown.concat(), samples.len()), &target);
    }

    /// A figure that could not be measured.
    pub fn failed(&mut self, what: &str, why: &str) {
        self.row(false, what, why, "");
    }

    /// What is known besides, without a target.
    #[expect(clippy::unused_self, reason = "it is printed among the others")]
    pub fn note(&self, text: &str) {
        println!("       {text}");
    }

    /// Prints how many figures are within their targets, and whether all are.
    pub fn close(&self) -> bool {
        let within = self.measured - self.missed;
        println!("\n{within} of {} figures are within their targets", self.measured);
        self.missed == 0
    }

    fn row(&mut self, holds: bool, what: &str, measured: &str, target: &str) {
        if self.measured == 0 {
            let times = ["p50", "p95", "p99", "longest"].map(|name| format!("{name:>8}")).concat();
            println!("       {:<NAME$}{times} {:>6}  target (times in ms)", "figure", "of");
        }
        self.measured += 1;
        self.missed += usize::from(!holds);
        let word = if holds { "ok" } else { "MISSED" };
        println!("{word:<6} {what:<NAME$}{measured:<39}  {target}");
    }
}

fn name(share: f64) -> String {
    if share >= 1.0 { "longest".to_owned() } else { format!("p{:.0}", share * 100.0) }
}

/// Of sorted samples, the smallest that is at least as long as this share of them.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
