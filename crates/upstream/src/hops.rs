//! Detects loops. The header `mcpctl-hops` lists the daemons that a request has passed, and a daemon rejects a request that has
//! passed it before. The ids are random and have no meaning outside their process.
//!
//! The header can only cause a rejection: a caller who sends one gains nothing.

use std::fmt;

use http::{HeaderMap, HeaderValue};
use mcpctl_api::header::HOPS;

/// How many daemons a request may pass: an agent, a daemon, and some gateways of the same kind.
pub const MAX_HOPS: usize = 8;
/// Hexadecimal digits of an id.
const DIGITS: usize = 16;

/// The random id of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceId {
    id: String,
    /// The header of a request that has passed no other daemon.
    header: HeaderValue,
}

impl Default for InstanceId {
    /// A new one.
    fn default() -> Self {
        let id = format!("{:0DIGITS$x}", rand::random::<u64>());
        Self { header: header(&id), id }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// The header is malformed.
    #[error("`mcpctl-hops` is not a list of ids")]
    Malformed,
    /// The request has passed this process before.
    #[error("the request came back to where it had been: the addresses of Llms and servers lead in a circle")]
    Loop,
    /// The request has passed too many daemons.
    #[error("the request passed {MAX_HOPS} daemons, which is the most")]
    TooMany,
}

/// Checks that this process may forward a request with these headers.
///
/// # Errors
/// [`HopError`] when it may not.
pub fn check(headers: &HeaderMap, own: &InstanceId) -> Result<(), HopError> {
    let hops = read(headers)?;
    if hops.contains(&own.id.as_str()) {
        return Err(HopError::Loop);
    }
    if hops.len() >= MAX_HOPS { Err(HopError::TooMany) } else { Ok(()) }
}

/// The header for the next daemon: the received ids and this process's.
pub fn onward(headers: &HeaderMap, own: &InstanceId) -> HeaderValue {
    // A malformed header was rejected on arrival.
    let mut hops = read(headers).unwrap_or_default();
    if hops.is_empty() {
        return own.header.clone();
    }
    hops.push(&own.id);
    header(&hops.join(","))
}

fn header(hops: &str) -> HeaderValue {
    HeaderValue::try_from(hops).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn read(headers: &HeaderMap) -> Result<Vec<&str>, HopError> {
    let is_id = |id: &str| id.len() == DIGITS && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut hops = Vec::new();
    for value in headers.get_all(HOPS) {
        for id in value.to_str().map_err(|_| HopError::Malformed)?.split(',').map(str::trim) {
            if !is_id(id) {
                return Err(HopError::Malformed);
            }
            if hops.len() > MAX_HOPS {
                return Err(HopError::TooMany);
            }
            hops.push(id);
        }
    }
    Ok(hops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HOPS, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_request_passes_each_process_once() {
        let ids: Vec<InstanceId> = (0..=MAX_HOPS).map(|_| InstanceId::default()).collect();
        let mut passed = HeaderMap::new();
        for (count, id) in ids.iter().enumerate() {
            let expected = if count < MAX_HOPS { Ok(()) } else { Err(HopError::TooMany) };
            assert_eq!(check(&passed, id), expected);
            if count > 0 {
                assert_eq!(check(&passed, &ids[0]), Err(HopError::Loop));
            }
            passed = HeaderMap::from_iter([(HOPS, onward(&passed, id))]);
        }
    }

    #[test]
    fn every_line_of_the_header_counts() {
        let own = InstanceId::default();
        let (own_text, other) = (own.to_string(), "0123456789abcdef");
        assert_eq!(check(&headers(&[other, &own_text]), &own), Err(HopError::Loop));
        assert_eq!(check(&headers(&[&format!("{other} , {own_text}")]), &own), Err(HopError::Loop));
        assert_eq!(check(&headers(&[other; 9]), &own), Err(HopError::TooMany));
        assert_eq!(check(&headers(&[&[other; 5000].join(",")]), &own), Err(HopError::TooMany));
        for text in ["", "x", "0123456789ABCDEF", "0123456789abcdef0", "0123456789abcdef,"] {
            assert_eq!(check(&headers(&[text]), &own), Err(HopError::Malformed), "{text}");
        }
    }
}
