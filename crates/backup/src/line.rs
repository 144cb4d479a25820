//! The lines of a backup's stream.

use mcpctl_store::transfer::{Batch, Tally};
use serde::{Deserialize, Serialize};

/// Maximum length of a line. A batch has at most 1 MiB and one row more, and the longest row is a secret of 64 values of 64 KiB.
pub(crate) const MAX_LINE_BYTES: u64 = 64 << 20;

/// A line as it is written.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineRef<'a> {
    Rows(&'a Batch),
    End(&'a [Tally]),
}

/// A line as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Line {
    /// Rows of one table.
    Rows(Batch),
    /// What each table has; the last line.
    End(Vec<Tally>),
}
