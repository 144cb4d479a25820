//! Filters a provider's answer: only an answer or an error in a shape of a model server passes, without our credential.
//! Otherwise the person who sets an Llm's address could read the answers of any internal service through it.
//!
//! An answer of `mcpd` to an agent passes unchanged: `mcpd` has filtered it, and the credential is the caller's own.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use mcpctl_dialect::{
    Event, EventReader, Operation, data_only,
    error::{error_body, presentable_error},
    sse::Frame,
};

use crate::{Target, UpstreamKind, redact::Redactor};

pub(crate) struct Screen {
    kind: UpstreamKind,
    operation: Operation,
    redactor: Option<Arc<Redactor>>,
    /// The end of each choice's text so far, in which the next event may complete a piece of the credential.
    tails: HashMap<u64, Vec<u8>>,
}

/// How many choices are tracked from event to event at most; a stream with more is broken off.
const MAX_CHOICES: usize = 128;

/// A stream spells the credential out over several events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CredentialSpelledOut;

impl Screen {
    pub(crate) fn of(target: &Target, operation: Operation) -> Self {
        Self { kind: target.kind, operation, redactor: target.redactor(), tails: HashMap::new() }
    }

    /// Removes the credential from a text.
    pub(crate) fn text(&self, text: Bytes) -> Bytes {
        match &self.redactor {
            Some(redactor) => redactor.redact(text),
            None => text,
        }
    }

    /// Turns an error body, and the headers that describe it, into what a caller may see. A body that is not an error in a known
    /// shape is replaced.
    pub(crate) fn error_body(&self, body: Bytes, status: StatusCode, headers: &mut HeaderMap) -> Bytes {
        if self.kind != UpstreamKind::Provider {
            return body;
        }
        // Any content type of JSON stays; that of another service's page is replaced.
        let is_json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
        if !headers.get(CONTENT_TYPE).is_some_and(is_json) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.remove(CONTENT_ENCODING);
        let dialect = self.operation.dialect();
        presentable_error(dialect, &self.text(body)).unwrap_or_else(|| {
            let message =
                format!("the provider answered {} without an error that can be shown", status.as_u16());
            error_body(dialect, &message, Some("upstream_error"), None, Some(status.as_u16()))
        })
    }

    /// Turns an event into what may be forwarded. The caller checks whether it is a completion's.
    pub(crate) fn frame(&self, frame: Frame) -> Frame {
        if self.kind != UpstreamKind::Provider {
            return frame;
        }
        // The reader still needs `event: error`, although the field is not forwarded.
        let event = frame.event.clone();
        let frame = Frame { event, ..data_only(self.operation, frame) };
        match (&self.redactor, &frame.data) {
            (Some(redactor), Some(data)) if redactor.is_in(data) => {
                let redacted = redactor.redact(data.clone());
                frame.with_data(redacted)
            }
            _ => frame,
        }
    }

    /// Classifies an event that was turned into what may be forwarded.
    ///
    /// # Errors
    /// When the event completes a piece of the credential that earlier events, which were forwarded, began.
    pub(crate) fn read(
        &mut self,
        events: &mut EventReader,
        frame: &Frame,
    ) -> Result<Event, CredentialSpelledOut> {
        let Some(redactor) = &self.redactor else { return Ok(events.read(frame)) };
        let (event, texts) = events.read_with_texts(frame);
        for (choice, text) in texts {
            if !self.tails.contains_key(&choice) && self.tails.len() >= MAX_CHOICES {
                return Err(CredentialSpelledOut);
            }
            let tail = self.tails.entry(choice).or_default();
            tail.extend_from_slice(text.as_bytes());
            if redactor.is_in(tail) {
                return Err(CredentialSpelledOut);
            }
            // An incomplete piece is shorter than a whole one, so no more of the text is needed.
            tail.drain(..tail.len().saturating_sub(Redactor::MAX_PIECE_BYTES));
        }
        Ok(event)
    }

    /// Whether a header's value may be passed on.
    pub(crate) fn may_pass(&self, value: &HeaderValue) -> bool {
        self.redactor.as_ref().is_none_or(|redactor| !redactor.is_in(value.as_bytes()))
    }
}
