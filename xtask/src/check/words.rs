//! Messages are plain English: phrases that read oddly, or name neither who acts nor the next step, are in no string of the
//! sources. Names and other strings without a blank are not messages, and tests are not read.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::sizes;

/// A phrase, and what to write in its place.
const PHRASES: [(&str, &str); 13] = [
    ("is no ", "is not a"),
    ("are no ", "are not"),
    ("speaks for ", "forwards to, or acts for"),
    ("can say ", "knows, or a command that shows it"),
    ("says why", "has the reason"),
    ("says what", "has the cause"),
    ("say so", "set, write or correct it"),
    ("or say ", "or pass"),
    ("say --", "pass --"),
    ("nobody", "no one, or who it is"),
    ("somebody", "who it is"),
    ("whoever", "who it is"),
    ("is told ", "gets"),
];

/// What such a phrase may be a part of.
const EXCEPTIONS: [&str; 4] = ["there is no ", "there are no ", "is no longer", "are no longer"];

/// Strings with such a phrase.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in sizes::sources(root)? {
        let path = file.strip_prefix(root)?;
        // The table itself.
        if path.ends_with("check/words.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for (line, literal) in literals(sizes::code(&text)) {
            if let Some((phrase, instead)) = phrase(&literal) {
                findings.push(format!(
                    "{}:{line}: `{}`: write e.g. `{instead}`",
                    path.display(),
                    phrase.trim()
                ));
            }
        }
    }
    Ok(findings)
}

fn phrase(literal: &str) -> Option<(&'static str, &'static str)> {
    let literal = literal.to_lowercase();
    let plain = EXCEPTIONS.iter().fold(literal, |text, exception| text.replace(exception, ""));
    let found = |(phrase, _): &(&str, &str)| {
        plain
            .match_indices(phrase)
            .any(|(at, _)| !plain[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '`'))
    };
    PHRASES.into_iter().filter(|_| plain.contains(' ')).find(found)
}

/// The string literals of lines of code, each with the line on which it begins.
fn literals<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<Literal> = None;
    for (number, line) in lines {
        let mut rest = line;
        loop {
            let mut literal = match open.take() {
                // What follows `\` at the end of a line begins after the indentation.
                Some(literal) if literal.text.ends_with('\\') && !literal.is_raw => {
                    rest = rest.trim_start();
                    Literal { text: literal.text.trim_end_matches('\\').to_owned(), ..literal }
                }
                Some(literal) => literal,
                None => match next(rest) {
                    Some((literal, after)) => {
                        rest = after;
                        Literal { line: number, ..literal }
                    }
                    None => break,
                },
            };
            let (text, after) = literal.end(rest);
            literal.text.push_str(text);
            match after {
                Some(after) => {
                    rest = after;
                    found.push((literal.line, literal.text));
                }
                None => {
                    open = Some(literal);
                    break;
                }
            }
        }
    }
    found
}

/// A string literal that has begun.
struct Literal {
    line: usize,
    text: String,
    /// Whether a backslash in it is one.
    is_raw: bool,
    /// What ends it.
    end: String,
}

impl Literal {
    /// What belongs to it, and what follows it; `None` where it goes on in the next line.
    fn end<'a>(&self, line: &'a str) -> (&'a str, Option<&'a str>) {
        let mut escaped = false;
        for (at, c) in line.char_indices() {
            if !escaped && line[at..].starts_with(&self.end) {
                return (&line[..at], Some(&line[at + self.end.len()..]));
            }
            escaped = c == '\\' && !escaped && !self.is_raw;
        }
        (line, None)
    }
}

/// The next literal that begins in a line of code, and what follows its first quote.
fn next(line: &str) -> Option<(Literal, &str)> {
    let mut rest = line;
    loop {
        let at = rest.find(['"', '\'', '/'])?;
        let (before, here) = rest.split_at(at);
        rest = match here {
            comment if comment.starts_with("//") => return None,
            // A quote as a character.
            quote if quote.starts_with("'\"'") => &quote[3..],
            quote if quote.starts_with("'\\\"'") => &quote[4..],
            quote if quote.starts_with('"') => {
                let marks = before.len() - before.trim_end_matches('#').len();
                let is_raw = before.trim_end_matches('#').ends_with('r');
                let end = if is_raw { format!("\"{}", "#".repeat(marks)) } else { "\"".to_owned() };
                return Some((Literal { line: 0, text: String::new(), is_raw, end }, &quote[1..]));
            }
            other => &other[1..],
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(usize, String)> {
        literals(sizes::code(source))
    }

    #[test]
    fn literals_are_found_with_their_lines() {
        let source = "let a = \"x \\\" y\"; // no \"comment\"\n// \"none\"\nlet b = ['\"', r#\"p \"q\" r\"#];\n\
                      let c = \"one \\\n         two\";\n#[cfg(test)]\nmod tests {\n    const T: &str = \"t\";\n}\n";
        let expected = [(1, "x \\\" y"), (3, "p \"q\" r"), (4, "one two")];
        assert_eq!(found(source), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn phrases_are_found_in_messages_alone() {
        for (literal, expected) in [
            ("`x` is no name", Some("is no ")),
            ("its log says why", Some("says why")),
            ("There is no Llm `x`", None),
            ("it is no longer there", None),
            ("nobody", None),
            ("this is north", None),
            ("axis no 1", None),
        ] {
            assert_eq!(phrase(literal).map(|(phrase, _)| phrase), expected, "{literal}");
        }
    }
}
