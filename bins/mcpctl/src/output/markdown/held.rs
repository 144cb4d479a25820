//! From where on a text that is not whole can still change its look.

use std::ops::Range;

use pulldown_cmark::{Event, Tag, TagEnd};

/// Longest text that waits for the end of an emphasis or a link, in bytes. A longer one is shown as it is.
const MAX_HELD: usize = 400;

/// The first byte that is held back.
pub(super) fn begin(source: &str, events: &[(Event<'_>, Range<usize>)]) -> usize {
    let of_line = line(source);
    opener(source, events).unwrap_or(source.len()).min(of_line.unwrap_or(source.len()))
}

/// The last line, where it is only a beginning that may become a heading, an item, a rule or a fence; the lines of a table with it.
pub(super) fn line(source: &str) -> Option<usize> {
    let mut start = source.len();
    for line in source.split_inclusive('\n').rev() {
        if !line.trim_start().starts_with('|') {
            break;
        }
        start -= line.len();
    }
    if start < source.len() {
        return Some(start);
    }
    let start = source.rfind('\n').map_or(0, |at| at + 1);
    let text = source.get(start..)?.trim_start();
    let is_marker = |c: char| "#>*+-=_`~.) \t".contains(c) || c.is_ascii_digit();
    // Of a fence the language belongs to it.
    let is_open = text.starts_with("```") || text.starts_with("~~~");
    (!text.is_empty() && (is_open || text.chars().all(is_marker))).then_some(start)
}

/// The first mark near the end that opens an emphasis, code or a link and is not closed yet.
fn opener(source: &str, events: &[(Event<'_>, Range<usize>)]) -> Option<usize> {
    let earliest = source.len().saturating_sub(MAX_HELD);
    let mut in_code = false;
    for (event, range) in events {
        match event {
            Event::Start(Tag::CodeBlock(_)) => in_code = true,
            Event::End(TagEnd::CodeBlock) => in_code = false,
            // A table is laid out when its last row is there.
            Event::Start(Tag::Table(_)) if range.end >= source.trim_end().len() => return Some(range.start),
            Event::Text(_) if !in_code && range.end > earliest => {
                let text = source.get(range.clone()).unwrap_or_default();
                for (at, mark) in text.char_indices().filter(|(_, c)| "*_`[~".contains(*c)) {
                    let at = range.start + at;
                    if at >= earliest && opens(source, at, mark) {
                        return Some(at);
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether a mark could open something: text follows it, or nothing yet, and a `_` does not stand inside a word.
fn opens(source: &str, at: usize, mark: char) -> bool {
    let (before, after) = (source.get(..at).unwrap_or_default(), source.get(at + 1..).unwrap_or_default());
    if before.ends_with('\\') {
        return false;
    }
    let inside_word = before.ends_with(char::is_alphanumeric);
    let next = after.trim_start_matches(mark).chars().next();
    // Nothing is open beyond the end of its paragraph.
    let ended = source.get(at..).is_some_and(|rest| rest.contains("\n\n"));
    !ended && next.is_none_or(|next| !next.is_whitespace()) && !(mark == '_' && inside_word)
}
