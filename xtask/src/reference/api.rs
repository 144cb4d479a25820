//! The routes and the shapes of their bodies, from the committed OpenAPI document.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::table;

/// Compared with the code by a rule of its own.
const DOCUMENT: &str = "bins/mcpd/openapi.json";
const METHODS: [&str; 6] = ["get", "head", "post", "put", "patch", "delete"];

/// The page: the routes by what they are for, then the shapes.
pub(super) fn page(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join(DOCUMENT)).context(DOCUMENT)?;
    let document: Value = serde_json::from_str(&text).context(DOCUMENT)?;
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    for (path, operations) in object(at(&document, "/paths")) {
        for method in METHODS {
            let Some(operation) = operations.get(method) else { continue };
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("other");
            sections.entry(tag.to_owned()).or_default().push_str(&route(method, path, operation));
        }
    }
    let routes = sections.into_iter().map(|(tag, text)| format!("## {}\n\n{text}", title(&tag)));
    let schemas = object(at(&document, "/components/schemas")).map(|(name, schema)| shape(name, schema));
    Ok(format!("{}\n## Shapes\n\n{}", routes.collect::<String>(), schemas.collect::<String>()))
}

fn route(method: &str, path: &str, operation: &Value) -> String {
    let mut text = format!("### {} {path}\n\n", method.to_uppercase());
    for part in ["summary", "description"] {
        if let Some(about) = operation[part].as_str() {
            text.push_str(&format!("{}\n\n", prose(about)));
        }
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        let rows = parameters.iter().map(|parameter| {
            let name = word(&parameter["name"]);
            vec![
                format!("`{name}`"),
                word(&parameter["in"]),
                form(&parameter["schema"]),
                word(&parameter["description"]),
            ]
        });
        text.push_str(&table(&["parameter", "in", "value", "meaning"], rows));
        text.push('\n');
    }
    if let Some(body) = operation.get("requestBody") {
        let shapes = bodies(body);
        let about = word(&body["description"]);
        let both = [shapes, about].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        text.push_str(&format!("Body: {both}\n\n"));
    }
    let answers = object(&operation["responses"]).map(|(status, answer)| {
        let shapes = bodies(answer);
        let about = word(&answer["description"]);
        let both = [shapes, about].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        if both.is_empty() { status.clone() } else { format!("{status} {both}") }
    });
    text.push_str(&format!("Answers: {}\n\n", answers.collect::<Vec<_>>().join("; ")));
    text
}

/// The shapes of a body, by its media types.
fn bodies(body: &Value) -> String {
    let shapes = object(&body["content"]).map(|(media, content)| match form(&content["schema"]) {
        form if form.is_empty() => format!("`{media}`"),
        form if media == "application/json" => form,
        form => format!("{form} (`{media}`)"),
    });
    shapes.collect::<Vec<_>>().join(" or ")
}

fn shape(name: &str, schema: &Value) -> String {
    let mut text = format!("### {name}\n\n");
    if let Some(about) = schema["description"].as_str() {
        text.push_str(&format!("{}\n\n", prose(about)));
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows: Vec<Vec<String>> = object(&schema["properties"])
        .map(|(field, property)| {
            let needed = if required.contains(&field.as_str()) { "yes" } else { "" };
            vec![format!("`{field}`"), form(property), needed.to_owned(), about(property)]
        })
        .collect();
    if rows.is_empty() {
        text.push_str(&format!("{}\n\n", form(schema)));
    } else {
        text.push_str(&table(&["field", "value", "required", "meaning"], rows));
        text.push('\n');
    }
    text
}

/// The description of a schema, or of the one that it allows besides `null`.
fn about(schema: &Value) -> String {
    let own = word(&schema["description"]);
    if !own.is_empty() {
        return own;
    }
    schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .map(about)
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// What a value looks like: a link to its shape, or its type.
fn form(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        if let Some(of) = schema[choice].as_array() {
            let forms = of.iter().map(form).filter(|form| form != "null" && !form.is_empty());
            return forms.collect::<Vec<_>>().join(" or ");
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        other => other.as_str(),
    };
    match types {
        Some("array") => format!("list of {}", form(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("by name: {}", form(&schema["additionalProperties"]))
        }
        Some("string") => "text".to_owned(),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("integer" | "number") => "number".to_owned(),
        Some(kind) => kind.to_owned(),
        None => String::new(),
    }
}

/// What is at a JSON pointer, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Lines of documentation as one paragraph each.
fn prose(text: &str) -> String {
    text.split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn title(tag: &str) -> String {
    let mut letters = tag.chars();
    let first: String = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().collect();
    first + letters.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_name_what_a_value_is() {
        assert_eq!(form(&json!({"$ref": "#/components/schemas/LlmSpec"})), "[LlmSpec](#llmspec)");
        assert_eq!(form(&json!({"type": ["string", "null"]})), "text");
        assert_eq!(form(&json!({"oneOf": [{"$ref": "#/x/Price"}, {"type": "null"}]})), "[Price](#price)");
        assert_eq!(form(&json!({"type": "array", "items": {"enum": ["a", "b"]}})), "list of `a`, `b`");
    }
}
