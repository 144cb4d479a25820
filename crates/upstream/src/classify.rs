//! Classifies error answers: the table of `docs/reference/contract.md` as a pure function. An answer that no row names is `rejected`, which
//! never fails over.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header::RETRY_AFTER};
use mcpctl_api::{
    error::ACCESS_REVOKED,
    header::{ERROR_SOURCE, FAILURE},
};
use mcpctl_dialect::{
    error::UpstreamError,
    meaning::{ErrorMeaning, is_about_account},
};
use mcpctl_failover::FailureClass;

use crate::UpstreamKind;

/// The class of an answer whose status is not a success.
pub fn classify(
    kind: UpstreamKind,
    status: StatusCode,
    headers: &HeaderMap,
    error: &UpstreamError,
) -> FailureClass {
    match kind {
        UpstreamKind::Provider => by_status(status, error),
        UpstreamKind::Mcpd => from_mcpd(status, headers, error),
    }
}

/// `mcpd` names the class itself. Where it does not (an earlier version, a proxy in between), the status decides; in doubt, `mcpd`
/// itself denied the request.
fn from_mcpd(status: StatusCode, headers: &HeaderMap, error: &UpstreamError) -> FailureClass {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // INVARIANT 2: no header makes a refusal of the caller into something that fails over. (A provider's refusal
    // of our key is shown as 502, so these are always about the caller.)
    if matches!(status.as_u16(), 401 | 403) {
        return FailureClass::Denied;
    }
    if let Some(class) = text(&FAILURE).and_then(|class| class.parse().ok()) {
        return class;
    }
    let of_upstream = text(&ERROR_SOURCE) == Some("upstream");
    match status.as_u16() {
        404 if !of_upstream => FailureClass::Denied,
        429 if !of_upstream => FailureClass::Quota,
        _ => by_status(status, error),
    }
}

/// The body is read before the status decides, because a status may have several causes. A refusal of content never fails over,
/// whatever its status.
fn by_status(status: StatusCode, error: &UpstreamError) -> FailureClass {
    match (status.as_u16(), error.meaning) {
        (_, Some(ErrorMeaning::Content)) | (451, _) => FailureClass::Rejected,
        // 402: our account has no credit (OpenRouter, DeepSeek); like a refused key it is not the caller's doing.
        (401 | 402, _) => FailureClass::UpstreamCredentials,
        (429, _) => FailureClass::RateLimited,
        // llama.cpp reports an overflow, and what its model cannot process, as 500.
        (400 | 413 | 422 | 500 | 502 | 503, Some(ErrorMeaning::ContextLength)) => FailureClass::ContextLength,
        (400..=501, Some(ErrorMeaning::Unsupported)) => FailureClass::Rejected,
        (400..=500, Some(ErrorMeaning::ModelUnavailable)) => FailureClass::ModelUnavailable,
        (400..=499, Some(ErrorMeaning::Credentials | ErrorMeaning::QuotaUsedUp)) => {
            FailureClass::UpstreamCredentials
        }
        // A 403 that is not about our key or account may be a refusal of the prompt, which no other model may answer.
        (403, _) if error.message.as_deref().is_some_and(is_about_account) => {
            FailureClass::UpstreamCredentials
        }
        (403, _) => FailureClass::Rejected,
        // A retry would run into the same loop.
        (508, _) => FailureClass::Rejected,
        (408 | 425, _) => FailureClass::ServerError,
        _ if status.is_server_error() => FailureClass::ServerError,
        _ => FailureClass::Rejected,
    }
}

/// The class of an error inside an answer with status 200, before any content.
///
/// Servers write a status as `code` (vLLM, llama.cpp, OpenRouter) or use OpenAI's types.
pub fn classify_in_band(kind: UpstreamKind, error: &UpstreamError) -> FailureClass {
    let code = error.code.as_deref().unwrap_or_default();
    if let (UpstreamKind::Mcpd, Ok(class)) = (kind, code.parse()) {
        return class;
    }
    // A stream that ended with the caller's access: nothing goes on with it.
    if kind == UpstreamKind::Mcpd && code == ACCESS_REVOKED {
        return FailureClass::Denied;
    }
    let as_status = |status| classify(kind, status, &HeaderMap::new(), error);
    match error.meaning {
        Some(ErrorMeaning::Content | ErrorMeaning::Unsupported) => return FailureClass::Rejected,
        Some(ErrorMeaning::ContextLength) => return FailureClass::ContextLength,
        Some(ErrorMeaning::ModelUnavailable) => return FailureClass::ModelUnavailable,
        Some(ErrorMeaning::QuotaUsedUp) => return as_status(StatusCode::TOO_MANY_REQUESTS),
        Some(ErrorMeaning::Credentials) => return as_status(StatusCode::UNAUTHORIZED),
        None => {}
    }
    if let Some(status) = code.parse().ok().filter(|code| (400..600).contains(code)) {
        return as_status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    }
    match (code, error.kind.as_deref().unwrap_or_default()) {
        ("rate_limit_exceeded", _)
        | (_, "rate_limit_error" | "rate_limit_exceeded" | "requests" | "tokens") => {
            by_status(StatusCode::TOO_MANY_REQUESTS, error)
        }
        (_, "invalid_request_error" | "BadRequestError" | "request_too_large" | "not_found_error") => {
            FailureClass::Rejected
        }
        (_, "permission_error") => as_status(StatusCode::FORBIDDEN),
        _ => FailureClass::ServerError,
    }
}

