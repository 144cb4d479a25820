//! Texts of mcpd that have code between backticks, e.g. messages and hints, as HTML.

use std::fmt::{self, Display, Formatter};

use askama::filters::{Escaper as _, Html, HtmlSafe};

/// A text whose code is marked as code; all of it is escaped.
pub struct Marked<'a>(&'a str);

/// Shows a text with its code marked.
pub fn marked(text: &str) -> Marked<'_> {
    Marked(text)
}

impl HtmlSafe for Marked<'_> {}

impl Display for Marked<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        // A backtick without a second one is text.
        while let Some((before, code, after)) = next_code(rest) {
            Html.write_escaped_str(&mut *f, before)?;
            f.write_str("<code>")?;
            Html.write_escaped_str(&mut *f, code)?;
            f.write_str("</code>")?;
            rest = after;
        }
        Html.write_escaped_str(f, rest)
    }
}

fn next_code(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    Some((before, code, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_marked_and_everything_escaped() {
        for (text, html) in [
            ("the role `a` is no `b`", "the role <code>a</code> is no <code>b</code>"),
            ("`<b>` & <i>", "<code>&#60;b&#62;</code> &#38; &#60;i&#62;"),
            ("one ` alone", "one ` alone"),
            ("`a` and ` alone<", "<code>a</code> and ` alone&#60;"),
            ("", ""),
            ("``", "<code></code>"),
        ] {
            assert_eq!(marked(text).to_string(), html);
        }
    }
}
