//! Checks that a response to the probe looks like mcpd's. A response that is malformed or ambiguous, and an *allowed* that mcpd
//! would not have sent, is an error (INVARIANT 8). The check is no proof that mcpd responded.

use http::{
    HeaderMap, HeaderName, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, TRANSFER_ENCODING},
    response::Parts as Head,
};
use mcpctl_api::header::REQUEST_ID;
use mcpctl_failover::ProbeError;

use super::Probe;

/// Maximum `content-length`: more bytes than any Llm's JSON has, as mcpd accepts no document above 4 MiB.
const MAX_LENGTH: u64 = 16 << 20;

/// Checks the framing of any response, and the marks of a success.
pub(super) fn check(head: &Head) -> Result<(), ProbeError> {
    if head_bytes(&head.headers) > Probe::MAX_HEAD_BYTES {
        return Err(ProbeError("the head of the answer is too long".to_owned()));
    }
    if head.version != Version::HTTP_11 {
        return Err(not_mcpd("it is not HTTP/1.1"));
    }
    framing(&head.headers)?;
    match head.status {
        StatusCode::OK => content(&head.headers).and_then(|()| marks(&head.headers)),
        StatusCode::NO_CONTENT => marks(&head.headers),
        _ => Ok(()),
    }
}

/// The error for a response that is not mcpd's.
pub(super) fn not_mcpd(why: &str) -> ProbeError {
    ProbeError(format!("the answer is not mcpd's: {why}"))
}

/// One length or one coding, and not both (RFC 9112, section 6.3): two parsers would read such a response differently.
fn framing(headers: &HeaderMap) -> Result<(), ProbeError> {
    let length = one(headers, &CONTENT_LENGTH)?;
    let coding = one(headers, &TRANSFER_ENCODING)?;
    match (length, coding) {
        (Some(_), Some(_)) => Err(not_mcpd("it has a length and a transfer coding")),
        (None, Some(coding)) if !coding.eq_ignore_ascii_case("chunked") => {
            Err(not_mcpd("its transfer coding is not known"))
        }
        (Some(length), None) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let bytes = length.parse().ok().filter(|bytes: &u64| digits && *bytes <= MAX_LENGTH);
            bytes.map(drop).ok_or_else(|| not_mcpd("its length is not one"))
        }
        (None, _) => Ok(()),
    }
}

fn content(headers: &HeaderMap) -> Result<(), ProbeError> {
    let kind = one(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(not_mcpd("it is not JSON")),
    }
}

/// Every success of mcpd has the revision of the Llm and the id of the request.
fn marks(headers: &HeaderMap) -> Result<(), ProbeError> {
    let etag = one(headers, &ETAG)?.unwrap_or_default();
    // A proxy that recodes responses weakens the `ETag`.
    let revision = etag.strip_prefix("W/").unwrap_or(etag);
    let revision = revision.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let is_number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok();
    if !revision.is_some_and(is_number) {
        return Err(not_mcpd("it has no revision as `ETag`"));
    }
    match one(headers, &REQUEST_ID)? {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err(not_mcpd("it has no `mcpctl-request-id`")),
    }
}

/// The value of a header that may occur once.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ProbeError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| not_mcpd(&format!("its `{name}` cannot be read")))?;
            Ok(Some(text.trim()))
        }
        (Some(_), Some(_)) => Err(not_mcpd(&format!("it has more than one `{name}`"))),
    }
}

fn head_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}
