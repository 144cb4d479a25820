//! A path of kubectl's form, read twice: as the standard's path, which finds values, and as segments, which are compared with the
//! fields that there are.

use std::str::FromStr;

use serde_json::Value;

/// Filters within each other whose paths are read; what is in deeper ones is not compared.
const MAX_FILTERS: usize = 4;
/// Brackets and parentheses within each other; the parser calls itself for each.
const MAX_DEPTH: usize = 64;

/// A path to values.
#[derive(Debug, Clone)]
pub struct Path {
    path: serde_json_path::JsonPath,
    /// Whether it begins at the whole value and not at the loop's current one.
    from_root: bool,
    segments: Vec<Segment>,
}

/// A part of a path: its text, e.g. `.name` or `[*]`, and what it selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// As it was written, with the dot before a key.
    pub text: String,
    /// What it selects.
    pub step: Step,
}

/// What a part of a path selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The fields of these names.
    Fields(Vec<String>),
    /// All elements, or those that the filters with these paths select.
    Elements(Vec<Vec<Segment>>),
    /// Elements by their places.
    Places,
    /// The value and everything below it.
    Below,
    /// What only the values show.
    Unread,
}

impl Segment {
    /// The field of this name.
    pub fn field(name: &str) -> Self {
        Self { text: format!(".{name}"), step: Step::Fields(vec![name.to_owned()]) }
    }

    /// All elements.
    pub fn elements() -> Self {
        Self { text: "[*]".to_owned(), step: Step::Elements(Vec::new()) }
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (standard, segments) = read(text);
        if depth(&standard) > MAX_DEPTH {
            return Err(format!("at most {MAX_DEPTH} brackets may be within each other in a path"));
        }
        let path = serde_json_path::JsonPath::parse(&standard).map_err(|error| {
            if outside_quotes(text).any(|(at, _)| text.get(at..).is_some_and(|rest| rest.starts_with("=~"))) {
                return format!(
                    "`{text}`: `=~` is not supported; a filter compares with ==, !=, <, <=, > and >=, \
                     and `-o json` with jq matches patterns"
                );
            }
            let at = error.position().saturating_sub(standard.len().saturating_sub(text.len()));
            format!("`{text}` is not a path at character {}; write e.g. `.items[*].name`", at + 1)
        })?;
        Ok(Self { path, from_root: text.starts_with('$'), segments })
    }
}

impl Path {
    /// The values, in their order.
    pub fn find<'a>(&self, root: &'a Value, current: &'a Value) -> Vec<&'a Value> {
        self.path.query(if self.from_root { root } else { current }).all()
    }

    /// Whether it begins at the whole value, also in a loop.
    pub fn is_from_root(&self) -> bool {
        self.from_root
    }

    /// Its parts.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// The path as the standard writes it, and its segments.
fn read(text: &str) -> (String, Vec<Segment>) {
    let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    let (mut path, mut segments) = ("$".to_owned(), Vec::new());
    // `name` alone is understood as `.name`.
    let mut begins_key = !rest.is_empty() && !rest.starts_with(['.', '[']);
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
            let written = rest.get(skipped..).unwrap_or_default();
            let (key, tail) = key(written);
            rest = tail;
            if descends {
                path.push_str("..");
                segments.push(Segment { text: ".".to_owned(), step: Step::Below });
            }
            if key.is_empty() {
                continue;
            }
            let plain = key.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !key.starts_with(|c: char| c.is_ascii_digit());
            match (key.as_str(), descends) {
                ("*", true) => path.push('*'),
                ("*", false) => path.push_str(".*"),
                (key, true) if plain => path.push_str(key),
                (key, false) if plain => path.extend([".", key]),
                (key, _) => path.push_str(&format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'"))),
            }
            let written = written.strip_suffix(tail).unwrap_or(written);
            let step = if key == "*" { Step::Elements(Vec::new()) } else { Step::Fields(vec![key]) };
            segments.push(Segment { text: format!(".{written}"), step });
        } else if rest.starts_with('[') {
            let (inside, tail) = rest.split_at(closing(rest, '[', ']').unwrap_or(rest.len()));
            path.push_str(inside);
            segments.push(Segment { text: inside.to_owned(), step: bracket(inside, 0) });
            rest = tail;
        } else {
            // `{.}` is the value itself; anything else is reported by the parser.
            if rest != "." {
                path.push_str(rest);
            }
            rest = "";
        }
    }
    (path, segments)
}

/// What brackets select.
fn bracket(text: &str, depth: usize) -> Step {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).trim();
    if inside.starts_with('?') {
        return if depth < MAX_FILTERS { Step::Elements(paths_in(inside, depth + 1)) } else { Step::Unread };
    }
    match inside {
        "*" => Step::Elements(Vec::new()),
        _ if inside.starts_with(['"', '\'']) => {
            let names = inside.split(',').map(|name| {
                let name = name.trim();
                let unquoted = |quote| name.strip_prefix(quote).and_then(|name| name.strip_suffix(quote));
                // A name with a comma or a quote in it is left to the values.
                let name = unquoted('\'').or_else(|| unquoted('"'))?;
                (!name.contains(['\\', '\'', '"'])).then(|| name.to_owned())
            });
            names.collect::<Option<Vec<_>>>().map_or(Step::Unread, Step::Fields)
        }
        _ => Step::Places,
    }
}

