//! How many tokens a request may take, from its body, before a model counts them. Rough on purpose: what the model reports
//! replaces it.

use mcpctl_dialect::Operation;

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
    /// Estimates a request of so many input tokens, and of so many choices of at most `bound` output tokens.
    pub fn of(operation: Operation, input: u64, choices: u64, bound: Option<u64>) -> Self {
        if matches!(operation, Operation::CountTokens | Operation::Embeddings) {
            return Self { input, output: 0, bounded: true };
        }
        let output = bound.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(choices);
        Self { input, output, bounded: bound.is_some() }
    }
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
    fn output_is_bounded_for_each_choice() {
        let of = |operation, choices, bound| {
            let estimate = Estimate::of(operation, 9, choices, bound);
            (estimate.output, estimate.bounded)
        };
        assert_eq!(of(Operation::Chat, 3, Some(7)), (21, true));
        assert_eq!(of(Operation::Messages, 1, None), (UNBOUNDED_OUTPUT, false));
        assert_eq!(of(Operation::Embeddings, 1, None), (0, true));
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
