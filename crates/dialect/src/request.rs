//! A request, read once where it arrives: the fields that decisions depend on, and the places at which it is rewritten for a
//! model server. Nothing here validates what only the model server can judge: messages, tools, sampling.

mod continuation;

use bytes::Bytes;

use crate::{
    anthropic,
    fields::{Edit, Fields},
    object::Object,
    openai::{self, responses},
    operation::Operation,
    request_error::RequestError,
    wants::Wants,
};

/// A request of any operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// The requested `model`; `None` is allowed because a route may name the model in its path.
    pub model: Option<String>,
    /// Whether the caller requests a stream.
    pub stream: bool,
    /// Whether the caller requests usage in the stream (`stream_options.include_usage`), or gets it in any case.
    pub include_usage: bool,
    /// How many choices the caller requests (`n`); at least 1.
    pub choices: u64,
    /// The most output tokens of a choice, by the operation's own keys; `None` where it sets no bound.
    pub output_bound: Option<u64>,
    /// The routing keys ([`crate::keys::is_routing_key`]), as the body spells them.
    pub routing_keys: Vec<String>,
    fields: Fields,
}

/// The keys that decisions about an operation depend on.
const fn decided(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Chat | Operation::Completions | Operation::Embeddings => &openai::request::DECIDED,
        Operation::Responses => &responses::request::DECIDED,
        Operation::Messages | Operation::CountTokens => &anthropic::request::DECIDED,
    }
}

/// The keys that bound the output of an operation; all of them are among [`decided`].
const fn output_bounds(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Chat | Operation::Completions | Operation::Embeddings => {
            &["max_tokens", "max_completion_tokens"]
        }
        Operation::Responses => &["max_output_tokens"],
        Operation::Messages | Operation::CountTokens => &["max_tokens"],
    }
}

/// A bound as tokens, rounded up because lenient servers take fractions. A negative one bounds nothing.
fn tokens(number: &serde_json::Number) -> Option<u64> {
    number.as_u64().or_else(|| {
        let bound = number.as_f64().filter(|bound| bound.is_sign_positive())?;
        // A number beyond the integer's range becomes the largest one.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and rounded")]
        let bound = bound.ceil() as u64;
        Some(bound)
    })
}

impl Request {
    /// Reads a body, all of it once.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is not a JSON object, and for a field that has a wrong type, occurs twice, or is
    /// spelled in another way.
    pub fn read(operation: Operation, body: Bytes) -> Result<Self, RequestError> {
        let decided = decided(operation);
        let (object, routing_keys) = Object::read_body(&body, decided)?;
        let (choices, include_usage) = match operation {
            Operation::Chat | Operation::Completions | Operation::Embeddings => {
                (openai::request::choices(&object)?, openai::request::includes_usage(&object)?)
            }
            Operation::Responses | Operation::Messages | Operation::CountTokens => (1, true),
        };
        // Read for every operation, so that no value of another type reaches an upstream.
        let mut output_bound = None;
        for key in output_bounds(operation) {
            output_bound = output_bound.max(object.number(key)?.as_ref().and_then(tokens));
        }
        Ok(Self {
            operation,
            model: object.model()?,
            stream: object.bool("stream", "stream")? && operation.may_stream(),
            include_usage,
            choices,
            output_bound,
            routing_keys,
            fields: Fields::new(body.clone(), &object, decided),
        })
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        self.fields.body()
    }

    /// The request with a copy of its body, which `copy` makes; `None` where it makes none.
    pub fn in_copy(&self, copy: impl FnOnce(&[u8]) -> Option<Bytes>) -> Option<Self> {
        let body = copy(self.body())?;
        Some(Self { fields: self.fields.in_copy(body), ..self.clone() })
    }

    /// The model, for a route that needs it in the body.
    ///
    /// # Errors
    /// [`RequestError::Missing`] where the body has none.
    pub fn require_model(&self) -> Result<&str, RequestError> {
        self.model.as_deref().ok_or(RequestError::Missing("model"))
    }

