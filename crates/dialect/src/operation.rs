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

/// What a server with OpenAI's API serves besides chat completions, completions and embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtraOperations {
    /// [`Operation::Responses`].
    pub responses: bool,
    /// [`Operation::Messages`] and [`Operation::CountTokens`], as vLLM and llama.cpp do.
    pub messages: bool,
    /// [`Operation::CountTokens`].
    pub count_tokens: bool,
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

    /// The operation by which a server answers this one: itself where the server has it, else the one that it can be translated
    /// to, if it can. `server` is the server's own dialect, `extra` what it serves besides.
    pub const fn at(self, server: Dialect, extra: ExtraOperations) -> Self {
        match (server, self) {
            (Dialect::Anthropic, Self::CountTokens) => self,
            (Dialect::Anthropic, _) => Self::Messages,
            (Dialect::Openai, Self::Chat | Self::Completions | Self::Embeddings) => self,
            (Dialect::Openai, Self::Responses) if extra.responses => self,
            (Dialect::Openai, Self::Messages | Self::CountTokens) if extra.messages => self,
            (Dialect::Openai, Self::CountTokens) if extra.count_tokens => self,
            (Dialect::Openai, _) => Self::Chat,
        }
    }

    /// Whether its answer can be a stream.
    pub const fn may_stream(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }

    /// `gen_ai.operation.name` of OpenTelemetry's semantic conventions. `count_tokens` is our own: they have none for it.
    pub const fn genai_name(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses | Self::Messages => "chat",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count_tokens",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_answers_by_what_it_serves() {
        use Operation::{Chat, Completions, CountTokens, Embeddings, Messages, Responses};
        let none = ExtraOperations::default();
        let all = ExtraOperations { responses: true, messages: true, count_tokens: false };
        for (asked, openai, with_extras, anthropic) in [
            (Chat, Chat, Chat, Messages),
            (Completions, Completions, Completions, Messages),
            (Embeddings, Embeddings, Embeddings, Messages),
            (Responses, Chat, Responses, Messages),
            (Messages, Chat, Messages, Messages),
            (CountTokens, Chat, CountTokens, CountTokens),
        ] {
            let at = |dialect, extra| asked.at(dialect, extra);
            assert_eq!(at(Dialect::Openai, none), openai, "{asked:?}");
            assert_eq!(at(Dialect::Openai, all), with_extras, "{asked:?}");
            assert_eq!(at(Dialect::Anthropic, all), anthropic, "{asked:?}");
        }
        let counter = ExtraOperations { count_tokens: true, ..none };
        assert_eq!(CountTokens.at(Dialect::Openai, counter), CountTokens);
        assert_eq!(Messages.at(Dialect::Openai, counter), Chat);
    }
}
