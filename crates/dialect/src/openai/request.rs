//! What a request asks for, read from its body without changing it, and the two changes that are ever made
//! to a body: another model, and usage asked for on a stream. Each replaces one value and keeps every other
//! byte. It does not validate what only the model server can judge (messages, tools, sampling).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{keys, presence::Presence};
use crate::members::{self, Member};

/// The fields of a chat completion, completion or embeddings request that decisions are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFields {
    /// The `model` asked for; absent is allowed here because a route may name the model in its path.
    pub model: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the caller asked for a last chunk with usage (`stream_options.include_usage`).
    pub include_usage: bool,
    /// The bound on generated tokens: `max_completion_tokens`, else `max_tokens`; a negative one, which
    /// llama.cpp reads as "no bound", is none.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for; at least 1.
    pub n: u64,
    /// Whether `tools` (or the older `functions`) offers any that may be called.
    pub has_tools: bool,
    /// Whether any message carries an image.
    pub has_images: bool,
    /// Whether the last message is the beginning of the answer, which the model is to go on with.
    pub has_prefill: bool,
    /// Bytes of the text that the model has to read at the least, as they stand in the body: of messages, or of the one
    /// prompt. What is no text, such as sound, counts for nothing.
    pub text_bytes: usize,
    /// Keys by which an upstream may choose the model, or where the request goes, by itself
    /// ([`keys::is_routing_key`]), as the body spells them.
    pub routing_keys: Vec<String>,
}

/// Why a body cannot be read as a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON at all.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but not an object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// A required field is absent or null.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is present and empty.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// A field is of another type, or out of its range.
    #[error("`{param}` must be {expected}")]
    Wrong {
        /// The field, dotted where it is nested.
        param: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A field stands in the object twice, which different readers resolve differently: the model that was
    /// authorized must be the one that the upstream reads.
    #[error("`{0}` is given twice")]
    Duplicate(&'static str),
    /// A key is written with escapes (`mod\u0065l`): readers that compare bytes do not see it.
    #[error("`{0}` is written with escapes, which not every server resolves in a key")]
    Escaped(&'static str),
    /// A key is another spelling of a field that decisions are made by: some readers take it for that field.
    #[error("`{written}` is another spelling of `{name}`, which some servers take for it")]
    Spelling {
        /// The key as the body has it, shortened and printable.
        written: String,
        /// The field's name.
        name: &'static str,
    },
}

impl RequestError {
    /// The field at fault, for `error.param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::NotJson(_) | Self::NotAnObject => None,
            Self::Spelling { written, .. } => Some(written),
            Self::Missing(param)
            | Self::Empty(param)
            | Self::Duplicate(param)
            | Self::Escaped(param)
            | Self::Wrong { param, .. } => Some(param),
        }
    }

    /// What to write instead, where the message does not show it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Escaped(name) | Self::Spelling { name, .. } => {
                Some(format!("write `{name}` as it stands here, letter by letter"))
            }
            _ => None,
        }
    }
}

