//! Plain columns, as kubectl has them.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets::NOTHING};
use jiff::{SignedDuration, Timestamp};
use mcpctl_api::HumanDuration;

use super::{one_line, terminal};
use crate::failure::Failure;

/// Spaces between two columns, where there is room for them.
const GAP: u16 = 3;
/// Spaces between two columns of a table that is too wide.
const NARROW_GAP: u16 = 2;
/// Width that the column whose text wraps first keeps, as long as others can shrink.
const MIN_WRAPPED: u16 = 16;

/// Width that a column whose text wraps keeps, unless nothing else is left to shrink.
const MIN_FLEXIBLE: u16 = 8;

/// Spaces before the rest of a row whose first text has a line of its own.
const INDENT: u16 = 2;

/// Makes a text shorter.
type Shorten = fn(&str) -> String;

/// Rows under a header. Where it is wider than the terminal, columns are left out by their priority, then texts wrap; a header, and
/// what is [unbroken](Table::unbroken), never does. Where that leaves no room, the widest unbroken text of each row has a line of its
/// own; only that one may be longer than the terminal.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    wrapped: Option<usize>,
    numbers: Vec<usize>,
    optional: Vec<usize>,
    unbroken: Vec<usize>,
    without_empty: bool,
    without_header: bool,
    fits: bool,
    /// Columns, and what makes their texts shorter where the table is wider than the terminal.
    shortened: Vec<(usize, Shorten)>,
}

/// How wide the columns of a table are.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Which columns are shown.
    shown: Vec<bool>,
    /// The width of each column that is shown.
    widths: Vec<u16>,
    gap: u16,
    /// Whether it had to be made to fit.
    limited: bool,
    /// The column whose texts have lines of their own.
    apart: Option<usize>,
}

impl Table {
    /// A table with these columns.
    pub fn new<T: ToString>(header: &[T]) -> Self {
        Self {
            header: header.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
            wrapped: None,
            numbers: Vec::new(),
            optional: Vec::new(),
            unbroken: Vec::new(),
            without_empty: false,
            without_header: false,
            fits: true,
            shortened: Vec::new(),
        }
    }

    /// Wraps the text of this column first where the table is wider than the terminal; else the last column's.
    #[must_use]
    pub fn wrapping(self, column: &str) -> Self {
        Self { wrapped: self.header.iter().position(|name| name == column), ..self }
    }

    /// Never breaks the texts of these columns, e.g. times, words and numbers.
    #[must_use]
    pub fn unbroken(self, columns: &[&str]) -> Self {
        Self { unbroken: self.places(columns), ..self }
    }

    fn places(&self, columns: &[&str]) -> Vec<usize> {
        let at = |(at, name): (usize, &String)| columns.contains(&name.as_str()).then_some(at);
        self.header.iter().enumerate().filter_map(at).collect()
    }

    /// Aligns these columns at their right, and never breaks them.
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

    /// Shows users in these columns without their kind where the table is wider than the terminal.
    #[must_use]
    pub fn subjects(self, columns: &[&str]) -> Self {
        self.shortening(columns, |text| text.replace("User ", ""))
    }

    /// Shows addresses in these columns without scheme and API version where the table is wider than the terminal.
    #[must_use]
    pub fn addresses(self, columns: &[&str]) -> Self {
        self.shortening(columns, short_address)
    }

    fn shortening(mut self, columns: &[&str], short: Shorten) -> Self {
        let places = self.places(columns);
        self.shortened.extend(places.into_iter().map(|column| (column, short)));
        self
    }

    /// Leaves out columns without text.
    #[must_use]
    pub fn without_empty(self) -> Self {
        Self { without_empty: true, ..self }
    }

