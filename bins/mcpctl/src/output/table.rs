//! Plain columns, as kubectl has them.

use comfy_table::{ContentArrangement, presets::NOTHING};
use jiff::{SignedDuration, Timestamp};

use super::one_line;
use crate::failure::Failure;

/// Rows under a header.
pub struct Table {
    table: comfy_table::Table,
    rows: usize,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(header.to_vec());
        Self { table, rows: 0 }
    }

    /// Adds a row.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows += 1;
        // Also where stdout is no terminal: a row is one line, and its columns are as wide as their visible text.
        self.table.add_row(cells.into_iter().map(|cell| one_line(&cell.to_string())));
    }

    /// Prints it; where there is no row, prints `nothing found` on stderr.
    pub fn print(mut self) -> Result<(), Failure> {
        if self.rows == 0 {
            note!("nothing found");
            return Ok(());
        }
        self.lines().iter().try_for_each(|line| data!("{line}"))
    }

    /// Prints the rows without the header, as wide as the header makes them.
    pub fn print_row(mut self) -> Result<(), Failure> {
        self.lines().iter().skip(1).try_for_each(|line| data!("{line}"))
    }

    fn lines(&mut self) -> Vec<String> {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        self.table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// How long ago, in the two largest units that matter, e.g. `3d4h`.
pub fn age(since: Timestamp) -> String {
    short(Timestamp::now().duration_since(since))
}

/// How long from now, or that it is over.
pub fn until(end: Timestamp) -> String {
    let left = end.duration_since(Timestamp::now());
    if left.is_negative() { "expired".to_owned() } else { format!("in {}", short(left)) }
}

fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, length) in units {
        let count = rest / length;
        rest %= length;
        if count > 0 || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{count}{unit}"));
        }
    }
    parts.truncate(2);
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let cases =
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h"), (86_400 * 40, "40d")];
        for (seconds, expected) in cases {
            assert_eq!(short(SignedDuration::from_secs(seconds)), expected);
        }
    }
}