impl RequestFields {
    /// Reads the fields of `body`.
    ///
    /// # Errors
    /// [`RequestError`] for a body that is no JSON object, and for a field read here that is of a wrong type,
    /// given twice, or spelled in another way.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let object = Object::read(body)?;
        let max_tokens = match object.number("max_completion_tokens")? {
            None => object.number("max_tokens")?,
            given => {
                object.number("max_tokens")?;
                given
            }
        };
        let messages = object.get("messages")?;
        let parts = messages.map(|messages| parts(messages.value)).unwrap_or_default();
        let include_usage = match object.stream_options()? {
            Some(options) => options.bool("include_usage", "stream_options.include_usage")?,
            None => false,
        };
        Ok(Self {
            model: object.model()?,
            stream: object.bool("stream", "stream")?,
            include_usage,
            max_tokens: max_tokens.and_then(|number| number.as_u64()),
            n: match object.number("n")? {
                None => 1,
                Some(number) => number
                    .as_u64()
                    .filter(|n| *n > 0)
                    .ok_or(RequestError::Wrong { param: "n", expected: "a whole number of at least 1" })?,
            },
            has_tools: (object.offers("tools")? && !object.says("tool_choice", "\"none\"")?)
                || (object.offers("functions")? && !object.says("function_call", "\"none\"")?),
            has_images: parts.iter().any(Part::is_image),
            has_prefill: messages.is_some_and(|messages| ends_with_assistant(messages.value)),
            text_bytes: parts.iter().map(Part::text_bytes).sum::<usize>() + object.prompt_bytes()?,
            routing_keys: keys::routing_keys(&object.members),
        })
    }

    /// The model, where a route needs it in the body.
    ///
    /// # Errors
    /// [`RequestError::Missing`] where the body names none.
    pub fn require_model(&self) -> Result<&str, RequestError> {
        self.model.as_deref().ok_or(RequestError::Missing("model"))
    }
}

/// The body with `model` set to `model` and every other byte as it was.
///
/// # Errors
/// [`RequestError`] for a body whose model [`RequestFields::read`] would refuse.
pub fn with_model(body: &[u8], model: &str) -> Result<Bytes, RequestError> {
    let object = Object::read(body)?;
    object.model()?;
    Ok(object.set("model", &serde_json::Value::from(model).to_string())?.into())
}

/// The body with `stream_options.include_usage` set to true and every other byte as it was.
///
/// # Errors
/// [`RequestError`] for a body whose `stream_options` [`RequestFields::read`] would refuse.
pub fn with_include_usage(body: &[u8]) -> Result<Bytes, RequestError> {
    let object = Object::read(body)?;
    let options = match object.stream_options()? {
        None => r#"{"include_usage":true}"#.to_owned(),
        Some(options) => options.set("include_usage", "true")?,
    };
    Ok(object.set("stream_options", &options)?.into())
}

