//! What a caller asks for, and whose wire format it is asked in.

/// Whose wire format a request, its answer and its errors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's: chat completions, completions, embeddings and responses.
    Openai,
    /// Anthropic's: messages.
    Anthropic,
}

/// The route of a request, at our daemons and at a model server alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// OpenAI's `/chat/completions`.
    Chat,
    /// OpenAI's `/completions`, the older route.
    Completions,
    /// OpenAI's `/embeddings`.
    Embeddings,
    /// OpenAI's `/responses`.
    Responses,
    /// Anthropic's `/messages`.
    Messages,
    /// Anthropic's `/messages/count_tokens`.
    CountTokens,
}

impl Operation {
    /// The path below the base of an API.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
        }
    }

    /// The dialect that the operation belongs to.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Responses => Dialect::Openai,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
        }
    }

    /// Whether its answer can be a stream.
    pub const fn may_stream(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }
}
