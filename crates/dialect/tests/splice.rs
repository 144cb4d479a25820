//! A rewritten body differs from the original in the one value that was to be replaced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use mcpctl_dialect::{Operation, Request, RequestError};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn read(body: &[u8]) -> Result<Request, RequestError> {
    Request::read(Operation::Chat, Bytes::copy_from_slice(body))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!("{\"model\":\"not this one\"}")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z\"\\\\]{0,5}|model", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A body with arbitrary other members, compact or pretty-printed.
fn body() -> impl Strategy<Value = String> {
    let members = proptest::collection::hash_map("[a-z \"\\\\{}:,]{1,6}", json(), 0..5);
    let options = prop_oneof![
        Just(None),
        Just(Some(json!(null))),
        Just(Some(json!({}))),
        Just(Some(json!({"include_usage": false, "x": [1]}))),
        Just(Some(json!({"x": "}"}))),
    ];
    (members, "\\PC{1,6}", options, any::<bool>()).prop_map(|(members, model, options, pretty)| {
        // Any spelling of `n` with a value that is not a number would be rejected.
        let is_n = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).eq(['n']);
        let mut map: Map<String, Value> = members.into_iter().filter(|(name, _)| !is_n(name)).collect();
        map.insert("model".into(), model.into());
        if let Some(options) = options {
            map.insert("stream_options".into(), options);
        }
        let value = Value::Object(map);
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        text.unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn only_the_model_changes(body in body(), model in "\\PC{1,12}") {
        let spliced = read(body.as_bytes()).unwrap().body_for(&model, false);
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        let old = expected["model"].as_str().unwrap().to_owned();
        expected["model"] = model.clone().into();
        prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).unwrap(), expected);
        prop_assert_eq!(read(&spliced).unwrap().model, Some(model));
        // Restoring the model restores every byte (the generated model is written without escapes).
        let back = read(&spliced).unwrap().body_for(&old, false);
        prop_assert_eq!(back.as_ref(), body.as_bytes());
    }

    #[test]
    fn only_include_usage_changes(body in body()) {
        let request = read(body.as_bytes()).unwrap();
        let model = request.model.clone().unwrap();
        let spliced = request.body_for(&model, true);
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        if !expected["stream_options"].is_object() {
            expected["stream_options"] = json!({});
        }
        expected["stream_options"]["include_usage"] = true.into();
        prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).unwrap(), expected);
        prop_assert!(read(&spliced).unwrap().include_usage);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(request) = read(&body) {
            request.wants();
            request.body_for("m", true);
        }
    }
}
