//! Labels, and selectors of resources by their labels, as Kubernetes has both: `team=a`, `tier!=dev`, `team in (a,b)`,
//! `team notin (a,b)`, `team`, `!team`, joined by commas. What is not understood is refused with its place.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::labels::Labels;

/// Requirements on labels; all of them hold. One without requirements selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    /// The key is there.
    Exists,
    /// The key is not there.
    Absent,
    /// The key is there with one of these values.
    In(BTreeSet<String>),
    /// The key is not there, or has another value.
    NotIn(BTreeSet<String>),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// The character, from 1.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl SelectorError {
    /// The next step.
    pub const HINT: &str = "write e.g. 'team=a,tier!=dev', 'team in (a,b)', 'team notin (a,b)', 'team' or '!team', in single quotes";
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the label selector is not understood at character {}: {}", self.at, self.message)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all requirements hold. `!=` and `notin` also hold for a resource without the key, as in Kubernetes.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, operator }| {
            let value = labels.get(key);
            match operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut tokens = Tokens::of(text);
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(requirement(&mut tokens)?);
            match tokens.next() {
                (_, Token::End) => return Ok(Self(requirements)),
                (_, Token::Comma) => {}
                (at, token) => return Err(unexpected(at, &token, "a comma or the end")),
            }
        }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, SelectorError> {
    if tokens.peek() == Token::Not {
        tokens.next();
        return Ok(Requirement { key: key(tokens)?, operator: Operator::Absent });
    }
    let key = key(tokens)?;
    if matches!(tokens.peek(), Token::End | Token::Comma) {
        return Ok(Requirement { key, operator: Operator::Exists });
    }
    let operator = match tokens.next() {
        (_, Token::Equals) => Operator::In(BTreeSet::from([value(tokens)?])),
        (_, Token::Differs) => Operator::NotIn(BTreeSet::from([value(tokens)?])),
        (_, Token::Word("in")) => Operator::In(values(tokens)?),
        (_, Token::Word("notin")) => Operator::NotIn(values(tokens)?),
        (at, token) => return Err(unexpected(at, &token, "`=`, `!=`, `in`, `notin`, a comma or the end")),
    };
    Ok(Requirement { key, operator })
}

fn key(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.next() {
        (at, Token::Word(word)) => {
            check_key(word).map_err(|message| SelectorError { at, message: message.to_owned() })?;
            Ok(word.to_owned())
        }
        (at, token) => Err(unexpected(at, &token, "a label's key")),
    }
}

/// A value, which may be empty.
fn value(tokens: &mut Tokens<'_>) -> Result<String, SelectorError> {
    match tokens.peek() {
        Token::Word(word) => {
            let (at, _) = tokens.next();
            check_value(word).map_err(|message| SelectorError { at, message: message.to_owned() })?;
            Ok(word.to_owned())
        }
        Token::End | Token::Comma | Token::Close => Ok(String::new()),
        token => Err(unexpected(tokens.next().0, &token, "a value")),
    }
}

fn values(tokens: &mut Tokens<'_>) -> Result<BTreeSet<String>, SelectorError> {
    match tokens.next() {
        (_, Token::Open) => {}
        (at, token) => return Err(unexpected(at, &token, "`(`")),
    }
    if tokens.peek() == Token::Close {
        return Err(unexpected(tokens.next().0, &Token::Close, "a value"));
    }
    let mut values = BTreeSet::new();
    loop {
        values.insert(value(tokens)?);
        match tokens.next() {
            (_, Token::Close) => return Ok(values),
            (_, Token::Comma) => {}
            (at, token) => return Err(unexpected(at, &token, "a comma or `)`")),
        }
    }
}

fn unexpected(at: usize, token: &Token<'_>, expected: &str) -> SelectorError {
    let found = match token {
        Token::End => "the end",
        Token::Comma => "`,`",
        Token::Open => "`(`",
        Token::Close => "`)`",
        Token::Not => "`!`",
        Token::Equals => "`=`",
        Token::Differs => "`!=`",
        Token::Other(sign) => return error(at, format!("`{sign}` is not part of a label selector")),
        Token::Word(word) => return error(at, format!("`{word}` stands where {expected} is expected")),
    };
    error(at, format!("{found} stands where {expected} is expected"))
}

fn error(at: usize, message: String) -> SelectorError {
    SelectorError { at, message }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    Differs,
    /// A character that no token begins with.
    Other(char),
    End,
}

struct Tokens<'a> {
    text: &'a str,
    /// The part that is not read yet.
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, rest: text }
    }

    fn peek(&self) -> Token<'a> {
        Self { ..*self }.next().1
    }

    /// The next token and the character, from 1, where it begins.
    fn next(&mut self) -> (usize, Token<'a>) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        let begin = self.text.len() - self.rest.len();
        let at = self.text.get(..begin).map_or(0, |before| before.chars().count()) + 1;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (token, length) = match self.rest.chars().next() {
            None => (Token::End, 0),
            Some(_) if length > 0 => (Token::Word(self.rest.get(..length).unwrap_or_default()), length),
            Some(',') => (Token::Comma, 1),
            Some('(') => (Token::Open, 1),
            Some(')') => (Token::Close, 1),
            Some('=') if self.rest.starts_with("==") => (Token::Equals, 2),
            Some('=') => (Token::Equals, 1),
            Some('!') if self.rest.starts_with("!=") => (Token::Differs, 2),
            Some('!') => (Token::Not, 1),
            Some(other) => (Token::Other(other), other.len_utf8()),
        };
        self.rest = self.rest.get(length..).unwrap_or_default();
        (at, token)
    }
}

