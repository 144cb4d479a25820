//! What may pass of a provider's answer: an answer or an error in a shape that model servers have, without our credential.
//! Whoever sets an Llm's address would otherwise read through it what any internal service answers.
//!
//! What `mcpd` answers to an agent passes as it came: `mcpd` has looked at it, and the credential is the caller's own.

use std::collections::HashMap;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use mcpctl_dialect::{
    openai::{
        chunk::added_texts,
        error::{error_body, presentable_error},
    },
    sse::Frame,
};

use crate::{Target, UpstreamKind, redact::Redactor};

pub(crate) struct Screen {
    kind: UpstreamKind,
    redactor: Option<Redactor>,
    /// The end of each choice's text, in which the next event may complete a piece of the credential.
    tails: HashMap<u64, Vec<u8>>,
}

/// The most choices whose texts are followed from event to event; requests for more are not made.
const MAX_CHOICES: usize = 128;

/// A stream spells the credential out over several events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpeltOut;

impl Screen {
    pub(crate) fn of(target: &Target) -> Self {
        let kind = target.kind;
        let credential = target.credential.as_ref().filter(|_| kind == UpstreamKind::Provider);
        Self { kind, redactor: credential.and_then(Redactor::of), tails: HashMap::new() }
    }

    /// A text without the credential.
    pub(crate) fn text(&self, text: Bytes) -> Bytes {
        match &self.redactor {
            Some(redactor) => redactor.redact(text),
            None => text,
        }
    }

    /// An error body that may be shown, and the headers that describe it. What is no error of a known shape is replaced.
    pub(crate) fn error_body(&self, body: Bytes, status: StatusCode, headers: &mut HeaderMap) -> Bytes {
        if self.kind != UpstreamKind::Provider {
            return body;
        }
        // Its own words for JSON stay; a page of another service is none any more.
        let is_json = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/json");
        if !headers.get(CONTENT_TYPE).is_some_and(is_json) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.remove(CONTENT_ENCODING);
        presentable_error(&self.text(body)).unwrap_or_else(|| {
            let message =
                format!("the provider answered {} without an error that can be shown", status.as_u16());
            error_body(&message, Some("upstream_error"), None)
        })
    }

    /// An event as it may be sent on; whether it is one of a completion is seen by whoever reads its data.
    ///
    /// # Errors
    /// When it goes on with a piece of the credential that earlier events began; those have been sent.
    pub(crate) fn frame(&mut self, frame: Frame) -> Result<Frame, SpeltOut> {
        if self.kind != UpstreamKind::Provider {
            return Ok(frame);
        }
        // `event: error` means something, so it is looked at before it is left out.
        let event = frame.event.clone();
        let frame = Frame { event, ..frame.data_only() };
        let (Some(redactor), Some(data)) = (&self.redactor, frame.data.clone()) else { return Ok(frame) };
        let frame = if redactor.is_in(&data) { frame.with_data(redactor.redact(data)) } else { frame };
        for (choice, text) in added_texts(frame.data.as_deref().unwrap_or_default()) {
            if !self.tails.contains_key(&choice) && self.tails.len() >= MAX_CHOICES {
                return Err(SpeltOut);
            }
            let tail = self.tails.entry(choice).or_default();
            tail.extend_from_slice(text.as_bytes());
            if redactor.is_in(tail) {
                return Err(SpeltOut);
            }
            // What is longer than a piece holds no beginning of one that is still open.
            tail.drain(..tail.len().saturating_sub(Redactor::LONGEST_PIECE));
        }
        Ok(frame)
    }

    /// Whether a header's value may be handed on.
    pub(crate) fn may_pass(&self, value: &HeaderValue) -> bool {
        self.redactor.as_ref().is_none_or(|redactor| !redactor.is_in(value.as_bytes()))
    }
}
