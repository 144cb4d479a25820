//! The fields of a messages or token count request that decisions depend on.

mod content;

use crate::{fields::Fields, presence::Presence, wants::Wants};

/// The keys that decisions depend on. `max_tokens` bounds the cost of an answer.
pub(crate) const DECIDED: [&str; 7] =
    ["model", "stream", "max_tokens", "messages", "system", "tools", "tool_choice"];

/// What the request needs of the model.
pub(crate) fn wants(fields: &Fields) -> Wants {
    let mut summary = content::Summary::default();
    if let Some(system) = fields.get("system") {
        summary.add_content(system);
    }
    if let Some(messages) = fields.get("messages") {
        summary.add_messages(messages);
    }
    let Presence(has_tools) = fields.read("tools").unwrap_or_default();
    Wants {
        tools: has_tools && !fields.get("tool_choice").is_some_and(content::forbids_tools),
        images: summary.has_images,
        prefill: summary.ends_with_assistant,
        text_bytes: summary.text_bytes,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Operation, Request, RequestError, Wants};

    fn read(body: &str) -> Result<Request, RequestError> {
        Request::read(Operation::Messages, body.to_owned().into())
    }

    fn fields(body: &str) -> Request {
        read(body).unwrap()
    }

    fn wants(body: &str) -> Wants {
        fields(body).wants()
    }

    #[test]
    fn every_field_is_read() {
        let body = r#"{ "model":"claude", "max_tokens":9, "stream":true, "system":[{"type":"text","text":"abc"}],
            "tools":[{"name":"f","input_schema":{}}], "tool_choice":{"type":"auto"}, "fallbacks":["x"],
            "messages":[{"role":"user","content":"hi"},
              {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},
              {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[
                {"type":"text","text":"x"},{"type":"image","source":{"type":"base64","data":"AAAA"}}]}]}] }"#;
        let request = fields(body);
        assert_eq!(
            (request.model.as_deref(), request.stream, request.include_usage),
            (Some("claude"), true, true)
        );
        assert_eq!((request.choices, &request.routing_keys[..]), (1, &["fallbacks".to_owned()][..]));
        assert_eq!(
            request.wants(),
            Wants { tools: true, images: true, prefill: false, text_bytes: 5 + 4 + 3 }
        );
        let plain = fields(r#"{"model":null,"system":null,"messages":[],"tools":[]}"#);
        assert_eq!((plain.wants().tools, plain.model, plain.stream), (false, None, false));
        assert!(!wants(r#"{"tools":[{"name":"f"}],"tool_choice":{"type":"none"}}"#).tools);
    }

    #[test]
    fn text_images_and_prefill_are_found_in_every_form() {
        let with = |last: &str| wants(&format!(r#"{{"messages":[{{"role":"user","content":"q"}},{last}]}}"#));
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
                (read.text_bytes - 3, read.images, read.prefill),
                (text_bytes, has_images, has_prefill),
                "{last}"
            );
        }
        let deep = format!("{}\"x\"{}", r#"[{"type":"tool_result","content":"#.repeat(200), "}]".repeat(200));
        assert_eq!(wants(&format!(r#"{{"messages":{deep}}}"#)).text_bytes, 0, "bounded depth");
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
            assert_eq!(read(body).unwrap_err().param(), param, "{body}");
        }
    }
}
