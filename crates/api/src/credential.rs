//! Whether a text can be sent as a bearer: a header carries visible ASCII and blanks between, and nothing else. Checked where
//! a key or a token is given, because a provider would report it as a wrong key.

/// What is wrong with a text that cannot be sent as a bearer. Prints without the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// There is nothing.
    #[error("the value is empty")]
    Empty,
    /// Editors and shells of Windows write one at the start of a file.
    #[error("it begins with a byte order mark (U+FEFF)")]
    ByteOrderMark,
    /// A line ends inside.
    #[error("it has a line end inside")]
    LineEnd,
    /// It begins or ends with a blank.
    #[error("it has a blank at its begin or end")]
    Blank,
    /// The scheme is added when it is sent.
    #[error("it begins with `Bearer `, which is added when it is sent")]
    Scheme,
    /// A character that no header carries.
    #[error("its character {at} (U+{code:04X}) cannot be sent in a header")]
    Character {
        /// Which one, from 1.
        at: usize,
        /// Its code point.
        code: u32,
    },
}

impl Unsendable {
    /// The next step.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Empty => "give the key or token itself",
            Self::ByteOrderMark => "save the file as UTF-8 without a byte order mark",
            Self::LineEnd => "copy it again, whole and in one line",
            Self::Blank => "leave the blank out",
            Self::Scheme => "give the key or token alone",
            Self::Character { .. } => {
                "copy it again; keys and tokens have letters, digits and signs of ASCII"
            }
        }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Whether the text can be sent as it is.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), Unsendable> {
    let scheme = text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer "));
    let is_blank = |c: char| c == '\t' || (c != BYTE_ORDER_MARK && c.is_whitespace() && !is_line_end(c));
    let wrong = |c: &(usize, char)| !matches!(c.1, ' '..='~');
    match text.chars().enumerate().find(wrong) {
        _ if text.is_empty() => Err(Unsendable::Empty),
        _ if text.starts_with(BYTE_ORDER_MARK) => Err(Unsendable::ByteOrderMark),
        _ if text.contains(is_line_end) => Err(Unsendable::LineEnd),
        _ if text.starts_with(is_blank) || text.ends_with(is_blank) => Err(Unsendable::Blank),
        Some((at, c)) => Err(Unsendable::Character { at: at + 1, code: c.into() }),
        None if scheme => Err(Unsendable::Scheme),
        None => Ok(()),
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// The text without the one line end that a file, a variable or a block of YAML ends with.
pub fn without_line_end(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(text)
}

/// A token as people paste it: without blanks, line ends and byte order mark around it.
///
/// # Errors
/// When it cannot be sent all the same.
pub fn trimmed(text: &str) -> Result<&str, Unsendable> {
    let token = text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK);
    check(token).map(|()| token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsendable_text_is_rejected_with_its_reason() {
        use Unsendable::{Blank, ByteOrderMark, Character, Empty, LineEnd, Scheme};
        for (text, why) in [
            ("", Empty),
            ("\u{feff}sk-a", ByteOrderMark),
            ("sk-a\nb", LineEnd),
            ("sk-a\n", LineEnd),
            (" sk-a", Blank),
            ("sk-a\t", Blank),
            ("sk-a\u{a0}", Blank),
            ("Bearer sk-a", Scheme),
            ("bearer sk-a", Scheme),
            ("sk-\0a", Character { at: 4, code: 0 }),
            ("sk\ta", Character { at: 3, code: 9 }),
            ("sk-\u{43e}", Character { at: 4, code: 0x43e }),
            ("sk-\u{e9}", Character { at: 4, code: 0xe9 }),
            ("sk-\u{200b}a", Character { at: 4, code: 0x200b }),
        ] {
            assert_eq!(check(text), Err(why), "{text:?}");
        }
        for good in ["sk-a", "a b", "bearer", "\"quoted\"", "dXNlcjpwYXNz==", "~!@#$%^&*()"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn one_trailing_line_end_is_removed() {
        for text in ["k", "k\n", "k\r\n", "k\r"] {
            assert_eq!(without_line_end(text), "k", "{text:?}");
        }
        assert_eq!(without_line_end("k\n\n"), "k\n");
        assert_eq!(trimmed("\u{feff} \r\nmcpd_x \r\n\r\n"), Ok("mcpd_x"));
        assert_eq!(trimmed(" \n"), Err(Unsendable::Empty));
    }

    proptest! {
        #[test]
        fn accepted_text_is_ascii_without_outer_blanks(text in any::<String>()) {
            let fits = !text.is_empty()
                && text.bytes().all(|b| (b' '..=b'~').contains(&b))
                && text.trim() == text
                && !text.to_ascii_lowercase().starts_with("bearer ");
            prop_assert_eq!(check(&text).is_ok(), fits);
        }
    }
}
