//! The place of an error in a text: the key that the value there belongs to, and what the value is.

use super::Diagnosis;
use crate::vocabulary::Vocabulary;

pub(super) const TEXT: &str = "a text";
pub(super) const MAP: &str = "a map of keys and values";
pub(super) const LIST: &str = "a list";
pub(super) const QUOTE: &str = "put a text that begins with a sign in quotes";

const NOTHING: &str = "nothing";
const SINGLE: &str = "a single value";

/// The place of an error.
pub(super) struct Place<'a> {
    key: Option<&'a str>,
    /// Whether it is an item of the key's list.
    item: bool,
    value: &'a str,
    /// Whether the value begins a line of a block.
    block: bool,
    words: Vocabulary,
}

impl<'a> Place<'a> {
    pub(super) fn at(text: &'a str, (line, column): (u64, u64), words: Vocabulary) -> Self {
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
        let above: Vec<&str> = text.lines().take(index(line)).collect();
        let line = text.lines().nth(index(line)).unwrap_or_default();
        let byte = line.char_indices().nth(index(column)).map_or(line.len(), |(at, _)| at);
        let (before, value) = line.split_at_checked(byte).unwrap_or((line, ""));
        let block = before.chars().all(|c| matches!(c, ' ' | '-'));
        let (key, item) = if block {
            (key_above(&above, before), before.contains('-'))
        } else {
            let list = before.trim_end().strip_suffix('[').unwrap_or(before);
            (key_before(list), list.len() < before.trim_end().len())
        };
        Self { key, item, value, block, words }
    }

    /// The key that the value there belongs to.
    pub(super) fn key(&self) -> Option<&'a str> {
        self.key
    }

    /// A key on the line after a value, which its indentation makes a part of that value.
    pub(super) fn swallowed_key(&self, text: &str, (line, _): (u64, u64)) -> Option<Diagnosis> {
        let begins_text = |c: char| !matches!(c, '"' | '\'' | '|' | '>' | '{' | '[' | '#' | '&' | '*' | '!');
        if self.block || !self.value.chars().next().is_some_and(begins_text) {
            return None;
        }
        let index = usize::try_from(line).ok()?;
        let own = text.lines().nth(index.checked_sub(1)?)?;
        let next = text.lines().nth(index)?;
        let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
        let (key, _) =
            next.trim_start().split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with(' '))?;
        let is_key =
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !is_key || indent_of(next) <= indent_of(own) {
            return None;
        }
        let diagnosis = Diagnosis::new(format!("`{key}` is indented, and so a part of the value before it"))
            .hint("begin the keys of one level in the same column");
        let column = u64::try_from(indent_of(next)).ok()?.checked_add(1)?;
        Some(Diagnosis { place: Some((line.checked_add(1)?, column)), ..diagnosis })
    }

    fn found(&self) -> &'static str {
        let value = self.value.split(" #").next().unwrap_or_default().trim_end_matches([',', '}', ']', ' ']);
        match value.chars().next() {
            None | Some('~' | '#') => NOTHING,
            _ if matches!(value, "null" | "Null" | "NULL") => NOTHING,
            Some('[') => LIST,
            Some('-') if value == "-" || value.starts_with("- ") => LIST,
            Some('{') => MAP,
            Some(c) if self.block && c != '"' && (value.ends_with(':') || value.contains(": ")) => MAP,
            _ => SINGLE,
        }
    }

    /// The key that the reader stands at, where it names the place of the key and not of its value.
    fn own_key(&self, found: &str) -> Option<&'a str> {
        let (key, _) = self.value.split_once(':').filter(|_| self.block && found != MAP)?;
        Some(key).filter(|key| !key.is_empty() && !key.contains([' ', '"', '\'', '{', '[']))
    }

    pub(super) fn expects(&self, expected: &str, found: Option<&str>) -> Diagnosis {
        let (key, item) = match found.and_then(|found| self.own_key(found)) {
            Some(own) => (Some(own), false),
            None => (self.key, self.item),
        };
        let found = found.unwrap_or_else(|| self.found());
        // A number or a yes or no is a single value too; which of them belongs here is not known.
        let expected = if expected == TEXT && matches!(found, MAP | LIST) { SINGLE } else { expected };
        let subject = key.map(|key| if item { format!("an item of `{key}`") } else { format!("`{key}`") });
        let message = match (subject, found) {
            (Some(key), NOTHING) => format!("{key} is empty, where {expected} belongs"),
            (Some(key), _) if item => format!("{key} is {expected}, not {found}"),
            (Some(key), "a number") if expected.contains("number") => format!("{key} takes {expected}"),
            (Some(key), SINGLE) if !matches!(expected, MAP | LIST) => format!("{key} takes {expected}"),
            (Some(key), _) => format!("{key} takes {expected}, not {found}"),
            (None, NOTHING) => format!("{expected} belongs here, and there is nothing"),
            (None, "a number") if expected.contains("number") => format!("{expected} belongs here"),
            (None, _) => format!("{expected} belongs here, not {found}"),
        };
        let diagnosis = Diagnosis::new(message);
        let form = key.and_then(|key| self.words.form(key));
        match (expected, found, form) {
            (MAP | LIST, MAP | LIST | SINGLE, Some(form)) => diagnosis.hint(form),
            (TEXT, NOTHING, _) => diagnosis
                .hint("write a value, or leave the key out; the word itself stands in quotes: \"null\""),
            (_, NOTHING, _) => diagnosis.hint("write a value, or leave the key out"),
            (SINGLE, ..) => {
                diagnosis.hint("write the value alone; a text that begins with `{` or `[` stands in quotes")
            }
            (TEXT, ..) => diagnosis.hint("put it in quotes"),
            (MAP, ..) => diagnosis.hint("write `key: value`, one a line and indented, or `{key: value}`"),
            (LIST, ..) => diagnosis.hint("write one a line after `- `, or `[a, b]`"),
            _ => diagnosis,
        }
    }
}

