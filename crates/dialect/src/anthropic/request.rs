//! Reads the fields of a messages or token count request that decisions depend on, and sets the model. Nothing here validates
//! what only the model server can judge: messages, tools, sampling.

mod content;

use bytes::Bytes;

use crate::openai::request::{RequestError, RequestFields, keys, object::Object};

/// The keys that decisions depend on. `max_tokens` bounds the cost of an answer.
const DECIDED: [&str; 7] = ["model", "stream", "max_tokens", "messages", "system", "tools", "tool_choice"];

/// Reads the fields of `body`. A stream always reports usage, so `include_usage` is true.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, and for a field that has a wrong type, occurs twice, or is spelled in
/// another way.
pub fn read(body: &[u8]) -> Result<RequestFields, RequestError> {
    let object = Object::read_deciding(body, &DECIDED)?;
    // Nothing is decided by its value, but a value of another type is rejected before any upstream gets the request.
    object.number("max_tokens")?;
    let value = |name| object.get(name).map(|member| member.map(|member| member.value));
    let mut summary = content::Summary::default();
    if let Some(system) = value("system")? {
        summary.add_content(system);
    }
    if let Some(messages) = value("messages")? {
        summary.add_messages(messages);
    }
    Ok(RequestFields {
        model: object.model()?,
        stream: object.bool("stream", "stream")?,
        include_usage: true,
        n: 1,
        has_tools: object.is_present("tools")? && !value("tool_choice")?.is_some_and(content::forbids_tools),
        has_images: summary.has_images,
        has_prefill: summary.ends_with_assistant,
        text_bytes: summary.text_bytes,
        routing_keys: keys::routing_keys(&object.members),
    })
}

/// Sets `model`. Every other byte stays as it was.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, and for one whose `model` [`read`] rejects.
pub fn with_model(body: &[u8], model: &str) -> Result<Bytes, RequestError> {
    let object = Object::read_deciding(body, &DECIDED)?;
    object.model()?;
    Ok(object.set("model", &serde_json::Value::from(model).to_string())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> RequestFields {
        read(body.as_bytes()).unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let body = r#"{ "model":"claude", "max_tokens":9, "stream":true, "system":[{"type":"text","text":"abc"}],
            "tools":[{"name":"f","input_schema":{}}], "tool_choice":{"type":"auto"}, "fallbacks":["x"],
            "messages":[{"role":"user","content":"hi"},
              {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[
                {"type":"text","text":"x"},{"type":"image","source":{"type":"base64","data":"AAAA"}}]}]}] }"#;
        assert_eq!(
            fields(body),
            RequestFields {
                model: Some("claude".into()),
                stream: true,
                include_usage: true,
                n: 1,
                has_tools: true,
                has_images: true,
                has_prefill: false,
                text_bytes: 5 + 4 + 3,
                routing_keys: vec!["fallbacks".into()],
            }
        );
        let plain = fields(r#"{"model":null,"system":null,"messages":[],"tools":[]}"#);
        assert_eq!((plain.model, plain.stream, plain.has_tools), (None, false, false));
        assert!(!fields(r#"{"tools":[{"name":"f"}],"tool_choice":{"type":"none"}}"#).has_tools);
    }

    #[test]
    fn text_images_and_prefill_are_found_in_every_form() {
        let with =
            |last: &str| fields(&format!(r#"{{"messages":[{{"role":"user","content":"q"}},{last}]}}"#));
        for (last, text_bytes, has_images, has_prefill) in [
            (r#"{"role":"assistant","content":"Once"}"#, 6, false, true),
            (r#"{"role":"assistant","content":[{"type":"text","text":"Once"}]}"#, 6, false, true),
            (
                r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"a":1}}]}"#,
                0,
                false,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"abc"}]}"#,
                5,
                false,
                false,
            ),
            (r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a"}]}"#, 0, false, false),
            (
                r#"{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}"#,
                0,
                true,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"document","source":{"type":"base64","data":"AA"}}]}"#,
                0,
                true,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x"}}]}"#,
                0,
                true,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"document","source":{"type":"text","data":"abc"}}]}"#,
                5,
                false,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"document","source":{"type":"content","content":[{"type":"image"}]}}]}"#,
                0,
                true,
                false,
            ),
            (
                r#"{"role":"user","content":[{"type":"mid_conv_system","content":[{"type":"text","text":"a"}]}]}"#,
                3,
                false,
                false,
            ),
            (r#"{"role":"user","content":7}"#, 0, false, false),
        ] {
            let read = with(last);
            assert_eq!(
                (read.text_bytes - 3, read.has_images, read.has_prefill),
                (text_bytes, has_images, has_prefill),
                "{last}"
            );
        }
        let deep = format!("{}\"x\"{}", r#"[{"type":"tool_result","content":"#.repeat(200), "}]".repeat(200));
        assert_eq!(fields(&format!(r#"{{"messages":{deep}}}"#)).text_bytes, 0, "bounded depth");
    }

    #[test]
    fn malformed_and_misspelled_fields_are_rejected() {
        for (body, param) in [
            ("[1]", None),
            (r#"{"model":7}"#, Some("model")),
            (r#"{"stream":"yes"}"#, Some("stream")),
            (r#"{"max_tokens":"9"}"#, Some("max_tokens")),
            (r#"{"model":"a","model":"b"}"#, Some("model")),
            (r#"{"Model":"a"}"#, Some("Model")),
            (r#"{"maxTokens":1}"#, Some("maxTokens")),
            (r#"{"syst\u0065m":"a"}"#, Some("system")),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap_err().param(), param, "{body}");
        }
    }

    #[test]
    fn only_the_model_is_replaced() {
        let body = br#"{ "messages" :[], "model": "old","x":1.0 }"#;
        assert_eq!(with_model(body, "new").unwrap(), r#"{ "messages" :[], "model": "new","x":1.0 }"#);
        assert!(with_model(br#"{"MODEL":"a"}"#, "new").is_err());
    }
}