/// How long the upstream requests to wait: `retry-after-ms` (OpenAI, Azure), or `Retry-After` in seconds or as a date (RFC 9110,
/// section 10.2.3). `None` for zero and for a date in the past, so that the backoff decides.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    requested_wait(headers, now).filter(|wait| !wait.is_zero())
}

fn requested_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let millis = headers.get("retry-after-ms").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    if let Some(millis) = millis {
        return Some(Duration::from_millis(millis));
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureClass::*;

    fn headers<N>(pairs: &[(N, &'static str)]) -> HeaderMap
    where
        N: Clone + TryInto<HeaderName, Error: std::fmt::Debug>,
    {
        let pair = |(name, value): &(N, &str)| (name.clone().try_into().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    const PLAIN: &str = r#"{"error":{"message":"no"}}"#;
    const TOO_LONG: &str = r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#;

    const FLAGGED: &str =
        r#"{"error":{"message":"your prompt was flagged","code":"content_policy_violation"}}"#;
    const NO_PERMISSION: &str = r#"{"message":"User is not authorized to perform this"}"#;
    const BAD_KEY: &str = r#"{"error":{"message":"no","code":"invalid_api_key"}}"#;
    const GONE: &str = r#"{"error":{"message":"The model `m` does not exist.","code":404}}"#;
    const USED_UP: &str = r#"{"error":{"message":"no","code":"insufficient_quota"}}"#;
    const IMAGES: &str = r#"{"error":{"message":"image input is not supported","code":500}}"#;

    #[test]
    fn provider_is_classified_by_status_and_body_not_by_headers() {
        for (code, body, class) in [
            (500, PLAIN, ServerError),
            (502, PLAIN, ServerError),
            (503, PLAIN, ServerError),
            (504, PLAIN, ServerError),
            (529, PLAIN, ServerError),
            (503, "<html>", ServerError),
            (429, PLAIN, RateLimited),
            (429, "", RateLimited),
            (401, PLAIN, UpstreamCredentials),
            (402, PLAIN, UpstreamCredentials),
            (403, PLAIN, Rejected),
            (403, NO_PERMISSION, UpstreamCredentials),
            (400, TOO_LONG, ContextLength),
            (413, TOO_LONG, ContextLength),
            (422, TOO_LONG, ContextLength),
            (500, TOO_LONG, ContextLength),
            (401, TOO_LONG, UpstreamCredentials),
            (401, FLAGGED, Rejected),
            (402, FLAGGED, Rejected),
            (403, FLAGGED, Rejected),
            (403, "<html>blocked</html>", Rejected),
            (403, "", Rejected),
            (429, FLAGGED, Rejected),
            (500, FLAGGED, Rejected),
            (451, PLAIN, Rejected),
            (400, BAD_KEY, UpstreamCredentials),
            (403, BAD_KEY, UpstreamCredentials),
            (400, GONE, ModelUnavailable),
            (403, GONE, ModelUnavailable),
            (404, GONE, ModelUnavailable),
            (410, GONE, ModelUnavailable),
            (429, USED_UP, RateLimited),
            (403, USED_UP, UpstreamCredentials),
            (400, IMAGES, Rejected),
            (500, IMAGES, Rejected),
            (503, IMAGES, ServerError),
            (408, PLAIN, ServerError),
            (425, PLAIN, ServerError),
            (400, PLAIN, Rejected),
            (404, PLAIN, Rejected),
            (405, PLAIN, Rejected),
            (409, PLAIN, Rejected),
            (413, PLAIN, Rejected),
            (422, PLAIN, Rejected),
            // Named by no row.
            (301, "", Rejected),
            (307, "", Rejected),
            (508, PLAIN, Rejected),
            (501, PLAIN, ServerError),
            (505, PLAIN, ServerError),
            (507, PLAIN, ServerError),
            (520, "<html>", ServerError),
            (527, "", ServerError),
            (530, "", ServerError),
            (599, PLAIN, ServerError),
        ] {
            let error = UpstreamError::read(body.as_bytes());
            for headers in [HeaderMap::new(), headers(&[(FAILURE, "connect"), (ERROR_SOURCE, "mcpd")])] {
                assert_eq!(
                    classify(UpstreamKind::Provider, status(code), &headers, &error),
                    class,
                    "{code} {body}"
                );
            }
        }
    }

    #[test]
    fn inv_02_mcpd_names_the_class_but_denied_stays_denied() {
        for (code, pairs, class) in [
            (401, &[][..], Denied),
            (403, &[], Denied),
            (404, &[], Denied),
            (429, &[], Quota),
            (401, &[(ERROR_SOURCE, "mcpd")], Denied),
            (429, &[(ERROR_SOURCE, "mcpd")], Quota),
            (403, &[(FAILURE, "server_error")], Denied),
            (401, &[(FAILURE, "connect"), (ERROR_SOURCE, "upstream")], Denied),
            (502, &[(FAILURE, "upstream_credentials")], UpstreamCredentials),
            (502, &[(FAILURE, "connect"), (ERROR_SOURCE, "upstream")], Connect),
            (504, &[(FAILURE, "no_first_token")], NoFirstToken),
            (400, &[(FAILURE, "context_length")], ContextLength),
            (429, &[(FAILURE, "rate_limited")], RateLimited),
            (429, &[(FAILURE, "quota")], Quota),
            (429, &[(ERROR_SOURCE, "upstream")], RateLimited),
            (404, &[(ERROR_SOURCE, "upstream")], Rejected),
            (404, &[(FAILURE, "denied")], Denied),
            (503, &[(FAILURE, "nonsense")], ServerError),
            (502, &[], ServerError),
            (503, &[], ServerError),
            (400, &[], Rejected),
            (302, &[], Rejected),
        ] {
            let error = UpstreamError::read(PLAIN.as_bytes());
            assert_eq!(
                classify(UpstreamKind::Mcpd, status(code), &headers(pairs), &error),
                class,
                "{code} {pairs:?}"
            );
        }
    }

    #[test]
    fn in_band_errors_are_classified_by_code_and_type() {
        for (kind, body, class) in [
            (UpstreamKind::Provider, r#"{"error":{"message":"x"}}"#, ServerError),
            (UpstreamKind::Provider, r#"{"error":"x"}"#, ServerError),
            (UpstreamKind::Provider, r#"{"error":{"code":503}}"#, ServerError),
            (UpstreamKind::Provider, r#"{"error":{"code":429}}"#, RateLimited),
            (UpstreamKind::Provider, r#"{"error":{"code":400,"type":"BadRequestError"}}"#, Rejected),
            (UpstreamKind::Provider, r#"{"error":{"code":"401"}}"#, UpstreamCredentials),
            (UpstreamKind::Provider, r#"{"error":{"code":7}}"#, ServerError),
            (UpstreamKind::Provider, r#"{"error":{"type":"invalid_request_error"}}"#, Rejected),
            (UpstreamKind::Provider, r#"{"error":{"type":"authentication_error"}}"#, UpstreamCredentials),
            (UpstreamKind::Provider, r#"{"error":{"type":"rate_limit_error"}}"#, RateLimited),
            (UpstreamKind::Provider, r#"{"error":{"type":"overloaded_error"}}"#, ServerError),
            (UpstreamKind::Provider, r#"{"type":"error","error":{"type":"api_error"}}"#, ServerError),
            (
                UpstreamKind::Provider,
                r#"{"type":"error","error":{"type":"billing_error"}}"#,
                UpstreamCredentials,
            ),
            (UpstreamKind::Provider, r#"{"type":"error","error":{"type":"request_too_large"}}"#, Rejected),
            (UpstreamKind::Provider, r#"{"error":{"code":"context_length_exceeded"}}"#, ContextLength),
            (UpstreamKind::Provider, FLAGGED, Rejected),
            (UpstreamKind::Provider, BAD_KEY, UpstreamCredentials),
            (UpstreamKind::Provider, GONE, ModelUnavailable),
            (UpstreamKind::Provider, USED_UP, RateLimited),
            (UpstreamKind::Provider, IMAGES, Rejected),
            (UpstreamKind::Mcpd, GONE, ModelUnavailable),
            (
                UpstreamKind::Mcpd,
                r#"{"error":{"message":"your prompt was flagged","code":"server_error"}}"#,
                ServerError,
            ),
            (UpstreamKind::Provider, r#"{"error":{"code":"quota"}}"#, ServerError),
            (UpstreamKind::Mcpd, r#"{"error":{"code":"quota"}}"#, Quota),
            (UpstreamKind::Mcpd, r#"{"error":{"code":"403"}}"#, Denied),
            (UpstreamKind::Mcpd, r#"{"error":{"type":"permission_error"}}"#, Denied),
            (UpstreamKind::Mcpd, r#"{"error":{"code":"broken_stream"}}"#, BrokenStream),
        ] {
            assert_eq!(
                classify_in_band(kind, &UpstreamError::read(body.as_bytes())),
                class,
                "{kind:?} {body}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_all_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (pairs, expected) in [
            (&[][..], None),
            (&[("retry-after", "3")], Some(3_000)),
            (&[("retry-after", " 0 ")], None),
            (&[("retry-after-ms", "0")], None),
            (&[("retry-after", "1.5")], Some(1_500)),
            (&[("retry-after", "60"), ("retry-after-ms", "250")], Some(250)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(10_000)),
            (&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e300")], None),
            (&[("retry-after", "soon")], None),
        ] {
            assert_eq!(retry_after(&headers(pairs), now), expected.map(Duration::from_millis), "{pairs:?}");
        }
    }
}
