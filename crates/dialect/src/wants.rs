//! What a request needs of the model that answers it.

/// What the model has to be able to process, as far as the body shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// Whether there are tools that the model may call.
    pub tools: bool,
    /// Whether there is any image.
    pub images: bool,
    /// Whether the last turn is a prefill: the beginning of the answer, which the model continues.
    pub prefill: bool,
    /// How many bytes of text the model has to read at least, as written in the body. Content that is not text does not count.
    pub text_bytes: usize,
}
