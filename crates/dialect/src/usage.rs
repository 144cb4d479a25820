//! The tokens of an answer, as the model counted them.

/// Tokens as the answering model counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens generated, reasoning included.
    pub output_tokens: u64,
    /// Of the input, the tokens that a prompt cache saved; 0 where the server does not report them.
    pub cached_input_tokens: u64,
    /// Of the input, the tokens that were written to a prompt cache; 0 where the server does not report them.
    pub cache_write_input_tokens: u64,
    /// Of the output, the tokens spent on reasoning; 0 where the server does not report them.
    pub reasoning_tokens: u64,
}

/// The most tokens of one request that are believed: twice the longest context window on offer (10 million, Llama 4 Scout).
const MAX_PLAUSIBLE_TOKENS: u64 = 20_000_000;

impl Usage {
    /// The counts, unless one of them is more than any model takes: a server that reports such a number did not count.
    pub fn plausible(self) -> Option<Self> {
        let Self {
            input_tokens,
            output_tokens,
            cached_input_tokens,
            cache_write_input_tokens,
            reasoning_tokens,
        } = self;
        let counts =
            [input_tokens, output_tokens, cached_input_tokens, cache_write_input_tokens, reasoning_tokens];
        counts.iter().all(|count| *count <= MAX_PLAUSIBLE_TOKENS).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_model_reaches_are_not_plausible() {
        let input = |input_tokens| Usage { input_tokens, ..Usage::default() };
        assert_eq!(input(10_000_000).plausible(), Some(input(10_000_000)));
        for count in [1 << 32, 1 << 63, u64::MAX] {
            assert_eq!(input(count).plausible(), None);
            for usage in [
                Usage { output_tokens: count, ..Usage::default() },
                Usage { cached_input_tokens: count, ..Usage::default() },
                Usage { cache_write_input_tokens: count, ..Usage::default() },
                Usage { reasoning_tokens: count, ..Usage::default() },
            ] {
                assert_eq!(usage.plausible(), None, "{usage:?}");
            }
        }
    }
}
