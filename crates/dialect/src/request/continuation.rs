//! The request whose answer is the rest of one that broke off: the same conversation, with the beginning of the answer as its last
//! message. A model that can continue it (`prefill`) writes what follows, within what is left of the caller's bound.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use super::{Request, output_bounds, tokens};
use crate::{fields::Edit, operation::Operation, text_tokens::of_text};

/// Shortest beginning that is continued, in bytes: of a shorter one it would not be clear whether an answer repeats it.
const MIN_BEGINNING_BYTES: usize = 12;

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    role: Value,
}

impl Request {
    /// The request for what follows `beginning`; a copy of the body. `None` where it cannot be continued: a few bytes, several choices, an
    /// operation without messages, or messages that end with the assistant's own already.
    pub fn continued(&self, beginning: &str) -> Option<Self> {
        let name = match self.operation {
            Operation::Chat | Operation::Messages => "messages",
            Operation::Responses => "input",
            Operation::Completions | Operation::Embeddings | Operation::CountTokens => return None,
        };
        if self.choices > 1 || beginning.trim().len() < MIN_BEGINNING_BYTES {
            return None;
        }
        let begun = json!({ "role": "assistant", "content": beginning });
        let value = match self.fields.read::<String>(name).filter(|_| self.operation == Operation::Responses)
        {
            Some(input) => json!([{ "role": "user", "content": input }, begun]).to_string(),
            None => {
                let messages: Vec<Message> = self.fields.read(name)?;
                if messages.last()?.role == "assistant" {
                    return None;
                }
                let open = self.fields.get(name)?.trim_end().strip_suffix(']')?;
                format!("{open},{begun}]")
            }
        };
        let mut edits = self.bounds_after(beginning);
        edits.push(Edit { name, value });
        let body: Bytes = self.fields.with(&edits);
        let mut request = Self::read(self.operation, body).ok()?;
        // A route may have named it.
        request.model.clone_from(&self.model);
        Some(request)
    }

    /// The bounds of the output, less what `beginning` takes of them: the caller bounded the whole answer.
    fn bounds_after(&self, beginning: &str) -> Vec<Edit> {
        let given = of_text(beginning);
        let left = |name: &&'static str| {
            let bound = tokens(&self.fields.read::<Number>(name)?)?;
            // A server refuses a bound of 0.
            Some(Edit { name, value: bound.saturating_sub(given).max(1).to_string() })
        };
        output_bounds(self.operation).iter().filter_map(left).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_of_the_output_is_what_is_left_of_it() {
        // 24 characters: 6 tokens.
        let beginning = "A beginning of the text.";
        let messages = r#""messages":[{"role":"user","content":"Hi"}]"#;
        for (operation, bounds, expected) in [
            (Operation::Chat, r#""max_tokens":50"#, Some(44)),
            (Operation::Chat, r#""max_tokens":50,"max_completion_tokens":6"#, Some(44)),
            (Operation::Chat, r#""max_completion_tokens":3.5"#, Some(1)),
            (Operation::Chat, r#""max_tokens":-1"#, None),
            (Operation::Messages, r#""max_tokens":50"#, Some(44)),
            (Operation::Responses, r#""input":"Hi","max_output_tokens":50"#, Some(44)),
            (Operation::Chat, r#""temperature":1"#, None),
        ] {
            let body = format!("{{\"model\":\"a\",{messages},{bounds}}}");
            let request = Request::read(operation, Bytes::from(body)).unwrap();
            assert_eq!(request.continued(beginning).unwrap().output_bound, expected, "{bounds}");
        }
    }

    #[test]
    fn beginning_becomes_the_last_message() {
        let chat = r#"{"model":"a","messages":[{"role":"user","content":"Hi"} ],"stream":true}"#;
        let messages =
            r#"{"model":"a","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#;
        for (operation, body, expected) in [
            (
                Operation::Chat,
                chat,
                Some(r#"[{"role":"user","content":"Hi"} ,{"role":"assistant","content":"Salutations\n\""}]"#),
            ),
            (
                Operation::Messages,
                messages,
                Some(
                    r#"[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":"Salutations\n\""}]"#,
                ),
            ),
            (
                Operation::Responses,
                r#"{"model":"a","input":"Hi"}"#,
                Some(r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Salutations\n\""}]"#),
            ),
            (Operation::Chat, r#"{"model":"a","messages":[{"role":"user","content":"Hi"}],"n":2}"#, None),
            (Operation::Chat, r#"{"model":"a","messages":[{"role":"assistant","content":"Hi"}]}"#, None),
            (Operation::Chat, r#"{"model":"a","messages":[]}"#, None),
            (Operation::Chat, r#"{"model":"a","messages":"Hi"}"#, None),
            (Operation::Responses, r#"{"model":"a"}"#, None),
            (Operation::Completions, r#"{"model":"a","prompt":"Hi"}"#, None),
        ] {
            let request = Request::read(operation, Bytes::copy_from_slice(body.as_bytes())).unwrap();
            let continued = request.continued("Salutations\n\"");
            let name = if operation == Operation::Responses { "input" } else { "messages" };
            let changed = continued.as_ref().and_then(|continued| continued.fields.get(name));
            assert_eq!(changed, expected, "{body}");
            if let Some(continued) = continued {
                assert_eq!((continued.stream, &continued.model), (request.stream, &request.model), "{body}");
            }
        }
    }
}
