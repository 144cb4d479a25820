//! Keeps the bodies of a request and its answer where the Llm has `capture`, and marks the response with a header.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::HeaderValue,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use mcpctl_access::Snapshot;
use mcpctl_api::{
    Kind, Spec,
    header::{CAPTURED, SERVED_BY},
};

use crate::{app::App, captures::Capture, clock};

/// The answer; captured until its last byte or until the caller leaves, where the Llm that gave it keeps bodies.
pub(super) fn where_wanted(
    app: &Arc<App>,
    snapshot: &Snapshot,
    request: &Bytes,
    mut response: Response,
) -> Response {
    let served_by = response.headers().get(SERVED_BY).and_then(|name| name.to_str().ok());
    let llm = served_by.and_then(|name| snapshot.by_name(Kind::Llm, name));
    let Some(llm) = llm.filter(|llm| matches!(&llm.resource.spec, Spec::Llm(spec) if spec.capture.bodies))
    else {
        return response;
    };
    response.headers_mut().insert(CAPTURED, HeaderValue::from_static("true"));
    let mut principal = String::new();
    mcpctl_server::access_line(|line| {
        line.captured = true;
        principal = line.principal.clone().unwrap_or_default();
    });
    let kept = request.get(..app.captures.max_body).unwrap_or(request);
    let capture = Capture {
        at: clock::now(),
        request_id: mcpctl_server::request_id(),
        principal,
        llm: llm.name().to_string(),
        status: response.status().as_u16(),
        request: String::from_utf8_lossy(kept).into_owned(),
        response: String::new(),
        cut: kept.len() < request.len(),
    };
    let app = Arc::clone(app);
    response.map(|body| Body::new(CapturedBody { app, body, received: Vec::new(), capture: Some(capture) }))
}

struct CapturedBody {
    app: Arc<App>,
    body: Body,
    received: Vec<u8>,
    /// Taken when it is recorded.
    capture: Option<Capture>,
}

impl CapturedBody {
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.app.captures.max_body.saturating_sub(self.received.len());
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.received.extend_from_slice(kept);
        if let Some(capture) = self.capture.as_mut().filter(|_| kept.len() < bytes.len()) {
            capture.cut = true;
        }
    }
}

impl Drop for CapturedBody {
    fn drop(&mut self) {
        if let Some(mut capture) = self.capture.take() {
            capture.at = clock::now();
            capture.response = String::from_utf8_lossy(&self.received).into_owned();
            self.app.captures.record(capture);
        }
    }
}

impl axum::body::HttpBody for CapturedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.keep(bytes);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