/// An object's text and where its members stand in it.
struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// A request's body, with the keys that decisions are made by spelled in one way.
    fn read(body: &'a [u8]) -> Result<Self, RequestError> {
        let object = Self::parse(body)?;
        keys::check(&object.members, &keys::DECIDED)?;
        Ok(object)
    }

    fn parse(body: &'a [u8]) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(body).map_err(|error| RequestError::NotJson(error.to_string()))?;
        if !text.trim_ascii_start().starts_with('{') {
            // Text that is no JSON at all is better told so than told that it is no object.
            return Err(match serde_json::from_str::<&RawValue>(text) {
                Ok(_) => RequestError::NotAnObject,
                Err(error) => RequestError::NotJson(error.to_string()),
            });
        }
        let members = members::read(text).map_err(|error| RequestError::NotJson(error.to_string()))?;
        Ok(Self { text, members })
    }

    /// The member of that name, null counting as absent.
    fn get(&self, name: &'static str) -> Result<Option<&Member<'a>>, RequestError> {
        Ok(self.find(name)?.filter(|member| member.value != "null"))
    }

    fn find(&self, name: &'static str) -> Result<Option<&Member<'a>>, RequestError> {
        let mut found = self.members.iter().filter(|member| member.name == name);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(RequestError::Duplicate(name)),
            (first, None) => Ok(first),
        }
    }

    fn model(&self) -> Result<Option<String>, RequestError> {
        let Some(member) = self.get("model")? else { return Ok(None) };
        match serde_json::from_str::<String>(member.value) {
            Ok(model) if model.is_empty() => Err(RequestError::Empty("model")),
            Ok(model) => Ok(Some(model)),
            Err(_) => Err(RequestError::Wrong { param: "model", expected: "a string" }),
        }
    }

    fn bool(&self, name: &'static str, param: &'static str) -> Result<bool, RequestError> {
        match self.get(name)?.map(|member| member.value) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(RequestError::Wrong { param, expected: "true or false" }),
        }
    }

    fn number(&self, name: &'static str) -> Result<Option<serde_json::Number>, RequestError> {
        let Some(member) = self.get(name)? else { return Ok(None) };
        let number = serde_json::from_str(member.value)
            .map_err(|_| RequestError::Wrong { param: name, expected: "a number" })?;
        Ok(Some(number))
    }

    fn offers(&self, name: &'static str) -> Result<bool, RequestError> {
        let Some(member) = self.get(name)? else { return Ok(false) };
        Ok(serde_json::from_str(member.value).is_ok_and(|Presence(any)| any))
    }

    /// Whether the member is exactly this.
    fn says(&self, name: &'static str, json: &str) -> Result<bool, RequestError> {
        Ok(self.get(name)?.is_some_and(|member| member.value == json))
    }

    /// A list may be many prompts.
    fn prompt_bytes(&self) -> Result<usize, RequestError> {
        let prompt = self.get("prompt")?.map(|member| member.value);
        Ok(prompt.filter(|prompt| prompt.starts_with('"')).map_or(0, str::len))
    }

    fn stream_options(&self) -> Result<Option<Object<'a>>, RequestError> {
        let Some(member) = self.get("stream_options")? else { return Ok(None) };
        let Ok(options) = Object::parse(member.value.as_bytes()) else {
            return Err(RequestError::Wrong { param: "stream_options", expected: "an object" });
        };
        keys::check(&options.members, &keys::DECIDED_OF_STREAM)?;
        Ok(Some(options))
    }

    /// The text with the member's value replaced, or the member added in front where there is none.
    fn set(&self, name: &'static str, value: &str) -> Result<String, RequestError> {
        let (before, written, after) = match self.find(name)? {
            Some(member) => (
                self.text.get(..member.span.start).unwrap_or_default(),
                value.to_owned(),
                self.text.get(member.span.end..).unwrap_or_default(),
            ),
            None => {
                let brace = self.text.find('{').map_or(0, |at| at.saturating_add(1));
                let comma = if self.members.is_empty() { "" } else { "," };
                (
                    self.text.get(..brace).unwrap_or_default(),
                    format!("\"{name}\":{value}{comma}"),
                    self.text.get(brace..).unwrap_or_default(),
                )
            }
        };
        Ok([before, &written, after].concat())
    }
}

/// A piece of a message's content.
enum Part<'a> {
    /// Text, as it stands in the body.
    Text(&'a str),
    Image,
    Other,
}

impl Part<'_> {
    fn is_image(&self) -> bool {
        matches!(self, Self::Image)
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Image | Self::Other => 0,
        }
    }
}

/// What messages consist of; messages of an unknown shape are the model server's to refuse.
fn parts<'a>(messages: &'a str) -> Vec<Part<'a>> {
    #[derive(Deserialize)]
    struct Message<'m> {
        #[serde(borrow, default)]
        content: Option<&'m RawValue>,
    }

    #[derive(Deserialize)]
    struct Written<'w> {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(borrow, default)]
        text: Option<&'w RawValue>,
    }

    let messages: Vec<Message<'a>> = serde_json::from_str(messages).unwrap_or_default();
    let contents = messages.iter().filter_map(|message| message.content.map(RawValue::get));
    let of_content = |content: &'a str| -> Vec<Part<'a>> {
        // Text is the common case and can be long: it is told by its first byte.
        if !content.starts_with('[') {
            return vec![Part::Text(content)];
        }
        let written: Vec<Written<'a>> = serde_json::from_str(content).unwrap_or_default();
        let part = |written: Written<'a>| match (written.kind.as_str(), written.text) {
            ("image_url" | "input_image" | "image", _) => Part::Image,
            (_, Some(text)) => Part::Text(text.get()),
            _ => Part::Other,
        };
        written.into_iter().map(part).collect()
    };
    contents.flat_map(of_content).collect()
}

