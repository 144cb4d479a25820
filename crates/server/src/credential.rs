//! The credential that a request presents: `Authorization: Bearer`, and from callers of Anthropic's dialect `x-api-key` too.
//! Whether it is valid is decided elsewhere.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use mcpctl_dialect::Dialect;

/// In which clients of Anthropic's API send a credential.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why a request presents no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No header has one.
    #[error("no credential was sent")]
    Missing,
    /// A header occurs twice, or has a list.
    #[error("more than one credential was sent")]
    Several,
    /// `Authorization` has another scheme, or a value that is no text.
    #[error("the credential is not a bearer token")]
    NotBearer,
    /// The two headers have different ones.
    #[error("`Authorization` and `x-api-key` hold different credentials")]
    Different,
}

/// The credential of a request in this dialect. A header without a value counts as absent.
///
/// # Errors
/// When there is none, or not exactly one.
pub fn presented(headers: &HeaderMap, dialect: Dialect) -> Result<&str, CredentialError> {
    let bearer =
        only(headers, header::AUTHORIZATION)?.map(bearer).transpose()?.filter(|text| !text.is_empty());
    let key = match dialect {
        Dialect::Anthropic => {
            let key = only(headers, X_API_KEY)?.map(text).transpose()?;
            key.map(single).transpose()?.filter(|text| !text.is_empty())
        }
        Dialect::Openai => None,
    };
    match (bearer, key) {
        (Some(bearer), Some(key)) if bearer != key => Err(CredentialError::Different),
        (Some(credential), _) | (None, Some(credential)) => Ok(credential),
        (None, None) => Err(CredentialError::Missing),
    }
}

/// Whether a request in this dialect has a header for a credential, whatever its value.
pub fn presents_any(headers: &HeaderMap, dialect: Dialect) -> bool {
    headers.contains_key(header::AUTHORIZATION)
        || (dialect == Dialect::Anthropic && headers.contains_key(X_API_KEY))
}

fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&HeaderValue>, CredentialError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(CredentialError::Several),
    }
}

fn bearer(value: &HeaderValue) -> Result<&str, CredentialError> {
    let value = text(value)?;
    // An empty token leaves the scheme alone, because blanks at the end of a header are removed on the way.
    let (scheme, credential) = value.split_once(' ').unwrap_or((value, ""));
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    if is_bearer || value.is_empty() { single(credential.trim()) } else { Err(CredentialError::NotBearer) }
}

/// Refuses a list: a proxy folds two headers of one name into one, with a comma between their values (RFC 9110, section 5.3), and
/// no token has one (RFC 6750, section 2.1).
fn single(credential: &str) -> Result<&str, CredentialError> {
    match credential {
        _ if credential.contains(',') => Err(CredentialError::Several),
        _ if credential.contains([' ', '\t']) => Err(CredentialError::NotBearer),
        _ => Ok(credential),
    }
}

fn text(value: &HeaderValue) -> Result<&str, CredentialError> {
    value.to_str().map(str::trim).map_err(|_| CredentialError::NotBearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(headers: &'a mut HeaderMap, pairs: &[(HeaderName, &'static str)]) -> &'a HeaderMap {
        headers.clear();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_credential_in_one_or_both_headers() {
        use Dialect::{Anthropic, Openai};
        let (bearer, key) = (header::AUTHORIZATION, X_API_KEY);
        let mut headers = HeaderMap::new();
        for (pairs, dialect, expected) in [
            (vec![(bearer.clone(), "Bearer a")], Openai, Ok("a")),
            (vec![(bearer.clone(), "bearer  a ")], Anthropic, Ok("a")),
            (vec![(key.clone(), "a")], Anthropic, Ok("a")),
            (vec![(key.clone(), "a")], Openai, Err(CredentialError::Missing)),
            (vec![(bearer.clone(), "Bearer a"), (key.clone(), "b")], Openai, Ok("a")),
            (vec![(bearer.clone(), "Bearer a"), (key.clone(), "a")], Anthropic, Ok("a")),
            (
                vec![(bearer.clone(), "Bearer a"), (key.clone(), "b")],
                Anthropic,
                Err(CredentialError::Different),
            ),
            (vec![(bearer.clone(), "Bearer a"), (key.clone(), "")], Anthropic, Ok("a")),
            (vec![(bearer.clone(), "Bearer"), (key.clone(), "a")], Anthropic, Ok("a")),
            (vec![(bearer.clone(), ""), (key.clone(), "a")], Anthropic, Ok("a")),
            (vec![(bearer.clone(), "Bearer")], Openai, Err(CredentialError::Missing)),
            (
                vec![(bearer.clone(), "Basic a"), (key.clone(), "a")],
                Anthropic,
                Err(CredentialError::NotBearer),
            ),
            (vec![(bearer.clone(), "a")], Openai, Err(CredentialError::NotBearer)),
            (vec![(bearer.clone(), "Bearer a b")], Openai, Err(CredentialError::NotBearer)),
            (vec![(bearer.clone(), "Bearer a, Bearer a")], Openai, Err(CredentialError::Several)),
            (vec![(bearer.clone(), "Bearer a,a")], Openai, Err(CredentialError::Several)),
            (vec![(key.clone(), "a, a")], Anthropic, Err(CredentialError::Several)),
            (vec![(key.clone(), "a a")], Anthropic, Err(CredentialError::NotBearer)),
            (vec![(key.clone(), "a"), (key.clone(), "a")], Anthropic, Err(CredentialError::Several)),
            (vec![(bearer.clone(), "Bearer a"), (bearer, "Bearer a")], Openai, Err(CredentialError::Several)),
            (vec![], Anthropic, Err(CredentialError::Missing)),
        ] {
            assert_eq!(presented(of(&mut headers, &pairs), dialect), expected, "{pairs:?}");
        }
        let _ = key;
    }
}
