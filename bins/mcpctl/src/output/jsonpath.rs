//! The part of kubectl's JSONPath that people use: `{.items[*].name}`, `{.data.token}`, `{.subjects[0].name}`, and text
//! between.

use std::str::FromStr;

use serde_json::Value;

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
    All,
}

impl FromStr for JsonPath {
    type Err = String;

    fn from_str(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, tail)) = rest.split_once('{') {
            push_text(&mut parts, text);
            let (path, tail) = tail.split_once('}').ok_or("a `{` has no `}`")?;
            parts.push(match path.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(text) => Part::Text(text.replace("\\n", "\n").replace("\\t", "\t")),
                None => Part::Path(steps(path)?),
            });
            rest = tail;
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let wrong = || format!("`{{{path}}}` is not a path; write e.g. `{{.items[*].name}}`");
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let (inside, tail) = tail.split_once(']').ok_or_else(wrong)?;
            steps.push(match inside.trim_matches(['\'', '"']) {
                "*" => Step::All,
                number if inside == number && number.parse::<usize>().is_ok() => {
                    Step::Index(number.parse().map_err(|_| wrong())?)
                }
                key if inside != key => Step::Key(key.to_owned()),
                _ => return Err(wrong()),
            });
            rest = tail;
        } else {
            let tail = rest.strip_prefix('.').ok_or_else(wrong)?;
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (key, tail) = tail.split_at(end);
            match key {
                "" if tail.is_empty() && steps.is_empty() => {}
                "" => return Err(wrong()),
                "*" => steps.push(Step::All),
                key => steps.push(Step::Key(key.to_owned())),
            }
            rest = tail;
        }
    }
    Ok(steps)
}

impl JsonPath {
    /// Fills in the template; several values are separated by blanks, and a missing value is empty.
    pub fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Path(steps) => {
                    let found = find(value, steps).into_iter().map(show).collect::<Vec<_>>();
                    text.push_str(&found.join(" "));
                }
            }
        }
        text
    }
}

fn find<'a>(value: &'a Value, steps: &[Step]) -> Vec<&'a Value> {
    steps.iter().fold(vec![value], |values, step| {
        let next = values.into_iter().flat_map(|value| match step {
            Step::Key(key) => value.get(key).into_iter().collect::<Vec<_>>(),
            Step::Index(index) => value.get(index).into_iter().collect(),
            Step::All => match value {
                Value::Array(items) => items.iter().collect(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            },
        });
        next.collect()
    })
}

fn show(value: &Value) -> String {
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
        let value = json!({"items": [{"name": "a", "n": 1}, {"name": "b", "labels": {"x.y": "z"}}]});
        template.parse::<JsonPath>().unwrap().render(&value)
    }

    #[test]
    fn paths_text_and_stars() {
        assert_eq!(render("{.items[*].name}"), "a b");
        assert_eq!(render("first: {.items[0].name}{\"\\n\"}"), "first: a\n");
        assert_eq!(render("{.items[1].labels['x.y']}"), "z");
        assert_eq!(render("{.items[0].n}{.nothing}"), "1");
        assert_eq!(render("{$.items[*].n}"), "1");
    }

    #[test]
    fn wrong_templates_are_refused() {
        for wrong in ["{.a", "{a}", "{.a[}", "{.a[x]}", "{..a}"] {
            assert!(wrong.parse::<JsonPath>().is_err(), "{wrong}");
        }
    }
}
