//! The fields of each kind, as the OpenAPI document describes them: for `mcpctl explain`, and for the examples of help.

use std::collections::HashMap;

use serde_json::{Map, Value};
use utoipa::{PartialSchema, ToSchema, openapi::RefOr};

use crate::{
    Kind,
    spec::{
        GroupSpec, LimitSpec, LlmSpec, RoleBindingSpec, RoleSpec, SecretSpec, ServiceAccountSpec, TokenSpec,
        UserSpec,
    },
};

/// Fields within each other are followed so deep.
const MAX_DEPTH: usize = 16;

/// The keys of every document, whatever its kind.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is read")]
pub struct DocumentKeys {
    /// What the document describes, e.g. `Llm`.
    kind: String,
    /// Unique within the kind: lower-case letters, digits, `.`, `_` and `-`; a user's may be an e-mail address.
    name: String,
    /// Made by the server, never reused. Written, it must be that of the resource of this name.
    id: Option<String>,
    /// Keys and values, for selecting with `-l`.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>, example = json!({"team": "red"}))]
    labels: (),
    /// Keys and values, for programs and people; nothing is selected by them.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    annotations: (),
    /// The revision of the last change. Written, a change since then is a conflict.
    revision: Option<u64>,
    /// When it was made.
    #[schema(read_only)]
    created_at: Option<String>,
    /// When it was last changed.
    #[schema(read_only)]
    updated_at: Option<String>,
}

/// The schema of a kind.
pub struct KindSchema {
    kind: Kind,
    root: Value,
    named: HashMap<String, Value>,
}

/// A field of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its key; empty for the document itself.
    pub name: String,
    /// What it holds, e.g. `string`, `[]LlmTarget`, `map[string]string`.
    pub type_name: String,
    /// What it is for.
    pub description: String,
    /// Whether a document must have it.
    pub required: bool,
    /// Whether the server sets it.
    pub read_only: bool,
    /// The only values that it takes, where there are such.
    pub choices: Vec<String>,
    /// What holds where it is left out.
    pub default: Option<Value>,
    /// What may be written.
    pub example: Option<Value>,
    /// The fields below it.
    pub fields: Vec<Field>,
}

/// A path that leads to no field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The key that is not known.
    pub key: String,
    /// The path before it.
    pub parent: String,
    /// The keys that are known there.
    pub known: Vec<String>,
}

impl KindSchema {
    /// The schema of a kind of resource; records have none.
    pub fn of(kind: Kind) -> Option<Self> {
        let (spec, nested) = match kind {
            Kind::Llm => parts::<LlmSpec>(),
            Kind::Secret => parts::<SecretSpec>(),
            Kind::User => parts::<UserSpec>(),
            Kind::Group => parts::<GroupSpec>(),
            Kind::ServiceAccount => parts::<ServiceAccountSpec>(),
            Kind::Role => parts::<RoleSpec>(),
            Kind::RoleBinding => parts::<RoleBindingSpec>(),
            Kind::Token => parts::<TokenSpec>(),
            Kind::Limit => parts::<LimitSpec>(),
            Kind::Usage | Kind::Audit => return None,
        };
        let (mut root, _) = parts::<DocumentKeys>();
        for key in ["properties", "required"] {
            match (root.get_mut(key), spec.get(key)) {
                (Some(Value::Object(all)), Some(Value::Object(own))) => {
                    all.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                (Some(Value::Array(all)), Some(Value::Array(own))) => all.extend(own.iter().cloned()),
                _ => {}
            }
        }
        for key in ["description", "example"] {
            if let (Value::Object(root), Some(value)) = (&mut root, spec.get(key)) {
                root.insert(key.to_owned(), value.clone());
            }
        }
        Some(Self { kind, root, named: nested })
    }

    /// A whole document as an example.
    pub fn example(&self) -> Option<&Value> {
        self.root.get("example")
    }

    /// The field at a path, e.g. `["targets", "url"]`, with the fields below it; the document itself for no path.
    ///
    /// # Errors
    /// The first key that is not known.
    pub fn field(&self, path: &[&str]) -> Result<Field, UnknownField> {
        let mut field = self.read("", &self.root, false, 0);
        field.type_name = self.kind.singular().to_owned();
        for (at, key) in path.iter().enumerate() {
            let found = field.fields.iter().position(|below| below.name == *key);
            let known = || field.fields.iter().map(|below| below.name.clone()).collect();
            let Some(found) = found else {
                let parent = path.iter().take(at).copied().collect::<Vec<_>>().join(".");
                return Err(UnknownField { key: (*key).to_owned(), parent, known: known() });
            };
            field = field.fields.swap_remove(found);
        }
        Ok(field)
    }

    fn read(&self, name: &str, schema: &Value, required: bool, depth: usize) -> Field {
        let own = |key: &str| schema.get(key);
        let (target, type_name) = self.resolve(schema);
        let either = |key: &str| own(key).or_else(|| target.get(key));
        let text = |key: &str| either(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let described = nullable(schema).and_then(|inner| inner.get("description")).and_then(Value::as_str);
        let choices = target.get("enum").and_then(Value::as_array).into_iter().flatten();
        let is_set = |key: &str| either(key).and_then(Value::as_bool).unwrap_or_default();
        let required_below: Vec<&str> = strings(target.get("required"));
        let properties = target.get("properties").and_then(Value::as_object).filter(|_| depth < MAX_DEPTH);
        let below = properties
            .into_iter()
            .flatten()
            .map(|(key, value)| self.read(key, value, required_below.contains(&key.as_str()), depth + 1));
        let mut fields: Vec<Field> = below.collect();
        // What identifies a document, then what it must have, then the rest, and last what mcpd sets.
        let heads = ["kind", "name"];
        fields.sort_by_key(|field| {
            let head = heads.iter().position(|head| depth == 0 && field.name == *head).unwrap_or(heads.len());
            let own =
                ["id", "labels", "annotations", "revision"].contains(&field.name.as_str()) && depth == 0;
            (head, !field.required, field.read_only, own)
        });
        Field {
            name: name.to_owned(),
            type_name,
            description: described.map_or_else(|| text("description"), str::to_owned),
            required,
            read_only: is_set("readOnly"),
            choices: choices.filter_map(Value::as_str).map(str::to_owned).collect(),
            default: either("default").cloned(),
            example: either("example").cloned(),
            fields,
        }
    }

    /// What a schema refers to, through lists and references, and the name of its type.
    fn resolve<'a>(&'a self, schema: &'a Value) -> (&'a Value, String) {
        let mut schema = schema;
        let mut prefix = String::new();
        for _ in 0..MAX_DEPTH {
            if let Some(inner) = nullable(schema) {
                schema = inner;
            }
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                let name = reference.rsplit('/').next().unwrap_or(reference);
                let Some(target) = self.named.get(name) else { return (schema, format!("{prefix}{name}")) };
                // Of a generic type the name of what it is made for is left out.
                let name = name.split('_').next().unwrap_or(name);
                if !prefix.ends_with(']') && target.get("properties").is_none() {
                    schema = target;
                    continue;
                }
                return (target, format!("{prefix}{}", plain(name, target)));
            }
            match type_of(schema).as_deref() {
                Some("array") => {
                    prefix.push_str("[]");
                    schema = schema.get("items").unwrap_or(&Value::Null);
                }
                Some("object") if schema.get("properties").is_none() => {
                    prefix.push_str("map[string]");
                    schema = schema
                        .get("additionalProperties")
                        .filter(|inner| inner.is_object())
                        .unwrap_or(&Value::Null);
                }
                Some(kind) => return (schema, format!("{prefix}{kind}")),
                None => return (schema, format!("{prefix}value")),
            }
        }
        (schema, prefix)
    }
}