/// The paths of a filter that begin at the element.
fn paths_in(filter: &str, depth: usize) -> Vec<Vec<Segment>> {
    let mut paths = Vec::new();
    let mut read_to = 0;
    for (at, letter) in outside_quotes(filter) {
        if letter != '@' || at < read_to {
            continue;
        }
        let begin = filter.get(at + 1..).unwrap_or_default();
        let (segments, rest) = path_in_filter(begin, depth);
        read_to = filter.len() - rest.len();
        if !segments.is_empty() {
            paths.push(segments);
        }
    }
    paths
}

/// The segments after an `@`, and what follows them.
fn path_in_filter(text: &str, depth: usize) -> (Vec<Segment>, &str) {
    let (mut segments, mut rest) = (Vec::new(), text);
    loop {
        if let Some(end) = rest.starts_with('[').then(|| closing(rest, '[', ']')).flatten() {
            let (inside, tail) = rest.split_at(end);
            segments.push(Segment { text: inside.to_owned(), step: bracket(inside, depth) });
            rest = tail;
            continue;
        }
        let Some(after) = rest.strip_prefix('.') else { return (segments, rest) };
        if after.starts_with('.') {
            segments.push(Segment { text: ".".to_owned(), step: Step::Below });
            rest = after;
            continue;
        }
        let end =
            after.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '*')).unwrap_or(after.len());
        let (name, tail) = after.split_at(end);
        match name {
            "" => return (segments, rest),
            "*" => segments.push(Segment { text: ".*".to_owned(), step: Step::Elements(Vec::new()) }),
            name => segments.push(Segment::field(name)),
        }
        rest = tail;
    }
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

/// The letters outside of quotes, with their places; a quote itself is none of them.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut escaped) = (None, false);
    text.char_indices().filter(move |(_, letter)| {
        match (quote, *letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(*letter),
            (None, _) => return true,
        }
        false
    })
}

/// How many brackets and parentheses are open at once, outside of quotes.
fn depth(path: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for (_, letter) in outside_quotes(path) {
        match letter {
            '[' | '(' => open += 1,
            ']' | ')' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// The place of the first `=` outside of brackets and quotes, which ends a path; the end of the text where there is none.
pub(super) fn end_of_path(text: &str) -> usize {
    let mut open = 0_usize;
    for (at, letter) in outside_quotes(text) {
        match letter {
            '[' => open += 1,
            ']' => open = open.saturating_sub(1),
            '=' if open == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// The place after the sign that closes the first one, outside of quotes.
pub(super) fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in outside_quotes(text) {
        if letter == open {
            depth += 1;
        } else if letter == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return Some(at + letter.len_utf8());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> Vec<String> {
        fn shown(segment: &Segment) -> String {
            match &segment.step {
                Step::Fields(names) => format!("field {}", names.join("|")),
                Step::Elements(filters) if filters.is_empty() => "elements".to_owned(),
                Step::Elements(filters) => {
                    let path = |path: &Vec<Segment>| path.iter().map(shown).collect::<Vec<_>>().join("/");
                    format!("where {}", filters.iter().map(path).collect::<Vec<_>>().join(" and "))
                }
                Step::Places => "places".to_owned(),
                Step::Below => "below".to_owned(),
                Step::Unread => "unread".to_owned(),
            }
        }
        text.parse::<Path>().unwrap().segments().iter().map(shown).collect()
    }

    #[test]
    fn segments_are_those_that_values_are_found_by() {
        for (path, expected) in [
            (".", &[][..]),
            ("name", &["field name"]),
            ("$.items[*].name", &["field items", "elements", "field name"]),
            (r".labels.x\.y/z", &["field labels", "field x.y/z"]),
            (".labels['x.y']", &["field labels", "field x.y"]),
            (".items[0:2].targets[-1]", &["field items", "places", "field targets", "places"]),
            ("..url", &["below", "field url"]),
            (".labels.*", &["field labels", "elements"]),
            (".items[*]['name','model']", &["field items", "elements", "field name|model"]),
            (
                ".items[?(@.type==\"@.x\" && @.labels['a'])]",
                &["field items", "where field type and field labels/field a"],
            ),
            (".items[?@.targets[?@.weight>1]]", &["field items", "where field targets/where field weight"]),
        ] {
            assert_eq!(segments(path), expected, "{path}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        for (open, close) in [("(", ")"), ("[?(@.x", ")]")] {
            let nested = |depth: usize| {
                format!(".items[?(@.a=={}@.x{})]", open.repeat(depth), close.repeat(depth)).parse::<Path>()
            };
            for depth in [MAX_DEPTH, 3_000, 100_000] {
                assert!(nested(depth).unwrap_err().contains("within each other"), "{depth} {open}");
            }
        }
        let quoted = format!(".items[?(@.name == '{}')]", "(".repeat(1_000));
        assert!(quoted.parse::<Path>().is_ok(), "text in quotes has no depth");
        assert!(format!(".it's[?{}@.x{}]", "(".repeat(5_000), ")".repeat(5_000)).parse::<Path>().is_err());
    }

    #[test]
    fn comparison_with_a_pattern_gets_another_way() {
        let error = ".items[?(@.name =~ /^g/)]".parse::<Path>().unwrap_err();
        assert!(error.contains("`=~` is not supported; a filter compares with ==, "), "{error}");
        assert!(".items[?(@.name == \"=~\")]".parse::<Path>().is_ok());
    }
}
