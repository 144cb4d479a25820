//! Which headers of a response from mcpd's address reach the client. Only listed headers pass, so that another program that
//! responds there, such as a portal, can neither redirect the client nor set its cookies.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Headers that OpenAI's clients read, and those that describe the body.
const PASSED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
];
/// Further ones, whose names are not registered.
const ALSO_PASSED: [&str; 4] = ["retry-after-ms", "x-should-retry", "x-request-id", "request-id"];
/// Prefixes of headers: rate limits, and mcpd's own.
const FAMILIES: [&str; 5] = ["x-ratelimit-", "ratelimit", "anthropic-ratelimit-", "openai-", "mcpctl-"];

/// The headers that pass, all values of each, unchanged.
pub(super) fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for (name, value) in headers {
        if may_pass(name, value) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

fn may_pass(name: &HeaderName, value: &HeaderValue) -> bool {
    let text = name.as_str();
    PASSED.contains(name)
        || ALSO_PASSED.contains(&text)
        || FAMILIES.iter().any(|family| text.starts_with(family))
        || (*name == header::WWW_AUTHENTICATE && asks_for_bearer(value))
}

/// Any other scheme would make a browser or a client ask for a password.
fn asks_for_bearer(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| matches!(byte, b' ' | b',')).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"bearer") && !value.as_bytes().contains(&b',')
}

/// Whether a response with this status may reach the client: mcpd responds with a success or an error, and never redirects.
pub(super) fn is_answer(status: StatusCode) -> bool {
    status.is_success() || status.is_client_error() || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_listed_headers_pass() {
        let good = headers(&[
            ("content-type", "application/json; v=1"),
            ("retry-after", "3"),
            ("retry-after-ms", "250"),
            ("x-request-id", "r"),
            ("x-ratelimit-remaining-tokens", "7"),
            ("openai-processing-ms", "5"),
            ("mcpctl-failure", "connect"),
            ("www-authenticate", "Bearer realm=\"mcpd\""),
        ]);
        assert_eq!(passed(&good), good);
        for name in [
            "location",
            "refresh",
            "set-cookie",
            "clear-site-data",
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "strict-transport-security",
            "alt-svc",
            "link",
            "content-location",
            "content-disposition",
            "content-security-policy",
            "server",
            "proxy-authenticate",
            "x-mcpctl-failure",
            "service-worker-allowed",
            "sourcemap",
        ] {
            assert!(passed(&headers(&[(name, "x")])).is_empty(), "{name}");
        }
        for value in ["Basic realm=x", "Negotiate", "Bearer x, Basic realm=x", "", "bearerx"] {
            assert!(passed(&headers(&[("www-authenticate", value)])).is_empty(), "{value}");
        }
    }

    #[test]
    fn all_values_of_a_header_pass() {
        let two = headers(&[("mcpctl-warning", "one"), ("mcpctl-warning", "two")]);
        assert_eq!(passed(&two), two);
    }
}