/// The name of a type with fields; of any other, what it is written as.
fn plain(name: &str, schema: &Value) -> String {
    match schema.get("properties") {
        Some(_) => name.to_owned(),
        None => type_of(schema).unwrap_or_else(|| name.to_owned()),
    }
}

/// The schema that may be `null` instead.
fn nullable(schema: &Value) -> Option<&Value> {
    let choices = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    choices.iter().find(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
}

fn type_of(schema: &Value) -> Option<String> {
    match schema.get("type")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            all.iter().filter_map(Value::as_str).find(|text| *text != "null").map(str::to_owned)
        }
        _ => None,
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A schema, and those that it refers to by their names.
fn parts<T: ToSchema + PartialSchema>() -> (Value, HashMap<String, Value>) {
    let json = |schema: &RefOr<utoipa::openapi::Schema>| {
        serde_json::to_value(schema).unwrap_or_else(|_| Value::Object(Map::new()))
    };
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    (json(&T::schema()), nested.iter().map(|(name, schema)| (name.clone(), json(schema))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    #[test]
    fn every_kind_has_an_example_that_is_accepted() {
        for kind in Kind::RESOURCES.into_iter().filter(|kind| *kind != Kind::Token) {
            let schema = KindSchema::of(kind).unwrap();
            let example = schema.example().unwrap_or_else(|| panic!("{kind} has no example"));
            let document = Document::from_json(&serde_json::to_vec(example).unwrap());
            let document = document.unwrap_or_else(|error| panic!("{kind}: {}: {error}", error.param));
            assert_eq!(document.kind(), kind);
        }
    }

    #[test]
    fn every_field_is_described_and_its_example_is_of_its_type() {
        fn check(field: &Field, path: &str) {
            for below in &field.fields {
                let path = format!("{path}.{}", below.name);
                assert!(!below.description.is_empty(), "{path} has no description");
                assert!(
                    !below.type_name.is_empty() && below.type_name != "value",
                    "{path}: {}",
                    below.type_name
                );
                check(below, &path);
            }
        }
        for kind in Kind::RESOURCES {
            check(&KindSchema::of(kind).unwrap().field(&[]).unwrap(), kind.singular());
        }
    }

    #[test]
    fn fields_are_found_by_their_path() {
        let llm = KindSchema::of(Kind::Llm).unwrap();
        let field = |path: &[&str]| llm.field(path).unwrap();
        let targets = field(&["targets"]);
        assert_eq!(targets.type_name, "[]LlmTarget");
        assert!(targets.fields.iter().any(|below| below.name == "url" && below.required));
        assert_eq!(field(&["targets", "url"]).example.unwrap(), "http://gpu-1.example.com:8000/v1");
        assert_eq!(field(&["type"]).choices, ["openai", "anthropic", "azure-openai"]);
        assert!(field(&["type"]).required && !field(&["id"]).required);
        assert_eq!(field(&[]).fields[0].name, "kind");
        assert_eq!(field(&["labels"]).type_name, "map[string]string");
        assert_eq!(field(&["timeouts", "idle"]).type_name, "string");
        assert!(field(&["apiKey", "secretId"]).read_only);
        assert!(field(&["apiKey"]).description.starts_with("The provider's key"));
        let unknown = llm.field(&["failover", "modle"]).unwrap_err();
        assert_eq!((unknown.key.as_str(), unknown.parent.as_str()), ("modle", "failover"));
        assert!(unknown.known.contains(&"require".to_owned()));
    }
}