/// Whether the last message is the assistant's own. One that calls tools is none to go on with.
fn ends_with_assistant(messages: &str) -> bool {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        role: String,
        #[serde(default)]
        tool_calls: Presence,
    }

    let messages: Vec<Message> = serde_json::from_str(messages).unwrap_or_default();
    messages.last().is_some_and(|last| last.role == "assistant" && !last.tool_calls.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> RequestFields {
        RequestFields::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_defaults_are_openais() {
        assert_eq!(
            read(r#"{"model":"claude","messages":[]}"#),
            RequestFields {
                model: Some("claude".into()),
                stream: false,
                include_usage: false,
                max_tokens: None,
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
    fn tools_that_may_not_be_called_are_none() {
        let with =
            |choice: &str| read(&format!(r#"{{"tools":[{{"type":"function"}}],"tool_choice":{choice}}}"#));
        assert!(with("\"auto\"").has_tools && with("null").has_tools && !with("\"none\"").has_tools);
        assert!(!read(r#"{"functions":[{"name":"f"}],"function_call":"none"}"#).has_tools);
    }

    #[test]
    fn only_text_that_one_prompt_holds_counts() {
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
                max_tokens: Some(7),
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
    fn null_and_empty_are_absent_and_a_negative_bound_is_none() {
        let body = r#"{"model":null,"stream":null,"stream_options":null,"max_tokens":-1,"tools":[],"n":null,
            "functions":null,"messages":[{"content":null}]}"#;
        let fields = read(body);
        assert_eq!((fields.max_tokens, fields.n, fields.has_tools, fields.stream), (None, 1, false, false));
        assert_eq!(fields.require_model(), Err(RequestError::Missing("model")));
    }

    #[test]
    fn a_beginning_of_the_answer_is_told_from_other_last_messages() {
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
    fn malformed_bodies_are_refused_with_the_field_at_fault() {
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
    fn another_spelling_of_a_key_is_refused_beside_it_and_instead_of_it() {
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
    fn keys_by_which_an_upstream_chooses_are_named_where_they_ask_for_something() {
        let fields = read(r#"{"model":"a","models":["b"],"Route":"fallback","fallbacks":null,"user":"u"}"#);
        assert_eq!(fields.routing_keys, ["models", "Route"]);
    }

    #[test]
    fn the_model_is_replaced_and_nothing_else() {
        let with = |body: &str| {
            with_model(body.as_bytes(), "a\"b").map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            with(r#"{ "x" : 1.0 ,"model":  "old" , "y":"model"}"#).unwrap(),
            r#"{ "x" : 1.0 ,"model":  "a\"b" , "y":"model"}"#
        );
        assert_eq!(with(r#"{"model":null}"#).unwrap(), r#"{"model":"a\"b"}"#);
        assert_eq!(with(" { }").unwrap(), r#" {"model":"a\"b" }"#);
        assert_eq!(with(r#"{"x":{"model":"deep"}}"#).unwrap(), r#"{"model":"a\"b","x":{"model":"deep"}}"#);
        assert_eq!(with(r#"{"model":"a","model":"b"}"#), Err(RequestError::Duplicate("model")));
    }

    #[test]
    fn usage_is_asked_for_and_other_stream_options_stay() {
        for (body, expected) in [
            (r#"{"model":"a"}"#, r#"{"stream_options":{"include_usage":true},"model":"a"}"#),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream_options": {"include_usage":false, "x":1}}"#,
                r#"{"stream_options": {"include_usage":true, "x":1}}"#,
            ),
            (r#"{"stream_options":{"x":1}}"#, r#"{"stream_options":{"include_usage":true,"x":1}}"#),
        ] {
            assert_eq!(with_include_usage(body.as_bytes()).unwrap(), expected, "{body}");
        }
        assert!(with_include_usage(br#"{"stream_options":1}"#).is_err());
    }
}
