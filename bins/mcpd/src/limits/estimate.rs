//! How many tokens a request may take, from its body, before a model counts them. Rough on purpose: what the model reports
//! replaces it.

use mcpctl_dialect::Operation;
use serde::Deserialize;
use serde_json::Value;

/// Bytes of a token: about four of English text, and JSON's own characters make up for denser ones.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes without a break from which a text is taken for an encoded file.
const ENCODED_BYTES: u64 = 4096;
/// Tokens of an encoded file: providers count an image as about 1 000 to 1 600.
const ENCODED_TOKENS: u64 = 1600;
/// Output tokens of a request that does not bound them.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// What a request may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Whether the request itself bounds its output.
    pub bounded: bool,
}

impl Estimate {
    /// Estimates a request of so many choices from its body.
    pub fn of(operation: Operation, input: u64, choices: u64, body: &[u8]) -> Self {
        if matches!(operation, Operation::CountTokens | Operation::Embeddings) {
            return Self { input, output: 0, bounded: true };
        }
        let Bounds { max_tokens, max_completion_tokens, max_output_tokens } =
            serde_json::from_slice(body).unwrap_or_default();
        let bounds = [max_tokens, max_completion_tokens, max_output_tokens];
        let asked = bounds.iter().flatten().filter_map(Value::as_u64).max();
        Self {
            input,
            output: asked.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(choices),
            bounded: asked.is_some(),
        }
    }
}

/// The keys by which the dialects bound the output.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Bounds {
    max_tokens: Option<Value>,
    max_completion_tokens: Option<Value>,
    max_output_tokens: Option<Value>,
}

/// The input tokens of a body. An encoded file counts as an image, whatever its size; a request that only counts takes none.
pub fn input_tokens(operation: Operation, body: &[u8]) -> u64 {
    if operation == Operation::CountTokens {
        return 0;
    }
    let encoded = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    let (mut bytes, mut files) = (0_u64, 0_u64);
    for run in body.split(|byte| !encoded(*byte)) {
        let length = run.len() as u64;
        if length >= ENCODED_BYTES {
            files += 1;
        } else {
            bytes += length + 1;
        }
    }
    bytes.div_ceil(BYTES_PER_TOKEN) + files.saturating_mul(ENCODED_TOKENS)
}

/// The tokens of an output of so many bytes of text.
pub fn output_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_every_dialect_are_read() {
        let of = |body: &str, choices| {
            let estimate = Estimate::of(Operation::Chat, 9, choices, body.as_bytes());
            (estimate.output, estimate.bounded)
        };
        assert_eq!(of(r#"{"max_tokens":7}"#, 1), (7, true));
        assert_eq!(of(r#"{"max_completion_tokens":7}"#, 3), (21, true));
        assert_eq!(of(r#"{"max_output_tokens":7}"#, 1), (7, true));
        for unbounded in ["{}", r#"{"max_tokens":null}"#, r#"{"max_tokens":-1}"#, "not json"] {
            assert_eq!(of(unbounded, 1), (UNBOUNDED_OUTPUT, false), "{unbounded}");
        }
        assert_eq!(Estimate::of(Operation::Embeddings, 9, 1, b"{}").output, 0);
    }

    #[test]
    fn text_counts_by_bytes_and_a_file_as_an_image() {
        assert_eq!(input_tokens(Operation::Chat, &b"word ".repeat(400)), 501);
        assert_eq!(input_tokens(Operation::CountTokens, b"word"), 0);
        let image = format!("{{\"url\":\"data:image/png;base64,{}\"}}", "A".repeat(1 << 20));
        let tokens = input_tokens(Operation::Chat, image.as_bytes());
        assert!((ENCODED_TOKENS..ENCODED_TOKENS + 50).contains(&tokens), "{tokens}");
    }
}