/// Longest name in a key, and longest value, characters (Kubernetes, "Labels and Selectors").
const MAX_NAME_CHARS: usize = 63;
/// Longest prefix of a key, a DNS subdomain.
const MAX_PREFIX_CHARS: usize = 253;

/// Whether a text is a label's key: `name` or `example.com/name`.
///
/// # Errors
/// What a key is.
pub fn check_key(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if name.is_empty() || !is_name(name) {
        return Err(
            "a label's key has 1 to 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
        );
    }
    if prefix.is_some_and(|prefix| !is_domain(prefix)) {
        return Err(
            "before `/` a label's key has a domain of at most 253 characters, e.g. `example.com/team`",
        );
    }
    Ok(())
}

/// Whether a text is a label's value, which may be empty.
///
/// # Errors
/// What a value is.
pub fn check_value(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || is_name(text) {
        return Ok(());
    }
    Err(
        "a label's value has at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
    )
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= MAX_NAME_CHARS
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last())
}

fn is_domain(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        part.bytes().all(inner) && is_name(part)
    };
    text.len() <= MAX_PREFIX_CHARS && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_match_as_in_kubernetes() {
        let with = labels(&[("team", "a"), ("example.com/tier", "")]);
        for yes in [
            "",
            "  ",
            "team",
            "team=a",
            "team==a",
            "team = a",
            "team!=b",
            "tier!=dev",
            "team=a,tier!=dev",
            "!tier",
            "! tier",
            "team in (a,b)",
            "team in(a)",
            "team notin (b, c)",
            "tier notin (a)",
            "example.com/tier=",
            "example.com/tier in (,x)",
            "example.com/tier",
            "team,!tier , team in ( a )",
        ] {
            assert!(yes.parse::<Selector>().unwrap().matches(&with), "{yes}");
        }
        for no in [
            "tier",
            "team=b",
            "team!=a",
            "team=a,tier=dev",
            "!team",
            "team in (b)",
            "team notin (a,b)",
            "team=",
            "tier in (a)",
            "!example.com/tier",
            "tier=",
        ] {
            assert!(!no.parse::<Selector>().unwrap().matches(&with), "{no}");
        }
        // Words of the grammar are keys and values too.
        let odd = labels(&[("in", "notin")]);
        for yes in ["in", "in in (notin)", "in=notin", "notin notin (in)"] {
            assert!(yes.parse::<Selector>().unwrap().matches(&odd), "{yes}");
        }
    }

    #[test]
    fn wrong_selector_is_rejected_with_its_position() {
        for (text, at, why) in [
            ("=a", 1, "`=` stands where a label's key"),
            (",team", 1, "`,` stands where a label's key"),
            ("team=a,", 8, "the end stands where a label's key"),
            ("team=a,,b", 8, "`,` stands"),
            ("team in a", 9, "`a` stands where `(`"),
            ("team in (a", 11, "the end stands where a comma or `)`"),
            ("team in ()", 10, "`)` stands where a value"),
            ("team in (a b)", 12, "`b` stands"),
            ("team a", 6, "`a` stands where `=`"),
            ("team=a b", 8, "`b` stands where a comma or the end"),
            ("!team=a", 6, "`=` stands where a comma or the end"),
            ("!!team", 2, "`!` stands where a label's key"),
            ("team=!a", 6, "`!` stands where a value"),
            ("team>1", 5, "`>` is not part"),
            ("team=ä", 6, "`ä` is not part"),
            ("'!team'", 1, "`'` is not part"),
            ("-team", 1, "a label's key has"),
            ("team=-a", 6, "a label's value has"),
            ("Example/x", 1, "before `/`"),
            ("a/b/c", 1, "a label's key has"),
            ("team IN (a)", 6, "`IN` stands"),
        ] {
            let error = text.parse::<Selector>().unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.message.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn keys_and_values_follow_kubernetes() {
        let long = "a".repeat(63);
        for good in ["a", "A.b_c-d", "example.com/a", &long, &format!("{}/{long}", "a".repeat(63))] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "/a", "a/", "EX.com/a", "a..b/c", &"a".repeat(64), "ä"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for good in ["", "a", "1.0", &long] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in [" ", "a b", "a/b", ".a", &"a".repeat(64)] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error_inside_it(text in "[a-c!=,() in<>ä/.]{0,16}") {
            if let Err(error) = text.parse::<Selector>() {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.at), "{text:?} {error}");
            }
        }
    }
}