    /// Prints no header, where `without` is set.
    #[must_use]
    pub fn without_header(self, without: bool) -> Self {
        Self { without_header: without, ..self }
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

    /// The width that it may have, where there is one.
    fn limit(&self) -> Option<u16> {
        terminal::width().filter(|_| self.fits)
    }

    /// Characters of its longest line where nothing wraps.
    pub fn longest_line(&self) -> usize {
        let shown = |column: usize| {
            !self.without_empty
                || self.rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()))
        };
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.header.get(column));
            cells.map(|cell| cell.chars().count() + usize::from(NARROW_GAP)).max().unwrap_or_default()
        };
        let all: usize = (0..self.header.len()).filter(|column| shown(*column)).map(longest).sum();
        all.saturating_sub(usize::from(NARROW_GAP))
    }

    /// Prints it; where there is no row, prints `nothing found` on stderr.
    pub fn print(self) -> Result<(), Failure> {
        if self.rows.is_empty() {
            note!("nothing found");
            return Ok(());
        }
        let width = self.limit();
        self.lines(width).iter().try_for_each(|line| data!("{line}"))
    }

    /// Prints it as a part of a table that goes on: under the layout of what was printed before, which grows with it, and without the
    /// header where there is one.
    pub fn print_on(mut self, layout: &mut Option<Layout>) -> Result<(), Failure> {
        let width = self.limit();
        self.shorten(if layout.as_ref().is_some_and(|layout| layout.limited) { Some(0) } else { width });
        let mut own = self.layout(width);
        let goes_on = layout.is_some();
        if let Some(before) = layout.take() {
            let is_too_narrow = |column: usize, natural: u16, width: u16| {
                natural > width && (self.unbroken.contains(&column) || self.numbers.contains(&column))
            };
            let columns = (0..self.header.len()).filter(|column| before.shown.get(*column) == Some(&true));
            let natural = self.natural(&before.shown);
            let mut cells = columns.zip(natural).zip(&before.widths);
            if before.limited {
                // What never breaks gets a layout that has room for it.
                if !cells.any(|((column, natural), width)| is_too_narrow(column, natural, *width)) {
                    own = before;
                }
            } else {
                own.shown = before.shown;
                let natural = self.natural(&own.shown);
                own.widths =
                    natural.into_iter().zip(before.widths).map(|(one, other)| one.max(other)).collect();
                (own.gap, own.limited, own.apart) = (before.gap, false, None);
                if let Some(width) = width.filter(|width| total(&own.widths, own.gap) > *width) {
                    own = self.fitting(own.shown, width);
                }
            }
        }
        let lines = Self { without_header: self.without_header || goes_on, ..self }.lines_in(&own);
        *layout = Some(own);
        lines.iter().try_for_each(|line| data!("{line}"))
    }

    /// Its lines, none wider than the terminal, whose width is given; without one each row is one line.
    pub fn lines(mut self, width: Option<u16>) -> Vec<String> {
        self.shorten(width);
        let layout = self.layout(width);
        self.lines_in(&layout)
    }

    /// Makes texts shorter where the table is wider than this.
    fn shorten(&mut self, width: Option<u16>) {
        let all = vec![true; self.header.len()];
        if width.is_some_and(|width| total(&self.natural(&all), GAP) > width) {
            for (column, short) in &self.shortened {
                let cells = self.rows.iter_mut().filter_map(|row| row.get_mut(*column));
                cells.for_each(|cell| *cell = short(cell));
            }
        }
    }

    /// How wide each shown column is without a break.
    fn natural(&self, shown: &[bool]) -> Vec<u16> {
        let mut table = comfy_table::Table::new();
        table.set_header(only(shown, &self.header));
        table.add_rows(self.rows.iter().map(|row| only(shown, row)));
        table.column_max_content_widths()
    }

    fn layout(&self, width: Option<u16>) -> Layout {
        let columns = 0..self.header.len();
        let has_text =
            |column: usize| self.rows.iter().any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()));
        let shown: Vec<bool> = columns.map(|column| !self.without_empty || has_text(column)).collect();
        let natural = self.natural(&shown);
        let Some(width) = width.filter(|width| total(&natural, GAP) > *width) else {
            return Layout { shown, widths: natural, gap: GAP, limited: false, apart: None };
        };
        self.fitting(shown, width)
    }

    /// The layout of these columns, or of fewer, in so much room.
    fn fitting(&self, shown: Vec<bool>, width: u16) -> Layout {
        let layout = self.squeezed(shown.clone(), width);
        let is_name =
            |column: &&usize| layout.shown.get(**column) == Some(&true) && !self.numbers.contains(*column);
        let unbroken = self.unbroken.iter().filter(is_name);
        let only_it = |column: usize| (0..shown.len()).map(|at| at == column).collect::<Vec<_>>();
        let widest = unbroken.max_by_key(|column| self.natural(&only_it(**column)));
        match widest {
            Some(&apart) if total(&layout.widths, NARROW_GAP) > width && layout.widths.len() > 1 => {
                let others = shown.iter().enumerate().map(|(column, shown)| *shown && column != apart);
                let mut layout = self.squeezed(others.collect(), width.saturating_sub(INDENT));
                shrink_below_least(&mut layout.widths, width.saturating_sub(INDENT));
                Layout { apart: Some(apart), ..layout }
            }
            _ => {
                let mut layout = layout;
                shrink_below_least(&mut layout.widths, width);
                layout
            }
        }
    }

    /// The layout of these columns in so much room, as far as their texts may wrap.
    fn squeezed(&self, mut shown: Vec<bool>, width: u16) -> Layout {
        let mut optional = self.optional.iter();
        let mut widths = self.natural(&shown);
        while total(&widths, NARROW_GAP) > width
            && let Some(column) = optional.next()
        {
            if let Some(shown) = shown.get_mut(*column) {
                *shown = false;
            }
            widths = self.natural(&shown);
        }
        let flexible = self.flexible(&shown, &widths);
        shrink(&mut widths, &flexible, width);
        Layout { shown, widths, gap: NARROW_GAP, limited: true, apart: None }
    }

    /// The least width of each shown column, and the column that wraps first.
    fn flexible(&self, shown: &[bool], widths: &[u16]) -> Flexible {
        let first = self.wrapped.unwrap_or(self.header.len().saturating_sub(1));
        let all = (0..self.header.len()).filter(|column| shown.get(*column) == Some(&true));
        let least = all.clone().zip(widths).map(|(column, width)| {
            if self.unbroken.contains(&column) || self.numbers.contains(&column) {
                return *width;
            }
            let header = self.header.get(column).map_or(0, |name| name.chars().count());
            u16::try_from(header).unwrap_or(u16::MAX).max(MIN_FLEXIBLE).min(*width)
        });
        Flexible { least: least.collect(), first: all.take_while(|column| *column < first).count() }
    }

    fn lines_in(mut self, layout: &Layout) -> Vec<String> {
        let header = (!self.without_header).then(|| self.header.clone());
        let rows: Vec<_> = header.into_iter().chain(std::mem::take(&mut self.rows)).collect();
        let Some(apart) = layout.apart else { return self.grid(&rows, layout) };
        let mut lines = Vec::new();
        for row in rows {
            lines.extend(row.get(apart).cloned());
            let rest = self.grid(std::slice::from_ref(&row), layout).into_iter();
            let indent = " ".repeat(usize::from(INDENT));
            lines.extend(rest.filter(|line| !line.is_empty()).map(|line| format!("{indent}{line}")));
        }
        lines
    }

    /// The lines of rows, without the column that stands apart.
    fn grid(&self, rows: &[Vec<String>], layout: &Layout) -> Vec<String> {
        let Layout { shown, widths, gap, .. } = layout;
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(u16::MAX);
        let shown_columns = (0..self.header.len()).filter(|column| shown.get(*column) == Some(&true));
        let right: Vec<bool> = shown_columns.map(|column| self.numbers.contains(&column)).collect();
        table.add_rows(rows.iter().map(|row| only(shown, row)));
        for ((column, width), right) in table.column_iter_mut().zip(widths).zip(right) {
            column.set_padding((0, *gap));
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(*gap))));
            if right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

