//! Plain columns, as kubectl has them.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, presets::NOTHING};
use jiff::{SignedDuration, Timestamp};
use mcpctl_api::HumanDuration;

use super::{one_line, terminal};
use crate::failure::Failure;

/// Spaces between two columns, where there is room for them.
const GAP: u16 = 3;
/// Spaces between two columns of a table that is too wide.
const NARROW_GAP: u16 = 2;
/// Width that a column whose text wraps has at least, unless all columns wrap.
const MIN_WRAPPED: u16 = 16;

/// Rows under a header.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    wrapped: Option<usize>,
    numbers: Vec<usize>,
    optional: Vec<usize>,
    unbroken: Vec<usize>,
    without_empty: bool,
    fits: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Self {
            header,
            rows: Vec::new(),
            wrapped: None,
            numbers: Vec::new(),
            optional: Vec::new(),
            unbroken: Vec::new(),
            without_empty: false,
            fits: true,
        }
    }

    /// Wraps the text of this column first where the table is wider than the terminal; else the last column's.
    #[must_use]
    pub fn wrapping(self, column: &str) -> Self {
        Self { wrapped: self.header.iter().position(|name| name == column), ..self }
    }

    /// Never breaks the texts of these columns, which are short, where names do not fit the terminal.
    #[must_use]
    pub fn unbroken(self, columns: &[&str]) -> Self {
        Self { unbroken: self.places(columns), ..self }
    }

    fn places(&self, columns: &[&str]) -> Vec<usize> {
        let at = |(at, name): (usize, &String)| columns.contains(&name.as_str()).then_some(at);
        self.header.iter().enumerate().filter_map(at).collect()
    }

    /// Aligns these columns at their right.
    #[must_use]
    pub fn numbers(self, columns: &[&str]) -> Self {
        Self { numbers: self.places(columns), ..self }
    }

    /// Leaves these columns out where the table is wider than the terminal, the first one first.
    #[must_use]
    pub fn where_they_fit(self, columns: &[&str]) -> Self {
        let place = |column: &&str| self.header.iter().position(|name| name == column);
        Self { optional: columns.iter().filter_map(place).collect(), ..self }
    }

    /// Leaves out columns without text.
    #[must_use]
    pub fn without_empty(self) -> Self {
        Self { without_empty: true, ..self }
    }

    /// Keeps each row in one line, however wide the terminal is, where `wide` is set.
    #[must_use]
    pub fn in_one_line(self, wide: bool) -> Self {
        Self { fits: !wide, ..self }
    }

    /// Adds a row.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        // Also where stdout is no terminal: a row is one line, and its columns are as wide as their visible text.
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell.to_string())).collect());
    }

    /// Prints it; where there is no row, prints `nothing found` on stderr.
    pub fn print(self) -> Result<(), Failure> {
        if self.rows.is_empty() {
            note!("nothing found");
            return Ok(());
        }
        let width = terminal::width().filter(|_| self.fits);
        self.lines(width).iter().try_for_each(|line| data!("{line}"))
    }

    /// Prints the rows without the header, as wide as the header makes them.
    pub fn print_row(self) -> Result<(), Failure> {
        self.lines(None).iter().skip(1).try_for_each(|line| data!("{line}"))
    }

    /// Its lines, none wider than the terminal, whose width is given; without one each row is one line.
    pub fn lines(self, width: Option<u16>) -> Vec<String> {
        let Self { header, rows, wrapped, numbers, optional, unbroken, without_empty, .. } = self;
        let has_text =
            |column: usize| rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()));
        let mut shown: Vec<bool> =
            (0..header.len()).map(|column| !without_empty || has_text(column)).collect();
        for column in optional {
            let Some(width) = width else { break };
            let longest = |column: usize| {
                let cells = rows.iter().filter_map(|row| row.get(column)).chain(header.get(column));
                cells.map(|cell| cell.chars().count() + usize::from(NARROW_GAP)).max().unwrap_or_default()
            };
            let columns = shown.iter().enumerate().filter(|(_, shown)| **shown);
            let total: usize = columns.map(|(column, _)| longest(column)).sum();
            if total > usize::from(width) + usize::from(NARROW_GAP)
                && let Some(shown) = shown.get_mut(column)
            {
                *shown = false;
            }
        }
        let wrapped = wrapped.unwrap_or(header.len().saturating_sub(1));
        let wrapped = shown.iter().take(wrapped).filter(|shown| **shown).count();
        let shown_of = |columns: &[usize]| -> Vec<usize> {
            let all = (0..shown.len()).filter(|column| shown.get(*column) == Some(&true)).enumerate();
            all.filter_map(|(at, column)| columns.contains(&column).then_some(at)).collect()
        };
        let (numbers, unbroken) = (shown_of(&numbers), shown_of(&unbroken));
        let cells = |row: Vec<String>| -> Vec<String> {
            row.into_iter().zip(&shown).filter_map(|(cell, shown)| shown.then_some(cell)).collect()
        };
        let mut table = comfy_table::Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(cells(header));
        for row in rows {
            table.add_row(cells(row));
        }
        let gap = fit(&mut table, wrapped, &unbroken, width);
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, gap));
            if numbers.contains(&at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// Lets a table wrap where it is wider than the terminal; returns the gap between its columns.
fn fit(table: &mut comfy_table::Table, wrapped: usize, unbroken: &[usize], width: Option<u16>) -> u16 {
    let widths = table.column_max_content_widths();
    let columns = u16::try_from(widths.len()).unwrap_or(u16::MAX);
    let total =
        |gap: u16| widths.iter().sum::<u16>().saturating_add(gap.saturating_mul(columns.saturating_sub(1)));
    let Some(width) = width.filter(|width| total(GAP) > *width) else { return GAP };
    // The gap after the last column is cut off.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(NARROW_GAP));
    let others = total(NARROW_GAP).saturating_sub(widths.get(wrapped).copied().unwrap_or_default());
    if others.saturating_add(MIN_WRAPPED) <= width {
        for (at, column) in table.column_iter_mut().enumerate() {
            if at != wrapped {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    } else {
        for (at, column) in table.column_iter_mut().enumerate() {
            if unbroken.contains(&at) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
    NARROW_GAP
}

/// A fingerprint as far as a table shows it, which is not enough to compare it; any other text as it is.
pub fn short_fingerprint(text: &str) -> String {
    const SHOWN: usize = 15;
    match text.get(..SHOWN) {
        Some(begin) if text.starts_with("SHA256:") && text.len() > SHOWN => format!("{begin}…"),
        _ => text.to_owned(),
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
    let seconds = u64::try_from(duration.as_secs()).unwrap_or(0);
    HumanDuration::from_secs(seconds).in_two_units().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_as_wide_as_the_terminal_at_most() {
        let table = |text: &str| {
            let mut table =
                Table::new(&["NAME", "EMPTY", "REASON", "AGE"]).wrapping("REASON").without_empty();
            table.row(["alice", "", text, "3d4h"]);
            table
        };
        let text = "the Llm `claude` does not let agents answer in its place";
        let wide = table(text).lines(None);
        assert_eq!(wide[0], format!("NAME    {:<width$}   AGE", "REASON", width = text.len()));
        assert_eq!(wide.len(), 2);
        let narrow = table(text).lines(Some(40));
        assert!(narrow[0].starts_with("NAME   REASON  ") && narrow[0].ends_with("AGE"), "{narrow:?}");
        assert!(narrow[1].starts_with("alice  the Llm ") && narrow[1].ends_with("  3d4h"), "{narrow:?}");
        let long = "x".repeat(200);
        for width in [20, 40, 80] {
            for text in [text, &long] {
                let lines = table(text).lines(Some(width));
                assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{lines:#?}");
            }
        }
    }

    #[test]
    fn ages_are_short() {
        let cases =
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h"), (86_400 * 40, "40d")];
        for (seconds, expected) in cases {
            assert_eq!(short(SignedDuration::from_secs(seconds)), expected);
        }
    }
}
