//! The form of a request: what it has in common with others that an upstream fails at while it answers the rest.

use crate::{Operation, Request, Wants};

/// Bytes of a prompt from which its length is part of the form: about 4096 tokens.
const LONG_PROMPT: usize = 24 * 1024;

/// A form of requests that an upstream may fail at while it answers others: images for a text model, tools without a parser, a
/// prompt that needs more memory than there is. The default is a plain request, which every upstream answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Form {
    tools: bool,
    images: bool,
    prefill: bool,
    embeddings: bool,
    counting: bool,
    /// Binary logarithm of the prompt's bytes, 0 for one of ordinary length.
    size: u32,
}

impl Request {
    /// Its form.
    pub fn form(&self) -> Form {
        let Wants { tools, images, prefill, text_bytes } = self.wants();
        Form {
            tools,
            images,
            prefill,
            embeddings: self.operation == Operation::Embeddings,
            counting: self.operation == Operation::CountTokens,
            size: if text_bytes < LONG_PROMPT { 0 } else { text_bytes.ilog2() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(operation: Operation, body: &str) -> Form {
        Request::read(operation, body.to_owned().into()).unwrap().form()
    }

    #[test]
    fn only_what_an_upstream_may_fail_at_makes_a_form() {
        let chat = |words: usize| {
            let text = "word ".repeat(words);
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
        };
        let plain = form(Operation::Chat, &chat(1));
        assert_eq!(plain, Form::default());
        assert_eq!(form(Operation::Chat, &chat(4000)), plain);
        assert_eq!(form(Operation::Completions, r#"{"model":"m","prompt":"Hi"}"#), plain);
        let tools = r#"{"model":"m","messages":[],"tools":[{"type":"function"}]}"#;
        let forms = [
            form(Operation::Chat, &chat(6000)),
            form(Operation::Chat, &chat(12_000)),
            form(Operation::Chat, tools),
            form(Operation::Embeddings, r#"{"model":"m","input":"Hi"}"#),
            form(Operation::CountTokens, r#"{"model":"m","messages":[]}"#),
        ];
        for (at, form) in forms.iter().enumerate() {
            assert!(*form != plain && !forms[..at].contains(form), "{form:?}");
        }
    }
}