    /// What the request needs of the model. Reads the messages.
    pub fn wants(&self) -> Wants {
        match self.operation {
            Operation::Chat | Operation::Completions | Operation::Embeddings => {
                openai::request::wants(&self.fields)
            }
            Operation::Responses => responses::request::wants(&self.fields),
            Operation::Messages | Operation::CountTokens => anthropic::request::wants(&self.fields),
        }
    }

    /// Whether usage comes with a stream only where it is requested, and this request does not.
    pub fn lacks_usage(&self) -> bool {
        self.stream && !self.include_usage
    }

    /// The body for a server: with its own name of the model, and with a request for usage in the stream where `ask_for_usage`
    /// is set. Every other byte stays.
    pub fn body_for(&self, model: &str, ask_for_usage: bool) -> Bytes {
        let mut edits = vec![Edit { name: "model", value: serde_json::Value::from(model).to_string() }];
        if ask_for_usage {
            edits.extend(openai::request::ask_for_usage(&self.fields));
        }
        self.fields.with(&edits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Request {
        Request::read(Operation::Chat, Bytes::copy_from_slice(body.as_bytes())).unwrap()
    }

    fn rejected(body: &[u8]) -> RequestError {
        Request::read(Operation::Chat, Bytes::copy_from_slice(body)).unwrap_err()
    }

    fn wants(body: &str) -> Wants {
        read(body).wants()
    }

    #[test]
    fn defaults_are_those_of_openai() {
        let request = read(r#"{"model":"claude","messages":[]}"#);
        assert_eq!(
            (request.model.as_deref(), request.stream, request.include_usage),
            (Some("claude"), false, false)
        );
        assert_eq!((request.choices, request.wants()), (1, Wants::default()));
    }

    #[test]
    fn tools_that_must_not_be_called_do_not_count() {
        let with =
            |choice: &str| wants(&format!(r#"{{"tools":[{{"type":"function"}}],"tool_choice":{choice}}}"#));
        assert!(with("\"auto\"").tools && with("null").tools && !with("\"none\"").tools);
        assert!(!wants(r#"{"functions":[{"name":"f"}],"function_call":"none"}"#).tools);
    }

    #[test]
    fn only_the_text_of_a_single_prompt_counts() {
        let bytes = |body: &str| wants(body).text_bytes;
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
        let request = read(
            r#"{ "model" : "m\"x", "stream":true, "stream_options":{"include_usage":true}, "n":2,
            "max_tokens":9, "max_completion_tokens":7, "tools":[{"type":"function"}],
            "messages":[{"role":"user","content":"hi"},{"role":"user","content":[{"type":"text","text":"x"},
            {"type":"image_url","image_url":{"url":"data:"}}]}] }"#,
        );
        assert_eq!(
            (request.model.as_deref(), request.stream, request.include_usage),
            (Some("m\"x"), true, true)
        );
        assert_eq!(request.choices, 2);
        assert_eq!(request.wants(), Wants { tools: true, images: true, prefill: false, text_bytes: 4 + 3 });
    }

    #[test]
    fn only_the_keys_of_the_operation_bound_its_output() {
        let bound = |operation, body: &str| {
            Request::read(operation, Bytes::copy_from_slice(body.as_bytes()))
                .map(|request| request.output_bound)
        };
        let both = r#"{"max_tokens":7,"max_completion_tokens":9,"max_output_tokens":1}"#;
        assert_eq!(bound(Operation::Chat, both), Ok(Some(9)));
        assert_eq!(bound(Operation::Responses, both), Ok(Some(1)));
        assert_eq!(bound(Operation::Messages, both), Ok(Some(7)));
        assert_eq!(bound(Operation::Chat, r#"{"max_output_tokens":[0,0]}"#), Ok(None));
        for (written, expected) in
            [("200000.0", Some(200_000)), ("6.1", Some(7)), ("-1", None), ("null", None)]
        {
            assert_eq!(bound(Operation::Messages, &format!(r#"{{"max_tokens":{written}}}"#)), Ok(expected));
        }
        let twice = bound(Operation::Chat, r#"{"max_tokens":1,"max_tokens":200000}"#);
        assert_eq!(twice, Err(RequestError::Duplicate("max_tokens")));
        assert!(bound(Operation::Responses, r#"{"max_output_tokens":"9"}"#).is_err());
    }

    #[test]
    fn null_and_empty_fields_are_absent() {
        let body = r#"{"model":null,"stream":null,"stream_options":null,"max_tokens":-1,"tools":[],"n":null,
            "functions":null,"messages":[{"content":null}]}"#;
        let fields = read(body);
        assert_eq!((fields.choices, fields.wants().tools, fields.stream), (1, false, false));
        assert_eq!(fields.require_model(), Err(RequestError::Missing("model")));
    }

    #[test]
    fn prefill_is_an_assistants_last_message_without_tool_calls() {
        let prefill = |last: &str| {
            wants(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}},{last}]}}"#)).prefill
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
            let error = rejected(body.as_bytes());
            assert_eq!((error.param(), error.to_string().as_str()), (param, message), "{body}");
        }
        assert!(matches!(rejected(b"{\"model\":\"\xFF\"}"), RequestError::NotJson(_)));
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
                let error = rejected(body.as_bytes());
                let found = match &error {
                    RequestError::Spelling { name, .. } | RequestError::Escaped(name) => *name,
                    other => panic!("{body}: {other}"),
                };
                assert_eq!(found, name, "{body}");
                assert!(error.hint().unwrap().contains(name), "{body}");
            }
        }
        let nested = br#"{"model":"a","stream_options":{"Include_Usage":true}}"#;
        assert_eq!(rejected(nested).param(), Some("Include_Usage"));
        let elsewhere = r#"{"model":"a","metadata":{"Model":"b"},"messages":[{"role":"user","Model":"c"}]}"#;
        assert_eq!(read(elsewhere).model.as_deref(), Some("a"));
    }

    #[test]
    fn routing_keys_with_a_value_are_listed() {
        let fields = read(r#"{"model":"a","models":["b"],"Route":"fallback","fallbacks":null,"user":"u"}"#);
        assert_eq!(fields.routing_keys, ["models", "Route"]);
    }

    #[test]
    fn only_the_model_is_replaced() {
        let with = |body: &str| String::from_utf8(read(body).body_for("a\"b", false).to_vec()).unwrap();
        assert_eq!(
            with(r#"{ "x" : 1.0 ,"model":  "old" , "y":"model"}"#),
            r#"{ "x" : 1.0 ,"model":  "a\"b" , "y":"model"}"#
        );
        assert_eq!(with(r#"{"model":null}"#), r#"{"model":"a\"b"}"#);
        assert_eq!(with(" { }"), r#" {"model":"a\"b" }"#);
        assert_eq!(with(r#"{"x":{"model":"deep"}}"#), r#"{"model":"a\"b","x":{"model":"deep"}}"#);
        assert_eq!(rejected(br#"{"model":"a","model":"b"}"#), RequestError::Duplicate("model"));
    }

    #[test]
    fn usage_is_requested_and_other_stream_options_stay() {
        for (body, expected) in [
            (r#"{"model":"a"}"#, r#"{"stream_options":{"include_usage":true},"model":"a"}"#),
            (
                r#"{"model":"a","stream_options":null}"#,
                r#"{"model":"a","stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":{},"model":"a"}"#,
                r#"{"stream_options":{"include_usage":true},"model":"a"}"#,
            ),
            (
                r#"{"stream_options": {"include_usage":false, "x":1},"model":"b"}"#,
                r#"{"stream_options": {"include_usage":true, "x":1},"model":"a"}"#,
            ),
            (
                r#"{"model":"b","stream_options":{"x":1}}"#,
                r#"{"model":"a","stream_options":{"include_usage":true,"x":1}}"#,
            ),
            ("{}", r#"{"model":"a","stream_options":{"include_usage":true}}"#),
        ] {
            assert_eq!(read(body).body_for("a", true), expected, "{body}");
        }
        assert!(matches!(rejected(br#"{"stream_options":1}"#), RequestError::Wrong { .. }));
    }

    #[test]
    fn body_that_needs_no_change_is_not_copied() {
        let request = read(r#"{"model":"a","messages":[]}"#);
        assert_eq!(request.body_for("a", false).as_ptr(), request.body().as_ptr());
    }
}
