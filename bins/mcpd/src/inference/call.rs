//! A request for inference that may run: read, and authorized for the Llm that it names.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use mcpctl_dialect as dialect;

use super::access::AccessWatch;
use crate::{app::App, caller::Caller};

/// A request, read, from a caller who may run the Llm that it names.
pub struct Call {
    /// What all requests share.
    pub app: Arc<App>,
    /// The caller, and the snapshot in which the caller was authenticated on arrival.
    pub caller: Caller,
    /// The request.
    pub asked: dialect::Request,
    /// Its headers as they came.
    pub headers: HeaderMap,
    /// When it arrived.
    pub arrived: Instant,
    /// Whether the caller still may run what answers.
    pub access: Arc<AccessWatch>,
}

impl Call {
    /// The call with a copy of its body that is kept as long as its stream, so that the memory for requests is released; `None`
    /// where the memory for streams is used up.
    pub fn for_stream(&self) -> Option<Self> {
        let Self { app, caller, asked, headers, arrived, access } = self;
        let owner = caller.principal.subject.to_string();
        let asked = asked.in_copy(|body| app.bodies.keep(body, &owner))?;
        let (app, access) = (Arc::clone(app), Arc::clone(access));
        Some(Self { app, caller: caller.clone(), asked, headers: headers.clone(), arrived: *arrived, access })
    }
}
