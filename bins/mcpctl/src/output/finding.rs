//! What checks found, a line each, with the next step below; as wide as the terminal.

use super::{
    Tone, one_line,
    terminal::{line, width, wrap},
};
use crate::failure::Failure;

/// The column at which texts begin, after the word for the result of a check.
const INDENT: &str = "     ";

/// Prints what a check found.
pub fn found(tone: Tone, word: &str, what: &str, found: &str) -> Result<(), Failure> {
    indented(tone, word, &format!("{}: {}", one_line(what), one_line(found)))
}

/// Prints the next step below a finding.
pub fn hint(text: &str) -> Result<(), Failure> {
    indented(Tone::Hint, "     hint:", &one_line(text))
}

/// Prints a text after its head, further lines below it.
pub fn indented(tone: Tone, head: &str, text: &str) -> Result<(), Failure> {
    let room = width().map(|width| {
        let head = u16::try_from(head.chars().count()).unwrap_or(width);
        width.saturating_sub(head.saturating_add(1))
    });
    let mut lines = wrap(text, room).into_iter();
    line(tone, head, format_args!(" {}", lines.next().unwrap_or_default()))?;
    lines.try_for_each(|text| line(Tone::Plain, "", format_args!("{INDENT}{text}")))
}
