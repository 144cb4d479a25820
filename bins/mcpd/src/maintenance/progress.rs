//! How far a transfer of rows is, on a terminal. Elsewhere nothing is shown.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{msg:12} {bar:24} {percent:>3}% {human_pos} of {human_len} rows, {eta} left";

/// A bar that counts rows on stderr.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins to count, of so many rows.
    pub(super) fn begin(what: &'static str, rows: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    /// Counts rows.
    pub(super) fn add(&self, rows: usize) {
        self.0.inc(u64::try_from(rows).unwrap_or_default());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
