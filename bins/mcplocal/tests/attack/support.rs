//! Raw requests that several families of attacks send to the agent.

use futures::{StreamExt as _, stream};

/// Connections that a test holds at once: fewer than a daemon allows one peer.
const MAX_CONNECTIONS: usize = 8;

/// A request for inference.
pub const CHAT: &str = r#"{"model":"claude","messages":[{"role":"user","content":"Hi"}]}"#;

/// The header of a bearer.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Runs `attack` on every row, a few at once.
pub async fn for_each<T, F: Future<Output = ()>>(
    rows: impl IntoIterator<Item = T>,
    attack: impl FnMut(T) -> F,
) {
    stream::iter(rows).map(attack).buffer_unordered(MAX_CONNECTIONS).collect::<Vec<()>>().await;
}

/// The headers of [`CHAT`], after those of a credential.
pub fn chat_headers(credential: &str) -> String {
    format!("{credential}Content-Type: application/json\r\nContent-Length: {}\r\n", CHAT.len())
}
