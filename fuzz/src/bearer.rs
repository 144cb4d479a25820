//! The credential of a request. After the byte that chooses the dialect, each line is a header: `k` and a value of `x-api-key`, or a
//! value of `Authorization`.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use mcpctl_dialect::Dialect;
use mcpctl_server::presented;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Only one credential is ever presented, and it stands in a header as it is.
pub fn run(data: &[u8]) {
    let Some((choice, lines)) = crate::choice(data) else { return };
    let dialect = if choice % 2 == 0 { Dialect::Openai } else { Dialect::Anthropic };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let (name, value) = match line.strip_prefix(b"k") {
            Some(value) => (X_API_KEY, value),
            None => (AUTHORIZATION, line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let Ok(credential) = presented(&headers, dialect) else { return };
    assert!(!credential.is_empty() && credential == credential.trim());
    let count = |name: &HeaderName| headers.get_all(name).iter().count();
    assert!(count(&AUTHORIZATION) <= 1, "two headers have one credential: {headers:?}");
    let keys = headers.get_all(&X_API_KEY).iter().filter(|_| dialect == Dialect::Anthropic);
    let all: Vec<_> = headers.get_all(&AUTHORIZATION).iter().chain(keys).collect();
    for value in all.iter().filter(|value| !value.is_empty()) {
        let text = value.to_str().unwrap_or_default().trim();
        let is_scheme = text.is_empty() || text.eq_ignore_ascii_case("bearer");
        assert!(is_scheme || text.ends_with(credential), "{text:?} is not read");
    }
}
