//! Which dialect a caller speaks: it decides in which headers a credential may come, and the shape of our own errors.

use axum::http::HeaderMap;
use mcpctl_dialect::Dialect;

/// Sent by every client of Anthropic's API, and by no client of OpenAI's.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// The dialect of a request. Anthropic's are its own routes, and the lists of models where a client of Anthropic's asks for them;
/// everything else is OpenAI's.
pub fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    let is_at =
        |route: &str| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let anthropic = is_at("/v1/messages") || (is_at("/v1/models") && headers.contains_key(ANTHROPIC_VERSION));
    if anthropic { Dialect::Anthropic } else { Dialect::Openai }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn route_and_version_name_the_dialect() {
        let without = HeaderMap::new();
        let mut with = HeaderMap::new();
        with.insert(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"));
        for (path, headers, anthropic) in [
            ("/v1/messages", &without, true),
            ("/v1/messages/count_tokens", &without, true),
            ("/v1/messages/batches", &without, true),
            ("/v1/models", &with, true),
            ("/v1/models/gpt", &with, true),
            ("/v1/models", &without, false),
            ("/v1/messagesx", &with, false),
            ("/v1/modelsx", &with, false),
            ("/v1/chat/completions", &with, false),
            ("/api/v1/llms", &with, false),
            ("/x/v1/messages", &with, false),
        ] {
            assert_eq!(dialect_of(path, headers) == Dialect::Anthropic, anthropic, "{path}");
        }
    }
}
