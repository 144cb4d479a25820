//! kubectl's templates around JSONPath: `{.items[*].name}`, `{range .items[*]}{.name}{"\n"}{end}`, and text between. The paths are
//! those of RFC 9535, with kubectl's shorter forms: `.name` for `$.name`, and `\.` for a dot in a key.

use std::str::FromStr;

use serde_json::Value;

/// The most loops within each other.
const MAX_DEPTH: usize = 8;

/// A path to values.
#[derive(Debug, Clone)]
pub struct Path {
    path: serde_json_path::JsonPath,
    /// Whether it begins at the whole value and not at the loop's current one.
    from_root: bool,
}

/// A template.
#[derive(Debug, Clone)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Vec<Part>),
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let standard = standard(text);
        let path = serde_json_path::JsonPath::parse(&standard).map_err(|error| {
            let at = error.position().saturating_sub(standard.len().saturating_sub(text.len()));
            format!("`{text}` is not a path at character {}; write e.g. `.items[*].name`", at + 1)
        })?;
        Ok(Self { path, from_root: text.starts_with('$') })
    }
}

/// The path as the standard writes it.
fn standard(text: &str) -> String {
    let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    let mut path = "$".to_owned();
    // `name` alone is understood as `.name`.
    let bare = !rest.is_empty() && !rest.starts_with(['.', '[']);
    let mut begins_key = bare;
    while !rest.is_empty() {
        if begins_key || (rest.starts_with('.') && rest.len() > 1) {
            let descends = !begins_key && rest.starts_with("..");
            let skipped = if begins_key {
                0
            } else if descends {
                2
            } else {
                1
            };
            begins_key = false;
            let (key, tail) = key(rest.get(skipped..).unwrap_or_default());
            rest = tail;
            if descends {
                path.push_str("..");
            }
            let plain = key.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !key.starts_with(|c: char| c.is_ascii_digit());
            match (key.as_str(), descends) {
                ("", _) => {}
                ("*", true) => path.push('*'),
                ("*", false) => path.push_str(".*"),
                (key, true) if plain => path.push_str(key),
                (key, false) if plain => path.extend([".", key]),
                (key, _) => path.push_str(&format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))),
            }
        } else if rest.starts_with('[') {
            let (inside, tail) = rest.split_at(closing(rest, '[', ']').unwrap_or(rest.len()));
            path.push_str(inside);
            rest = tail;
        } else {
            // `{.}` is the value itself; anything else is reported by the parser.
            if rest != "." {
                path.push_str(rest);
            }
            rest = "";
        }
    }
    path
}

/// A key up to the next dot or bracket, and what follows it.
fn key(text: &str) -> (String, &str) {
    let mut key = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => key.extend(letters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (key, text.get(at..).unwrap_or_default()),
            _ => key.push(letter),
        }
    }
    (key, "")
}

/// The place after the sign that closes the first one, outside of quotes.
fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, _) if letter == open => depth += 1,
            (None, _) if letter == close => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + letter.len_utf8());
                }
            }
            (None, _) => {}
        }
    }
    None
}

impl Path {
    /// The values, in their order.
    pub fn find<'a>(&self, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
        self.path.query(if self.from_root { root } else { current }).all()
    }
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        let mut rest = template;
        let parts = parts(&mut rest, 0)?;
        Ok(Self(parts))
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