/// The key whose `:` ends the text before a value.
fn key_before(before: &str) -> Option<&str> {
    let key = before.trim_end().strip_suffix(':')?.rsplit([' ', '{', ',', '[', '\t']).next()?;
    let key = key.trim_matches(['"', '\'']);
    Some(key).filter(|key| !key.is_empty())
}

/// The key whose value, a block, has this indentation; the items of a list may stand below their key without more.
fn key_above<'a>(above: &[&'a str], before: &str) -> Option<&'a str> {
    let indent_of = |line: &str| line.len() - line.trim_start().len();
    let list = before.contains('-');
    let indent = if list { indent_of(before) } else { before.len() };
    let is_inside = |line: &&str| {
        let text = line.trim_start();
        let inside = indent_of(line) > indent || (indent_of(line) == indent && text.starts_with('-'));
        text.is_empty() || text.starts_with('#') || (list && inside)
    };
    let line = above.iter().rev().find(|line| !is_inside(line))?;
    let below = indent_of(line) < indent || (list && indent_of(line) == indent);
    key_before(line.split(" #").next()?).filter(|_| below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, line: u64, column: u64) -> Option<(&str, bool)> {
        let place = Place::at(text, (line, column), Vocabulary::default());
        place.key.map(|key| (key, place.item))
    }

    #[test]
    fn indented_key_after_a_value_is_the_mistake() {
        let swallowed = |text: &str, column: u64| {
            let at = (1, column);
            Place::at(text, at, Vocabulary::default()).swallowed_key(text, at).map(|found| found.place)
        };
        assert_eq!(swallowed("listen: 127.0.0.1:1\n listen: x\n", 9), Some(Some((2, 2))));
        assert_eq!(swallowed("- a: b\n    c:\n", 6), Some(Some((2, 5))));
        assert_eq!(swallowed("listen: 127.0.0.1:1\nlisten: x\n", 9), None);
        assert_eq!(swallowed("- a: b\n  c: d\n", 6), None, "a key of the same map");
        assert_eq!(swallowed("a: b\n  more of it\n", 4), None);
        assert_eq!(swallowed("a: \"b\n  c: d\"\n", 4), None);
    }

    #[test]
    fn key_of_a_value_is_found_before_and_above_it() {
        assert_eq!(key("a: b\n", 1, 4), Some(("a", false)));
        assert_eq!(key("{a: {b: c}}\n", 1, 9), Some(("b", false)));
        assert_eq!(key("a: [b]\n", 1, 5), Some(("a", true)));
        assert_eq!(key("a:\n  b: c\n", 2, 3), Some(("a", false)));
        assert_eq!(key("a: # why\n\n  # what\n  - b\n", 4, 5), Some(("a", true)));
        assert_eq!(key("a:\n- b\n- c:\n    d\n- e\n", 5, 3), Some(("a", true)));
        assert_eq!(key("a:\nb: c\n", 2, 1), None, "a key beside it");
        assert_eq!(key("b: c\n", 1, 1), None);
    }
}