fn only(shown: &[bool], cells: &[String]) -> Vec<String> {
    cells.iter().zip(shown).filter(|(_, shown)| **shown).map(|(cell, _)| cell.clone()).collect()
}

fn total(widths: &[u16], gap: u16) -> u16 {
    let gaps = u16::try_from(widths.len()).unwrap_or(u16::MAX).saturating_sub(1).saturating_mul(gap);
    widths.iter().fold(gaps, |total, width| total.saturating_add(*width))
}

/// What may shrink.
struct Flexible {
    least: Vec<u16>,
    first: usize,
}

/// Takes width from the column that wraps first, then from the widest, until the table fits or all are at their least.
fn shrink(widths: &mut [u16], flexible: &Flexible, width: u16) {
    let mut over = total(widths, NARROW_GAP).saturating_sub(width);
    let first = widths.get_mut(flexible.first).zip(flexible.least.get(flexible.first));
    if let Some((first, least)) = first {
        // It keeps a width that can be read, as long as others can shrink.
        let taken = over.min(first.saturating_sub((*least).max(MIN_WRAPPED)));
        *first -= taken;
        over -= taken;
    }
    narrow(widths, &flexible.least, over);
}

/// Takes width also from columns that are at their least, where there is no other way.
fn shrink_below_least(widths: &mut [u16], width: u16) {
    let over = total(widths, NARROW_GAP).saturating_sub(width);
    narrow(widths, &[], over);
}

