//! A table on a terminal: rows by name, columns in groups. Cells that were never filled are blank.

use std::fmt::{self, Write as _};

/// Widest terminal that a table is made for, in characters.
pub(super) const MAX_WIDTH: usize = 100;

/// A table that is filled cell by cell; rows and columns come in the order of their first cell.
#[derive(Debug, Default)]
pub(super) struct Grid {
    title: String,
    rows: Vec<String>,
    /// Group and column.
    columns: Vec<(String, String)>,
    cells: Vec<(usize, usize, String)>,
}

impl Grid {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// The text of a cell, empty at first.
    pub(super) fn cell(&mut self, row: &str, group: &str, column: &str) -> &mut String {
        let row = position(&mut self.rows, row.to_owned());
        let column = position(&mut self.columns, (group.to_owned(), column.to_owned()));
        let at = self.cells.iter().position(|(at_row, at_column, _)| (*at_row, *at_column) == (row, column));
        let at = at.unwrap_or_else(|| {
            self.cells.push((row, column, String::new()));
            self.cells.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the position of a cell that is there")]
        &mut self.cells[at].2
    }

    fn text(&self, row: usize, column: usize) -> &str {
        let cell = self.cells.iter().find(|(at_row, at_column, _)| (*at_row, *at_column) == (row, column));
        cell.map_or("", |(_, _, text)| text)
    }

    /// The columns of a group as far as they follow each other, with their widths.
    fn groups(&self) -> Vec<(&str, usize)> {
        let mut groups: Vec<(&str, usize)> = Vec::new();
        for (at, (group, _)) in self.columns.iter().enumerate() {
            let width = self.width(at) + 1;
            match groups.last_mut() {
                Some((last, wide)) if *last == group => *wide += width,
                _ => groups.push((group, width)),
            }
        }
        groups
    }

    fn width(&self, column: usize) -> usize {
        let texts = (0..self.rows.len()).map(|row| self.text(row, column).len());
        let header = self.columns.get(column).map_or(0, |(_, name)| name.len());
        texts.chain([header]).max().unwrap_or_default()
    }
}

/// The position of an item, which is added where it is new.
fn position<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    items.iter().position(|known| *known == item).unwrap_or_else(|| {
        items.push(item);
        items.len() - 1
    })
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: usize = (0..self.columns.len()).map(|column| self.width(column) + 1).sum();
        let longest = self.rows.iter().map(String::len).max().unwrap_or_default();
        let first = longest.max(self.title.len()).min(MAX_WIDTH.saturating_sub(columns + 1));
        let mut lines = vec![format!("{:first$.first$}", self.title), " ".repeat(first)];
        if let [groups, names] = lines.as_mut_slice() {
            for (group, width) in self.groups() {
                write!(groups, " {group:<width$.width$}", width = width - 1)?;
            }
            for (at, (_, name)) in self.columns.iter().enumerate() {
                write!(names, " {name:<width$}", width = self.width(at))?;
            }
        }
        for (row, name) in self.rows.iter().enumerate() {
            let mut line = format!("{name:first$.first$}");
            for column in 0..self.columns.len() {
                write!(line, " {:<width$}", self.text(row, column), width = self.width(column))?;
            }
            lines.push(line);
        }
        lines.iter().try_for_each(|line| writeln!(f, "{}", line.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_their_groups() {
        let mut grid = Grid::new("fault");
        for (group, column) in [("mcpd", "whole"), ("mcpd", "streamed"), ("mcplocal", "whole")] {
            *grid.cell("cut", group, column) = "pass".to_owned();
        }
        *grid.cell("a fault with a name", "mcpd", "streamed") = "FAIL".to_owned();
        let expected = [
            "fault               mcpd           mcplo",
            "                    whole streamed whole",
            "cut                 pass  pass     pass",
            "a fault with a name       FAIL",
            "",
        ];
        assert_eq!(grid.to_string(), expected.join("\n"));
    }

    #[test]
    fn long_names_are_cut_to_the_width_of_a_terminal() {
        let mut grid = Grid::new("client");
        *grid.cell(&"x".repeat(200), "mcpd", "openai") = "pass".to_owned();
        assert!(grid.to_string().lines().all(|line| line.len() <= MAX_WIDTH));
    }
}
