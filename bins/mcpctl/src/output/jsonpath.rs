//! kubectl's templates around JSONPath: `{.items[*].name}`, `{range .items[*]}{.name}{"\n"}{end}`, and text between. The paths are
//! those of RFC 9535, with kubectl's shorter forms: `.name` for `$.name`, and `\.` for a dot in a key.

mod path;

use std::str::FromStr;

use serde_json::Value;

pub use path::{Path, Segment, Step};
use path::{closing, end_of_path};

/// The most loops within each other.
const MAX_DEPTH: usize = 8;

/// A template.
#[derive(Debug, Clone)]
pub struct JsonPath(Vec<Part>);

/// A part of a template.
#[derive(Debug, Clone)]
pub enum Part {
    /// Text between.
    Text(String),
    /// Values.
    Path(Path),
    /// What is repeated for each value.
    Range(Path, Vec<Part>),
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        if template.trim().is_empty() {
            return Err("the template is empty; write e.g. {.items[*].name}".to_owned());
        }
        let mut rest = template;
        let parts = parts(&mut rest, 0)?;
        Ok(Self(parts))
    }
}

impl JsonPath {
    /// Reads a path and the value that it has to have, as conditions are written: `{.path}=value`, or `.path=value`. No value is
    /// given where nothing follows the path.
    ///
    /// # Errors
    /// When it is not one path, or something else follows it.
    pub fn with_value(text: &str) -> Result<(Self, Option<String>), String> {
        let (path, rest) = if text.starts_with('{') {
            let end = closing(text, '{', '}').ok_or("a `{` has no `}`")?;
            let (braced, rest) = text.split_at(end);
            (braced.get(1..end - 1).unwrap_or_default(), rest)
        } else {
            text.split_at(end_of_path(text))
        };
        let value = match rest.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None if rest.is_empty() => None,
            None => return Err(format!("`=` and a value may follow the path, not `{rest}`")),
        };
        if path.trim().is_empty() {
            return Err("the path is empty; write e.g. {.disabled}=true".to_owned());
        }
        Ok((Self(vec![Part::Path(path.parse()?)]), value))
    }
}

/// The parts up to the end of the template, or of the loop that they are in.
fn parts(rest: &mut &str, depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    loop {
        let Some((text, _)) = rest.split_once('{') else {
            if depth > 0 {
                return Err("a `{range …}` has no `{end}`".to_owned());
            }
            push_text(&mut parts, rest);
            return Ok(parts);
        };
        push_text(&mut parts, text);
        let braced = rest.get(text.len()..).unwrap_or_default();
        let end = closing(braced, '{', '}').ok_or("a `{` has no `}`")?;
        let inside = braced.get(1..end.saturating_sub(1)).unwrap_or_default().trim();
        *rest = braced.get(end..).unwrap_or_default();
        if inside == "end" {
            return if depth > 0 { Ok(parts) } else { Err("an `{end}` has no `{range …}`".to_owned()) };
        }
        parts.push(match (inside.strip_prefix("range "), quoted(inside)) {
            (_, Some(text)) => Part::Text(text),
            (Some(_), None) if depth >= MAX_DEPTH => {
                return Err(format!("at most {MAX_DEPTH} ranges may be within each other"));
            }
            (Some(path), None) => Part::Range(path.parse()?, self::parts(rest, depth + 1)?),
            (None, None) => Part::Path(inside.parse()?),
        });
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// The text between quotes, with its escapes replaced.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let (mut plain, mut letters) = (String::new(), inside.chars());
    while let Some(letter) = letters.next() {
        plain.extend(match letter {
            '\\' => match letters.next() {
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('r') => Some('\r'),
                other => other,
            },
            letter => Some(letter),
        });
    }
    Some(plain)
}

impl JsonPath {
    /// Fills in the template; several values are separated by blanks, and a missing value is empty.
    pub fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        render(&self.0, value, value, &mut text);
        text
    }

    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The values of all paths, as one list.
    pub fn values(&self, value: &Value) -> Vec<Value> {
        let mut all = Vec::new();
        values(&self.0, value, value, &mut all);
        all
    }
}

fn render(parts: &[Part], root: &Value, current: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Path(path) => {
                let found = path.find(root, current).into_iter().map(show).collect::<Vec<_>>();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, parts) => {
                path.find(root, current).into_iter().for_each(|item| render(parts, root, item, text));
            }
        }
    }
}

fn values(parts: &[Part], root: &Value, current: &Value, all: &mut Vec<Value>) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Path(path) => all.extend(path.find(root, current).into_iter().cloned()),
            Part::Range(path, parts) => {
                path.find(root, current).into_iter().for_each(|item| values(parts, root, item, all));
            }
        }
    }
}

/// A value as a template shows it: a text as it is, anything else as JSON.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let value = json!({"items": [
            {"name": "a", "n": 1, "type": "openai"},
            {"name": "b", "labels": {"x.y": "z", "team-a/b": "c"}, "type": "anthropic", "targets": [{"url": "u"}, {"url": "v"}]},
        ], "kind": "List"});
        template.parse::<JsonPath>().unwrap_or_else(|error| panic!("{template}: {error}")).render(&value)
    }

    #[test]
    fn paths_text_and_stars() {
        for (template, expected) in [
            ("{.items[*].name}", "a b"),
            ("{$.items[*].n}", "1"),
            ("{items[0].name}", "a"),
            ("{@.kind}", "List"),
            ("first: {.items[0].name}{\"\\n\"}", "first: a\n"),
            ("{.items[1].labels['x.y']}", "z"),
            (r"{.items[1].labels.x\.y}", "z"),
            ("{.items[1].labels.team-a/b}", "c"),
            ("{.items[0].n}{.nothing}", "1"),
            ("{.items[-1].name}", "b"),
            ("{.items[-1:].name}", "b"),
            ("{.items[0,1].name}", "a b"),
            ("{..url}", "u v"),
            ("{.items..name}", "a b"),
            ("{.items[?(@.type==\"anthropic\")].name}", "b"),
            ("{.items[?(@.n>0)].name}", "a"),
            ("{.items[?(@.labels)].name}", "b"),
            ("{.items[1].labels.*}", "z c"),
            ("{'{'}{.kind}{\"}\"}", "{List}"),
            ("{.items[0]}", r#"{"name":"a","n":1,"type":"openai"}"#),
        ] {
            assert_eq!(render(template), expected, "{template}");
        }
    }

    #[test]
    fn loops_begin_at_each_value() {
        assert_eq!(
            render("{range .items[*]}{.name}={.type}{\"\\t\"}{$.kind}{\"\\n\"}{end}."),
            "a=openai\tList\nb=anthropic\tList\n."
        );
        assert_eq!(render("{range .items[*]}{range .targets[*]}[{.url}]{end}{end}"), "[u][v]");
    }

    #[test]
    fn wrong_templates_are_refused() {
        for (wrong, expected) in [
            ("{.a", "a `{` has no `}`"),
            ("{.a[}", "`.a[` is not a path at character 3"),
            ("{.a[x]}", "`.a[x]` is not a path at character 3"),
            ("{range .a}{.b}", "a `{range …}` has no `{end}`"),
            ("{.a}{end}", "an `{end}` has no `{range …}`"),
        ] {
            let error = wrong.parse::<JsonPath>().unwrap_err();
            assert!(error.starts_with(expected), "{wrong}: {error}");
        }
        assert!("{range .a}".repeat(100).parse::<JsonPath>().is_err());
    }
}
