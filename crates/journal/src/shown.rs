//! A line as it is kept for people, with its hidden characters escaped, and whether it is the one that was hashed.

use mcpctl_api::visible;

use crate::LineHash;

impl LineHash {
    /// Whether this is the hash of a line that is kept with its hidden characters escaped ([`visible::one_line`]). An agent writes those
    /// characters as they are, except for control characters of ASCII, which JSON has escaped.
    pub fn is_of_shown(&self, shown: &str) -> bool {
        Self::of(shown.as_bytes()) == *self || Self::of(written(shown).as_bytes()) == *self
    }
}

/// The line with its hidden characters in place of their escapes.
fn written(shown: &str) -> String {
    let mut line = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        line.push_str(before);
        let (character, length) = match hidden(escape) {
            Some((character, length)) => (Some(character), length),
            // An escaped backslash begins no other escape.
            None if escape.starts_with("\\\\") => (None, 2),
            None => (None, 1),
        };
        let (escaped, after) = escape.split_at(length);
        match character {
            Some(character) => line.push(character),
            None => line.push_str(escaped),
        }
        rest = after;
    }
    line.push_str(rest);
    line
}

/// The hidden character that an escape at the beginning stands for, and the length of the escape.
fn hidden(text: &str) -> Option<(char, usize)> {
    let first = unit(text)?;
    let (units, length) = match first {
        0xd800..=0xdbff => (vec![first, unit(text.get(6..)?)?], 12),
        _ => (vec![first], 6),
    };
    let character = char::decode_utf16(units).next()?.ok()?;
    let is_raw = character >= '\u{7f}' && visible::is_hidden(character);
    is_raw.then_some((character, length))
}

fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    u16::from_str_radix(digits, 16).ok().filter(|_| is_lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_agents_are_known_by_what_is_kept_of_them() {
        for text in [
            "plain",
            "quoted \" and \\ and \n\t\u{1b}[2J",
            "\u{202e}txt.exe\u{2066}",
            "\\\u{202e}",
            "\\u202e",
            "\u{7f}\u{9b}31m \u{e0041}",
            "Umläute, 你好 ❤\u{fe0f}",
        ] {
            let line = serde_json::json!({"seq": 1, "text": text}).to_string();
            let hash = LineHash::of(line.as_bytes());
            let shown = visible::one_line(&line);
            assert!(hash.is_of_shown(&shown), "{line}");
            assert!(!hash.is_of_shown(&shown.replacen('1', "2", 1)), "{line}");
        }
    }

    #[test]
    fn line_that_cannot_be_known_again_is_not() {
        for line in ["{\"seq\":\t1}", "{\"a\":\"\\u202e\u{202e}\"}"] {
            assert!(!LineHash::of(line.as_bytes()).is_of_shown(&visible::one_line(line)), "{line}");
        }
    }
}
