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