/// Takes so much width, each time from the widest column that is not at its least.
fn narrow(widths: &mut [u16], least: &[u16], mut over: u16) {
    while over > 0 {
        let room = |(at, width): (usize, &u16)| {
            let least = least.get(at).copied().unwrap_or(1);
            (*width > least).then_some((*width, at))
        };
        let Some((_, widest)) = widths.iter().enumerate().filter_map(room).max() else { break };
        if let Some(width) = widths.get_mut(widest) {
            *width -= 1;
        }
        over -= 1;
    }
}

/// `api.openai.com` of `https://api.openai.com/v1`
fn short_address(text: &str) -> String {
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let (address, more) = text.split_once(' ').map_or((text, ""), |(address, more)| (address, more));
    let address = address.trim_end_matches('/');
    format!("{} {more}", address.strip_suffix("/v1").unwrap_or(address)).trim_end().to_owned()
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
    match u64::try_from(left.as_secs()) {
        Ok(seconds) if !left.is_negative() => {
            format!("in {}", HumanDuration::from_secs(seconds).nearest_two_units())
        }
        _ => "expired".to_owned(),
    }
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
        let bare = table(text).without_header(true).lines(Some(40));
        assert_eq!(bare, narrow[1..]);
        let long = "x".repeat(200);
        for width in [20, 40, 80] {
            for text in [text, &long] {
                let lines = table(text).lines(Some(width));
                assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{lines:#?}");
            }
        }
    }

    #[test]
    fn columns_are_left_out_and_texts_wrap_but_headers_and_times_never_break() {
        let mut table = Table::new(&["NAME", "TYPE", "URL", "STATE", "LAST USED", "AGE"])
            .wrapping("STATE")
            .unbroken(&["LAST USED"])
            .addresses(&["URL"])
            .where_they_fit(&["AGE", "TYPE"]);
        let state = "failing since 3h12m, and skipped";
        table.row([
            "claude",
            "anthropic",
            "https://api.anthropic.com/v1 (+2)",
            state,
            "2026-11-27 12:00",
            "3d4h",
        ]);
        let lines = table.lines(Some(80));
        assert!(lines[0].split("  ").filter(|part| !part.trim().is_empty()).count() == 4, "{lines:#?}");
        assert!(lines[1].contains("  api.anthropic.com (+2)  "), "{lines:#?}");
        let mut table =
            Table::new(&["NAME", "SUBJECT", "LAST USED"]).subjects(&["SUBJECT"]).unbroken(&["LAST USED"]);
        table.row(["a-long-name-of-a-token", "User a-long-name-of-a-user", "2026-11-27 12:00"]);
        let lines = table.lines(Some(40));
        assert!(lines[0].contains("LAST USED") && lines[0].contains("SUBJECT"), "{lines:#?}");
        assert!(lines[1].ends_with("2026-11-27 12:00") && !lines[1].contains("User"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    }

    #[test]
    fn name_that_leaves_no_room_has_a_line_of_its_own() {
        let name = "n".repeat(63);
        let mut table = Table::new(&["NAME", "MODEL", "STATE", "AGE"])
            .wrapping("STATE")
            .unbroken(&["NAME", "AGE"])
            .where_they_fit(&["AGE"]);
        table.row([name.as_str(), "gpt-5", "failing since 3h", "3d4h"]);
        table.row(["short", "m", "ok", "1s"]);
        assert_eq!(
            table.lines(Some(60)),
            [
                "NAME",
                "  MODEL  STATE             AGE",
                &name,
                "  gpt-5  failing since 3h  3d4h",
                "short",
                "  m      ok                1s"
            ]
        );
    }

    #[test]
    fn ages_are_short() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3600, "1h"),
            (90_061, "1d1h"),
            (86_400 * 40 + 1, "40d"),
            (3_605, "1h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(short(SignedDuration::from_secs(seconds)), expected);
        }
    }
}
