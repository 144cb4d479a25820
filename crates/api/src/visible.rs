//! Makes text of other parties safe to show: characters that a terminal obeys, or that invisibly change how a line reads,
//! are escaped. It rejects nothing and knows no terminal; callers decide where it applies.

use std::borrow::Cow;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory},
};

/// Selects between a character's text form and its emoji form: harmless, and frequent in what models write.
const VARIATION_SELECTORS: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];

/// Replaces the rest of a text that was cut.
const CUT: char = '…';

/// Whether a character is a command to a terminal or is not seen: control characters (C0, DEL, C1), line and paragraph
/// separators, format characters (bidirectional overrides and isolates, zero-width ones, tags), and all others that
/// Unicode lets a program ignore when it shows them.
pub fn is_hidden(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let unseen = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character);
    (unseen || ignorable) && !VARIATION_SELECTORS.contains(&character)
}

/// Whether a text has only characters of ASCII that are seen: then no part of it is hidden, which most texts show quickly.
pub fn is_plain(text: &str) -> bool {
    // Without an early end, so that it takes many bytes at once.
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// The text with hidden characters written as JSON writes them (`\u001b`), but for line breaks and tabs. What is JSON stays
/// JSON with the same meaning, because hidden characters stand in strings only.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_unless(text, |character| matches!(character, '\n' | '\t'))
}

/// The text as part of one line: line breaks and tabs become blanks, other hidden characters are written out.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    if !text.contains(is_break) {
        return escape_unless(text, |_| false);
    }
    let parts = text.split(is_break).filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join(" ");
    Cow::Owned(escape_unless(&joined, |_| false).into_owned())
}

/// As [`short`], without a copy where the text is shown as it is.
pub fn shown(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && is_plain(text) { Cow::Borrowed(text) } else { Cow::Owned(short(text, max)) }
}

/// As [`one_line`], and at most `max` bytes long; a text that was cut ends in `…`.
pub fn short(text: &str, max: usize) -> String {
    // Nothing becomes shorter but runs of line breaks, so a longer text need not be read to its end.
    if text.len() <= max {
        let whole = one_line(text);
        if whole.len() <= max {
            return whole.into_owned();
        }
    }
    let limit = max.saturating_sub(CUT.len_utf8());
    let mut short = String::new();
    for character in text.chars() {
        let mut buffer = [0; 4];
        let shown = escape(if is_break(character) { " " } else { character.encode_utf8(&mut buffer) });
        if short.len() + shown.len() > limit {
            break;
        }
        short.push_str(&shown);
    }
    short.push(CUT);
    short
}

/// The text up to about `max` bytes; a text that was cut ends in `…`. Nothing is escaped.
pub fn limited(text: &str, max: usize) -> Cow<'_, str> {
    match text.get(..text.floor_char_boundary(max)) {
        Some(cut) if cut.len() < text.len() => Cow::Owned(format!("{cut}{CUT}")),
        _ => Cow::Borrowed(text),
    }
}

const fn is_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\t')
}

fn escape_unless(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escaped = |character: char| is_hidden(character) && !keep(character);
    if is_plain(text) || !text.contains(escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        for (text, shown) in [
            ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
            ("\x1b]0;title\x1b\\", "\\u001b]0;title\\u001b\\"),
            ("a\rb\x7f\x08", "a\\u000db\\u007f\\u0008"),
            ("\u{9b}31m\u{85}", "\\u009b31m\\u0085"),
            ("\u{202e}txt.exe\u{2066}\u{200f}", "\\u202etxt.exe\\u2066\\u200f"),
            ("ad\u{200b}min\u{feff}\u{2060}\u{ad}\u{180e}", "ad\\u200bmin\\ufeff\\u2060\\u00ad\\u180e"),
            ("\u{2028}\u{2029}\u{3164}\u{115f}", "\\u2028\\u2029\\u3164\\u115f"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(escape(text), shown, "{text:?}");
        }
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in ["lines\n\tand tabs", "Umläute, 你好, العربية, 🦀, ❤\u{fe0f}", "\\u001b", ""]
        {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn one_line_has_no_break_and_short_has_a_bound() {
        assert_eq!(one_line("gone\nroot\r\n\tx\x1b"), "gone root x\\u001b");
        assert_eq!(short("short", 5), "short");
        assert_eq!(short("a line", 6), "a line");
        assert_eq!(short("too long a text", 8), "too l…");
        assert_eq!(short("\x1b\x1b", 12), "\\u001b\\u001b");
        assert_eq!(short("\x1b\x1b\x1b", 12), "\\u001b…");
    }

    proptest! {
        #[test]
        fn no_hidden_character_is_left(text in any::<String>(), max in 3_usize..40) {
            prop_assert!(!escape(&text).contains(|c| is_hidden(c) && c != '\n' && c != '\t'));
            prop_assert!(!one_line(&text).contains(is_hidden));
            let short = short(&text, max);
            prop_assert!(short.len() <= max && !short.contains(is_hidden), "{:?}", short);
        }

        #[test]
        fn json_means_the_same_once_escaped(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&escape(&json)).unwrap(), text);
        }
    }
}
