//! The `traceparent` header of W3C Trace Context (Recommendation of 2021-11-23): parsed strictly, created, and passed on.
//! `tracestate` is not parsed: it is passed on unchanged while the `traceparent` beside it is valid.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a header's value in version 00.
const TEXT_BYTES: usize = 55;

/// The position of a request in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    pub(crate) trace_id: u128,
    pub(crate) parent_id: u64,
    pub(crate) sampled: bool,
}

/// A header is no valid `traceparent`. The standard requires a new trace then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the `traceparent` header is malformed")]
pub struct TraceparentError;

impl Traceparent {
    /// The position of a request one hop after `parent`, or of one that begins a trace.
    #[must_use]
    pub fn after(parent: Option<Self>) -> Self {
        parent.map_or_else(Self::begin, Self::child)
    }

    /// Writes the `traceparent` for the next server into a request's headers, which are passed on from there. Where no trace
    /// is `continued`, `tracestate` is removed, because it may belong to another trace (section 4.3 of the standard).
    pub fn write(self, headers: &mut HeaderMap, continued: bool) {
        if !continued {
            headers.remove(TRACESTATE);
        }
        match HeaderValue::from_bytes(&self.text()) {
            Ok(value) => drop(headers.insert(TRACEPARENT, value)),
            Err(_) => drop(headers.remove(TRACEPARENT)),
        }
    }

    /// The position that a request's only valid header names.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok()?.parse().ok(),
            _ => None,
        }
    }

    /// Begins a trace. It is not sampled: only a caller decides that a trace is recorded.
    fn begin() -> Self {
        // Zero is the one invalid id.
        Self { trace_id: rand::random::<u128>().max(1), parent_id: new_parent_id(), sampled: false }
    }

    /// The same trace one hop further.
    fn child(self) -> Self {
        Self { parent_id: new_parent_id(), ..self }
    }

    /// The id of the trace for logs, 32 hex digits.
    pub fn trace_id(&self) -> String {
        let mut id = [0; 32];
        digits(self.trace_id, &mut id);
        id.into_iter().map(char::from).collect()
    }

    /// The header's value. Version 00 and the flags of version 00, whatever version came in (section 4.3 of the standard).
    fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        for (at, length, value) in
            [(3, 32, self.trace_id), (36, 16, self.parent_id.into()), (53, 2, self.sampled.into())]
        {
            if let Some(place) = text.get_mut(at..at + length) {
                digits(value, place);
            }
        }
        text
    }
}

fn new_parent_id() -> u64 {
    rand::random::<u64>().max(1)
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl FromStr for Traceparent {
    type Err = TraceparentError;

    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits| parts.next().and_then(|part| hex(part, digits)).ok_or(TraceparentError);
        let (version, trace_id, parent_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // Versions after 00 may add parts behind these four; 00 has none, and ff is forbidden.
        if version == 0xff || (version == 0 && parts.next().is_some()) || trace_id == 0 || parent_id == 0 {
            return Err(TraceparentError);
        }
        let parent_id = u64::try_from(parent_id).map_err(|_| TraceparentError)?;
        Ok(Self { trace_id, parent_id, sampled: flags & 1 == 1 })
    }
}

/// Writes a number in hex digits, as many as there is room for.
fn digits(mut value: u128, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        let nibble = u8::try_from(value & 0xf).unwrap_or_default();
        *digit = nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        value >>= 4;
    }
}

/// Exactly this many lower-case hex digits: the standard forbids upper case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let strict = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    strict.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_header_is_parsed_and_printed() {
        let parsed: Traceparent = VALID.parse().unwrap();
        assert_eq!(parsed.to_string(), VALID);
        assert!(parsed.sampled);
        assert_eq!(parsed.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn malformed_header_is_rejected() {
        let wrong = [
            "",
            "00",
            &VALID.to_uppercase(),
            &VALID[..54],
            &format!("{VALID}-"),
            &format!("{VALID}-more"),
            &format!(" {VALID}"),
            &VALID.replacen("00-", "ff-", 1),
            &VALID.replacen("00-", "0-", 1),
            &VALID.replacen('4', "+", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Traceparent>(), Err(TraceparentError), "{text}");
        }
    }

    #[test]
    fn later_version_is_parsed_by_its_first_four_parts() {
        let later = format!("{}-what-comes", VALID.replacen("00-", "cc-", 1));
        assert_eq!(later.parse::<Traceparent>().unwrap().to_string(), VALID);
        let glued = format!("{}more", VALID.replacen("00-", "cc-", 1));
        assert_eq!(glued.parse::<Traceparent>(), Err(TraceparentError));
    }

    #[test]
    fn unknown_flags_are_not_passed_on() {
        let flagged = VALID.replace("-01", "-ff");
        assert_eq!(flagged.parse::<Traceparent>().unwrap().child().to_string().split_off(53), "01");
    }

    fn headers(traceparents: &[&str]) -> HeaderMap {
        let mut headers: HeaderMap =
            traceparents.iter().map(|value| (TRACEPARENT, value.parse().unwrap())).collect();
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers
    }

    fn continue_in(headers: &mut HeaderMap) -> Traceparent {
        let parent = Traceparent::of(headers);
        let position = Traceparent::after(parent);
        position.write(headers, parent.is_some());
        position
    }

    #[test]
    fn valid_header_is_continued_with_its_tracestate() {
        let parent: Traceparent = VALID.parse().unwrap();
        let mut headers = headers(&[VALID]);
        let child = continue_in(&mut headers);
        assert_eq!((child.trace_id, child.sampled), (parent.trace_id, true));
        assert_ne!(child.parent_id, parent.parent_id);
        assert_eq!(
            (headers[TRACEPARENT].to_str().unwrap(), headers[TRACESTATE].to_str().unwrap()),
            (&*child.to_string(), "vendor=1")
        );
    }

    #[test]
    fn missing_malformed_or_repeated_header_begins_a_trace() {
        for values in [&[][..], &["broken"], &[VALID, VALID]] {
            let mut headers = headers(values);
            let begun = continue_in(&mut headers);
            assert_ne!(begun.trace_id(), VALID[3..35], "{values:?}");
            assert_eq!(Traceparent::of(&headers), Some(begun), "{values:?}");
            assert!(!headers.contains_key(TRACESTATE), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "[0-9a-f-]{0,60}|\\PC*") {
            if let Ok(parsed) = text.parse::<Traceparent>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }
    }
}
