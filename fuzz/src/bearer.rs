//! The credential of a request. After the byte that chooses the dialect, each line is a header: `k` and a value of `x-api-key`, or a
//! value of `Authorization`.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use mcpctl_dialect::Dialect;
use mcpctl_server::presented;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential is presented exactly where the grammar has one: one header or two that agree, one scheme, one token without
/// anything that a proxy or a list of credentials would put there.
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
    let read = presented(&headers, dialect).ok();
    assert_eq!(read, expected(&headers, dialect), "{headers:?}");
    // What is in one header counts the same when a proxy folds two headers of one name into one: not at all.
    let all: Vec<_> = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1 && all.iter().filter(|value| !value.is_empty()).count() > 1 {
        let folded = HeaderValue::from_bytes(&all.join(&b", "[..])).expect("each is a value");
        headers.insert(AUTHORIZATION, folded);
        assert!(presented(&headers, dialect).is_err(), "two credentials count as one: {headers:?}");
    }
}

/// The grammar, read from left to right; `None` is a refusal.
fn expected(headers: &HeaderMap, dialect: Dialect) -> Option<&str> {
    let values = |name: &HeaderName| headers.get_all(name).iter().collect::<Vec<_>>();
    let bearer = match values(&AUTHORIZATION)[..] {
        [] => None,
        [value] => authorization(value)?,
        _ => return None,
    };
    let key = match values(&X_API_KEY)[..] {
        _ if dialect != Dialect::Anthropic => None,
        [] => None,
        [value] => token(printable(value)?)?,
        _ => return None,
    };
    match (bearer, key) {
        (Some(bearer), Some(key)) => (bearer == key).then_some(bearer),
        (one, other) => one.or(other),
    }
}

/// `Some(None)` where the header is as good as absent.
fn authorization(value: &HeaderValue) -> Option<Option<&str>> {
    let text = printable(value)?;
    if text.is_empty() {
        return Some(None);
    }
    let (scheme, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    token(rest.trim_matches([' ', '\t']))
}

/// The characters of an RFC 6750 token and any others that are seen, but for the comma, which separates.
fn token(text: &str) -> Option<Option<&str>> {
    match text {
        "" => Some(None),
        text => text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',').then_some(Some(text)),
    }
}

fn printable(value: &HeaderValue) -> Option<&str> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let is_printable = |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    text.bytes().all(is_printable).then(|| text.trim_matches([' ', '\t']))
}
