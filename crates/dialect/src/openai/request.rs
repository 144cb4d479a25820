//! Reads the fields of a request body that decisions depend on, and makes the only two changes to a body: [`with_model`] and
//! [`with_include_usage`]. Nothing here validates what only the model server can judge: messages, tools, sampling.

mod error;
pub mod keys;
pub(super) mod messages;
pub(crate) mod object;
mod rewrite;

pub use self::{
    error::RequestError,
    rewrite::{with_include_usage, with_model},
};

use self::{messages::ContentPart, object::Object};

/// The fields of a chat completion, completion or embeddings request that decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFields {
    /// The requested `model`; `None` is allowed because a route may name the model in its path.
    pub model: Option<String>,
    /// Whether the caller requests a stream.
    pub stream: bool,
    /// Whether the caller requests a last chunk with usage (`stream_options.include_usage`).
    pub include_usage: bool,
    /// How many choices the caller requests; at least 1.
    pub n: u64,
    /// Whether `tools` (or the older `functions`) has any that the model may call.
    pub has_tools: bool,
    /// Whether any message has an image.
    pub has_images: bool,
    /// Whether the last message is a prefill: the beginning of the answer, which the model continues.
    pub has_prefill: bool,
    /// How many bytes of text the model has to read at least, as written in the body: of the messages, or of the one prompt.
    /// Content that is not text, e.g. audio, does not count.
    pub text_bytes: usize,
    /// The routing keys ([`keys::is_routing_key`]), as the body spells them.
    pub routing_keys: Vec<String>,
}

