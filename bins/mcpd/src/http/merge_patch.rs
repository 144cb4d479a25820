//! JSON merge patches (RFC 7396) of documents, as `PATCH` takes them.

use mcpctl_api::Kind;
use serde_json::{Map, Value};

/// Applies a patch to the document of a resource.
pub fn patch(kind: Kind, document: &mut Value, patch: Value) {
    // In a merge patch `null` removes a field, whereas a document without one of these keeps it.
    let removes = |field: &&str| kind == Kind::User && patch.get(field).is_some_and(Value::is_null);
    let removed: Vec<&str> = ["password", "external"].into_iter().filter(removes).collect();
    let secret_before = document.pointer("/apiKey/secret").cloned();
    let names_id = patch.pointer("/apiKey/secretId").is_some();
    merge(document, patch);
    if let Some(document) = document.as_object_mut() {
        document.extend(removed.into_iter().map(|field| (field.to_owned(), Value::Null)));
    }
    // What the server wrote beside the name of a secret is about that secret, and not about another one.
    if kind == Kind::Llm
        && !names_id
        && document.pointer("/apiKey/secret") != secret_before.as_ref()
        && let Some(key) = document.pointer_mut("/apiKey").and_then(Value::as_object_mut)
    {
        key.shift_remove("secretId");
        key.shift_remove("attachedBy");
    }
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.shift_remove(&key);
            } else {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_as_in_rfc_7396() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!(["a"]), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn another_secret_takes_nothing_of_the_old_reference() {
        let stored = json!({"apiKey": {"secret": "a", "key": "k", "secretId": "i", "attachedBy": ["u"]}});
        for (change, expected) in [
            (json!({"secret": "b"}), json!({"secret": "b", "key": "k"})),
            (json!({"key": "l"}), json!({"secret": "a", "key": "l", "secretId": "i", "attachedBy": ["u"]})),
            (json!({"secret": "a"}), stored["apiKey"].clone()),
        ] {
            let mut document = stored.clone();
            patch(Kind::Llm, &mut document, json!({"apiKey": change}));
            assert_eq!(document["apiKey"], expected);
        }
        let mut document = stored.clone();
        patch(Kind::Llm, &mut document, json!({"apiKey": {"secret": "b", "secretId": "j"}}));
        assert_eq!(document["apiKey"]["secretId"], "j", "what the patch itself writes stays");
    }
}
