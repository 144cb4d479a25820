//! How many tokens a request may take, from its body, before a model counts them. Rough on purpose: what the model reports
//! replaces it.

use mcpctl_dialect::Operation;

/// Bytes of a token: about four of English text, and JSON's own characters make up for denser ones.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes without a break from which a text is taken for an encoded file.
const ENCODED_BYTES: usize = 4096;
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
    let (mut text, mut files) = (body.len() as u64 + 1, 0_u64);
    // A run of so many bytes covers a multiple of their number, so that only the bytes around those are read.
    let mut at = 0;
    while at < body.len() {
        let (before, after) = body.split_at(at);
        let run = encoded_prefix(after);
        let begun =
            if run == 0 { 0 } else { before.iter().rev().take_while(|byte| is_encoded(**byte)).count() };
        let length = (begun + run) as u64;
        if length >= ENCODED_BYTES as u64 {
            files += 1;
            text -= length + 1;
        }
        at = (at + run).next_multiple_of(ENCODED_BYTES).max(at + ENCODED_BYTES);
    }
    text.div_ceil(BYTES_PER_TOKEN) + files.saturating_mul(ENCODED_TOKENS)
}

/// How many bytes at the beginning are those of an encoded file.
fn encoded_prefix(bytes: &[u8]) -> usize {
    // Without an early end, so that a block is tested in few vector instructions.
    let is_whole = |block: &[u8; 64]| block.iter().fold(true, |all, byte| all & is_encoded(*byte));
    let (blocks, _) = bytes.as_chunks::<64>();
    let whole = 64 * blocks.iter().take_while(|block| is_whole(block)).count();
    whole + bytes.iter().skip(whole).take_while(|byte| is_encoded(**byte)).count()
}

/// Whether a byte is one of base64, in either alphabet.
fn is_encoded(byte: u8) -> bool {
    // Without branches, so that the compiler can test many bytes at once.
    byte.is_ascii_alphanumeric()
        | (byte == b'+')
        | (byte == b'/')
        | (byte == b'=')
        | (byte == b'-')
        | (byte == b'_')
}

/// The tokens of an output of so many bytes of text.
pub fn output_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    proptest! {
        #[test]
        fn every_byte_counts_once(runs in prop::collection::vec((0..3 * ENCODED_BYTES, 0..2_usize), 0..12)) {
            let alphabets = "azAZ09+/=-_".repeat(3 * ENCODED_BYTES);
            let text = runs.iter().map(|(length, breaks)| alphabets[..*length].to_owned() + &" ".repeat(*breaks));
            let text = text.collect::<String>();
            let runs = || text.split(' ').map(str::len);
            let files = runs().filter(|run| *run >= ENCODED_BYTES).count() as u64;
            let bytes: usize = runs().filter(|run| *run < ENCODED_BYTES).map(|run| run + 1).sum();
            let expected = (bytes as u64).div_ceil(BYTES_PER_TOKEN) + files * ENCODED_TOKENS;
            prop_assert_eq!(input_tokens(Operation::Chat, text.as_bytes()), expected);
        }
    }
}