impl RequestFields {
    /// Reads the fields of `body`.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is not a JSON object, and for a field that has a wrong type, occurs twice, or is
    /// spelled in another way.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let object = Object::read(body)?;
        // Nothing is decided by their values, but a value of another type is rejected before any upstream gets the request.
        object.number("max_completion_tokens")?;
        object.number("max_tokens")?;
        let messages = object.get("messages")?;
        let parts = messages.map(|messages| messages::parts(messages.value)).unwrap_or_default();
        let include_usage = match object.stream_options()? {
            Some(options) => options.bool("include_usage", "stream_options.include_usage")?,
            None => false,
        };
        Ok(Self {
            model: object.model()?,
            stream: object.bool("stream", "stream")?,
            include_usage,
            n: match object.number("n")? {
                None => 1,
                Some(number) => number
                    .as_u64()
                    .filter(|n| *n > 0)
                    .ok_or(RequestError::Wrong { param: "n", expected: "a whole number of at least 1" })?,
            },
            has_tools: (object.is_present("tools")? && !object.is_exactly("tool_choice", "\"none\"")?)
                || (object.is_present("functions")? && !object.is_exactly("function_call", "\"none\"")?),
            has_images: parts.iter().any(ContentPart::is_image),
            has_prefill: messages.is_some_and(|messages| messages::ends_with_assistant(messages.value)),
            text_bytes: parts.iter().map(ContentPart::text_bytes).sum::<usize>() + object.prompt_bytes()?,
            routing_keys: keys::routing_keys(&object.members),
        })
    }

    /// The model, for a route that needs it in the body.
    ///
    /// # Errors
    /// [`RequestError::Missing`] where the body has none.
    pub fn require_model(&self) -> Result<&str, RequestError> {
        self.model.as_deref().ok_or(RequestError::Missing("model"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> RequestFields {
        RequestFields::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn defaults_are_those_of_openai() {
        assert_eq!(
            read(r#"{"model":"claude","messages":[]}"#),
            RequestFields {
                model: Some("claude".into()),
                stream: false,
                include_usage: false,
                n: 1,
                has_tools: false,
                has_images: false,
                has_prefill: false,
                text_bytes: 0,
                routing_keys: Vec::new(),
            }
        );
    }

    #[test]
    fn tools_that_must_not_be_called_do_not_count() {
        let with =
            |choice: &str| read(&format!(r#"{{"tools":[{{"type":"function"}}],"tool_choice":{choice}}}"#));
        assert!(with("\"auto\"").has_tools && with("null").has_tools && !with("\"none\"").has_tools);
        assert!(!read(r#"{"functions":[{"name":"f"}],"function_call":"none"}"#).has_tools);
    }

    #[test]
    fn only_the_text_of_a_single_prompt_counts() {
        let bytes = |body: &str| read(body).text_bytes;
        assert_eq!(
            bytes(r#"{"messages":[{"content":"abc"},{"content":[{"type":"text","text":"de"}]}]}"#),
            5 + 4
        );
        assert_eq!(
            bytes(r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"AAAA"}}]}]}"#),
            0
        );
        assert_eq!(bytes(r#"{"prompt":"abc"}"#), 5);
        assert_eq!(bytes(r#"{"prompt":["abc","def"]}"#) + bytes(r#"{"prompt":[1,2,3]}"#), 0);
        assert_eq!(bytes(r#"{"tools":[{"type":"function","description":"long"}]}"#), 0);
    }

    #[test]
    fn every_field_is_read() {
        let body = r#"{ "model" : "m\"x", "stream":true, "stream_options":{"include_usage":true}, "n":2,
            "max_tokens":9, "max_completion_tokens":7, "tools":[{"type":"function"}],
            "messages":[{"role":"user","content":"hi"},{"role":"user","content":[{"type":"text","text":"x"},
            {"type":"image_url","image_url":{"url":"data:"}}]}] }"#;
        assert_eq!(
            read(body),
            RequestFields {
                model: Some("m\"x".into()),
                stream: true,
                include_usage: true,
                n: 2,
                has_tools: true,
                has_images: true,
                has_prefill: false,
                text_bytes: 4 + 3,
                routing_keys: Vec::new(),
            }
        );
    }

    #[test]
    fn null_and_empty_fields_are_absent() {
        let body = r#"{"model":null,"stream":null,"stream_options":null,"max_tokens":-1,"tools":[],"n":null,
            "functions":null,"messages":[{"content":null}]}"#;
        let fields = read(body);
        assert_eq!((fields.n, fields.has_tools, fields.stream), (1, false, false));
        assert_eq!(fields.require_model(), Err(RequestError::Missing("model")));
    }

    #[test]
    fn prefill_is_an_assistants_last_message_without_tool_calls() {
        let prefill = |last: &str| {
            read(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}},{last}]}}"#))
                .has_prefill
        };
        assert!(prefill(r#"{"role":"assistant","content":"Once upon"}"#));
        assert!(!prefill(r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a"}]}"#));
        assert!(!prefill(r#"{"role":"tool","content":"7"}"#));
        assert!(!prefill(r#"{"content":"x"}"#));
    }

    #[test]
    fn malformed_bodies_are_rejected_with_the_field_at_fault() {
        for (body, param, message) in [
            ("", None, "the request body is not valid JSON: EOF while parsing a value at line 1 column 0"),
            ("hello", None, "the request body is not valid JSON: expected value at line 1 column 1"),
            ("[1]", None, "the request body must be a JSON object"),
            ("\"model\"", None, "the request body must be a JSON object"),
            (
                r#"{"model":"a"} x"#,
                None,
                "the request body is not valid JSON: trailing characters at line 1 column 15",
            ),
            (
                r#"{"model":"a""#,
                None,
                "the request body is not valid JSON: EOF while parsing an object at line 1 column 12",
            ),
            (r#"{"model":""}"#, Some("model"), "`model` is empty"),
            (r#"{"model":7}"#, Some("model"), "`model` must be a string"),
            (r#"{"model":"a","model":"b"}"#, Some("model"), "`model` is given twice"),
            (r#"{"stream":true,"stream":false}"#, Some("stream"), "`stream` is given twice"),
            (r#"{"stream":"yes"}"#, Some("stream"), "`stream` must be true or false"),
            (r#"{"stream_options":[]}"#, Some("stream_options"), "`stream_options` must be an object"),
            (
                r#"{"stream_options":{"include_usage":1}}"#,
                Some("stream_options.include_usage"),
                "`stream_options.include_usage` must be true or false",
            ),
            (r#"{"max_tokens":"9"}"#, Some("max_tokens"), "`max_tokens` must be a number"),
            (
                r#"{"max_completion_tokens":9,"max_tokens":[]}"#,
                Some("max_tokens"),
                "`max_tokens` must be a number",
            ),
            (r#"{"n":0}"#, Some("n"), "`n` must be a whole number of at least 1"),
        ] {
            let error = RequestFields::read(body.as_bytes()).unwrap_err();
            assert_eq!((error.param(), error.to_string().as_str()), (param, message), "{body}");
        }
        assert!(matches!(RequestFields::read(b"{\"model\":\"\xFF\"}"), Err(RequestError::NotJson(_))));
    }

    #[test]
    fn other_spellings_of_a_key_are_rejected() {
        for (written, name) in [
            ("Model", "model"),
            ("MODEL", "model"),
            ("mod\\u0065l", "model"),
            ("model ", "model"),
            ("model\\u0000x", "model"),
            ("\\ufeffmodel", "model"),
            ("\u{17f}tream", "stream"),
            ("\\u017ftream", "stream"),
            ("maxTokens", "max_tokens"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("streamOptions", "stream_options"),
            ("funct\u{131}ons", "functions"),
            ("N", "n"),
            ("Messages", "messages"),
            ("Tool_Choice", "tool_choice"),
        ] {
            for body in [
                format!(r#"{{"model":"a","{written}":"b"}}"#),
                format!(r#"{{"{written}":"b","model":"a"}}"#),
                format!(r#"{{"{written}":null}}"#),
            ] {
                for error in [
                    RequestFields::read(body.as_bytes()).unwrap_err(),
                    with_model(body.as_bytes(), "m").unwrap_err(),
                    with_include_usage(body.as_bytes()).unwrap_err(),
                ] {
                    let found = match &error {
                        RequestError::Spelling { name, .. } | RequestError::Escaped(name) => *name,
                        other => panic!("{body}: {other}"),
                    };
                    assert_eq!(found, name, "{body}");
                    assert!(error.hint().unwrap().contains(name), "{body}");
                }
            }
        }
        let nested = br#"{"model":"a","stream_options":{"Include_Usage":true}}"#;
        assert_eq!(RequestFields::read(nested).unwrap_err().param(), Some("Include_Usage"));
        let elsewhere = br#"{"model":"a","metadata":{"Model":"b"},"messages":[{"role":"user","Model":"c"}]}"#;
        assert_eq!(RequestFields::read(elsewhere).unwrap().model.as_deref(), Some("a"));
    }

    #[test]
    fn routing_keys_with_a_value_are_listed() {
        let fields = read(r#"{"model":"a","models":["b"],"Route":"fallback","fallbacks":null,"user":"u"}"#);
        assert_eq!(fields.routing_keys, ["models", "Route"]);
    }
}
